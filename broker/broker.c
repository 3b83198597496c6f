#include "broker/broker.h"

#include "runtime/cgroup.h"
#include "runtime/descriptors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* An epoch fits a JSON number exactly. */
#define EPOCH_MASK     ((1ull << 52) - 1)
#define MEMORY_PERCENT 60 /* of the bound: what jobs may need together */

static const struct option_spec option_specs[] = {
#define OPTIONS_OF struct broker_options
#include "runtime/options_spec.h"

#include "broker/options.tbl"

#include "runtime/options_end.h"
#undef OPTIONS_OF
    {0},
};

static const struct metrics_spec metrics_specs[] = {
#define METRICS_OF struct broker_metrics
#include "runtime/metrics_spec.h"

#include "broker/counters.tbl"

#include "runtime/metrics_end.h"
#undef METRICS_OF
    {0},
};

uint64_t broker_now_us(const struct broker *broker)
{
    return broker->now_us;
}

void broker_wake(struct broker *broker)
{
    broker->now_us = service_now_us(broker->service);
}

/* ---- after each event ---- */

static void take_actions(struct broker *broker)
{
    const struct broker_core_action *action;

    while ((action = broker_core_next(broker->core)) != NULL)
        broker_act(broker, action);
}

static void on_timer(uv_timer_t *timer)
{
    struct broker *broker = timer->data;

    broker->timer_us = 0;
    broker_wake(broker);
    broker_core_tick(broker->core, broker_now_us(broker));
    broker_finals_look(broker);
    broker_settle(broker);
}

/* Only an earlier deadline moves the timer: most events push deadlines back, and firing
 * once too early costs less than a system call for each message. */
static void set_timer(struct broker *broker)
{
    uint64_t now_us = broker_now_us(broker);
    uint64_t due_us = broker_core_deadline(broker->core);

    if (broker->held_bytes > 0 && now_us + BROKER_FINALS_LOOK_US < due_us)
        due_us = now_us + BROKER_FINALS_LOOK_US;
    if (broker->leave_us > now_us && broker->leave_us < due_us)
        due_us = broker->leave_us;
    if (due_us == BROKER_CORE_NEVER ||
        (broker->timer_us != 0 && broker->timer_us <= due_us))
        return;
    uv_update_time(service_loop(broker->service));
    uv_timer_start(&broker->timer, on_timer,
                   due_us > now_us ? (due_us - now_us + 999) / 1000 : 0, 0);
    broker->timer_us = due_us;
}

/* Somebody was refused, who waits for our successor. It can come only when we have gone,
 * and then it is given anew what we had not ended. */
static bool is_waited_for(const struct broker *broker)
{
    return broker_core_counters(broker->core)->rejected[PROTO_STATUS_DRAINING] > 0;
}

static bool is_done(const struct broker *broker)
{
    struct broker_core_view view;

    broker_core_look(broker->core, &view);
    if (!view.draining)
        return false;
    if (view.jobs == 0 && (broker->held_bytes == 0 || broker->hurried))
        return true;
    return broker_now_us(broker) >= broker->leave_us && is_waited_for(broker);
}

static void take_all(struct broker *broker)
{
    take_actions(broker);
    while (broker->unsents > 0) {
        struct proto_id id = broker->unsent[--broker->unsents];
        broker_core_unsent(broker->core, &id, broker_now_us(broker));
        take_actions(broker);
    }
}

void broker_settle(struct broker *broker)
{
    take_all(broker);
    while (broker->finals_changed) {
        broker_finals_tell(broker);
        take_all(broker);
    }
    set_timer(broker);
    if (is_done(broker))
        service_stop(broker->service, 0);
}

/* ---- messages ---- */

/* Any body that a verb of either side has. */
union body {
    struct proto_hello hello;
    struct proto_submit submit;
    struct proto_mode mode;
    struct proto_purge purge;
    struct proto_enlist enlist;
    struct proto_ready ready;
    struct proto_start start;
    struct proto_outcome outcome;
    struct proto_scale scale;
    struct proto_scaled scaled;
    struct proto_drain drain;
};

static const struct broker_side *side_of(struct broker *broker,
                                         const struct endpoint *endpoint,
                                         struct broker_peers **peers)
{
    bool front = endpoint == broker->front;

    *peers = front ? &broker->clients : &broker->workers;
    return front ? &broker_front_side : &broker_back_side;
}

