/*
 * Behind the answer. Puts wait in a queue; one batch at a time is made of its head and
 * written in one transaction. A batch that fails goes back to the head of the queue, so
 * nothing that was taken is lost while the store is away, and the queue's bounds are the
 * only ones. What a database refuses for its content (-EINVAL) is found by writing the
 * batch's results one by one; that one is dropped and counted.
 */
#include "cacher/store/core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t put_bytes(const struct store_put *put)
{
    return cacher_record_bytes(&put->record) + STORE_LINE_BYTES;
}

static void put_free(struct cacher_store *store, struct store_put *put)
{
    store->counters.queued_puts--;
    store->counters.queued_bytes -= put_bytes(put);
    hotcache_value_unref(put->value);
    free(put);
}

/* ---- a put ---- */

static struct store_put *put_new(const struct cacher_record *record,
                                 struct hotcache_value *value)
{
    size_t params = record->params_bytes, tags = record->tags_bytes;
    struct store_put *put = calloc(1, sizeof *put + params + tags);

    if (put == NULL)
        return NULL;
    put->record = *record;
    if (params > 0)
        memcpy(put->text, record->params, params);
    if (tags > 0)
        memcpy(put->text + params, record->tags, tags);
    put->record.params = put->text;
    put->record.tags = (const char *)put->text + params;
    put->value = hotcache_value_ref(value);
    return put;
}

static int refuse(struct cacher_store *store, int err)
{
    store->counters.puts_lost++;
    if (err == -E2BIG)
        store->counters.puts_large++;
    if (err == -ENOBUFS && !store->refusing) {
        store->refusing = true;
        log_event(LOG_WARNING, "results are not stored",
                  "why=\"the queue is full\" results=%llu bytes=%llu error=\"%s\"",
                  (unsigned long long)store->counters.queued_puts,
                  (unsigned long long)store->counters.queued_bytes, store->last_error);
    }
    return err;
}

static bool is_full(const struct cacher_store *store, uint64_t bytes)
{
    const struct cacher_tier_counters *counters = &store->counters;

    return counters->queued_puts >= store->options.store_queue_records_max ||
           (counters->queued_puts > 0 &&
            counters->queued_bytes + bytes > store->options.store_queue_bytes_max);
}

static bool batch_is_full(const struct cacher_store *store)
{
    return store->counters.queued_puts >= store->options.store_batch_records_max ||
           store->counters.queued_bytes >= store->options.store_batch_bytes_max;
}

static void arm(struct cacher_store *store, uint64_t ms)
{
    uv_timer_start(&store->timers[STORE_TIMER_BATCH], cacher_store_on_batch_timer, ms, 0);
}

int cacher_store_put(struct cacher_tier *tier, const struct cacher_record *record,
                     struct hotcache_value *value, uint64_t ttl_s)
{
    struct cacher_store *store = (struct cacher_store *)tier;
    uv_timer_t *timer = &store->timers[STORE_TIMER_BATCH];

    if (store->closing)
        return refuse(store, -ESHUTDOWN);
    if (record->params_bytes > CACHER_RECORD_PARAMS_BYTES ||
        proto_tags_check(record->tags, record->tags_bytes) != NULL)
        return refuse(store, -EINVAL);
    if (record->payload_bytes > store->options.store_value_bytes_max)
        return refuse(store, -E2BIG);
    if (is_full(store, cacher_record_bytes(record) + STORE_LINE_BYTES))
        return refuse(store, -ENOBUFS);
    struct store_put *put = put_new(record, value);
    if (put == NULL)
        return refuse(store, -ENOMEM);
    put->asked_us = cacher_store_now_us(store);
    put->expires_s = ttl_s == 0 ? 0 : store->unix_s() + ttl_s;
    *store->queue_end = put;
    store->queue_end = &put->next;
    store->counters.queued_puts++;
    store->counters.queued_bytes += put_bytes(put);
    /* With a failure behind it the timer waits for more than company. */
    if (store->batch == NULL && batch_is_full(store) && store->writes.failed == 0 &&
        store->writes.state == BREAKER_CLOSED)
        arm(store, 0);
    else if (store->batch == NULL && !uv_is_active((uv_handle_t *)timer))
        arm(store, store->options.store_batch_ms);
    return 0;
}

/* ---- a batch ---- */

static void take_puts(struct cacher_store *store, struct store_job *job)
{
    uint64_t bytes = 0, most = store->options.store_batch_records_max;
    struct store_put **end = &job->puts;

    if (store->alone > 0)
        most = 1;
    while (store->queue != NULL && job->puts_count < most &&
           (bytes == 0 ||
            bytes + put_bytes(store->queue) <= store->options.store_batch_bytes_max)) {
        struct store_put *put = store->queue;
        store->queue = put->next;
        put->next = NULL;
        *end = put;
        end = &put->next;
        bytes += put_bytes(put);
        job->puts_count++;
    }
    if (store->queue == NULL)
        store->queue_end = &store->queue;
}

static void take_touches(struct cacher_store *store, struct store_job *job)
{
    struct store_touches *touches = store->touches;

    if (touches->count == 0)
        return;
    job->touches = calloc(touches->count, PROTO_DIGEST_BYTES);
    if (job->touches != NULL) {
        memcpy(job->touches, touches->keys, (size_t)touches->count * PROTO_DIGEST_BYTES);
        job->touches_count = touches->count;
    }
    touches->count = 0;
    memset(touches->slot, 0, sizeof touches->slot);
}

