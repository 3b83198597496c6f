/*
 * pages.h - the small pages: index, health, metrics, version. `rest` is not used.
 */
#ifndef GATEWAY_PAGES_H
#define GATEWAY_PAGES_H

#include "gateway/request.h"

void gateway_page_index(struct gateway_request *request, const char *rest);
void gateway_page_livez(struct gateway_request *request, const char *rest);
/* 503 until the session with the broker is up, and from SIGTERM on. */
void gateway_page_readyz(struct gateway_request *request, const char *rest);
void gateway_page_metrics(struct gateway_request *request, const char *rest);
void gateway_page_version(struct gateway_request *request, const char *rest);

#endif
