#include "cacher/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define EVERY_MS      1000 /* PROGRESS of what is parked, READY, expired results */
#define SWEEP_ENTRIES 4096 /* looked at in one sweep */

const struct option_spec cacher_option_specs[] = {
#define OPTIONS_OF struct cacher_options
#include "runtime/options_spec.h"

#include "cacher/options.tbl"

#include "runtime/options_end.h"
#undef OPTIONS_OF
    {0},
};

const struct metrics_spec cacher_metrics_specs[] = {
#define METRICS_OF struct cacher_metrics
#include "runtime/metrics_spec.h"

#include "cacher/counters.tbl"

#include "runtime/metrics_end.h"
#undef METRICS_OF
    {0},
};

/* ---- other messages ---- */

static void on_purge(struct cacher *cacher, const struct mesh_msg *msg)
{
    struct proto_purge purge;

    if (proto_body_decode(proto_purge_fields, msg->body, msg->body_bytes, &purge) < 0 ||
        (purge.key_bytes != 0 && purge.key_bytes != PROTO_DIGEST_BYTES)) {
        cacher->metrics->bad_jobs++;
        return;
    }
    cacher->metrics->purges++;
    if (purge.key_bytes == 0) {
        hotcache_clear(cacher->cache);
        log_event(LOG_NOTICE, "purged", "what=all");
    } else {
        (void)hotcache_remove(cacher->cache, purge.key, purge.key_bytes);
    }
}

/* What remains of memory_bytes_max under each level, percent. */
static unsigned share_of_level(const char *level)
{
    if (strcmp(level, "critical") == 0)
        return 25;
    return strcmp(level, "forced") == 0 ? 50 : 100;
}

static void on_mode(struct cacher *cacher, const struct mesh_msg *msg)
{
    struct proto_mode mode;

    if (proto_body_decode(proto_mode_fields, msg->body, msg->body_bytes, &mode) < 0)
        return;
    unsigned share = share_of_level(mode.level);
    uint64_t bound = cacher->options->memory_bytes_max * share / 100;
    if (bound != cacher->metrics->bytes_max)
        log_event(LOG_NOTICE, "memory bound", "level=%s bytes_max=%llu", mode.level,
                  (unsigned long long)bound);
    cacher->metrics->bytes_max = bound;
    cacher->pressure_end_us =
        share < 100 ? cacher_now_us(cacher) + mode.ttl_ms * 1000 : 0;
    if (strcmp(mode.level, "normal") != 0)
        hotcache_sweep(cacher->cache, cacher_now_us(cacher), SIZE_MAX);
    hotcache_resize(cacher->cache, bound);
}

static void on_message(struct session *session, struct mesh_msg *msg, void *arg)
{
    struct cacher *cacher = arg;
    (void)session;

    switch (msg->envelope.verb) {
    case PROTO_JOB:
        cacher_method_run(cacher, msg);
        break;
    case PROTO_ABORT:
        (void)cacher_leases_abort(cacher->leases, &msg->envelope.request,
                                  msg->envelope.attempt);
        break;
    case PROTO_PURGE:
        on_purge(cacher, msg);
        break;
    case PROTO_MODE:
        on_mode(cacher, msg);
        break;
    default: /* of a later version: not ours */
        break;
    }
}

/* ---- time ---- */

void cacher_on_tick(uv_timer_t *timer)
{
    struct cacher *cacher = timer->data;

    cacher_leases_tick(cacher->leases, cacher_now_us(cacher));
    if (cacher_leases_counters(cacher->leases)->leases_now == 0)
        uv_timer_stop(timer);
}

static void on_every(uv_timer_t *timer)
{
    struct cacher *cacher = timer->data;

    if (session_is_up(cacher->session)) {
        cacher_method_progress(cacher);
        cacher_method_ready(cacher);
    }
    hotcache_sweep(cacher->cache, cacher_now_us(cacher), SWEEP_ENTRIES);
    if (cacher->pressure_end_us != 0 &&
        cacher_now_us(cacher) >= cacher->pressure_end_us) {
        /* Whoever set the level is silent: a dead monitor leaves no stale bound. */
        cacher->pressure_end_us = 0;
        cacher->metrics->bytes_max = cacher->options->memory_bytes_max;
        hotcache_resize(cacher->cache, cacher->options->memory_bytes_max);
        log_event(LOG_NOTICE, "memory bound", "level=normal why=\"the level ran out\"");
    }
}

/* ---- session ---- */

static void on_up(struct session *session, const struct proto_welcome *welcome,
                  bool fresh, void *arg)
{
    struct cacher *cacher = arg;
    (void)session;
    (void)welcome;

    if (fresh)
        cacher_leases_forget(cacher->leases);
    cacher->credit = 0;
    cacher_method_ready(cacher);
    service_ready(cacher->service, "cache, %llu MiB",
                  (unsigned long long)(cacher->options->memory_bytes_max >> 20));
}

