#include "cacher/redis/redis.h"
#include "cacher/state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TTL_MS_MAX    86400000 /* of a level */
#define EVERY_MS      1000     /* PROGRESS of what is parked, READY, expired results */
#define SWEEP_ENTRIES 4096     /* looked at in one sweep */

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

uint64_t cacher_wall_s(void)
{
    return (uint64_t)time(NULL);
}

/* ---- other messages ---- */

static void on_purge(struct cacher *cacher, const struct mesh_msg *msg)
{
    struct proto_purge purge;
    struct cacher_filter filter;

    if (proto_body_decode(proto_purge_fields, msg->body, msg->body_bytes, &purge) < 0 ||
        cacher_errand_filter(&purge, &filter) != NULL) {
        cacher->metrics->bad_jobs++;
        return;
    }
    filter.dry_run = false; /* asked for by the method alone */
    cacher->metrics->purges++;
    uint64_t matched = cacher_memory_purge(&cacher->memory, &filter);
    if (filter.kind != CACHER_FILTER_KEY)
        log_event(LOG_NOTICE, "purged", "results=%llu prefix=%s tag=%s older_s=%llu",
                  (unsigned long long)matched, filter.prefix, filter.tag,
                  (unsigned long long)purge.older_s);
}

/* The level that holds has changed. */
static void bound_memory(struct cacher *cacher)
{
    enum cacher_level level = cacher->pressure.held;

    cacher_memory_bound(&cacher->memory, cacher_level_percent(level));
    log_event(LOG_NOTICE, "memory bound", "level=%s bytes=%llu bytes_max=%llu",
              cacher_level_name(level),
              (unsigned long long)hotcache_counters(cacher->memory.results)->bytes,
              (unsigned long long)cacher->memory.bytes_max);
}

