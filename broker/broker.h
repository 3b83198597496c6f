/*
 * broker.h - the broker's shell: sockets, names and JSON around broker/core, which takes
 * the decisions.
 *
 *   broker.c          a message is checked and handed to its verb's function
 *   front.c, back.c   those functions: a message -> one event of the core
 *   act.c             the core's actions -> messages, log lines, events
 *   finals.c          what ends for a client that reads slowly
 *   peers.c           routing ids <-> the core's small numbers
 *   stats.c           STATS
 *
 * Each message ends with broker_settle(), which takes all actions and sets the timer.
 */
#ifndef BROKER_BROKER_H
#define BROKER_BROKER_H

#include "broker/core/core.h"
#include "broker/peers.h"
#include "proto/body.h"
#include "runtime/endpoint.h"
#include "runtime/service.h"

#include <jansson.h>

#define BROKER_BAD_MAX 100 /* bad messages that end a session */
#define BROKER_UNSENT_MAX                                                                \
    256                      /* JOBs of one event that could not be sent and are told    \
                              */
#define BROKER_LINGER_MS 500 /* for FINALs on their way when the broker stops */

struct broker_options {
#include "runtime/options_struct.h"

#include "broker/options.tbl"

#include "runtime/options_end.h"
};

struct broker_metrics {
#include "runtime/metrics_struct.h"

#include "broker/counters.tbl"

#include "runtime/metrics_end.h"
};

/* What a request brought, kept until its end for the second attempt. */
struct broker_payload {
    struct proto_id trace;
    uint64_t cost_bytes;
    uint8_t key[BROKER_CORE_KEY_BYTES];
    uint32_t key_bytes; /* 0 or all */
    bool has_payload;
    zmq_msg_t msg; /* initialised always */
    size_t body_bytes;
    uint8_t body[]; /* as it came; JOB has the same */
};

struct broker {
    struct service *service;
    const struct broker_options *options;
    struct broker_metrics *metrics;
    struct broker_core *core;
    struct endpoint *front, *back, *events;
    struct broker_peers clients, workers;
    uint64_t epoch, now_us, started_us, memory_budget;
    uv_timer_t timer;
    uint64_t timer_us; /* when it fires; 0: not set */
    /* Draining: what is not done then is the successor's; 0: not yet. */
    uint64_t leave_us;
    bool hurried;        /* and nothing is waited for any more */
    bool finals_changed; /* the core is to be told: broker_finals_tell() */
    uint64_t held_bytes; /* finals.h: of all clients, as last looked at */

    /* The DONE in hand, which a FINAL with pass_on takes along; else NULL. */
    struct mesh_msg *done_msg;
    struct proto_outcome *done;

    struct proto_id unsent[BROKER_UNSENT_MAX];
    uint32_t unsents;
    struct log_limit bad_quiet, stranger_quiet, refused_quiet, socket_quiet;
};

extern const struct service_spec broker_spec;

/* The time of the event in hand: one look at the clock for each, with which it begins. */
uint64_t broker_now_us(const struct broker *broker);
void broker_wake(struct broker *broker);
/* Carry out all actions, and wait for the next deadline. */
void broker_settle(struct broker *broker);

/* What the peer of one verb says. `peer` is NULL where it opens a session; `body` is the
 * struct that the verb has in verbs.tbl, the function's own to change. */
typedef void broker_verb_fn(struct broker *broker, struct broker_peer *peer,
                            struct mesh_msg *msg, void *body);

/* front.c, back.c: one of the two sockets: what its peers may say. */
struct broker_side {
    broker_verb_fn *const *verbs; /* PROTO_VERB_END; NULL: none of theirs */
    uint8_t opening;              /* the verb that opens a session */
    int (*heard)(struct broker_core *core, uint32_t index, uint64_t now_us);
    void (*end_session)(struct broker *broker, struct broker_peer *peer);
    const char *wrong_verb; /* what such a peer is told */
};
extern const struct broker_side broker_front_side, broker_back_side;

/* act.c */
void broker_act(struct broker *broker, const struct broker_core_action *action);
/* A message on `endpoint` that answers `to` (its request and trace), or NULL. */
int broker_send(struct broker *broker, struct endpoint *endpoint,
                const struct mesh_peer *peer, uint8_t verb,
                const struct proto_envelope *to, const void *body, zmq_msg_t *payload);
/* REJECT a message that asks for something. */
void broker_refuse(struct broker *broker, struct endpoint *endpoint,
                   const struct mesh_msg *msg, enum proto_status status,
                   const char *detail);
void broker_welcome(struct broker *broker, struct endpoint *endpoint,
                    const struct mesh_msg *msg, bool fresh);
/* A message without a session. */
void broker_stranger(struct broker *broker, struct endpoint *endpoint,
                     const struct mesh_msg *msg);
/* One more bad message; true when it was one too many: end the session. */
bool broker_bad(struct broker *broker, struct endpoint *endpoint,
                struct broker_peer *peer, const struct mesh_peer *id,
                const struct proto_envelope *envelope, const char *why);
void broker_publish(struct broker *broker, const char *kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* PING: PONG, and its statistics are kept. */
void broker_ping(struct broker *broker, struct endpoint *endpoint,
                 struct broker_peer *peer, const struct mesh_msg *msg);
/* PONG: that it came is all there is to it. */
void broker_pong(struct broker *broker, struct broker_peer *peer, struct mesh_msg *msg,
                 void *body);
void broker_payload_free(struct broker_payload *payload);
/* Lower-case digits and a NUL; nothing is written for no bytes. */
void broker_hex(const uint8_t *bytes, size_t size, char *out);

/* stats.c: a new JSON object, NULL without memory. Brings the metrics up to date. */
json_t *broker_stats(struct broker *broker);
/* Whether a worker has the slot, or may have it; else a sentence with those there are. */
bool broker_stats_has_slot(const struct broker *broker, uint64_t slot, char *why,
                           size_t why_bytes);

#endif
