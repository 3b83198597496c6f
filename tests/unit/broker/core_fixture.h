/*
 * core_fixture.h - a core with small limits, a clock that the test sets, and what the
 * core did since the last look.
 */
#ifndef TESTS_UNIT_BROKER_CORE_FIXTURE_H
#define TESTS_UNIT_BROKER_CORE_FIXTURE_H

#include "broker/core/core.h"
#include "tests/harness/harness.h"

#include <stdlib.h>
#include <string.h>

#define SECOND  1000000ull
#define MS      1000ull
#define HIGH    PROTO_PRIORITY_HIGH
#define NORMAL  PROTO_PRIORITY_NORMAL
#define BATCH   PROTO_PRIORITY_BATCH
#define DID_MAX 256

struct fixture {
    struct broker_core *core;
    struct broker_core_limits limits;
    uint64_t now_us;
    struct broker_core_action did[DID_MAX]; /* since the last clear() */
    char texts[DID_MAX][128];
    unsigned count;
};

/* Limits may be changed between the two. */
static inline void prepare(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    broker_core_limits_init(&f->limits);
    f->limits.epoch = 77;
    f->limits.clients_max = 4;
    f->limits.workers_max = 4;
    f->limits.jobs_max = 64;
    f->now_us = 100 * SECOND;
}

static inline void open_core(struct fixture *f)
{
    f->core = broker_core_new(&f->limits);
    assert_non_null(f->core);
}

static inline void take(struct fixture *f)
{
    const struct broker_core_action *action;
    while ((action = broker_core_next(f->core)) != NULL) {
        assert_true(f->count < DID_MAX);
        f->did[f->count] = *action;
        if (action->text != NULL)
            strncpy(f->texts[f->count], action->text, sizeof f->texts[0] - 1);
        f->count++;
    }
}

static inline void clear(struct fixture *f)
{
    take(f);
    memset(f->did, 0, sizeof f->did);
    memset(f->texts, 0, sizeof f->texts);
    f->count = 0;
}

/* Time passes; what is due happens. */
static inline void pass(struct fixture *f, uint64_t us)
{
    uint64_t end_us = f->now_us + us;
    while (broker_core_deadline(f->core) <= end_us) {
        if (broker_core_deadline(f->core) > f->now_us)
            f->now_us = broker_core_deadline(f->core);
        broker_core_tick(f->core, f->now_us);
        take(f);
    }
    f->now_us = end_us;
}

static inline unsigned count_of(struct fixture *f, enum broker_core_action_type type)
{
    unsigned count = 0;
    take(f);
    for (unsigned i = 0; i < f->count; i++)
        count += f->did[i].type == type;
    return count;
}

/* The nth one of a type since the last clear(), from 0; fails when there is none. */
static inline const struct broker_core_action *
nth(struct fixture *f, enum broker_core_action_type type, unsigned n)
{
    take(f);
    for (unsigned i = 0; i < f->count; i++)
        if (f->did[i].type == type && n-- == 0)
            return &f->did[i];
    fail_msg("no action of type %d", type);
    return NULL;
}

static inline struct proto_id id_of(unsigned n)
{
    struct proto_id id = {{(uint8_t)n, (uint8_t)(n >> 8), 1}};
    return id;
}

static inline void hello(struct fixture *f, uint32_t client)
{
    assert_int_equal(broker_core_hello(f->core, client, f->now_us), 0);
}

/* The payload's handle is &marks[n], so that a test can tell jobs apart. */
static char marks[1024];

static inline int submit_as(struct fixture *f, uint32_t client, unsigned n,
                            uint8_t priority, uint64_t bytes, uint32_t budget_ms)
{
    struct broker_core_request request = {.id = id_of(n),
                                          .service = "extract",
                                          .priority = priority,
                                          .budget_ms = budget_ms,
                                          .bytes = bytes,
                                          .payload = &marks[n]};
    return broker_core_submit(f->core, client, &request, f->now_us);
}