static void on_mode(struct cacher *cacher, const struct mesh_msg *msg)
{
    struct proto_mode mode;
    enum cacher_level level;
    uint64_t now_us = cacher_now_us(cacher);

    if (proto_body_decode(proto_mode_fields, msg->body, msg->body_bytes, &mode) < 0 ||
        cacher_level_by_name(mode.level, &level) < 0)
        return;
    uint64_t ttl_ms = mode.ttl_ms < TTL_MS_MAX ? mode.ttl_ms : TTL_MS_MAX;
    if (level >= CACHER_SOFT)
        cacher_memory_sweep(&cacher->memory, now_us, SIZE_MAX);
    if (cacher_level_say(&cacher->pressure, level, ttl_ms * 1000, now_us))
        bound_memory(cacher);
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
        if (!cacher_leases_abort(cacher->leases, &msg->envelope.request,
                                 msg->envelope.attempt))
            (void)cacher_errand_abort(cacher, &msg->envelope.request,
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

    if (cacher->session != NULL && session_is_up(cacher->session)) {
        cacher_answer_progress(cacher);
        cacher_answer_ready(cacher);
    }
    cacher_plan_tick(&cacher->plan, cacher_now_us(cacher));
    cacher_memory_sweep(&cacher->memory, cacher_now_us(cacher), SWEEP_ENTRIES);
    if (cacher_level_tick(&cacher->pressure, cacher->options->restore_ms * 1000,
                          cacher_now_us(cacher)))
        bound_memory(cacher);
}

/* ---- session ---- */

static void on_up(struct session *session, const struct proto_welcome *welcome,
                  bool fresh, void *arg)
{
    struct cacher *cacher = arg;
    (void)session;
    (void)welcome;

    if (fresh) {
        cacher_leases_forget(cacher->leases);
        cacher_errand_forget(cacher);
    }
    cacher->credit = 0;
    cacher_answer_ready(cacher);
    service_ready(cacher->service, "cache, %llu MiB",
                  (unsigned long long)(cacher->options->memory_bytes_max >> 20));
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
    struct cacher_memory_limits memory = {
        .bytes_max = options->memory_bytes_max,
        .entries_max = options->memory_entries_max,
        .refusals_bytes_max = options->negative_bytes_max,
        .ttl_us = options->ttl_s * 1000000,
        .refusal_ttl_us = options->negative_ttl_s * 1000000,
        .jitter_percent = (unsigned)options->ttl_jitter_percent};

    service_random(&limits.first, sizeof limits.first);
    service_random(&limits.seed, sizeof limits.seed);
    cacher->leases = cacher_leases_new(&limits, cacher_method_parked_end, cacher);
    if (cacher->leases == NULL)
        return -ENOMEM;
    int err = cacher_memory_open(&cacher->memory, &memory);
    return err == 0 ? cacher_plan_open(&cacher->plan, limits.seed) : err;
}

static void add_timer(struct cacher *cacher, uv_timer_t *timer)
{
    uv_timer_init(service_loop(cacher->service), timer);
    timer->data = cacher;
    cacher->open++;
}

static bool is_wrong(const void *all, const struct mesh_options *mesh,
                     struct service_wrong *wrong)
{
    const struct cacher_options *options = all;
    const char *why =
        options->redis[0] != '\0' ? cacher_redis_url_check(options->redis) : NULL;
    (void)mesh;

    if (why != NULL) {
        wrong->name = "redis";
        snprintf(wrong->why, sizeof wrong->why, "%s", why);
    } else if (options->parked_max + CACHER_ERRANDS_MAX >= options->jobs_max) {
        wrong->name = "jobs_max";
        snprintf(wrong->why, sizeof wrong->why,
                 "it must be above parked_max and %d, which are %" PRIu64,
                 CACHER_ERRANDS_MAX, options->parked_max + CACHER_ERRANDS_MAX);
    }
    return wrong->name != NULL;
}

static int join_mesh(struct cacher *cacher)
{
    static const struct session_callbacks callbacks = {
        .on_up = on_up, .on_message = on_message, .stats = cacher_stats};
    struct proto_enlist enlist = {.service = "cache",
                                  .slots = cacher->options->jobs_max,
                                  .credit_bytes = cacher->options->jobs_bytes_max};
    int err = session_open(cacher->service, NULL, &enlist, &callbacks, cacher,
                           &cacher->session);

    if (err < 0)
        log_event(LOG_ERROR, "cannot connect", "endpoint=\"%s\" error=\"%s\"",
                  service_endpoint(cacher->service, "back"), strerror(-err));
    return err;
}

/* The warm-up at the start is over. */
static void on_warmed(const struct cacher_warmed *warmed, void *arg)
{
    struct cacher *cacher = arg;
    (void)warmed;

    if (cacher->session == NULL && !cacher->leaving && !cacher->stopped) {
        int err = join_mesh(cacher);
        if (err < 0)
            service_stop(cacher->service, err);
    }
}

static int begin(struct cacher *cacher)
{
    const struct cacher_options *options = cacher->options;
    bool warming = options->warm_ms > 0 &&
                   cacher_warm(cacher, options->warm_ms, on_warmed, cacher) == 0;

    return warming && options->warm_before_ready ? 0 : join_mesh(cacher);
}

static int start(struct service *service)
{
    const struct cacher_options *options = service_options(service);
    struct cacher *cacher = calloc(1, sizeof *cacher);
    if (cacher == NULL)
        return -ENOMEM;
    service_set_data(service, cacher);
    cacher->service = service;
    cacher->options = options;
    cacher->metrics = service_metrics(service);
    add_timer(cacher, &cacher->tick);
    add_timer(cacher, &cacher->every);
    add_timer(cacher, &cacher->leave);
    int err = make_parts(cacher);
    if (err == 0)
        err = cacher_open_tiers(cacher);
    if (err < 0)
        return err;
    uv_timer_start(&cacher->every, on_every, EVERY_MS, EVERY_MS);
    return begin(cacher);
}

/* ---- the end ---- */

static void on_flushed(void *arg)
{
    struct cacher *cacher = arg;

    cacher->flushed = true;
    service_stop(cacher->service, 0);
}

/* What was put is written before the process ends, as long as the tiers answer. */
static void flush(struct cacher *cacher, uint64_t ms)
{
    if (!cacher->tiers.closing)
        cacher_tiers_close(&cacher->tiers, ms, on_flushed, cacher);
}

static void on_leave(uv_timer_t *timer)
{
    struct cacher *cacher = timer->data;
    flush(cacher, cacher->options->flush_ms);
}

static void drain(struct service *service, bool hurry)
{
    struct cacher *cacher = service_data(service);

    if (!cacher->leaving) {
        struct proto_envelope envelope = {.verb = PROTO_DRAIN,
                                          .priority = PROTO_PRIORITY_NORMAL};
        cacher->leaving = true;
        if (cacher->session != NULL)
            (void)session_send(cacher->session, &envelope, &(struct proto_drain){0},
                               NULL);
        cacher_leases_leave(cacher->leases);
        /* Jobs that crossed DRAIN are answered still; the broker does not say when
         * the last one was sent. */
        uv_timer_start(&cacher->leave, on_leave, cacher->options->drain_ms, 0);
    }
    if (hurry)
        service_stop(service, 0); /* stop() closes what is open, without waiting */
}

void cacher_one_closed(struct cacher *cacher)
{
    if (--cacher->open > 0)
        return;
    cacher_leases_free(cacher->leases);
    cacher_memory_close(&cacher->memory);
    cacher_plan_close(&cacher->plan);
    free(cacher);
}

static void on_timer_closed(uv_handle_t *handle)
{
    cacher_one_closed(handle->data);
}

static void on_tiers_closed(void *arg)
{
    cacher_one_closed(arg);
}

static void stop(struct service *service)
{
    struct cacher *cacher = service_data(service);

    if (cacher == NULL)
        return;
    cacher->stopped = true;
    session_close(cacher->session);
    cacher->session = NULL;
    if (cacher->leases != NULL)
        cacher_leases_forget(cacher->leases); /* there is nobody left to tell */
    cacher->open++;
    if (cacher->flushed) {
        on_tiers_closed(cacher);
    } else {
        cacher->tiers.closed = on_tiers_closed; /* of the close under way, if there is */
        if (!cacher->tiers.closing)
            cacher_tiers_close(&cacher->tiers, 0, on_tiers_closed, cacher);
    }
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
    .is_wrong = is_wrong,
    .start = start,
    .drain = drain,
    .stop = stop,
};
