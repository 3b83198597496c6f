/*
 * gateway.c - the service: what is made at start, how it ends, and what ticks.
 */
#include "gateway/gateway.h"

#include "gateway/admin.h"
#include "gateway/request.h"
#include "runtime/descriptors.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Deadlines are kept to this, while something with a deadline is open. */
#define TICK_MS 50u
/* Else this, for entries of the hot cache to expire; and nothing where it is empty. */
#define SLOW_TICK_MS 1000u
/* Entries of the hot cache looked at a tick. */
#define SWEEP_ENTRIES 64u

static const struct option_spec option_specs[] = {
#define OPTIONS_OF struct gateway_options
#include "runtime/options_spec.h"

#include "gateway/options.tbl"

#include "runtime/options_end.h"
    {0}};

static const struct metrics_spec metric_specs[] = {
#define METRICS_OF struct gateway_metrics
#include "runtime/metrics_spec.h"

#include "gateway/counters.tbl"

#include "runtime/metrics_end.h"
    {0}};

bool gateway_is_ready(const struct gateway *gateway)
{
    uint64_t now_us = service_now_us(gateway->service);
    uint64_t away_us = gateway_mesh_away_us(gateway->mesh, now_us);

    /* While requests wait for the broker's successor they are welcome here. */
    return (away_us == 0 || away_us < gateway->options->mesh_wait_ms * 1000) &&
           !service_draining(gateway->service);
}

bool gateway_is_leaving(const struct gateway *gateway)
{
    return service_draining(gateway->service) && !gateway->is_lame_duck;
}

/* ---- metrics -------------------------------------------------------------------- */

static void refresh_mesh(struct gateway *gateway)
{
    struct gateway_metrics *m = gateway->metrics;
    const struct gateway_mesh_counters *mesh = gateway_mesh_counters(gateway->mesh);
    const struct gateway_flight_counters *flights =
        gateway_flights_counters(gateway->flights);
    struct gateway_credit credit =
        gateway_mesh_credit(gateway->mesh, PROTO_PRIORITY_HIGH);

    m->flights = flights->flights;
    m->flights_open = flights->open;
    m->flights_cancelled = flights->cancelled;
    m->flights_restarted = flights->restarted;
    m->cache_failures = flights->cache_failures;
    m->cache_bypassed = flights->cache_bypassed;
    m->cache_bad = flights->cache_bad;
    m->cache_again = flights->cache_again;
    m->cache_down = flights->cache_down;
    m->puts = flights->puts;
    m->puts_left_out = flights->puts_left_out;
    m->drops = flights->drops;
    m->purges_kept = gateway_purges_kept(gateway->purges);
    m->mesh_up = gateway_mesh_is_up(gateway->mesh);
    m->mesh_open = credit.jobs;
    m->mesh_open_bytes = credit.bytes;
    m->mesh_submitted = mesh->submitted;
    m->mesh_rejected = mesh->rejected;
    m->mesh_lost = mesh->lost;
    m->mesh_overdue = mesh->overdue;
    m->mesh_cancelled = mesh->cancelled;
    m->mesh_strays = mesh->strays;
}

static void refresh_http(struct gateway *gateway)
{
    struct gateway_metrics *m = gateway->metrics;
    const struct http_counters *http = http_server_counters(gateway->server);
    const struct hotcache_counters *hot = hotcache_counters(gateway->hot);

    m->buffered_bytes = gateway_budget_used(gateway->budget);
    m->outgoing_bytes = gateway->outgoing_bytes;
    m->hot_hits = hot->hits;
    m->hot_misses = hot->misses;
    m->hot_evicted = hot->evicted;
    m->hot_bytes = hot->bytes;
    m->hot_entries = hot->entries;
    m->http_connections = http->connections;
    m->http_accepted = http->accepted;
    m->http_refused_connections = http->refused_connections;
    m->http_malformed = http->malformed;
    m->http_timeouts = http->timeouts;
    m->http_gave_way = http->gave_way;
    m->http_bytes_in = http->bytes_in;
    m->http_bytes_out = http->bytes_out;
}

