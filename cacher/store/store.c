#include "cacher/store/core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- what the parts share ---- */

uint64_t cacher_store_now_us(const struct cacher_store *store)
{
    (void)store; /* not uv_now: one callback may take long */
    return uv_hrtime() / 1000;
}

static uint64_t unix_s(void)
{
    return (uint64_t)time(NULL);
}

struct store_job *cacher_store_job_new(struct cacher_store *store, enum store_kind kind,
                                       void (*done)(struct store_job *job))
{
    struct store_job *job = calloc(1, sizeof *job);

    if (job == NULL)
        return NULL;
    job->kind = kind;
    job->done = done;
    job->owner = store;
    job->asked_us = cacher_store_now_us(store);
    job->now_s = store->unix_s();
    return job;
}

void cacher_store_submit(struct cacher_store *store, struct store_job *job)
{
    store->home->class->submit(store->home, job);
}

static void note_breaker(const struct cacher_store *store, const struct breaker *breaker,
                         bool open)
{
    bool reads = breaker == &store->reads;

    if (open)
        log_event(LOG_WARNING, reads ? "store is by-passed" : "store takes no results",
                  "store=%s error=\"%s\"", store->home->class->name, store->last_error);
    else
        log_event(LOG_NOTICE, reads ? "store answers again" : "store takes results again",
                  "store=%s", store->home->class->name);
}

static void first_failed(struct cacher_store *store)
{
    uint64_t now_us = cacher_store_now_us(store);
    bool said = breaker_trip(&store->reads, now_us);

    (void)breaker_trip(&store->writes, now_us);
    if (said)
        log_event(
            LOG_ERROR, "store cannot be used",
            "store=%s error=\"%s\" why=\"results are kept without it until it can\"",
            store->home->class->name, store->last_error);
}

static void first_succeeded(struct cacher_store *store)
{
    store->usable = true;
    if (store->reads.state != BREAKER_CLOSED)
        note_breaker(store, &store->reads, false);
    breaker_ok(&store->reads);
    breaker_ok(&store->writes);
}

void cacher_store_ended(struct cacher_store *store, struct breaker *breaker,
                        const struct store_job *job)
{
    bool was_open = breaker->state != BREAKER_CLOSED;

    if (job->err == -ECANCELED && store->closing)
        return;
    if (job->err == 0 && !store->usable) {
        first_succeeded(store);
        return;
    }
    if (job->err == 0) {
        breaker_ok(breaker);
        if (was_open)
            note_breaker(store, breaker, false);
        /* What can write can read. */
        if (breaker == &store->writes && store->reads.state != BREAKER_CLOSED)
            cacher_store_ended(store, &store->reads, job);
        return;
    }
    snprintf(store->last_error, sizeof store->last_error, "%s", job->error);
    if (!store->usable)
        first_failed(store);
    else if (breaker_failed(breaker, cacher_store_now_us(store)))
        note_breaker(store, breaker, true);
}

/* ---- the class ---- */

static const struct cacher_tier_counters *get_counters(struct cacher_tier *tier)
{
    struct cacher_store *store = (struct cacher_store *)tier;
    struct cacher_tier_counters *counters = &store->counters;

    counters->breaker = store->reads.state > store->writes.state ? store->reads.state
                                                                 : store->writes.state;
    counters->breaker_opened = store->reads.opened + store->writes.opened;
    counters->retries = store->retries;
    if (!store->home_closed)
        store->home->class->gauges(store->home, counters);
    return counters;
}

static void describe(struct cacher_tier *tier, json_t *object)
{
    struct cacher_store *store = (struct cacher_store *)tier;

    json_object_set_new(object, "kind", json_string(tier->class->name));
    json_object_set_new(object, "entries",
                        json_integer((json_int_t)store->counters.entries));
    json_object_set_new(object, "bytes", json_integer((json_int_t)store->counters.bytes));
    json_object_set_new(object, "bytes_max",
                        json_integer((json_int_t)store->options.store_retention_bytes));
    json_object_set_new(object, "age_max_s",
                        json_integer((json_int_t)store->options.store_retention_s));
    json_object_set_new(object, "retention_here", json_boolean(store->keeper));
    json_object_set_new(object, "reads",
                        json_string(breaker_state_name(store->reads.state)));
    json_object_set_new(object, "writes",
                        json_string(breaker_state_name(store->writes.state)));
    json_object_set_new(object, "last_error", json_string(store->last_error));
    if (!store->home_closed)
        store->home->class->describe(store->home, object);
}

