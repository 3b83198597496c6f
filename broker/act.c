/* The core's actions become messages, log lines and events. */
#include "broker/broker.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int broker_send(struct broker *broker, struct endpoint *endpoint,
                const struct mesh_peer *peer, uint8_t verb,
                const struct proto_envelope *to, const void *body, zmq_msg_t *payload)
{
    struct proto_envelope envelope = {
        .verb = verb, .priority = PROTO_PRIORITY_NORMAL, .epoch = broker->epoch};

    if (to != NULL) {
        envelope.request = to->request;
        envelope.trace = to->trace;
    }
    return endpoint_send(endpoint, peer, &envelope, body, payload);
}

static void fill_outcome(struct proto_outcome *outcome, unsigned status,
                         const char *detail)
{
    snprintf(outcome->code, sizeof outcome->code, "%s", proto_status_code(status));
    snprintf(outcome->detail, sizeof outcome->detail, "%s", detail);
}

void broker_refuse(struct broker *broker, struct endpoint *endpoint,
                   const struct mesh_msg *msg, enum proto_status status,
                   const char *detail)
{
    struct proto_outcome outcome = {0};
    struct proto_envelope envelope = {.verb = PROTO_REJECT,
                                      .priority = PROTO_PRIORITY_NORMAL,
                                      .status = (uint16_t)status,
                                      .request = msg->envelope.request,
                                      .trace = msg->envelope.trace,
                                      .epoch = broker->epoch};

    fill_outcome(&outcome, status, detail);
    (void)endpoint_send(endpoint, &msg->peer, &envelope, &outcome, NULL);
}

static void mode_body(const struct broker *broker, struct proto_mode *mode)
{
    struct broker_core_view view;
    uint64_t now_us = broker_now_us(broker);

    broker_core_look(broker->core, &view);
    *mode = (struct proto_mode){0};
    snprintf(mode->level, sizeof mode->level, "%s", broker_core_level_name(view.level));
    snprintf(mode->reason, sizeof mode->reason, "%s", view.level_reason);
    if (view.level_until_us > now_us)
        mode->ttl_ms = (view.level_until_us - now_us + 999) / 1000;
}

void broker_welcome(struct broker *broker, struct endpoint *endpoint,
                    const struct mesh_msg *msg, bool fresh)
{
    const struct broker_options *options = broker->options;
    struct proto_welcome welcome = {.heartbeat_ms = options->heartbeat_ms,
                                    .credit_jobs = options->client_jobs,
                                    .credit_bytes = options->client_bytes,
                                    .payload_bytes_max = options->payload_bytes_max,
                                    .fresh = fresh};
    struct proto_mode mode;

    (void)broker_send(broker, endpoint, &msg->peer, PROTO_WELCOME, &msg->envelope,
                      &welcome, NULL);
    mode_body(broker, &mode);
    if (mode.ttl_ms > 0)
        (void)broker_send(broker, endpoint, &msg->peer, PROTO_MODE, NULL, &mode, NULL);
}

void broker_stranger(struct broker *broker, struct endpoint *endpoint,
                     const struct mesh_msg *msg)
{
    broker->metrics->strangers++;
    if (msg->envelope.verb != PROTO_BYE)
        (void)broker_send(broker, endpoint, &msg->peer, PROTO_BYE, NULL, NULL, NULL);
}

bool broker_bad(struct broker *broker, struct endpoint *endpoint,
                struct broker_peer *peer, const struct mesh_peer *id,
                const struct proto_envelope *envelope, const char *why)
{
    struct mesh_msg msg = {.peer = *id, .envelope = *envelope};
    static const struct proto_id none;

    broker->metrics->messages_bad++;
    log_limited(LOG_NOTICE, &broker->bad_quiet, broker_now_us(broker), "bad message",
                "peer=\"%.*s\" verb=%s why=\"%s\"", (int)id->size,
                (const char *)id->bytes, proto_verb_name(envelope->verb), why);
    if (envelope->verb != 0 && memcmp(&envelope->request, &none, sizeof none) != 0)
        broker_refuse(broker, endpoint, &msg, PROTO_STATUS_BAD_REQUEST, why);
    if (peer == NULL || ++peer->bad < BROKER_BAD_MAX)
        return false;
    (void)broker_send(broker, endpoint, id, PROTO_BYE, NULL, NULL, NULL);
    return true;
}

