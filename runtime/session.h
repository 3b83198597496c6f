/*
 * session.h - a peer's session with the broker: HELLO or REGISTER until WELCOME, PING
 * with statistics, silence noticed, epochs compared, reconnection without end but with
 * back-off. Used by gateway, cacher, extractor and monitor.
 *
 * docs/PROTOCOL.md sections 3 and 4.
 */
#ifndef RUNTIME_SESSION_H
#define RUNTIME_SESSION_H

#include "runtime/endpoint.h"
#include "runtime/service.h"

#include <jansson.h>

struct session;

struct session_callbacks {
    /* The session is open: first time, again after silence, or with a new epoch. With
     * `fresh` the broker knows nothing of what was open before. */
    void (*on_up)(struct session *session, const struct proto_welcome *welcome,
                  bool fresh, void *arg);
    /* The broker is silent, or said BYE. Open requests may still end if it comes back
     * with the same epoch before their time is up. */
    void (*on_down)(struct session *session, void *arg);
    /* Every message that the session does not handle itself (it handles WELCOME, PING,
     * PONG and BYE). */
    void (*on_message)(struct session *session, struct mesh_msg *msg, void *arg);
    /* Statistics for PING, a new object, or NULL; the callback may be NULL: then the
     * service's metrics are sent. */
    json_t *(*stats)(void *arg);
};

/*
 * As a client: `role` "gateway", "monitor", ... and `enlist` NULL; connects to "front".
 * As a worker: `role` NULL and `enlist` with service, slots, slots_max and credit_bytes
 * set (name, host, version and pid are filled here); connects to "back". 0 or -errno.
 */
int session_open(struct service *service, const char *role,
                 const struct proto_enlist *enlist,
                 const struct session_callbacks *callbacks, void *arg,
                 struct session **out);
/* Sends BYE and closes. NULL is fine. */
void session_close(struct session *session);

bool session_is_up(const struct session *session);
uint64_t session_epoch(const struct session *session);

/* As endpoint_send; fills the envelope's epoch. -ENOTCONN when the session is not up. */
int session_send(struct session *session, struct proto_envelope *envelope,
                 const void *body, zmq_msg_t *payload);

/* A new id: 8 random bytes of this process and a count. */
struct proto_id session_new_id(struct session *session);

const struct endpoint_counters *session_counters(const struct session *session);

#endif
