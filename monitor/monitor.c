#include "monitor/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SERVICE_BYTES_MAX     15 /* of a name in SCALE */
#define STATS_STALE_INTERVALS 5  /* an older answer of the broker is not acted on */

const struct option_spec monitor_option_specs[] = {
#define OPTIONS_OF struct monitor_options
#include "runtime/options_spec.h"

#include "monitor/options.tbl"

#include "runtime/options_end.h"
#undef OPTIONS_OF
    {0},
};

const struct metrics_spec monitor_metrics_specs[] = {
#define METRICS_OF struct monitor_metrics
#include "runtime/metrics_spec.h"

#include "monitor/counters.tbl"

#include "runtime/metrics_end.h"
#undef METRICS_OF
    {0},
};

static uint64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t now_us(const struct monitor *monitor)
{
    return service_now_us(monitor->service);
}

/* ---- telling the broker ---- */

static bool tell(struct monitor *monitor, enum proto_verb verb, const void *body)
{
    struct proto_envelope envelope = {.verb = (uint8_t)verb,
                                      .priority = PROTO_PRIORITY_HIGH,
                                      .request = session_new_id(monitor->session)};

    /* What is lost is said again: every interval, or within the time to live. */
    return session_send(monitor->session, &envelope, body, NULL) == 0;
}

static void send_scale(struct monitor *monitor)
{
    struct monitor_policy *policy = &monitor->policy;
    struct proto_scale scale = {.seq = ++monitor->seq,
                                .ttl_ms = monitor->options->ttl_ms,
                                .target = monitor_policy_slots(policy, &monitor->load),
                                .source = "monitor"};

    if (scale.target == 0)
        return;
    snprintf(scale.service, sizeof scale.service, "%.15s", monitor->options->service);
    snprintf(scale.reason, sizeof scale.reason, "%s", policy->target_reason);
    if (tell(monitor, PROTO_SCALE, &scale)) {
        monitor->metrics->scales_sent++;
        monitor->withdraw = false;
    }
}

static void send_mode(struct monitor *monitor)
{
    struct proto_mode mode = {.ttl_ms = monitor->options->ttl_ms};

    snprintf(mode.level, sizeof mode.level, "%s",
             monitor_level_name(monitor->policy.level));
    snprintf(mode.reason, sizeof mode.reason, "%s", monitor->policy.level_reason);
    if (tell(monitor, PROTO_MODE, &mode)) {
        monitor->metrics->modes_sent++;
        monitor->mode_us = now_us(monitor);
    }
}

/* A target is repeated as long as it is asked for, the end of one said once; if that is
 * lost its time to live ends it. */
static void tell_broker(struct monitor *monitor)
{
    uint64_t repeat_us = monitor->options->ttl_ms * 1000 / 3;

    if (monitor->policy.blind)
        monitor->withdraw = false; /* nothing is known: no target is the safe one */
    if (monitor->policy.target != 0 || monitor->withdraw)
        send_scale(monitor);
    if (monitor->policy.level != MONITOR_NORMAL &&
        now_us(monitor) - monitor->mode_us >= repeat_us)
        send_mode(monitor);
    (void)tell(monitor, PROTO_STATS, NULL);
}

/* ---- deciding ---- */

static void count_decision(struct monitor *monitor, const struct monitor_decision *d)
{
    struct monitor_metrics *m = monitor->metrics;

    switch (d->kind) {
    case MONITOR_DECIDED_SLOTS:
        m->shrinks += d->to != 0 && d->to < d->from;
        m->restores += d->to > d->from;
        monitor->withdraw = monitor->policy.target == 0;
        break;
    case MONITOR_DECIDED_LEVEL:
        m->level_changes++;
        if (session_is_up(monitor->session))
            send_mode(monitor);
        break;
    case MONITOR_DECIDED_HOLD:
        m->holds++;
        break;
    case MONITOR_DECIDED_SIGHT:
        m->blinds += d->to == 0;
        break;
    case MONITOR_OPERATOR_SLOTS:
        break;
    }
}