static void on_message(struct endpoint *endpoint, struct mesh_msg *msg, void *arg)
{
    struct broker *broker = arg;
    struct broker_peers *peers;
    const struct broker_side *side = side_of(broker, endpoint, &peers);
    struct broker_peer *peer = broker_peers_find(peers, &msg->peer);
    uint8_t verb = msg->envelope.verb;
    const struct proto_field *fields = proto_verb_fields(verb);
    const char *wrong = NULL;
    union body body;

    broker_wake(broker);
    if (peer == NULL && verb != side->opening) {
        broker_stranger(broker, endpoint, msg);
        return;
    }
    if (peer != NULL) {
        (void)side->heard(broker->core, peer->index, broker_now_us(broker));
        peer->spoke |= verb != side->opening;
    }
    if (verb >= PROTO_VERB_END || side->verbs[verb] == NULL)
        wrong = side->wrong_verb;
    else if (fields != NULL &&
             proto_body_decode(fields, msg->body, msg->body_bytes, &body) < 0)
        wrong = "the body is malformed";
    if (wrong == NULL)
        side->verbs[verb](broker, peer, msg, &body);
    else if (broker_bad(broker, endpoint, peer, &msg->peer, &msg->envelope, wrong))
        side->end_session(broker, peer);
    broker_settle(broker);
}

static void on_bad(struct endpoint *endpoint, const struct mesh_peer *id,
                   const struct proto_envelope *envelope, int err, void *arg)
{
    struct broker *broker = arg;
    struct broker_peers *peers;
    const struct broker_side *side = side_of(broker, endpoint, &peers);
    struct broker_peer *peer = broker_peers_find(peers, id);
    const char *wrong = err == -EPROTONOSUPPORT ? "another version of the protocol"
                                                : "the message is malformed";

    broker_wake(broker);
    if (broker_bad(broker, endpoint, peer, id, envelope, wrong))
        side->end_session(broker, peer);
    broker_settle(broker);
}

static const struct endpoint_callbacks callbacks = {on_message, on_bad};

/* ---- life ---- */

static struct broker_core_limits limits_of(const struct broker *broker)
{
    const struct broker_options *o = broker->options;
    struct broker_core_limits limits = {
        .epoch = broker->epoch,
        .clients_max = (uint32_t)o->clients_max,
        .workers_max = (uint32_t)o->workers_max,
        .jobs_max = (uint32_t)o->jobs_max,
        .lane_jobs = (uint32_t)o->lane_jobs,
        .lane_bytes = o->lane_bytes,
        .total_bytes = o->total_bytes,
        .payload_bytes_max = o->payload_bytes_max,
        .client_jobs = (uint32_t)o->client_jobs,
        .client_bytes = o->client_bytes,
        .batch_share = (uint32_t)o->batch_share,
        .high_slots = (uint32_t)o->high_slots,
        .newest_first_percent = (uint32_t)o->newest_first_percent,
        .memory_budget = broker->memory_budget,
        .silence_us = 3 * o->heartbeat_ms * 1000,
        .request_us = o->request_ms * 1000,
        .request_max_us = o->request_max_ms * 1000,
        .start_us = o->start_timeout_ms * 1000,
        .lease_us = o->lease_ms * 1000,
        .job_us = o->job_timeout_ms * 1000,
        .worker_wait_us = o->worker_wait_ms * 1000,
        .target_ttl_us = o->target_ttl_ms * 1000,
        .resend_us = o->heartbeat_ms * 1000,
        .retry_percent = (uint32_t)o->retry_percent,
        .retry_per_s = (uint32_t)o->retry_per_s,
        .retry_burst = (uint32_t)o->retry_burst,
        .quarantine_keys = (uint32_t)o->quarantine_keys,
        .quarantine_us = o->quarantine_ms * 1000,
    };

    service_random(&limits.hash_seed, sizeof limits.hash_seed);
    return limits;
}

static int make_tables(struct broker *broker)
{
    struct broker_core_limits limits;
    uint64_t seed;

    service_random(&broker->epoch, sizeof broker->epoch);
    broker->epoch = (broker->epoch & EPOCH_MASK) | 1; /* 0 means none */
    service_random(&seed, sizeof seed);
    broker->memory_budget = broker->options->memory_budget;
    if (broker->memory_budget == 0)
        broker->memory_budget =
            cgroup_memory_bound(&cgroup_system) / 100 * MEMORY_PERCENT;
    limits = limits_of(broker);
    broker->core = broker_core_new(&limits);
    if (broker->core == NULL)
        return -ENOMEM;
    uint64_t unsent = broker->options->unsent_bytes;
    int err = broker_peers_init(&broker->clients, limits.clients_max, unsent, seed);
    if (err == 0)
        err = broker_peers_init(&broker->workers, limits.workers_max, unsent, seed);
    return err;
}

static int open_one(struct broker *broker, const char *name, enum endpoint_kind kind,
                    struct endpoint **out)
{
    struct endpoint_options options = {
        .kind = kind,
        .address = service_endpoint(broker->service, name),
        .hwm = (int)broker->options->hwm,
        .curve = service_curve(broker->service),
    };
    int err = endpoint_open(service_loop(broker->service), service_zmq(broker->service),
                            &options, &callbacks, broker, out);
    if (err < 0)
        log_event(LOG_ERROR, "cannot bind", "endpoint=%s address=\"%s\" error=\"%s\"",
                  name, options.address, strerror(-err));
    return err;
}

