/*
 * core.h - the broker's decisions: state + event + now -> actions.
 *
 * No socket, clock, random source, logging, nor allocation after broker_core_new(): the
 * shell (broker/broker.c) moves frames and tells the time, the simulator (tests/sim)
 * does the same without sockets. One event function for each thing that can happen;
 * each appends to a list of actions that the caller takes with broker_core_next() until
 * it is empty, before the next event. Rules: docs/PROTOCOL.md sections 3 to 6.
 *
 * Peers are small numbers picked by the caller: clients below clients_max, workers below
 * workers_max. A number is the caller's again once its session is closed, which
 * broker_core_client_bye(), broker_core_worker_bye() or a BYE action tells.
 *
 * A payload is a pointer that is never looked into. It is the core's from an accepted
 * submit until its RELEASE action, which comes exactly once.
 *
 * Times are absolute microseconds on one clock of the caller, never going back. Bytes
 * from peers arrive here as numbers of any value; handles out of range, and calls in
 * the wrong order, are the caller's own mistakes and asserted on. Not thread-safe.
 */
#ifndef BROKER_CORE_CORE_H
#define BROKER_CORE_CORE_H

#include "proto/envelope.h"
#include "proto/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BROKER_CORE_SERVICES_MAX 8   /* services known at once */
#define BROKER_CORE_NAME_BYTES   15  /* longest service name */
#define BROKER_CORE_REASON_BYTES 127 /* longest reason of a target or a mode */
#define BROKER_CORE_ATTEMPTS_MAX 2   /* attempts a job gets */
#define BROKER_CORE_RETURNS_MAX  8   /* then not to have been begun counts as attempt */
#define BROKER_CORE_SLOTS_PER                                                            \
    1000                          /* worker k's slots are k*1000 + 1 ... k*1000 + 999    \
                                   */
#define BROKER_CORE_SLOTS_MAX 999 /* slots a worker can have */
#define BROKER_CORE_KEY_BYTES 32  /* of a content key */
#define BROKER_CORE_KILLS_MAX 2   /* slots that a key may kill: then it is quarantined */
#define BROKER_CORE_ENDS_MIN  8   /* of attempts, before their rate is believed */
#define BROKER_CORE_NONE      UINT32_MAX
#define BROKER_CORE_NEVER     UINT64_MAX
#define BROKER_CORE_TARGET_MAX_US                                                        \
    (7 * 24ull * 3600 * 1000000) /* longest life of a target                             \
                                  */

struct broker_core;

/* High requests "come" for so long after the last one. */
#define BROKER_CORE_HIGH_HOLD_US 10000000u

struct broker_core_limits {
    uint64_t epoch;             /* of this broker; part of the ids in JOB */
    uint64_t hash_seed;         /* secret, so that no client can aim at one hash chain */
    uint32_t clients_max;       /* sessions */
    uint32_t workers_max;       /* sessions */
    uint32_t jobs_max;          /* open requests of all clients */
    uint32_t lane_jobs;         /* waiting in one lane */
    uint64_t lane_bytes;        /* payloads waiting in one lane */
    uint64_t total_bytes;       /* payloads waiting and running, all services */
    uint64_t payload_bytes_max; /* one payload */
    uint32_t client_jobs;       /* open requests of one client */
    uint64_t client_bytes;      /* payloads of open requests of one client */
    uint32_t batch_share;       /* one dispatch in so many is the batch lane's */
    uint32_t high_slots;        /* places under the target that are kept for the high lane
                                   while high requests come; at most a third of it */
    uint32_t newest_first_percent; /* of its time that a lane's oldest job has waited:
                                      then the lane is served from its other end */
    uint64_t memory_budget;   /* of jobs at slots, as the clients estimate; 0: no bound */
    uint64_t silence_us;      /* a peer that is silent for so long has gone */
    uint64_t request_us;      /* a request's time where it states none */
    uint64_t request_max_us;  /* more is cut to this */
    uint64_t start_us;        /* JOB until START */
    uint64_t lease_us;        /* START or PROGRESS until the next PROGRESS */
    uint64_t job_us;          /* START until DONE */
    uint64_t worker_wait_us;  /* a job waits so long for a first worker */
    uint64_t target_ttl_us;   /* of a target or mode that states none */
    uint64_t resend_us;       /* an unanswered SCALE is repeated after this */
    uint32_t retry_percent;   /* second attempts: of a service's accepted requests */
    uint32_t retry_per_s;     /* and so many a second besides */
    uint32_t retry_burst;     /* so many may be saved up; a service begins with them */
    uint32_t quarantine_keys; /* keys remembered for having killed slots */
    uint64_t quarantine_us;   /* for so long after the last kill; 0: never */
};

