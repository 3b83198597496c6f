/*
 * state.h - what the cacher's files share. No one else includes it.
 *
 *   cacher.c   life of the process, session, timers, PURGE and MODE
 *   open.c     the tiers behind memory, from the options
 *   method.c   JOB in: get, peek, put, drop; what is not here is looked for behind
 *   answer.c   DONE, FAIL, START, READY out
 *   errand.c   jobs that take their time: the methods purge, warm and plan
 *   warm.c     from the store into memory, from memory into Redis
 *   stats.c    counters, and the tiers for people
 */
#ifndef CACHER_STATE_H
#define CACHER_STATE_H

#include "cacher/cacher.h"
#include "cacher/leases.h"
#include "cacher/level.h"
#include "cacher/memory.h"
#include "cacher/plan.h"
#include "cacher/tiers.h"
#include "runtime/session.h"

#define CACHER_TICK_MS     100 /* while there are leases: their ends, and the waits' */
#define CACHER_ERRANDS_MAX 8   /* at once; further ones are refused as `full` */

struct cacher_errand;

/* What those who wait for a key are told when it is there: one of the two. */
struct cacher_fresh {
    struct hotcache_value *result, *refusal;
    const char *how; /* "hit", "coalesced" */
};

struct cacher {
    struct service *service;
    const struct cacher_options *options;
    struct cacher_metrics *metrics;
    struct session *session;
    struct cacher_leases *leases;
    struct cacher_memory memory;
    struct cacher_tiers tiers;
    struct cacher_pressure pressure;
    struct cacher_fresh fresh;
    struct cacher_plan plan;
    struct cacher_errand *errands;
    unsigned errand_count;
    uv_timer_t tick, every, leave;
    unsigned open;   /* timers, and the tiers, that are not yet closed */
    uint64_t credit; /* as the broker sees it */
    bool leaving, flushed, stopped;
};

static inline uint64_t cacher_now_us(const struct cacher *cacher)
{
    return service_now_us(cacher->service);
}

uint64_t cacher_wall_s(void); /* Unix time */

/* ---- cacher.c ---- */

/* One of cacher->open is closed; frees the cacher with the last one. */
void cacher_one_closed(struct cacher *cacher);
/* The end of leases and waits that are due; runs while there are leases. */
void cacher_on_tick(uv_timer_t *timer);

/* ---- open.c ---- */

/* 0, or -errno, said in the log. What was opened is in cacher->tiers. */
int cacher_open_tiers(struct cacher *cacher);

/* ---- method.c ---- */

struct cacher_job {
    struct cacher_ticket ticket;
    struct proto_submit submit;
    uint32_t budget_ms;
    zmq_msg_t *payload;
};

/* Answer a JOB, or park it. */
void cacher_method_run(struct cacher *cacher, struct mesh_msg *msg);
/* How a get that was parked ends: the callback of the leases, `arg` is the cacher. */
void cacher_method_parked_end(const struct cacher_ticket *ticket,
                              enum cacher_answer answer, uint64_t lease, void *arg);

/* ---- answer.c ---- */

void cacher_answer_start(struct cacher *cacher, const struct cacher_ticket *ticket);
void cacher_answer_result(struct cacher *cacher, const struct cacher_ticket *ticket,
                          struct hotcache_value *value, const char *how);
void cacher_answer_refusal(struct cacher *cacher, const struct cacher_ticket *ticket,
                           const struct hotcache_value *refusal, const char *how);
void cacher_answer_end(struct cacher *cacher, const struct cacher_ticket *ticket,
                       enum proto_status status, const char *detail);
/* Takes `json`; NULL is said to be out of memory. */
void cacher_answer_json(struct cacher *cacher, const struct cacher_ticket *ticket,
                        json_t *json);
/* The job was wrong: counted. */
void cacher_answer_bad(struct cacher *cacher, const struct cacher_ticket *ticket,
                       const char *why);
/* `lease` 0: compute without one, or, with `retry_ms`, ask again. */
void cacher_answer_miss(struct cacher *cacher, const struct cacher_ticket *ticket,
                        uint64_t lease, uint64_t retry_ms);
void cacher_answer_leaving(struct cacher *cacher, const struct cacher_ticket *ticket);
/* PROGRESS for each parked get and each errand. */
void cacher_answer_progress(struct cacher *cacher);
/* A JOB came: READY where half of the credit is used. */
void cacher_answer_use_credit(struct cacher *cacher);
/* READY, unless the broker's count is right already. */
void cacher_answer_ready(struct cacher *cacher);

/* ---- errand.c: a job whose end comes later; first member of its own struct ---- */

struct cacher_errand {
    struct cacher *cacher;
    struct cacher_errand *next, *previous;
    struct cacher_ticket ticket;
    bool unwanted; /* aborted: nobody waits for its end */
};

void cacher_errand_purge(struct cacher *cacher, struct cacher_job *job);
void cacher_errand_warm(struct cacher *cacher, struct cacher_job *job);
void cacher_errand_plan(struct cacher *cacher, struct cacher_job *job);
/* No longer wanted. False: no errand has this id. */
bool cacher_errand_abort(struct cacher *cacher, const struct proto_id *request,
                         uint8_t attempt);
/* All of them: the broker knows them no more. */
void cacher_errand_forget(struct cacher *cacher);
/* A purge as a filter; NULL, or why it is none: a static sentence. */
const char *cacher_errand_filter(const struct proto_purge *purge,
                                 struct cacher_filter *out);

/* ---- warm.c ---- */

struct cacher_warmed {
    uint64_t results, bytes; /* into memory */
    uint64_t redis;          /* from memory into Redis */
    uint64_t ms;
    const char *why; /* it ended: "all", "full", "time", "down" */
};

/* Load from the store, and from memory to Redis, for at most `ms`, then `warmed`, later.
 * 0; -ENOENT: there is neither store nor Redis; -EHOSTDOWN, -EBUSY: not now; -ENOMEM. */
int cacher_warm(struct cacher *cacher, uint64_t ms,
                void (*warmed)(const struct cacher_warmed *warmed, void *arg), void *arg);

/* ---- stats.c ---- */

json_t *cacher_stats(void *cacher); /* for the session */

#endif
