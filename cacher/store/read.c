#include "cacher/store/core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- gets ---- */

static void unlink_get(struct cacher_store *store, struct store_job *job)
{
    if (job->previous != NULL)
        job->previous->next = job->next;
    else
        store->gets = job->next;
    if (job->next != NULL)
        job->next->previous = job->previous;
    else
        store->gets_last = job->previous;
    job->awaited = false;
}

static void arm(struct cacher_store *store)
{
    uv_timer_t *timer = &store->timers[STORE_TIMER_GETS];

    if (store->gets == NULL || store->closing) {
        uv_timer_stop(timer);
        return;
    }
    uint64_t age_ms = (cacher_store_now_us(store) - store->gets->asked_us) / 1000;
    uint64_t all_ms = store->options.store_get_ms;
    uv_timer_start(timer, cacher_store_on_gets_timer,
                   age_ms < all_ms ? all_ms - age_ms : 0, 0);
}

static void answer(struct cacher_store *store, struct store_job *job,
                   enum cacher_found found, const struct cacher_record *record)
{
    struct cacher_tier_counters *counters = &store->counters;

    unlink_get(store, job);
    if (found == CACHER_FOUND)
        counters->hits++;
    else if (found == CACHER_MISSING)
        counters->misses++;
    else
        counters->errors++;
    metrics_observe(&counters->get_time, cacher_store_now_us(store) - job->asked_us);
    job->got(found, record, job->arg);
}

/* Whether the row may still be served: retention may not have come by yet. */
static bool is_current(const struct cacher_store *store, const struct store_row *row)
{
    uint64_t now_s = store->unix_s(), age_s = store->options.store_retention_s;

    return (row->expires_s == 0 || row->expires_s > now_s) &&
           (age_s == 0 || row->record.created_s + age_s > now_s);
}

static void on_got(struct store_job *job)
{
    struct cacher_store *store = job->owner;
    struct store_row *row = job->rows;

    store->gets_count--;
    if (!job->awaited) { /* timed out, or closing; its failure is already counted */
        cacher_store_job_free(job);
        return;
    }
    cacher_store_ended(store, &store->reads, job);
    if (job->err != 0) {
        answer(store, job, CACHER_FAILED, NULL);
    } else if (row == NULL) {
        answer(store, job, CACHER_MISSING, NULL);
    } else if (row->damaged) {
        store->counters.damaged++;
        cacher_store_remove(store, job->key);
        answer(store, job, CACHER_MISSING, NULL);
    } else if (!is_current(store, row)) {
        answer(store, job, CACHER_MISSING, NULL);
    } else {
        cacher_store_touch(&store->tier, job->key);
        answer(store, job, CACHER_FOUND, &row->record);
    }
    cacher_store_job_free(job);
    arm(store);
}

void cacher_store_on_gets_timer(uv_timer_t *timer)
{
    struct cacher_store *store = timer->data;
    uint64_t now_us = cacher_store_now_us(store);
    uint64_t all_us = store->options.store_get_ms * 1000;

    while (store->gets != NULL && now_us - store->gets->asked_us >= all_us) {
        struct store_job *job = store->gets; /* goes on in the home; on_got frees it */
        struct store_job late = {.err = -ETIMEDOUT, .error = "no answer in time"};
        store->counters.timeouts++;
        cacher_store_ended(store, &store->reads, &late);
        answer(store, job, CACHER_FAILED, NULL);
    }
    arm(store);
}

void cacher_store_fail_gets(struct cacher_store *store)
{
    while (store->gets != NULL)
        answer(store, store->gets, CACHER_FAILED, NULL);
}

int cacher_store_get(struct cacher_tier *tier, const uint8_t key[PROTO_DIGEST_BYTES],
                     cacher_tier_got_fn *got, void *arg)
{
    struct cacher_store *store = (struct cacher_store *)tier;

    if (store->closing)
        return -ESHUTDOWN;
    if (store->gets_count >= store->options.store_gets_max)
        return -EBUSY;
    if (!breaker_ask(&store->reads, cacher_store_now_us(store)))
        return -EHOSTDOWN;
    struct store_job *job = cacher_store_job_new(store, STORE_GET, on_got);
    if (job == NULL) {
        /* A probe must end, or nobody would ask again. */
        (void)breaker_failed(&store->reads, cacher_store_now_us(store));
        return -ENOMEM;
    }
    memcpy(job->key, key, PROTO_DIGEST_BYTES);
    job->got = got;
    job->arg = arg;
    job->awaited = true;
    job->previous = store->gets_last;
    if (store->gets_last != NULL)
        store->gets_last->next = job;
    else
        store->gets = job;
    store->gets_last = job;
    store->gets_count++;
    cacher_store_submit(store, job);
    if (store->gets == job)
        arm(store);
    return 0;
}

/* ---- times of last use ---- */

void cacher_store_touch(struct cacher_tier *tier, const uint8_t key[PROTO_DIGEST_BYTES])
{
    struct cacher_store *store = (struct cacher_store *)tier;
    struct store_touches *touches = store->touches;
    unsigned slot = (unsigned)(key[0] | key[1] << 8) % STORE_TOUCH_SLOTS;
    uv_timer_t *timer = &store->timers[STORE_TIMER_TOUCH];

    while (touches->slot[slot] != 0) {
        if (memcmp(touches->keys[touches->slot[slot] - 1], key, PROTO_DIGEST_BYTES) == 0)
            return;
        slot = (slot + 1) % STORE_TOUCH_SLOTS;
    }
    if (touches->count == STORE_TOUCHES_MAX || store->closing)
        return; /* some are lost: it is a hint of what to evict, no more */
    memcpy(touches->keys[touches->count], key, PROTO_DIGEST_BYTES);
    touches->slot[slot] = (uint16_t)++touches->count;
    if (!uv_is_active((uv_handle_t *)timer))
        uv_timer_start(timer, cacher_store_on_touch_timer, store->options.store_touch_ms,
                       0);
}