void gateway_refresh_metrics(struct gateway *gateway)
{
    uint64_t waiting = 0;

    for (const struct gateway_request *at = gateway->requests; at != NULL; at = at->next)
        waiting += at->waiter.flight != NULL;
    gateway->metrics->in_flight = waiting;
    refresh_mesh(gateway);
    if (gateway->server != NULL)
        refresh_http(gateway);
}

static json_t *on_stats(void *arg)
{
    gateway_refresh_metrics(arg);
    return metrics_json(metric_specs, ((struct gateway *)arg)->metrics);
}

/* ---- time ----------------------------------------------------------------------- */

static uint64_t wanted_tick_ms(const struct gateway *gateway)
{
    const struct gateway_flight_counters *flights =
        gateway_flights_counters(gateway->flights);

    if (gateway->lame_until_us > 0 || gateway_purges_count(gateway->purges) > 0)
        return TICK_MS;
    if (flights->open > 0 || flights->cache_down > 0 || flights->leases_owed > 0 ||
        gateway_mesh_credit(gateway->mesh, PROTO_PRIORITY_HIGH).jobs > 0)
        return TICK_MS;
    return hotcache_counters(gateway->hot)->entries > 0 ? SLOW_TICK_MS : 0;
}

static void on_tick(uv_timer_t *timer);
static void drain_http(struct gateway *gateway, bool hurry);

static void set_tick(struct gateway *gateway, uint64_t ms)
{
    if (gateway->tick_ms == ms)
        return;
    gateway->tick_ms = ms;
    if (ms > 0)
        uv_timer_start(&gateway->tick, on_tick, ms, ms);
    else
        uv_timer_stop(&gateway->tick);
}

static void on_tick(uv_timer_t *timer)
{
    struct gateway *gateway = timer->data;
    uint64_t now_us = service_now_us(gateway->service);

    gateway_requests_sweep(gateway, now_us);
    gateway_mesh_sweep(gateway->mesh, now_us);
    gateway_flights_sweep(gateway->flights, now_us);
    gateway_purges_sweep(gateway->purges, now_us);
    hotcache_sweep(gateway->hot, now_us, SWEEP_ENTRIES);
    if (gateway->lame_until_us > 0 && now_us >= gateway->lame_until_us)
        drain_http(gateway, false);
    set_tick(gateway, wanted_tick_ms(gateway));
}

void gateway_wake(struct gateway *gateway)
{
    set_tick(gateway, TICK_MS);
}

/* ---- the session ---------------------------------------------------------------- */

static int send_link(void *arg, struct proto_envelope *envelope, const void *body,
                     zmq_msg_t *payload)
{
    struct gateway *gateway = arg;

    return session_send(gateway->session, envelope, body, payload);
}

static struct proto_id new_link_id(void *arg)
{
    return session_new_id(((struct gateway *)arg)->session);
}

static void on_up(struct session *session, const struct proto_welcome *welcome,
                  bool fresh, void *arg)
{
    struct gateway *gateway = arg;
    uint64_t now_us = service_now_us(gateway->service);

    gateway->session = session;
    /* While we were away purges may have passed us by. */
    hotcache_clear(gateway->hot);
    gateway_mesh_up(gateway->mesh, welcome, fresh, now_us);
    gateway_flights_up(gateway->flights, now_us);
    gateway_wake(gateway);
}

static void on_down(struct session *session, void *arg)
{
    struct gateway *gateway = arg;

    (void)session;
    gateway_mesh_down(gateway->mesh, service_now_us(gateway->service));
}

static void on_message(struct session *session, struct mesh_msg *msg, void *arg)
{
    struct gateway *gateway = arg;

    (void)session;
    switch (msg->envelope.verb) {
    case PROTO_STATS:
        (void)gateway_admin_on_stats(gateway, msg);
        break;
    case PROTO_PURGE: /* the answer to ours, or the broker's word of another's */
        gateway_answer_purge(gateway, msg);
        (void)gateway_purges_on_message(gateway->purges, &msg->envelope.request,
                                        service_now_us(gateway->service));
        break;
    default:
        gateway_mesh_on_message(gateway->mesh, msg, service_now_us(gateway->service));
    }
}

