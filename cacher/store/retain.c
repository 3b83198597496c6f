/*
 * Retention: a round every store_retention_every_s, in the cacher that holds the lock. A
 * round counts once, then removes in steps until the bounds hold, with time for other
 * work between the steps. What was not used for longest goes first, for the bound in
 * bytes; what is oldest, for the bound in age.
 */
#include "cacher/store/core.h"

#include <errno.h>
#include <string.h>

/* While the store is away a round is also what asks it whether nobody else does. */
static void next_round(struct cacher_store *store)
{
    uint64_t ms = store->options.store_retention_every_s * 1000;

    if (store->reads.state != BREAKER_CLOSED && ms > store->options.store_breaker_ms_max)
        ms = store->options.store_breaker_ms_max;
    uv_timer_start(&store->timers[STORE_TIMER_RETAIN], cacher_store_on_retain_timer, ms,
                   0);
}

static void note_keeper(struct cacher_store *store, bool held)
{
    if (held != store->keeper)
        log_event(LOG_INFO, held ? "retention is ours" : "retention is no longer ours",
                  "store=%s", store->home->class->name);
    store->keeper = held;
}

static void account(struct cacher_store *store, const struct store_job *job)
{
    struct cacher_tier_counters *counters = &store->counters;

    counters->expired += job->expired;
    counters->evicted += job->evicted;
    if (job->count) {
        counters->entries = job->entries;
        counters->bytes = job->bytes;
        return;
    }
    uint64_t gone = job->expired + job->evicted;
    counters->entries -= gone < counters->entries ? gone : counters->entries;
    counters->bytes -= job->freed < counters->bytes ? job->freed : counters->bytes;
}

static uint64_t excess(const struct cacher_store *store)
{
    uint64_t most = store->options.store_retention_bytes, bytes = store->counters.bytes;

    return most == 0 || bytes <= most ? 0 : bytes - most;
}

static void on_retained(struct store_job *job)
{
    struct cacher_store *store = job->owner;
    bool again = false;

    store->retaining = NULL;
    if (job->err == 0) {
        if (store->reads.state != BREAKER_CLOSED || !store->usable)
            cacher_store_ended(store, &store->reads, job);
        note_keeper(store, job->held);
        account(store, job);
        /* A step that found nothing to remove, though the count says there is too much,
         * would not find it the next time either: the count is old. */
        again = job->held &&
                (job->more || (excess(store) > 0 && (job->count || job->evicted > 0)));
    } else {
        if (job->err != -ECANCELED) {
            if (!store->usable)
                cacher_store_ended(store, &store->reads, job);
            snprintf(store->last_error, sizeof store->last_error, "%s", job->error);
            note_keeper(store, false);
        }
    }
    cacher_store_job_free(job);
    if (store->closing)
        return;
    if (again)
        uv_timer_start(&store->timers[STORE_TIMER_RETAIN], cacher_store_on_retain_timer,
                       STORE_STEP_MS, 0);
    else
        next_round(store);
    store->retain_again = again;
}

static void step(struct cacher_store *store, bool count)
{
    uint64_t age_s = store->options.store_retention_s;
    struct store_job *job = cacher_store_job_new(store, STORE_RETAIN, on_retained);

    if (job == NULL) {
        next_round(store);
        return;
    }
    job->count = count;
    job->excess = count ? 0 : excess(store);
    job->created_s = age_s == 0 || job->now_s < age_s ? 0 : job->now_s - age_s;
    job->most = (unsigned)store->options.store_retention_rows;
    store->retaining = job;
    cacher_store_submit(store, job);
}

void cacher_store_on_retain_timer(uv_timer_t *timer)
{
    struct cacher_store *store = timer->data;

    if (store->retaining == NULL)
        step(store, !store->retain_again);
}