void broker_publish(struct broker *broker, const char *kind, const char *format, ...)
{
    struct proto_envelope envelope = {
        .verb = PROTO_EVENT, .priority = PROTO_PRIORITY_NORMAL, .epoch = broker->epoch};
    struct proto_event event = {0};
    va_list args;

    snprintf(event.kind, sizeof event.kind, "%s", kind);
    va_start(args, format);
    vsnprintf(event.text, sizeof event.text, format, args);
    va_end(args);
    (void)endpoint_publish(broker->events, kind, &envelope, &event);
}

void broker_ping(struct broker *broker, struct endpoint *endpoint,
                 struct broker_peer *peer, const struct mesh_msg *msg)
{
    zmq_msg_t *payload = (zmq_msg_t *)&msg->payload; /* zmq_msg_data() takes no const */

    broker_peers_set_stats(peer, zmq_msg_data(payload), zmq_msg_size(payload));
    (void)broker_send(broker, endpoint, &msg->peer, PROTO_PONG, &msg->envelope, NULL,
                      NULL);
}

void broker_pong(struct broker *broker, struct broker_peer *peer, struct mesh_msg *msg,
                 void *body)
{
    (void)broker;
    (void)peer;
    (void)msg;
    (void)body;
}

void broker_payload_free(struct broker_payload *payload)
{
    zmq_msg_close(&payload->msg);
    free(payload);
}