/* Defaults as in docs/OPTIONS.md; epoch and hash_seed stay 0. */
void broker_core_limits_init(struct broker_core_limits *limits);

/* NULL without memory, or for a limit that is 0 and must not be. */
struct broker_core *broker_core_new(const struct broker_core_limits *limits);
/* Accepts NULL. Payloads still held are forgotten: see broker_core_stop(). */
void broker_core_free(struct broker_core *core);

enum broker_core_action_type {
    BROKER_CORE_ACCEPT,     /* to client `peer`: `request` is queued */
    BROKER_CORE_REJECT,     /* to client: `request` was never accepted */
    BROKER_CORE_FINAL,      /* to client: the end of `request` */
    BROKER_CORE_JOB,        /* to worker `peer`: do `payload` under the id `request` */
    BROKER_CORE_ABORT,      /* to worker: stop `request`, attempt `attempt` */
    BROKER_CORE_SHARE,      /* to worker: keep `to` slots; `seq`, `text` */
    BROKER_CORE_DRAIN,      /* to worker: end slot `to` of its own numbering */
    BROKER_CORE_CLIENT_BYE, /* to client: its session is closed; `peer` is free */
    BROKER_CORE_WORKER_BYE, /* to worker: its session is closed; `peer` is free */
    BROKER_CORE_RELEASE,    /* `payload` is no longer needed */
    BROKER_CORE_MODE,       /* to everybody: the pressure level is `to`, because `text` */
    BROKER_CORE_SLOTS, /* for people: `service`'s target went `from` -> `to`: `text` */
    BROKER_CORE_WORKER_UP,   /* for people: worker `peer` joined `service` */
    BROKER_CORE_WORKER_DOWN, /* for people: worker `peer` left; comes before its number
                              * can be given to another */
    BROKER_CORE_QUARANTINE   /* for people: the key of `payload` is refused from now on */
};

struct broker_core_action {
    enum broker_core_action_type type;
    uint32_t peer;      /* client or worker, by type */
    uint32_t service;   /* index, see broker_core_service() */
    uint16_t status;    /* REJECT, FINAL: enum proto_status */
    uint8_t attempt;    /* JOB, ABORT: from 1 */
    uint8_t priority;   /* JOB */
    bool pass_on;       /* FINAL: the body and payload of the DONE in hand go along */
    uint32_t budget_ms; /* JOB: time left, at least 1 */
    struct proto_id request; /* the client's id, or for a worker the broker's own */
    void *payload;     /* JOB, RELEASE; ACCEPT, FINAL, QUARANTINE: still to be released */
    uint64_t from, to; /* SLOTS, SHARE, DRAIN, MODE */
    uint64_t seq;      /* SHARE */
    uint64_t limit, actual;  /* REJECT: the bound that was broken; else 0 */
    uint32_t retry_after_ms; /* REJECT(full), FINAL(unavailable) */
    uint64_t until_us;       /* FINAL: the request's time is over then */
    uint64_t queue_us;       /* FINAL: from ACCEPT until the last dispatch, or the end */
    const char *text;        /* detail or reason; static or valid until the next event */
};

/*
 * Take the oldest action; NULL when there is none. It stays valid until the next call of
 * any function that changes the core.
 */
const struct broker_core_action *broker_core_next(struct broker_core *core);

/* ---- clients ---- */

/* Opens the session. -EALREADY when it is open: nothing changes. */
int broker_core_hello(struct broker_core *core, uint32_t client, uint64_t now_us);

struct broker_core_request {
    struct proto_id id;
    const char *service; /* checked here: 1 to 15 of a-z 0-9 - _ */
    uint8_t priority;    /* enum proto_priority */
    uint32_t budget_ms;  /* 0: the default */
    uint64_t bytes;      /* of the payload */
    uint64_t cost_bytes; /* memory that the work will need; 0: nobody can say. Above the
                            budget it is refused */
    const uint8_t *key;  /* what it is about, 32 bytes, copied; NULL: nobody can say */
    void *payload;
};

