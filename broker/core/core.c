/* Making and freeing the core, its clock, and its end. */
#include "broker/core/core.h"

#include "broker/core/state.h"

#include <stdlib.h>

/* Timers handled in one tick, so that the caller's sockets get their turn. */
#define TICK_MAX 256

void broker_core_limits_init(struct broker_core_limits *limits)
{
    *limits = (struct broker_core_limits){
        .clients_max = 1024,
        .workers_max = 64,
        .jobs_max = 16384,
        .lane_jobs = 1024,
        .lane_bytes = 256ull << 20,
        .total_bytes = 512ull << 20,
        .payload_bytes_max = 64ull << 20,
        .client_jobs = 4096,
        .client_bytes = 256ull << 20,
        .batch_share = 10,
        .high_slots = 1,
        .newest_first_percent = 50,
        .silence_us = 3000000,
        .request_us = 60000000,
        .request_max_us = 600000000,
        .start_us = 1000000,
        .lease_us = 5000000,
        .job_us = 15000000,
        .worker_wait_us = 5000000,
        .target_ttl_us = 60000000,
        .resend_us = 1000000,
        .retry_percent = 20,
        .retry_per_s = 10,
        .retry_burst = 100,
        .quarantine_keys = 1024,
        .quarantine_us = 600000000,
    };
}

static bool usable(const struct broker_core_limits *l)
{
    return l->clients_max > 0 && l->workers_max > 0 && l->jobs_max > 0 &&
           l->jobs_max <= (1u << 24) && l->batch_share > 0 && l->silence_us > 0 &&
           l->request_us > 0 && l->request_max_us > 0 && l->start_us > 0 &&
           l->lease_us > 0 && l->job_us > 0 && l->quarantine_keys > 0 &&
           l->quarantine_keys <= (1u << 20);
}

static int allocate(struct broker_core *core)
{
    const struct broker_core_limits *l = &core->limits;
    uint32_t buckets = 1;

    while (buckets < l->jobs_max)
        buckets *= 2;
    core->bucket_mask = buckets - 1;
    /* An event ends or moves a job with at most ABORT, FINAL, RELEASE or ABORT, JOB; a
     * peer adds at most its BYE, its event, its share and one DRAIN. QUARANTINE is about
     * a job that ends without ABORT. */
    core->actions_max = 4 * l->jobs_max + 8 * (l->clients_max + l->workers_max) + 256;

    core->jobs = calloc(l->jobs_max, sizeof(core->jobs[0]));
    core->clients = calloc(l->clients_max, sizeof(core->clients[0]));
    core->workers = calloc(l->workers_max, sizeof(core->workers[0]));
    core->buckets = calloc(buckets, sizeof(core->buckets[0]));
    core->actions = calloc(core->actions_max, sizeof(core->actions[0]));
    if (core->jobs == NULL || core->clients == NULL || core->workers == NULL ||
        core->buckets == NULL || core->actions == NULL)
        return -1;
    if (broker_core_quarantine_init(core) < 0)
        return -1;
    return broker_core_heap_init(
        &core->heap, l->jobs_max + l->clients_max + l->workers_max +
                         BROKER_CORE_SERVICES_MAX * (BROKER_CORE_SOURCES + 2) + 1);
}

struct broker_core *broker_core_new(const struct broker_core_limits *limits)
{
    if (!usable(limits))
        return NULL;
    struct broker_core *core = calloc(1, sizeof(*core));
    if (core == NULL)
        return NULL;
    core->limits = *limits;
    core->level_timer.kind = BROKER_CORE_TIMER_MODE;
    if (allocate(core) < 0) {
        broker_core_free(core);
        return NULL;
    }
    return core;
}

void broker_core_free(struct broker_core *core)
{
    if (core == NULL)
        return;
    broker_core_heap_free(&core->heap);
    broker_core_quarantine_free(core);
    free(core->jobs);
    free(core->clients);
    free(core->workers);
    free(core->buckets);
    free(core->actions);
    free(core);
}

uint64_t broker_core_deadline(const struct broker_core *core)
{
    const struct broker_core_timer *first = broker_core_heap_first(&core->heap);
    return first == NULL ? BROKER_CORE_NEVER : first->due_us;
}

static void fire(struct broker_core *core, struct broker_core_timer *timer,
                 uint64_t now_us)
{
    switch ((enum broker_core_timer_kind)timer->kind) {
    case BROKER_CORE_TIMER_JOB:
        broker_core_job_due(core, &core->jobs[timer->owner], now_us);
        break;
    case BROKER_CORE_TIMER_CLIENT:
        broker_core_client_due(core, timer->owner, now_us);
        break;
    case BROKER_CORE_TIMER_WORKER:
        broker_core_worker_due(core, timer->owner, now_us);
        break;
    case BROKER_CORE_TIMER_WAIT:
        broker_core_service_waited(core, timer->owner, now_us);
        break;
    case BROKER_CORE_TIMER_TARGET:
        broker_core_slots_expired(core, timer->owner, now_us);
        break;
    case BROKER_CORE_TIMER_MODE:
        broker_core_mode_due(core);
        break;
    case BROKER_CORE_TIMER_HIGH: /* the dispatch that ends the tick is what it is for */
        break;
    }
}

void broker_core_tick(struct broker_core *core, uint64_t now_us)
{
    for (int i = 0; i < TICK_MAX; i++) {
        struct broker_core_timer *first = broker_core_heap_first(&core->heap);
        if (first == NULL || first->due_us > now_us)
            break;
        broker_core_heap_clear(&core->heap, first);
        fire(core, first, now_us);
    }
    broker_core_dispatch(core, now_us);
}

void broker_core_drain(struct broker_core *core)
{
    core->draining = true;
}

void broker_core_stop(struct broker_core *core, uint64_t now_us)
{
    core->draining = true;
    for (uint32_t i = 0; i < core->jobs_touched; i++) {
        struct broker_core_job *job = &core->jobs[i];
        if (job->state == BROKER_CORE_JOB_FREE)
            continue;
        broker_core_job_loosen(core, job, true, now_us);
        broker_core_job_end(core, job, PROTO_STATUS_DRAINING, "the broker stops", false,
                            now_us);
    }
}
