/*
 * upload.h - the body of a POST: its form is checked before it is read, then it lands in
 * one buffer and one digest as it arrives.
 */
#ifndef GATEWAY_UPLOAD_H
#define GATEWAY_UPLOAD_H

#include "gateway/request.h"

/* From the head: method of framing, type, length, budget. False: it was refused. */
bool gateway_upload_begin(struct gateway_request *request);
/* A piece; refuses the request where it is wrong or too much. */
void gateway_upload_feed(struct gateway_request *request, const uint8_t *bytes,
                         size_t size);
/* All is here: fills request->image_sha256. False: it was refused. */
bool gateway_upload_finish(struct gateway_request *request);

#endif