void broker_hex(const uint8_t *bytes, size_t size, char *out)
{
    for (size_t i = 0; i < size; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

/* ---- to clients ---- */

static struct proto_envelope envelope_for(const struct broker *broker,
                                          const struct broker_core_action *action,
                                          uint8_t verb)
{
    const struct broker_payload *request = action->payload;
    struct proto_envelope envelope = {.verb = verb,
                                      .priority = PROTO_PRIORITY_NORMAL,
                                      .status = action->status,
                                      .request = action->request,
                                      .epoch = broker->epoch};

    if (request != NULL)
        envelope.trace = request->trace;
    return envelope;
}

static void answer(struct broker *broker, const struct broker_core_action *action,
                   uint8_t verb, const struct proto_outcome *outcome)
{
    const struct broker_peer *peer = broker_peers_at(&broker->clients, action->peer);
    struct proto_envelope envelope = envelope_for(broker, action, verb);

    if (peer != NULL)
        (void)endpoint_send(broker->front, &peer->id, &envelope, outcome, NULL);
}

static void act_accept(struct broker *broker, const struct broker_core_action *action)
{
    answer(broker, action, PROTO_ACCEPT, NULL);
}

static void act_reject(struct broker *broker, const struct broker_core_action *action)
{
    struct proto_outcome outcome = {.limit = action->limit,
                                    .actual = action->actual,
                                    .retry_after_ms = action->retry_after_ms};

    fill_outcome(&outcome, action->status, action->text);
    answer(broker, action, PROTO_REJECT, &outcome);
}

static void act_final(struct broker *broker, const struct broker_core_action *action)
{
    struct proto_outcome outcome = {0};
    zmq_msg_t *payload = NULL;

    if (action->pass_on && broker->done != NULL) {
        outcome = *broker->done;
        if (broker->done_msg->has_payload)
            payload = &broker->done_msg->payload;
    } else {
        fill_outcome(&outcome, action->status, action->text);
        outcome.retry_after_ms = action->retry_after_ms;
    }
    outcome.queue_us = action->queue_us;
    metrics_observe(&broker->metrics->queue, action->queue_us);
    struct broker_peer *client = broker_peers_at(&broker->clients, action->peer);
    struct proto_envelope envelope = envelope_for(broker, action, PROTO_FINAL);
    if (client != NULL)
        broker_finals_send(broker, client, &envelope, &outcome, payload,
                           action->until_us);
}

/* The session is over, and its number free: the core has forgotten the peer. */
static void say_bye(struct broker *broker, struct endpoint *endpoint,
                    struct broker_peers *peers, uint32_t index)
{
    struct broker_peer *peer = broker_peers_at(peers, index);

    if (peer == NULL)
        return;
    log_event(LOG_INFO, "peer silent", "name=\"%s\"", peer->name);
    (void)broker_send(broker, endpoint, &peer->id, PROTO_BYE, NULL, NULL, NULL);
    broker_peers_remove(peers, peer);
}

static void act_client_bye(struct broker *broker, const struct broker_core_action *action)
{
    say_bye(broker, broker->front, &broker->clients, action->peer);
}

/* ---- to workers ---- */

static void act_job(struct broker *broker, const struct broker_core_action *action)
{
    const struct broker_peer *peer = broker_peers_at(&broker->workers, action->peer);
    struct broker_payload *request = action->payload;
    struct proto_envelope envelope = {.verb = PROTO_JOB,
                                      .priority = action->priority,
                                      .attempt = action->attempt,
                                      .budget_ms = action->budget_ms,
                                      .cost_bytes = request->cost_bytes,
                                      .request = action->request,
                                      .trace = request->trace,
                                      .epoch = broker->epoch};

    int err = endpoint_forward(broker->back, &peer->id, &envelope, request->body,
                               request->body_bytes,
                               request->has_payload ? &request->msg : NULL);
    /* More than the list holds are left to their START time, like frames lost on the
     * way. */
    if (err < 0 && broker->unsents < BROKER_UNSENT_MAX)
        broker->unsent[broker->unsents++] = action->request;
}

static void act_abort(struct broker *broker, const struct broker_core_action *action)
{
    const struct broker_peer *peer = broker_peers_at(&broker->workers, action->peer);
    struct proto_envelope envelope = {.verb = PROTO_ABORT,
                                      .priority = PROTO_PRIORITY_NORMAL,
                                      .attempt = action->attempt,
                                      .request = action->request,
                                      .epoch = broker->epoch};

    if (peer != NULL)
        (void)endpoint_send(broker->back, &peer->id, &envelope, NULL, NULL);
}

static const char *service_name_of(const struct broker *broker, uint32_t index)
{
    struct broker_core_service_view view;
    return broker_core_service(broker->core, index, &view) ? view.name : "?";
}

static void act_share(struct broker *broker, const struct broker_core_action *action)
{
    const struct broker_peer *peer = broker_peers_at(&broker->workers, action->peer);
    struct proto_scale scale = {
        .target = action->to, .seq = action->seq, .source = "broker"};

    snprintf(scale.service, sizeof scale.service, "%s",
             service_name_of(broker, action->service));
    snprintf(scale.reason, sizeof scale.reason, "%s", action->text);
    if (peer != NULL)
        (void)broker_send(broker, broker->back, &peer->id, PROTO_SCALE, NULL, &scale,
                          NULL);
}

static void act_drain(struct broker *broker, const struct broker_core_action *action)
{
    const struct broker_peer *peer = broker_peers_at(&broker->workers, action->peer);
    struct proto_drain drain = {.slot = action->to};

    if (peer != NULL)
        (void)broker_send(broker, broker->back, &peer->id, PROTO_DRAIN, NULL, &drain,
                          NULL);
}

static void act_worker_bye(struct broker *broker, const struct broker_core_action *action)
{
    say_bye(broker, broker->back, &broker->workers, action->peer);
}

/* ---- to everybody ---- */

static void act_release(struct broker *broker, const struct broker_core_action *action)
{
    (void)broker;
    broker_payload_free(action->payload);
}

static void tell_all(struct broker *broker, struct endpoint *endpoint,
                     const struct broker_peers *peers, const struct proto_mode *mode)
{
    for (uint32_t i = 0; i < peers->max; i++)
        if (peers->all[i].used)
            (void)broker_send(broker, endpoint, &peers->all[i].id, PROTO_MODE, NULL, mode,
                              NULL);
}

static void act_mode(struct broker *broker, const struct broker_core_action *action)
{
    struct proto_mode mode;

    mode_body(broker, &mode);
    tell_all(broker, broker->front, &broker->clients, &mode);
    tell_all(broker, broker->back, &broker->workers, &mode);
    if (action->from == action->to)
        return;
    log_event(LOG_NOTICE, "level", "from=%s to=%s reason=\"%s\"",
              broker_core_level_name((unsigned)action->from),
              broker_core_level_name((unsigned)action->to), action->text);
    broker_publish(broker, "mode", "%s: %s", mode.level, action->text);
}

static void act_slots(struct broker *broker, const struct broker_core_action *action)
{
    const char *service = service_name_of(broker, action->service);
    unsigned long long from = action->from, to = action->to;

    log_event(LOG_NOTICE, "slots", "service=%s from=%llu to=%llu reason=\"%s\"", service,
              from, to, action->text);
    broker_publish(broker, "slots", "%s %llu -> %llu: %s", service, from, to,
                   action->text);
}

static void tell_worker(struct broker *broker, const struct broker_core_action *action,
                        const char *what, const char *kind)
{
    const struct broker_peer *peer = broker_peers_at(&broker->workers, action->peer);
    const char *service = service_name_of(broker, action->service);

    if (peer == NULL)
        return;
    log_event(LOG_INFO, what, "service=%s name=\"%s\" host=\"%s\"", service, peer->name,
              peer->host);
    broker_publish(broker, kind, "%s: %s", service, peer->name);
}

static void act_worker_up(struct broker *broker, const struct broker_core_action *action)
{
    tell_worker(broker, action, "worker up", "worker-up");
}

static void act_worker_down(struct broker *broker,
                            const struct broker_core_action *action)
{
    tell_worker(broker, action, "worker down", "worker-down");
}

static void act_quarantine(struct broker *broker, const struct broker_core_action *action)
{
    const struct broker_payload *request = action->payload;
    char key[2 * BROKER_CORE_KEY_BYTES + 1];

    broker_hex(request->key, request->key_bytes, key);
    log_event(LOG_WARNING, "input quarantined", "key=%s service=%s", key,
              service_name_of(broker, action->service));
    broker_publish(broker, "quarantine", "%s", key);
}

typedef void act_fn(struct broker *broker, const struct broker_core_action *action);

static act_fn *const acts[] = {
    [BROKER_CORE_ACCEPT] = act_accept,
    [BROKER_CORE_REJECT] = act_reject,
    [BROKER_CORE_FINAL] = act_final,
    [BROKER_CORE_JOB] = act_job,
    [BROKER_CORE_ABORT] = act_abort,
    [BROKER_CORE_SHARE] = act_share,
    [BROKER_CORE_DRAIN] = act_drain,
    [BROKER_CORE_CLIENT_BYE] = act_client_bye,
    [BROKER_CORE_WORKER_BYE] = act_worker_bye,
    [BROKER_CORE_RELEASE] = act_release,
    [BROKER_CORE_MODE] = act_mode,
    [BROKER_CORE_SLOTS] = act_slots,
    [BROKER_CORE_WORKER_UP] = act_worker_up,
    [BROKER_CORE_WORKER_DOWN] = act_worker_down,
    [BROKER_CORE_QUARANTINE] = act_quarantine,
};

void broker_act(struct broker *broker, const struct broker_core_action *action)
{
    acts[action->type](broker, action);
}