/* ---- closing: answer, flush, then the home, then the timers ---- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct cacher_store *store = handle->data;

    if (--store->handles > 0)
        return;
    void (*closed)(void *arg) = store->closed;
    void *arg = store->closed_arg;
    free(store->touches);
    free(store);
    if (closed != NULL)
        closed(arg);
}

static void close_handles(struct cacher_store *store)
{
    for (unsigned i = 0; i < STORE_TIMERS; i++)
        uv_close((uv_handle_t *)&store->timers[i], on_handle_closed);
}

static void on_home_closed(void *arg)
{
    struct cacher_store *store = arg;
    uint64_t lost = cacher_store_drop(store, NULL);

    if (lost > 0)
        log_event(LOG_WARNING, "results were not stored", "results=%llu error=\"%s\"",
                  (unsigned long long)lost, store->last_error);
    store->counters.puts_lost += lost;
    store->home = NULL;
    close_handles(store);
}

void cacher_store_closing(struct cacher_store *store)
{
    if (store->home_closed || (!store->flushed && !cacher_store_write_idle(store)))
        return;
    store->home_closed = true;
    for (unsigned i = 0; i < STORE_TIMERS; i++)
        uv_timer_stop(&store->timers[i]);
    store->home->class->close(store->home, on_home_closed, store);
}

static void on_close_timer(uv_timer_t *timer)
{
    struct cacher_store *store = timer->data;

    store->flushed = true; /* as far as there was time */
    cacher_store_closing(store);
}

static void close_store(struct cacher_tier *tier, uint64_t ms, void (*closed)(void *arg),
                        void *arg)
{
    struct cacher_store *store = (struct cacher_store *)tier;

    store->closing = true;
    store->closed = closed;
    store->closed_arg = arg;
    for (unsigned i = 0; i < STORE_TIMERS; i++)
        uv_timer_stop(&store->timers[i]);
    uv_timer_start(&store->timers[STORE_TIMER_CLOSE], on_close_timer, ms, 0);
    cacher_store_fail_gets(store);
    cacher_store_fail_scans(store);
    cacher_store_write(store);
    cacher_store_closing(store);
}

/* ---- opening ---- */

static const struct cacher_tier_class classes[] = {
#define CLASS(text)                                                                      \
    {                                                                                    \
        .name = text, .get = cacher_store_get, .put = cacher_store_put,                  \
        .touch = cacher_store_touch, .purge = cacher_store_purge,                        \
        .recent = cacher_store_recent, .counters = get_counters, .describe = describe,   \
        .close = close_store                                                             \
    }
    CLASS("sqlite"),
    CLASS("postgres"),
};

void cacher_store_options_init(struct cacher_store_options *options)
{
    *options = (struct cacher_store_options){
#define INT(field, def, min, max, unit, help) .field = (def),
#define STR(field, def, help)                 .field = (def),
#define FLAG(field, help)                     .field = false,
#include "cacher/store/options.tbl"

#include "runtime/options_end.h"
    };
}

static void init_breaker(struct breaker *breaker,
                         const struct cacher_store_options *options)
{
    *breaker = (struct breaker){.failures = (unsigned)options->store_breaker_failures,
                                .open_us = options->store_breaker_ms * 1000,
                                .open_us_max = options->store_breaker_ms_max * 1000};
}

static int open_home(struct cacher_store *store, const char *url)
{
    const struct cacher_store_options *options = &store->options;

    if (strncmp(url, "sqlite://", 9) == 0) {
        store->tier.class = &classes[0];
        return cacher_store_lite_open(store->loop, url, options, &store->home);
    }
    if (strncmp(url, "postgres://", 11) == 0 || strncmp(url, "postgresql://", 13) == 0) {
        store->tier.class = &classes[1];
        return cacher_store_pg_open(store->loop, url, options, &store->home);
    }
    log_event(
        LOG_ERROR, "no such store",
        "why=\"a store is sqlite:///absolute/path.db or postgres://host/database\"");
    return -EINVAL;
}

int cacher_store_open(uv_loop_t *loop, const char *url,
                      const struct cacher_store_options *options,
                      struct cacher_tier **out)
{
    struct cacher_store *store = calloc(1, sizeof *store);
    int err = -ENOMEM;

    if (store == NULL)
        return err;
    store->loop = loop;
    store->options = *options;
    store->unix_s = unix_s;
    store->queue_end = &store->queue;
    store->touches = calloc(1, sizeof *store->touches);
    init_breaker(&store->reads, options);
    init_breaker(&store->writes, options);
    if (store->touches == NULL || (err = open_home(store, url)) < 0) {
        free(store->touches);
        free(store);
        return err;
    }
    for (unsigned i = 0; i < STORE_TIMERS; i++) {
        (void)uv_timer_init(loop, &store->timers[i]);
        store->timers[i].data = store;
        store->handles++;
    }
    uv_timer_start(&store->timers[STORE_TIMER_RETAIN], cacher_store_on_retain_timer, 0,
                   0);
    *out = &store->tier;
    return 0;
}
