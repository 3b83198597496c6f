/*
 * state.h - what the cacher's files share. No one else includes it.
 *
 *   cacher.c   life of the process, session, timers, purge and pressure
 *   method.c   get, peek, put, drop: JOB in, DONE or FAIL out
 */
#ifndef CACHER_STATE_H
#define CACHER_STATE_H

#include "cacher/cacher.h"
#include "cacher/leases.h"
#include "runtime/hotcache.h"
#include "runtime/session.h"

#define CACHER_TICK_MS 100 /* while there are leases: their ends, and the waits' */

struct cacher {
    struct service *service;
    const struct cacher_options *options;
    struct cacher_metrics *metrics;
    struct session *session;
    struct cacher_leases *leases;
    struct hotcache *cache;
    struct hotcache_value *fresh; /* the result being put, for those parked */
    uv_timer_t tick, every, leave;
    unsigned timers;          /* not yet closed */
    uint64_t credit;          /* as the broker sees it */
    uint64_t pressure_end_us; /* then the bound of memory is whole again; 0: it is */
    bool leaving;
};

static inline uint64_t cacher_now_us(const struct cacher *cacher)
{
    return service_now_us(cacher->service);
}

/* The end of leases and waits that are due; runs while there are leases. */
void cacher_on_tick(uv_timer_t *timer);

/* Answer a JOB, or park it. */
void cacher_method_run(struct cacher *cacher, struct mesh_msg *msg);
/* How a get that was parked ends: the callback of the leases, `arg` is the cacher. */
void cacher_method_parked_end(const struct cacher_ticket *ticket,
                              enum cacher_answer answer, uint64_t lease, void *arg);
/* PROGRESS for each parked get. */
void cacher_method_progress(struct cacher *cacher);
/* READY, unless the broker's count is right already. */
void cacher_method_ready(struct cacher *cacher);

#endif