/* 0: accepted, the payload is the core's. Else -ENOTCONN without a session, or -EAGAIN
 * with a REJECT action; the payload stays the caller's. */
int broker_core_submit(struct broker_core *core, uint32_t client,
                       const struct broker_core_request *request, uint64_t now_us);

/* 0, -ENOENT for an id that is not open, -ENOTCONN. */
int broker_core_cancel(struct broker_core *core, uint32_t client,
                       const struct proto_id *id, uint64_t now_us);
/* The same, but -EBUSY for a request that was given to a worker already: it goes on. */
int broker_core_recall(struct broker_core *core, uint32_t client,
                       const struct proto_id *id, uint64_t now_us);

/* Whether results wait for the client to read: then none of its jobs is begun, while
 * those of others overtake them. Without a session nothing happens. */
void broker_core_client_hold(struct broker_core *core, uint32_t client, bool held,
                             uint64_t now_us);

/* Any other frame: a sign of life. 0 or -ENOTCONN. */
int broker_core_client_heard(struct broker_core *core, uint32_t client, uint64_t now_us);

/* The client leaves, or is thrown out. Without a session nothing happens. */
void broker_core_client_bye(struct broker_core *core, uint32_t client, uint64_t now_us);

/* ---- workers ---- */

struct broker_core_offer {
    const char *service;
    uint64_t slots, slots_max; /* slots_max 0: a service without slots */
    uint64_t credit_bytes;     /* payloads it will hold; 0: no bound */
};

/* 0; -EALREADY when the session is open: nothing changes; -EINVAL for a bad name;
 * -ENOSPC when no further service fits. */
int broker_core_register(struct broker_core *core, uint32_t worker,
                         const struct broker_core_offer *offer, uint64_t now_us);

int broker_core_ready(struct broker_core *core, uint32_t worker, uint64_t credit,
                      uint64_t slots, uint64_t now_us);

/*
 * Answers to JOB. 0 when it was about the job's current attempt on this worker;
 * -ESTALE for one that is over (counted as late), -EPERM for a job that this worker
 * was not given (counted as forged), -ENOTCONN without a session.
 */
int broker_core_start(struct broker_core *core, uint32_t worker,
                      const struct proto_id *id, uint8_t attempt, uint64_t now_us);
int broker_core_progress(struct broker_core *core, uint32_t worker,
                         const struct proto_id *id, uint8_t attempt, uint64_t now_us);
int broker_core_done(struct broker_core *core, uint32_t worker, const struct proto_id *id,
                     uint8_t attempt, unsigned status, uint64_t now_us);

struct broker_core_failure {
    unsigned status; /* enum proto_status, or any other number */
    bool retryable;  /* another slot may succeed */
    bool of_worker;  /* not the input, as far as is known */
};
int broker_core_fail(struct broker_core *core, uint32_t worker, const struct proto_id *id,
                     uint8_t attempt, const struct broker_core_failure *failure,
                     uint64_t now_us);

/* The worker will leave: it is given no more jobs. 0 or -ENOTCONN. */
int broker_core_leaving(struct broker_core *core, uint32_t worker, uint64_t now_us);
/* The worker knows that its share is `share`. 0 or -ENOTCONN. */
int broker_core_scaled(struct broker_core *core, uint32_t worker, uint64_t share,
                       uint64_t now_us);
int broker_core_worker_heard(struct broker_core *core, uint32_t worker, uint64_t now_us);
void broker_core_worker_bye(struct broker_core *core, uint32_t worker, uint64_t now_us);

/* A JOB action could not be sent: it goes to another worker without losing an attempt,
 * and this worker is given nothing until its next READY. An event like the others: call
 * it when all actions were taken. Ids that are not open any more are ignored. */
void broker_core_unsent(struct broker_core *core, const struct proto_id *id,
                        uint64_t now_us);

/* ---- control ---- */

struct broker_core_scale {
    const char *service;
    const char *source; /* "monitor" or "operator" */
    uint64_t target;    /* 0 from the operator withdraws */
    uint64_t seq;
    uint64_t ttl_ms; /* 0: the default */
    const char *reason;
};

/* 0 and `service` when the target was taken; -ESTALE and `service` when a later one
 * holds; -EINVAL for a bad name or source; -ENOSPC when no further service fits. */
