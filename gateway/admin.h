/*
 * admin.h - what operators ask of a gateway over HTTP: the state of the mesh, and a
 * result to be forgotten.
 *
 *   GET /v1/status             the broker's STATS as JSON: slots, queues, tiers
 *   DELETE /v1/features/{key}  purge of one result, for who shows the admin token
 *
 * Both wait for the broker. An errand is what a request waits for here: it ends by the
 * answer, by its own time, or with the request; a purge goes on without the request
 * (purges.h). Behaviour: docs/API.md.
 */
#ifndef GATEWAY_ADMIN_H
#define GATEWAY_ADMIN_H

#include "gateway/gateway.h"
#include "gateway/request.h"

#define GATEWAY_ADMIN_TOKEN_BYTES_MIN 16
#define GATEWAY_ADMIN_TOKEN_BYTES_MAX 256

/* Read `path`, one line, into gateway->admin_token; an empty path is no token: nobody may
 * delete. 0 or -errno, logged. */
int gateway_admin_read_token(struct gateway *gateway, const char *path);

/* Routes. */
void gateway_admin_status(struct gateway_request *request, const char *rest);
void gateway_admin_delete(struct gateway_request *request, const char *key_text);

/* STATS that answers an errand. False: it is about none. */
bool gateway_admin_on_stats(struct gateway *gateway, const struct mesh_msg *msg);
/* The request ends by itself: nobody waits any more. */
void gateway_admin_leave(struct gateway_request *request);
/* End what waits too long; some times a second. */
void gateway_admin_sweep(struct gateway_request *request, uint64_t now_us);

#endif