static int open_sockets(struct broker *broker)
{
    struct service *service = broker->service;
    struct curve *curve = service_curve(service);
    const char *allowed = service_mesh(service)->curve_allowed;
    int err = 0;

    if (curve != NULL && allowed[0] != '\0')
        err = curve_guard(curve, service_loop(service), service_zmq(service), allowed);
    if (err == 0)
        err = open_one(broker, "events", ENDPOINT_PUB, &broker->events);
    if (err == 0)
        err = open_one(broker, "back", ENDPOINT_ROUTER, &broker->back);
    if (err == 0)
        err = open_one(broker, "front", ENDPOINT_ROUTER, &broker->front);
    return err;
}

static void look_after(struct broker *broker, struct endpoint *endpoint, const char *name)
{
    int err = endpoint_look(endpoint);

    /* Without the folder: it is made again in a moment. */
    if (err == 0 || err == -ENOENT)
        return;
    if (err == 1)
        log_event(LOG_WARNING, "socket was removed, bound again", "endpoint=%s", name);
    else
        log_limited(LOG_ERROR, &broker->socket_quiet, broker_now_us(broker),
                    "socket was removed, nobody new can connect",
                    "endpoint=%s error=\"%s\"", name, strerror(-err));
}

static void look(struct service *service, bool touch)
{
    struct broker *broker = service_data(service);
    struct endpoint *const all[] = {broker->front, broker->back, broker->events};
    static const char *const names[] = {"front", "back", "events"};

    broker_wake(broker);
    for (int i = 0; i < 3; i++) {
        look_after(broker, all[i], names[i]);
        if (touch)
            endpoint_touch(all[i]);
    }
}

static int start(struct service *service)
{
    struct broker *broker = calloc(1, sizeof *broker);

    if (broker == NULL)
        return -ENOMEM;
    service_set_data(service, broker);
    broker->service = service;
    broker->options = service_options(service);
    broker->metrics = service_metrics(service);
    broker_wake(broker);
    broker->started_us = broker->now_us;
    uv_timer_init(service_loop(service), &broker->timer);
    broker->timer.data = broker;
    descriptors_check(broker->options->clients_max + broker->options->workers_max);
    int err = make_tables(broker);
    if (err == 0)
        err = open_sockets(broker);
    if (err == 0)
        service_ready(service, "%s", service_endpoint(service, "front"));
    return err;
}

static void drain(struct service *service, bool hurry)
{
    struct broker *broker = service_data(service);

    broker_wake(broker);
    if (broker->leave_us == 0)
        broker->leave_us = broker_now_us(broker) + broker->options->drain_ms * 1000;
    broker_core_drain(broker->core);
    broker->hurried |= hurry;
    if (hurry)
        broker_core_stop(broker->core, broker_now_us(broker));
    broker_settle(broker);
}

static void say_bye(struct broker *broker, struct endpoint *endpoint,
                    const struct broker_peers *peers)
{
    for (uint32_t i = 0; i < peers->max && peers->all != NULL; i++)
        if (peers->all[i].used)
            (void)broker_send(broker, endpoint, &peers->all[i].id, PROTO_BYE, NULL, NULL,
                              NULL);
}

static void on_closed(uv_handle_t *timer)
{
    free(timer->data);
}

static void stop(struct service *service)
{
    struct broker *broker = service_data(service);
    if (broker == NULL)
        return;

    broker_wake(broker);
    if (broker->core != NULL && broker->front != NULL) {
        broker_core_stop(broker->core, broker_now_us(broker));
        take_actions(broker);
        say_bye(broker, broker->front, &broker->clients);
        say_bye(broker, broker->back, &broker->workers);
    }
    endpoint_close(broker->front, BROKER_LINGER_MS);
    endpoint_close(broker->back, BROKER_LINGER_MS);
    endpoint_close(broker->events, BROKER_LINGER_MS);
    broker_core_free(broker->core);
    broker_peers_free(&broker->clients);
    broker_peers_free(&broker->workers);
    uv_close((uv_handle_t *)&broker->timer, on_closed);
}

const struct service_spec broker_spec = {
    .name = "broker",
    .summary = "Routes jobs to workers; owns queues, credit, slots and retries.",
    .options = option_specs,
    .options_bytes = sizeof(struct broker_options),
    .metrics = metrics_specs,
    .metrics_bytes = sizeof(struct broker_metrics),
    .start = start,
    .drain = drain,
    .stop = stop,
    .look = look,
};