static void acknowledge(struct cacher_store *store, struct store_job *job)
{
    uint64_t now_us = cacher_store_now_us(store);

    if (store->alone > 0 && job->puts_count > 0)
        store->alone--;
    while (job->puts != NULL) {
        struct store_put *put = job->puts;
        job->puts = put->next;
        store->counters.puts++;
        metrics_observe(&store->counters.put_time, now_us - put->asked_us);
        put_free(store, put);
    }
    /* Half of it is free, or the log would say so again and again. */
    if (store->refusing && !is_full(store, store->counters.queued_bytes) &&
        store->counters.queued_puts <= store->options.store_queue_records_max / 2) {
        store->refusing = false;
        log_event(LOG_NOTICE, "results are stored again", "");
    }
}

static void put_back(struct cacher_store *store, struct store_job *job)
{
    struct store_put **last = &job->puts;

    if (job->puts == NULL)
        return;
    do
        last = &(*last)->next;
    while (*last != NULL);
    *last = store->queue;
    if (store->queue == NULL)
        store->queue_end = last;
    store->queue = job->puts;
    job->puts = NULL;
}

/* The database will never take this: find out which one it is, and drop that. */
static void drop_refused(struct cacher_store *store, struct store_job *job)
{
    if (job->puts_count != 1) {
        store->alone = job->puts_count;
        put_back(store, job);
        return;
    }
    log_event(LOG_WARNING, "result not stored", "error=\"%s\"", job->error);
    store->counters.puts_lost++;
    if (store->alone > 0)
        store->alone--;
    put_free(store, job->puts);
    job->puts = NULL;
}

static void on_written(struct store_job *job)
{
    struct cacher_store *store = job->owner;
    uint64_t wait_ms = 0;

    store->batch = NULL;
    if (job->err == 0) {
        cacher_store_ended(store, &store->writes, job);
        acknowledge(store, job);
    } else if (job->err == -EINVAL) {
        snprintf(store->last_error, sizeof store->last_error, "%s", job->error);
        breaker_ok(&store->writes); /* it answered */
        drop_refused(store, job);
    } else {
        put_back(store, job);
        store->retries++;
        cacher_store_ended(store, &store->writes, job);
        wait_ms = STORE_RETRY_MS;
    }
    cacher_store_job_free(job);
    cacher_store_scans_go_on(store);
    if (store->closing) {
        if (wait_ms > 0 && !store->flushed)
            arm(store, wait_ms);
        else
            cacher_store_write(store); /* touches, too */
        cacher_store_closing(store);
    } else if (store->queue != NULL) {
        if (wait_ms == 0 && !batch_is_full(store) && store->alone == 0)
            wait_ms = store->options.store_batch_ms;
        arm(store, wait_ms);
    }
}

void cacher_store_write(struct cacher_store *store)
{
    uint64_t now_us = cacher_store_now_us(store);

    if (store->batch != NULL || store->home_closed || store->flushed ||
        (store->queue == NULL && store->touches->count == 0))
        return;
    /* When it ends there is no time for a breaker: each try counts. */
    if (!store->closing && !breaker_ask(&store->writes, now_us)) {
        uint64_t until_us = store->writes.until_us;
        arm(store, until_us > now_us ? (until_us - now_us) / 1000 + 1 : STORE_RETRY_MS);
        return;
    }
    struct store_job *job = cacher_store_job_new(store, STORE_WRITE, on_written);
    if (job == NULL) {
        (void)breaker_failed(&store->writes, now_us);
        arm(store, STORE_RETRY_MS);
        return;
    }
    take_puts(store, job);
    take_touches(store, job);
    store->batch = job;
    cacher_store_submit(store, job);
}

void cacher_store_on_batch_timer(uv_timer_t *timer)
{
    cacher_store_write(timer->data);
}

void cacher_store_on_touch_timer(uv_timer_t *timer)
{
    struct cacher_store *store = timer->data;

    if (store->batch == NULL) {
        cacher_store_write(store);
    } else {
        uv_timer_start(timer, cacher_store_on_touch_timer, STORE_RETRY_MS, 0);
    }
}

bool cacher_store_write_idle(const struct cacher_store *store)
{
    return store->batch == NULL && store->queue == NULL && store->touches->count == 0;
}

/* ---- taking puts back ---- */

static bool takes(const struct cacher_filter *filter, const struct cacher_record *record)
{
    uint8_t low[PROTO_DIGEST_BYTES], high[PROTO_DIGEST_BYTES];

    switch (filter->kind) {
    case CACHER_FILTER_TAG:
        return proto_tags_have(record->tags, record->tags_bytes, filter->tag);
    case CACHER_FILTER_OLDER:
        return record->created_s < filter->before_s;
    default:
        cacher_store_range(filter, low, high);
        return memcmp(record->key, low, sizeof low) >= 0 &&
               memcmp(record->key, high, sizeof high) <= 0;
    }
}

uint64_t cacher_store_drop(struct cacher_store *store, const struct cacher_filter *filter)
{
    uint64_t taken = 0;
    struct store_put **at = &store->queue;

    while (*at != NULL) {
        struct store_put *put = *at;
        if (filter != NULL && !takes(filter, &put->record)) {
            at = &put->next;
            continue;
        }
        taken++;
        if (filter != NULL && filter->dry_run) {
            at = &put->next;
            continue;
        }
        *at = put->next;
        put_free(store, put);
    }
    store->queue_end = at;
    return taken;
}