static void update_metrics(struct monitor *monitor)
{
    struct monitor_metrics *m = monitor->metrics;
    const struct monitor_sample *sample = &monitor->sample;

    m->samples++;
    m->samples_blind += !sample->memory_known;
    m->samples_no_cpu += !sample->cpu_known;
    m->memory_used_bytes = sample->memory_used_bytes;
    m->memory_limit_bytes = sample->memory_limit_bytes;
    m->memory_permille = sample->memory_permille;
    m->cpu_permille = sample->cpu_permille;
    m->stall_permille = sample->stall_permille;
    m->memory_known = sample->memory_known;
    m->cpu_known = sample->cpu_known;
    m->level = monitor->policy.level;
    m->slots_wanted = monitor_policy_slots(&monitor->policy, &monitor->load);
    m->slots_default = monitor->load.slots_default;
    m->active_clients = monitor->load.clients;
    m->broker_up = session_is_up(monitor->session);
}

static void note_decision(struct monitor *monitor, const struct monitor_decision *d)
{
    char text[MONITOR_REASON_BYTES + 64];

    monitor_ring_add(&monitor->ring, d, wall_ms());
    monitor_decision_text(d, text, sizeof text);
    log_event(LOG_NOTICE, "decision", "text=\"%s\"", text);
    count_decision(monitor, d);
    monitor->metrics->decisions = monitor->ring.count;
}

static void decide(struct monitor *monitor)
{
    struct monitor_decision decisions[MONITOR_DECISIONS_MAX];
    unsigned count = monitor_policy_step(&monitor->policy, &monitor->sample,
                                         &monitor->load, now_us(monitor), decisions);

    for (unsigned i = 0; i < count; i++)
        note_decision(monitor, &decisions[i]);
}

static void on_timer(uv_timer_t *timer)
{
    struct monitor *monitor = timer->data;
    uint64_t stale_us = STATS_STALE_INTERVALS * monitor->options->interval_ms * 1000;

    if (now_us(monitor) - monitor->stats_us > stale_us)
        monitor->load.known = false;
    monitor_sampler_take(&monitor->sampler, now_us(monitor), &monitor->sample);
    decide(monitor);
    update_metrics(monitor);
    if (session_is_up(monitor->session))
        tell_broker(monitor);
}

/* ---- the broker ---- */

static void on_stats(struct monitor *monitor, struct mesh_msg *msg)
{
    json_t *stats =
        monitor_stats_parse(zmq_msg_data(&msg->payload), zmq_msg_size(&msg->payload));

    monitor->metrics->stats_received++;
    if (stats == NULL) {
        monitor->metrics->stats_bad++;
        return;
    }
    json_decref(monitor->stats);
    monitor->stats = stats;
    monitor->stats_us = now_us(monitor);
    uint64_t before = monitor->load.operator_slots;
    monitor->load = monitor_stats_load(stats, monitor->options->service);
    if (monitor->load.operator_slots != before)
        note_decision(monitor,
                      &(struct monitor_decision){.kind = MONITOR_OPERATOR_SLOTS,
                                                 .at_us = now_us(monitor),
                                                 .from = before,
                                                 .to = monitor->load.operator_slots});
}

static void on_message(struct session *session, struct mesh_msg *msg, void *arg)
{
    struct monitor *monitor = arg;
    (void)session;

    if (msg->envelope.verb == PROTO_STATS)
        on_stats(monitor, msg);
    else if (msg->envelope.verb == PROTO_REJECT)
        monitor->metrics->refused++;
    /* SCALED and MODE only echo; what holds is in STATS. */
}

static void on_up(struct session *session, const struct proto_welcome *welcome,
                  bool fresh, void *arg)
{
    struct monitor *monitor = arg;
    (void)session;
    (void)welcome;
    (void)fresh;

    monitor->mode_us = 0;
    tell_broker(monitor);
}

/* ---- life ---- */