/* About the key that is all `key`. */
static inline int submit_key(struct fixture *f, unsigned n, uint8_t key)
{
    uint8_t bytes[BROKER_CORE_KEY_BYTES];
    memset(bytes, key, sizeof bytes);
    struct broker_core_request request = {.id = id_of(n),
                                          .service = "extract",
                                          .priority = NORMAL,
                                          .bytes = 100,
                                          .key = bytes,
                                          .payload = &marks[n]};
    return broker_core_submit(f->core, 0, &request, f->now_us);
}

static inline void submit(struct fixture *f, unsigned n)
{
    assert_int_equal(submit_as(f, 0, n, NORMAL, 100, 0), 0);
}

static inline unsigned mark_of(const struct broker_core_action *action)
{
    return (unsigned)((char *)action->payload - marks);
}

static inline void enlist(struct fixture *f, uint32_t worker, uint64_t slots,
                          uint64_t slots_max)
{
    struct broker_core_offer offer = {
        .service = "extract", .slots = slots, .slots_max = slots_max};
    assert_int_equal(broker_core_register(f->core, worker, &offer, f->now_us), 0);
}

static inline void ready(struct fixture *f, uint32_t worker, uint64_t credit,
                         uint64_t slots)
{
    assert_int_equal(broker_core_ready(f->core, worker, credit, slots, f->now_us), 0);
}

/* The core with one client, and one worker of so many slots. */
static inline void open_with_worker(struct fixture *f, uint64_t slots)
{
    open_core(f);
    hello(f, 0);
    enlist(f, 0, slots, slots);
}

static inline int start(struct fixture *f, const struct broker_core_action *job)
{
    return broker_core_start(f->core, job->peer, &job->request, job->attempt, f->now_us);
}

static inline int done(struct fixture *f, const struct broker_core_action *job)
{
    return broker_core_done(f->core, job->peer, &job->request, job->attempt,
                            PROTO_STATUS_OK, f->now_us);
}

/* Its slot died of it. */
static inline int fail_job(struct fixture *f, const struct broker_core_action *job,
                           bool retryable)
{
    struct broker_core_failure failure = {PROTO_STATUS_WORKER_LOST, retryable, true};
    return broker_core_fail(f->core, job->peer, &job->request, job->attempt, &failure,
                            f->now_us);
}

/* The worker has no room for the job. */
static inline int refuse_job(struct fixture *f, const struct broker_core_action *job)
{
    struct broker_core_failure failure = {PROTO_STATUS_FULL, true, true};
    return broker_core_fail(f->core, job->peer, &job->request, job->attempt, &failure,
                            f->now_us);
}

static inline int scale(struct fixture *f, const char *source, uint64_t target,
                        uint64_t seq, uint64_t ttl_ms)
{
    struct broker_core_scale asked = {.service = "extract",
                                      .source = source,
                                      .target = target,
                                      .seq = seq,
                                      .ttl_ms = ttl_ms,
                                      .reason = source};
    uint32_t service;
    return broker_core_scale(f->core, &asked, &service, f->now_us);
}

static inline struct broker_core_service_view look_at(struct fixture *f)
{
    struct broker_core_service_view view = {0};
    for (uint32_t i = 0; i < BROKER_CORE_SERVICES_MAX; i++)
        if (broker_core_service(f->core, i, &view) && strcmp(view.name, "extract") == 0)
            return view;
    fail_msg("no service extract");
    return view;
}

static inline uint32_t open_jobs(struct fixture *f)
{
    struct broker_core_view view;
    broker_core_look(f->core, &view);
    return view.jobs;
}

static inline void stay_heard(struct fixture *f)
{
    for (uint32_t i = 0; i < f->limits.clients_max; i++)
        (void)broker_core_client_heard(f->core, i, f->now_us);
    for (uint32_t i = 0; i < f->limits.workers_max; i++)
        (void)broker_core_worker_heard(f->core, i, f->now_us);
}

/* Time passes in steps of half a second, and every peer keeps sending PING. */
static inline void live(struct fixture *f, uint64_t us)
{
    for (uint64_t left = us; left > 0;) {
        uint64_t step_us = left < SECOND / 2 ? left : SECOND / 2;
        pass(f, step_us);
        stay_heard(f);
        left -= step_us;
    }
}

static inline void close_core(struct fixture *f)
{
    broker_core_free(f->core);
    f->core = NULL;
}

#endif