int broker_core_scale(struct broker_core *core, const struct broker_core_scale *scale,
                      uint32_t *service, uint64_t now_us);

enum broker_core_level {
    BROKER_CORE_NORMAL,
    BROKER_CORE_SOFT,
    BROKER_CORE_FORCED,
    BROKER_CORE_CRITICAL,
    BROKER_CORE_LEVELS
};
/* "normal" ...; and back: 0 with `out`, or -EINVAL. */
const char *broker_core_level_name(unsigned level);
int broker_core_level_by_name(const char *name, enum broker_core_level *out);

/* Holds for `ttl_ms` (0: the default), then falls back to normal. */
void broker_core_mode(struct broker_core *core, enum broker_core_level level,
                      const char *reason, uint64_t ttl_ms, uint64_t now_us);

/* Ask for slot `number` (k*1000 + n) to end. 0, or -ENOENT when no worker has it. */
int broker_core_drain_slot(struct broker_core *core, uint64_t number);

/* Forget what `key` (32 bytes) did, or with NULL what all of them did. */
void broker_core_pardon(struct broker_core *core, const uint8_t *key);

/* From now on SUBMIT is refused with `draining`; open requests go on. */
void broker_core_drain(struct broker_core *core);
/* End all that is open with `draining`. */
void broker_core_stop(struct broker_core *core, uint64_t now_us);

/* ---- time ---- */

/* When broker_core_tick() is to be called next; BROKER_CORE_NEVER when nothing waits. */
uint64_t broker_core_deadline(const struct broker_core *core);
/* Do what is due; a bounded amount, so the deadline may still be in the past after. */
void broker_core_tick(struct broker_core *core, uint64_t now_us);

/* ---- what there is to see ---- */

struct broker_core_counters {
#define COUNTER(field, help) uint64_t field;
#include "broker/core/counters.tbl"
#undef COUNTER
    uint64_t ended[PROTO_STATUS_COUNT];    /* accepted requests, by how they ended */
    uint64_t rejected[PROTO_STATUS_COUNT]; /* refused requests, by reason */
};
const struct broker_core_counters *broker_core_counters(const struct broker_core *core);

struct broker_core_lane_view {
    uint32_t jobs;
    uint64_t bytes;
};

struct broker_core_source_view {
    const char *name;
    bool live;
    uint64_t target, seq, until_us;
};

#define BROKER_CORE_SOURCES 2

struct broker_core_service_view {
    const char *name;
    const char *reason;     /* of the source whose target holds; "": none does */
    uint64_t target;        /* 0 for a service without slots */
    uint64_t slots_default; /* what the workers offered */
    uint64_t slots;         /* alive, all workers */
    uint64_t slots_max;
    uint32_t workers;
    uint32_t running;         /* jobs given to workers */
    uint32_t aborting;        /* given up, but perhaps still at work */
    uint64_t job_interval_us; /* between two ends while busy; 0: not known yet */
    struct broker_core_lane_view lanes[PROTO_PRIORITIES];
    struct broker_core_source_view sources[BROKER_CORE_SOURCES];
};
/* False when there is no service at `index` (below BROKER_CORE_SERVICES_MAX). */
bool broker_core_service(const struct broker_core *core, uint32_t index,
                         struct broker_core_service_view *out);

struct broker_core_worker_view {
    uint32_t service;
    uint32_t number; /* k of its slot numbers; BROKER_CORE_NONE without slots */
    uint64_t credit, credit_bytes, slots, slots_max, share;
    uint32_t jobs, aborting;
    uint64_t bytes, aborting_cost;
    bool leaving;
};
bool broker_core_worker(const struct broker_core *core, uint32_t worker,
                        struct broker_core_worker_view *out);

struct broker_core_client_view {
    uint32_t jobs;
    uint64_t bytes;
};
bool broker_core_client(const struct broker_core *core, uint32_t client,
                        struct broker_core_client_view *out);

struct broker_core_view {
    uint32_t jobs;        /* open requests */
    uint64_t bytes;       /* their payloads */
    uint64_t cost;        /* memory of the jobs at slots, as their clients estimated */
    uint32_t quarantined; /* keys that are refused */
    bool draining;
    enum broker_core_level level;
    const char *level_reason;
    uint64_t level_until_us; /* when it falls back to normal; 0 when it is */
};
void broker_core_look(const struct broker_core *core, struct broker_core_view *out);

#endif