static struct monitor_rules rules_of(const struct monitor_options *o)
{
    return (struct monitor_rules){.shrink_permille = (uint32_t)o->shrink_percent * 10,
                                  .restore_permille = (uint32_t)o->restore_percent * 10,
                                  .cpu_permille = (uint32_t)o->cpu_percent * 10,
                                  .stall_permille = (uint32_t)o->stall_percent * 10,
                                  .level_permille = {0, (uint32_t)o->soft_percent * 10,
                                                     (uint32_t)o->forced_percent * 10,
                                                     (uint32_t)o->critical_percent * 10},
                                  .hysteresis_permille =
                                      (uint32_t)o->hysteresis_percent * 10,
                                  .hold_us = o->hold_ms * 1000,
                                  .shrink_wait_us = o->shrink_wait_ms * 1000,
                                  .flap_us = o->flap_ms * 1000,
                                  .blind_us = o->blind_ms * 1000,
                                  .cooldown_us = o->cooldown_s * 1000000,
                                  .busy_clients = o->busy_clients};
}

static bool is_wrong(const void *all, const struct mesh_options *mesh,
                     struct service_wrong *wrong)
{
    const struct monitor_options *options = all;
    const struct monitor_rules rules = rules_of(options);
    const char *why = NULL;
    (void)mesh;

    if (browser_hosts_wrong(options->hosts_allowed, wrong->why)) {
        wrong->name = "hosts_allowed";
        return true;
    }
    if (browser_origins_wrong(options->cors_origins, wrong->why)) {
        wrong->name = "cors_origins";
        return true;
    }
    if (monitor_rules_check(&rules, &wrong->name, &why) == 0) {
        if (options->ttl_ms < 3 * options->interval_ms) {
            wrong->name = "ttl_ms";
            why = "it must be at least three times interval_ms";
        } else if (strlen(options->service) > SERVICE_BYTES_MAX) {
            wrong->name = "service";
            why = "it has at most 15 bytes";
        }
    }
    if (why != NULL)
        snprintf(wrong->why, sizeof wrong->why, "%s", why);
    return why != NULL;
}

static int start(struct service *service)
{
    static const struct session_callbacks callbacks = {.on_up = on_up,
                                                       .on_message = on_message};
    const struct monitor_options *options = service_options(service);
    struct monitor_rules rules = rules_of(options);

    struct monitor *monitor = calloc(1, sizeof *monitor);
    if (monitor == NULL)
        return -ENOMEM;
    service_set_data(service, monitor);
    monitor->service = service;
    monitor->options = options;
    monitor->metrics = service_metrics(service);
    monitor->seq = wall_ms() * 1000; /* above what a monitor before this one used */
    monitor_sampler_init(&monitor->sampler, options->procfs, options->cgroupfs,
                         options->cgroup);
    monitor_policy_init(&monitor->policy, &rules, now_us(monitor));
    uv_timer_init(service_loop(service), &monitor->timer);
    monitor->timer.data = monitor;

    int err =
        session_open(service, "monitor", NULL, &callbacks, monitor, &monitor->session);
    if (err < 0) {
        log_event(LOG_ERROR, "cannot connect", "endpoint=\"%s\" error=\"%s\"",
                  service_endpoint(service, "front"), strerror(-err));
        return err;
    }
    err = monitor_web_open(monitor);
    if (err < 0)
        return err;
    uv_timer_start(&monitor->timer, on_timer, 0, options->interval_ms);
    return service_listening(service, options->listen, http_server_port(monitor->server));
}

/* Nothing is in hand that could be lost; its last targets end by themselves. */
static void drain(struct service *service, bool hurry)
{
    (void)hurry;
    service_stop(service, 0);
}

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void stop(struct service *service)
{
    struct monitor *monitor = service_data(service);

    if (monitor == NULL)
        return;
    monitor_web_close(monitor);
    session_close(monitor->session);
    json_decref(monitor->stats);
    uv_close((uv_handle_t *)&monitor->timer, on_timer_closed);
}

const struct service_spec monitor_spec = {
    .name = "monitor",
    .summary = "Samples memory and CPU, steers slots, shows what it saw and decided.",
    .options = monitor_option_specs,
    .options_bytes = sizeof(struct monitor_options),
    .metrics = monitor_metrics_specs,
    .metrics_bytes = sizeof(struct monitor_metrics),
    .is_wrong = is_wrong,
    .start = start,
    .drain = drain,
    .stop = stop,
};