static void update_metrics(struct cacher *cacher)
{
    struct cacher_metrics *m = cacher->metrics;
    const struct cacher_leases_counters *l = cacher_leases_counters(cacher->leases);
    const struct hotcache_counters *h = hotcache_counters(cacher->cache);

    m->coalesced = l->coalesced;
    m->parked = l->parked;
    m->park_timeouts = l->timeouts;
    m->park_aborted = l->aborted;
    m->crowded = l->crowded;
    m->leases_granted = l->granted;
    m->leases_fulfilled = l->fulfilled;
    m->leases_expired = l->expired;
    m->leases_dropped = l->dropped;
    m->parked_now = l->parked_now;
    m->leases_now = l->leases_now;
    m->evictions = h->evicted;
    m->expired = h->expired;
    m->entries = h->entries;
    m->bytes = h->bytes;
}

static json_t *stats(void *arg)
{
    struct cacher *cacher = arg;

    update_metrics(cacher);
    return metrics_json(cacher_metrics_specs, cacher->metrics);
}

/* ---- life ---- */

static int make_parts(struct cacher *cacher)
{
    const struct cacher_options *options = cacher->options;
    struct cacher_leases_limits limits = {.leases_max = (uint32_t)options->leases_max,
                                          .parked_max = (uint32_t)options->parked_max,
                                          .parked_key_max =
                                              (uint32_t)options->parked_key_max,
                                          .lease_us = options->lease_ms * 1000};

    service_random(&limits.first, sizeof limits.first);
    service_random(&limits.seed, sizeof limits.seed);
    cacher->leases = cacher_leases_new(&limits, cacher_method_parked_end, cacher);
    cacher->cache = hotcache_new(options->memory_bytes_max);
    return cacher->leases != NULL && cacher->cache != NULL ? 0 : -ENOMEM;
}

static void add_timer(struct cacher *cacher, uv_timer_t *timer)
{
    uv_timer_init(service_loop(cacher->service), timer);
    timer->data = cacher;
    cacher->timers++;
}

static int start(struct service *service)
{
    static const struct session_callbacks callbacks = {
        .on_up = on_up, .on_message = on_message, .stats = stats};
    const struct cacher_options *options = service_options(service);

    if (options->parked_max >= options->jobs_max) {
        log_event(LOG_ERROR, "parked_max must be below jobs_max",
                  "parked_max=%llu jobs_max=%llu",
                  (unsigned long long)options->parked_max,
                  (unsigned long long)options->jobs_max);
        return -EINVAL;
    }
    struct cacher *cacher = calloc(1, sizeof *cacher);
    if (cacher == NULL)
        return -ENOMEM;
    service_set_data(service, cacher);
    cacher->service = service;
    cacher->options = options;
    cacher->metrics = service_metrics(service);
    cacher->metrics->bytes_max = options->memory_bytes_max;
    add_timer(cacher, &cacher->tick);
    add_timer(cacher, &cacher->every);
    add_timer(cacher, &cacher->leave);
    int err = make_parts(cacher);
    if (err < 0)
        return err;
    uv_timer_start(&cacher->every, on_every, EVERY_MS, EVERY_MS);

    struct proto_enlist enlist = {.service = "cache",
                                  .slots = options->jobs_max,
                                  .credit_bytes = options->jobs_bytes_max};
    err = session_open(service, NULL, &enlist, &callbacks, cacher, &cacher->session);
    if (err < 0)
        log_event(LOG_ERROR, "cannot connect", "endpoint=\"%s\" error=\"%s\"",
                  service_endpoint(service, "back"), strerror(-err));
    return err;
}

static void on_leave(uv_timer_t *timer)
{
    struct cacher *cacher = timer->data;
    service_stop(cacher->service, 0);
}

static void drain(struct service *service, bool hurry)
{
    struct cacher *cacher = service_data(service);

    if (!cacher->leaving) {
        struct proto_envelope envelope = {.verb = PROTO_DRAIN,
                                          .priority = PROTO_PRIORITY_NORMAL};
        cacher->leaving = true;
        (void)session_send(cacher->session, &envelope, &(struct proto_drain){0}, NULL);
        cacher_leases_leave(cacher->leases);
        /* Jobs that crossed DRAIN are answered still; the broker does not say when
         * the last one was sent. */
        uv_timer_start(&cacher->leave, on_leave, cacher->options->drain_ms, 0);
    }
    if (hurry)
        service_stop(service, 0);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct cacher *cacher = handle->data;
    if (--cacher->timers == 0)
        free(cacher);
}

static void stop(struct service *service)
{
    struct cacher *cacher = service_data(service);

    if (cacher == NULL)
        return;
    session_close(cacher->session);
    cacher_leases_free(cacher->leases);
    hotcache_free(cacher->cache);
    uv_close((uv_handle_t *)&cacher->tick, on_timer_closed);
    uv_close((uv_handle_t *)&cacher->every, on_timer_closed);
    uv_close((uv_handle_t *)&cacher->leave, on_timer_closed);
}

const struct service_spec cacher_spec = {
    .name = "cacher",
    .summary =
        "Keeps results by content key; grants leases so that each is computed once.",
    .options = cacher_option_specs,
    .options_bytes = sizeof(struct cacher_options),
    .metrics = cacher_metrics_specs,
    .metrics_bytes = sizeof(struct cacher_metrics),
    .start = start,
    .drain = drain,
    .stop = stop,
};
