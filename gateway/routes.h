/*
 * routes.h - which path and method is answered by what.
 */
#ifndef GATEWAY_ROUTES_H
#define GATEWAY_ROUTES_H

#include "gateway/request.h"

/* Hand a request whose head is complete to its route; 404 or 405 where there is none. */
void gateway_route(struct gateway_request *request);

#endif