static int open_session(struct gateway *gateway)
{
    static const struct session_callbacks callbacks = {on_up, on_down, on_message,
                                                       on_stats};

    return session_open(gateway->service, "gateway", NULL, &callbacks, gateway,
                        &gateway->session);
}

/* ---- HTTP ----------------------------------------------------------------------- */

static void fill_limits(const struct gateway_options *options, struct http_limits *limits)
{
    http_limits_init(limits);
    limits->trusted_proxies = options->trusted_proxies;
    limits->connections_max = (uint32_t)options->connections_max;
    limits->connections_per_peer = (uint32_t)options->connections_per_peer;
    limits->head_bytes_max = (uint32_t)options->head_bytes_max;
    limits->headers_max = (uint32_t)options->headers_max;
    limits->body_bytes_max = options->body_bytes_max;
    limits->head_timeout_ms = (uint32_t)options->head_timeout_ms;
    limits->body_timeout_ms = (uint32_t)options->body_timeout_ms;
    limits->request_timeout_ms = (uint32_t)options->request_timeout_ms;
    limits->body_rate_min = (uint32_t)options->body_rate_min;
    limits->idle_timeout_ms = (uint32_t)options->idle_timeout_ms;
    limits->write_timeout_ms = (uint32_t)options->write_timeout_ms;
    limits->answer_timeout_ms = (uint32_t)options->answer_timeout_ms;
}

static int open_http(struct gateway *gateway)
{
    static const struct http_callbacks callbacks = {
        gateway_request_on_head, gateway_request_on_body, gateway_request_on_complete,
        gateway_request_on_gone, gateway_request_on_end,  gateway_request_on_refuse};
    const char *listen = gateway->options->listen;
    struct http_limits limits;

    fill_limits(gateway->options, &limits);
    gateway->browser = (struct browser_rules){
        listen, gateway->at.host, gateway->options->hosts_allowed,
        gateway->options->cors_origins, "GET, HEAD, POST, PUT, DELETE"};
    descriptors_check(gateway->options->connections_max);
    const char *why = http_listen_parse(listen, &gateway->at);
    int err = why != NULL ? -EINVAL
                          : http_server_open(service_loop(gateway->service),
                                             gateway->at.host, gateway->at.port, &limits,
                                             &callbacks, gateway, &gateway->server);
    if (err < 0)
        log_event(LOG_ERROR, "cannot listen", "listen=\"%s\" error=\"%s\"", listen,
                  why != NULL ? why : strerror(-err));
    return err;
}

/* ---- start and stop ------------------------------------------------------------- */

static int parse_access_log(const char *text, enum gateway_access_log *out)
{
    static const char *const names[] = {"none", "errors", "misses", "all"};

    for (unsigned i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (enum gateway_access_log)i;
            return 0;
        }
    log_event(LOG_ERROR, "access_log is to be all, misses, errors or none",
              "access_log=\"%s\"", text);
    return -EINVAL;
}

static int make_parts(struct gateway *gateway)
{
    const struct gateway_options *options = gateway->options;
    struct gateway_link link = {send_link, new_link_id, gateway};
    struct gateway_flight_limits limits = {options->mesh_wait_ms * 1000,
                                           options->cache_wait_ms * 1000,
                                           options->cache_probe_ms * 1000};

    gateway->budget = gateway_budget_new(options->buffered_bytes_max);
    gateway->hot = hotcache_new(options->hot_bytes_max);
    gateway->mesh = gateway_mesh_new(&link);
    gateway->flights = gateway_flights_new(gateway->mesh, &limits);
    gateway->purges = gateway_purges_new(gateway->mesh, &link);
    gateway->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (gateway->budget == NULL || gateway->hot == NULL || gateway->mesh == NULL ||
        gateway->flights == NULL || gateway->purges == NULL || gateway->sha256 == NULL)
        return -ENOMEM;
    service_random(gateway->id_prefix, sizeof gateway->id_prefix);
    uv_timer_init(service_loop(gateway->service), &gateway->tick);
    gateway->tick.data = gateway;
    gateway->has_tick = true;
    return 0;
}

