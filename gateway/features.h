/*
 * features.h - pictures in, results out.
 */
#ifndef GATEWAY_FEATURES_H
#define GATEWAY_FEATURES_H

#include "gateway/request.h"

/* The head of a POST is here: check all that can be checked and make room for the body.
 */
void gateway_features_begin(struct gateway_request *request, const char *rest);
void gateway_denoise_begin(struct gateway_request *request, const char *rest);
/* The body is here: hot cache, or a flight. */
void gateway_features_complete(struct gateway_request *request);
/* GET and HEAD by key, which is `key_text`. */
void gateway_features_look_up(struct gateway_request *request, const char *key_text);

#endif
