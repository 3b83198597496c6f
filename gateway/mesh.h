/*
 * mesh.h - what the gateway has open at the broker: ids, credit, deadlines.
 *
 * An exchange is one SUBMIT until its FINAL or REJECT. Each ends exactly once: by the
 * broker, by its own deadline, or because it is lost (the broker that knew it is gone).
 * Pure but for the link through which messages leave; time is an argument. One thread.
 * docs/PROTOCOL.md section 3.
 */
#ifndef GATEWAY_MESH_H
#define GATEWAY_MESH_H

#include "proto/body.h"
#include "proto/envelope.h"
#include "runtime/endpoint.h"

#include <stdbool.h>
#include <stdint.h>

/* How messages leave: the session in the process, a list in a test. */
struct gateway_link {
    int (*send)(void *arg, struct proto_envelope *envelope, const void *body,
                zmq_msg_t *payload);
    struct proto_id (*new_id)(void *arg);
    void *arg;
};

struct gateway_ending {
    enum proto_status status;
    bool lost;    /* never to be answered, or its broker leaves: may be submitted again */
    bool overdue; /* its own budget ran out */
    const struct proto_outcome *outcome; /* never NULL; zeroed where none came */
    zmq_msg_t *payload;                  /* to be moved from; NULL: none came */
};

/* The exchange is gone when this is called. */
typedef void gateway_ended_fn(const struct gateway_ending *ending, uint64_t now_us,
                              void *owner);

struct gateway_mesh;

#define GATEWAY_MESH_NEVER UINT64_MAX

struct gateway_exchange;

/* What to ask; budget and priority go into the envelope. */
struct gateway_submit {
    const struct proto_submit *body;
    zmq_msg_t *payload; /* NULL: none; shared, stays the caller's */
    struct proto_id trace;
    uint64_t budget_us;  /* rounded up to milliseconds */
    uint64_t cost_bytes; /* memory that the work will need; 0: none to speak of */
    enum proto_priority priority;
    gateway_ended_fn *ended; /* NULL: nobody cares */
    void *owner;
};

struct gateway_mesh_counters {
    uint64_t submitted, rejected, lost, overdue, cancelled, strays; /* only grow */
};

/* NULL: out of memory. Down at first. */
struct gateway_mesh *gateway_mesh_new(const struct gateway_link *link);
/* Forgets what is open without telling anybody. NULL is fine. */
void gateway_mesh_free(struct gateway_mesh *mesh);

/* The session opened. With `fresh` every open exchange ends as lost, now. */
void gateway_mesh_up(struct gateway_mesh *mesh, const struct proto_welcome *welcome,
                     bool fresh, uint64_t now_us);
void gateway_mesh_down(struct gateway_mesh *mesh, uint64_t now_us);
/* Whether a broker takes requests: the session is up, and the broker has refused none as
 * `draining` in it. One that drains may still end what it has. */
bool gateway_mesh_is_up(const struct gateway_mesh *mesh);
/* Whether the session is up, and so what is open may still end. */
bool gateway_mesh_is_connected(const struct gateway_mesh *mesh);
/* For how long no broker has taken requests: 0 while one does, and GATEWAY_MESH_NEVER
 * where there was none yet. */
uint64_t gateway_mesh_away_us(const struct gateway_mesh *mesh, uint64_t now_us);

/*
 * 0 with `out` (may be NULL), valid until it ends; -ENOTCONN: the session is down;
 * -ENOBUFS: no credit, see gateway_mesh_credit(); -EAGAIN: the queue is full; -ENOMEM.
 */
int gateway_mesh_submit(struct gateway_mesh *mesh, const struct gateway_submit *submit,
                        uint64_t now_us, struct gateway_exchange **out);
/* Nobody wants the answer any more: CANCEL goes out, `ended` is not called. It counts
 * against the credit until the broker has let go of it. */
void gateway_mesh_cancel(struct gateway_mesh *mesh, struct gateway_exchange *exchange,
                         uint64_t now_us);

/* End it with PROTO_STATUS_CANCELLED where no worker was given it yet; else it goes on.
 */
void gateway_mesh_recall(struct gateway_mesh *mesh,
                         const struct gateway_exchange *exchange);

/* ACCEPT, FINAL and REJECT; others are ignored. */
void gateway_mesh_on_message(struct gateway_mesh *mesh, struct mesh_msg *msg,
                             uint64_t now_us);
/* End what is overdue or was never accepted; call it some times a second. */
void gateway_mesh_sweep(struct gateway_mesh *mesh, uint64_t now_us);

/* Open exchanges and their payload bytes, and the broker's bounds on both for a request
 * of `priority`. */
struct gateway_credit {
    uint64_t jobs, jobs_max, bytes, bytes_max;
};
struct gateway_credit gateway_mesh_credit(const struct gateway_mesh *mesh,
                                          unsigned priority);
/* Time in which as many exchanges as are open will have ended, as they did lately. */
uint64_t gateway_mesh_retry_ms(const struct gateway_mesh *mesh, uint64_t now_us);
const struct gateway_mesh_counters *
gateway_mesh_counters(const struct gateway_mesh *mesh);

#endif