static bool is_wrong(const void *all, const struct mesh_options *mesh,
                     struct service_wrong *wrong)
{
    const struct gateway_options *options = all;
    char item[HTTP_TRUSTED_TEXT_BYTES];

    if (http_trusted_check(options->trusted_proxies, item) < 0) {
        wrong->name = "trusted_proxies";
        snprintf(wrong->why, sizeof wrong->why,
                 "\"%s\" must be an address or a block, as 10.0.0.0/8; up to 64 may be "
                 "given",
                 item);
    } else if (browser_hosts_wrong(options->hosts_allowed, wrong->why))
        wrong->name = "hosts_allowed";
    else if (browser_origins_wrong(options->cors_origins, wrong->why))
        wrong->name = "cors_origins";
    else if (options->lame_duck_ms >= mesh->drain_timeout_ms) {
        wrong->name = "lame_duck_ms";
        wrong->works = true;
        snprintf(wrong->why, sizeof wrong->why,
                 "it must be below drain_timeout_ms, which is %" PRIu64
                 ": no time is left for the work in hand",
                 mesh->drain_timeout_ms);
    }
    return wrong->name != NULL;
}

static int start(struct service *service)
{
    struct gateway *gateway = calloc(1, sizeof *gateway);

    if (gateway == NULL)
        return -ENOMEM;
    gateway->service = service;
    gateway->options = service_options(service);
    gateway->metrics = service_metrics(service);
    service_set_data(service, gateway);
    int err = parse_access_log(gateway->options->access_log, &gateway->access_log);
    if (err == 0)
        err = gateway_admin_read_token(gateway, gateway->options->admin_token_file);
    if (err == 0)
        err = make_parts(gateway);
    if (err == 0)
        err = open_session(gateway);
    if (err == 0)
        err = open_http(gateway);
    if (err == 0)
        err = service_listening(gateway->service, gateway->options->listen,
                                http_server_port(gateway->server));
    return err;
}

static void on_drained(void *arg)
{
    service_stop(((struct gateway *)arg)->service, 0);
}

static void drain_http(struct gateway *gateway, bool hurry)
{
    gateway->lame_until_us = 0;
    http_server_drain(gateway->server, hurry, on_drained, gateway);
}

/* A proxy sends requests until it has seen that we are not ready. Who sits at a terminal
 * has no proxy, and is not to wait. */
static void drain(struct service *service, bool hurry)
{
    struct gateway *gateway = service_data(service);
    uint64_t lame_us = gateway->options->lame_duck_ms * 1000;

    if (hurry || lame_us == 0 || service_signal(service) != SIGTERM) {
        drain_http(gateway, hurry);
        return;
    }
    gateway->is_lame_duck = true;
    gateway->lame_until_us = service_now_us(service) + lame_us;
    http_server_leave(gateway->server);
    gateway_wake(gateway);
}

static void on_tick_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void stop(struct service *service)
{
    struct gateway *gateway = service_data(service);

    if (gateway == NULL)
        return;
    http_server_close(gateway->server); /* ends every request */
    session_close(gateway->session);
    gateway->session = NULL;
    gateway_flights_free(gateway->flights);
    gateway_purges_free(gateway->purges);
    gateway_mesh_free(gateway->mesh);
    gateway_requests_free(gateway);
    hotcache_free(gateway->hot);
    gateway_budget_drop(gateway->budget);
    EVP_MD_free(gateway->sha256);
    if (gateway->has_tick)
        uv_close((uv_handle_t *)&gateway->tick, on_tick_closed);
    else
        free(gateway);
}

const struct service_spec gateway_spec = {
    .name = "gateway",
    .summary = "HTTP in, mesh out: pictures to features.",
    .options = option_specs,
    .options_bytes = sizeof(struct gateway_options),
    .metrics = metric_specs,
    .metrics_bytes = sizeof(struct gateway_metrics),
    .is_wrong = is_wrong,
    .start = start,
    .drain = drain,
    .stop = stop,
};
