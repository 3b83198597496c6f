/* Messages of clients, one function a verb. docs/PROTOCOL.md section 3. */
#include "broker/broker.h"
#include "proto/purge.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Commands come and go all the time; a gateway or monitor does not. */
static enum log_level level_of(const struct broker_peer *peer)
{
    return strcmp(peer->role, "client") == 0 ? LOG_DEBUG : LOG_INFO;
}

static void end_session(struct broker *broker, struct broker_peer *peer)
{
    uint32_t index = peer->index;

    log_event(level_of(peer), "client down", "name=\"%s\"", peer->name);
    broker_core_client_bye(broker->core, index, broker_now_us(broker));
    broker_settle(broker);
    broker_peers_remove(&broker->clients, peer);
}

static void on_hello(struct broker *broker, struct broker_peer *peer,
                     struct mesh_msg *msg, void *body)
{
    const struct proto_hello *hello = body;
    bool unknown = peer == NULL;

    if (unknown)
        peer = broker_peers_add(&broker->clients, &msg->peer);
    if (peer == NULL) {
        broker->metrics->sessions_refused++;
        broker_refuse(broker, broker->front, msg, PROTO_STATUS_FULL,
                      "too many clients are connected");
        return;
    }
    if (unknown) {
        memcpy(peer->role, hello->role, sizeof peer->role);
        memcpy(peer->name, hello->name, sizeof peer->name);
        memcpy(peer->version, hello->version, sizeof peer->version);
        peer->since_us = broker_now_us(broker);
        log_event(level_of(peer), "client up", "role=\"%s\" name=\"%s\"", peer->role,
                  peer->name);
    }
    (void)broker_core_hello(broker->core, peer->index, broker_now_us(broker));
    broker_welcome(broker, broker->front, msg, !peer->spoke);
}

static void on_submit(struct broker *broker, struct broker_peer *peer,
                      struct mesh_msg *msg, void *body)
{
    const struct proto_submit *submit = body;
    bool keyed = submit->key_bytes == BROKER_CORE_KEY_BYTES;
    struct broker_payload *payload = malloc(sizeof *payload + msg->body_bytes);

    if (payload == NULL) {
        broker_refuse(broker, broker->front, msg, PROTO_STATUS_FULL,
                      "the broker is out of memory");
        return;
    }
    *payload = (struct broker_payload){.trace = msg->envelope.trace,
                                       .cost_bytes = msg->envelope.cost_bytes,
                                       .key_bytes = keyed ? submit->key_bytes : 0,
                                       .has_payload = msg->has_payload,
                                       .body_bytes = msg->body_bytes};
    memcpy(payload->key, submit->key, sizeof payload->key);
    memcpy(payload->body, msg->body, msg->body_bytes);
    struct broker_core_request request = {
        .id = msg->envelope.request,
        .service = submit->service,
        .priority = msg->envelope.priority,
        .budget_ms = msg->envelope.budget_ms,
        .bytes = zmq_msg_size(&msg->payload),
        .cost_bytes = msg->envelope.cost_bytes,
        .key = keyed ? payload->key : NULL,
        .payload = payload,
    };
    mesh_payload_take(msg, &payload->msg);
    int err =
        broker_core_submit(broker->core, peer->index, &request, broker_now_us(broker));
    if (err < 0)
        broker_payload_free(payload);
}

static void on_cancel(struct broker *broker, struct broker_peer *peer,
                      struct mesh_msg *msg, void *body)
{
    (void)body;
    if (msg->envelope.flags & PROTO_FLAG_FRESH)
        (void)broker_core_recall(broker->core, peer->index, &msg->envelope.request,
                                 broker_now_us(broker));
    else
        (void)broker_core_cancel(broker->core, peer->index, &msg->envelope.request,
                                 broker_now_us(broker));
}

static void on_ping(struct broker *broker, struct broker_peer *peer, struct mesh_msg *msg,
                    void *body)
{
    (void)body;
    broker_ping(broker, broker->front, peer, msg);
}

static void on_bye(struct broker *broker, struct broker_peer *peer, struct mesh_msg *msg,
                   void *body)
{
    (void)msg;
    (void)body;
    end_session(broker, peer);
}

static void send_scaled(struct broker *broker, const struct mesh_msg *msg, uint32_t index)
{
    struct broker_core_service_view view;
    struct proto_scaled scaled = {0};

    if (!broker_core_service(broker->core, index, &view))
        return;
    scaled.target = view.target;
    scaled.slots = view.slots;
    scaled.slots_max = view.slots_max;
    scaled.running = view.running;
    snprintf(scaled.service, sizeof scaled.service, "%s", view.name);
    snprintf(scaled.reason, sizeof scaled.reason, "%s", view.reason);
    (void)broker_send(broker, broker->front, &msg->peer, PROTO_SCALED, &msg->envelope,
                      &scaled, NULL);
}

static void on_scale(struct broker *broker, struct broker_peer *peer,
                     struct mesh_msg *msg, void *body)
{
    const struct proto_scale *scale = body;
    struct broker_core_scale asked = {
        .service = scale->service,
        .source = scale->source,
        .target = scale->target,
        .seq = scale->seq,
        .ttl_ms = scale->ttl_ms,
        .reason = scale->reason,
    };
    uint32_t service;
    (void)peer;

    int err = broker_core_scale(broker->core, &asked, &service, broker_now_us(broker));
    if (err == -EINVAL)
        broker_refuse(broker, broker->front, msg, PROTO_STATUS_BAD_REQUEST,
                      "a target needs a service, and monitor or operator as its source");
    else if (err == -ENOSPC)
        broker_refuse(broker, broker->front, msg, PROTO_STATUS_UNAVAILABLE,
                      "no such service");
    else /* also for a stale one: what holds */
        send_scaled(broker, msg, service);
}

static void on_mode(struct broker *broker, struct broker_peer *peer, struct mesh_msg *msg,
                    void *body)
{
    const struct proto_mode *mode = body;
    enum broker_core_level level;
    (void)peer;

    if (broker_core_level_by_name(mode->level, &level) < 0) {
        broker_refuse(broker, broker->front, msg, PROTO_STATUS_BAD_REQUEST,
                      "the level must be normal, soft, forced or critical");
        return;
    }
    broker_core_mode(broker->core, level, mode->reason, mode->ttl_ms,
                     broker_now_us(broker));
    (void)broker_send(broker, broker->front, &msg->peer, PROTO_MODE, &msg->envelope, mode,
                      NULL);
}

static void release_text(void *text, void *owner)
{
    (void)owner;
    free(text);
}

static void on_stats(struct broker *broker, struct broker_peer *peer,
                     struct mesh_msg *msg, void *body)
{
    json_t *stats = broker_stats(broker);
    char *text =
        stats != NULL ? json_dumps(stats, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    zmq_msg_t payload;
    (void)body;

    json_decref(stats);
    if (text == NULL ||
        mesh_payload_wrap(&payload, text, strlen(text), release_text, NULL) < 0) {
        free(text);
        broker_refuse(broker, broker->front, msg, PROTO_STATUS_INTERNAL,
                      "the broker is out of memory");
        return;
    }
    (void)broker_send(broker, broker->front, &peer->id, PROTO_STATS, &msg->envelope, NULL,
                      &payload);
    zmq_msg_close(&payload);
}

static void publish_purge(struct broker *broker, const struct proto_purge *purge)
{
    char key[2 * sizeof purge->key + 1];

    broker_hex(purge->key, purge->key_bytes, key);
    if (purge->key_bytes != 0)
        broker_publish(broker, "purge", "key %s", key);
    else if (purge->prefix[0] != '\0')
        broker_publish(broker, "purge", "prefix %s", purge->prefix);
    else if (purge->tag[0] != '\0')
        broker_publish(broker, "purge", "tag %s", purge->tag);
    else if (purge->older_s != 0)
        broker_publish(broker, "purge", "older %llu", (unsigned long long)purge->older_s);
    else
        broker_publish(broker, "purge", "all");
}

static void pass_on(struct broker *broker, struct endpoint *socket,
                    const struct broker_peers *peers, const char *role,
                    const struct broker_peer *but, const struct proto_purge *purge)
{
    for (uint32_t i = 0; i < peers->max; i++) {
        const struct broker_peer *peer = &peers->all[i];
        if (peer->used && peer != but && strcmp(peer->role, role) == 0)
            (void)broker_send(broker, socket, &peer->id, PROTO_PURGE, NULL, purge, NULL);
    }
}

/* Every memory that may hold results hears of it: cachers and gateways. */
static void on_purge(struct broker *broker, struct broker_peer *peer,
                     struct mesh_msg *msg, void *body)
{
    const struct proto_purge *purge = body;
    const char *wrong = proto_purge_check(purge);

    if (wrong != NULL) {
        broker_refuse(broker, broker->front, msg, PROTO_STATUS_BAD_REQUEST, wrong);
        return;
    }
    pass_on(broker, broker->back, &broker->workers, "cache", NULL, purge);
    pass_on(broker, broker->front, &broker->clients, "gateway", peer, purge);
    /* The quarantine knows keys alone: of the other kinds only "all" pardons. */
    if (purge->key_bytes != 0)
        broker_core_pardon(broker->core, purge->key);
    else if (purge->prefix[0] == '\0' && purge->tag[0] == '\0' && purge->older_s == 0)
        broker_core_pardon(broker->core, NULL);
    publish_purge(broker, purge);
    (void)broker_send(broker, broker->front, &msg->peer, PROTO_PURGE, &msg->envelope,
                      purge, NULL);
}

static void on_drain(struct broker *broker, struct broker_peer *peer,
                     struct mesh_msg *msg, void *body)
{
    const struct proto_drain *drain = body;
    char why[sizeof((struct proto_outcome *)0)->detail];
    (void)peer;

    if (!broker_stats_has_slot(broker, drain->slot, why, sizeof why))
        broker_refuse(broker, broker->front, msg, PROTO_STATUS_NOT_FOUND, why);
    else if (broker_core_drain_slot(broker->core, drain->slot) < 0)
        broker_refuse(broker, broker->front, msg, PROTO_STATUS_NOT_FOUND,
                      "no worker has this slot");
    else
        (void)broker_send(broker, broker->front, &msg->peer, PROTO_DRAIN, &msg->envelope,
                          drain, NULL);
}

static broker_verb_fn *const verbs[PROTO_VERB_END] = {
    [PROTO_HELLO] = on_hello, [PROTO_SUBMIT] = on_submit, [PROTO_CANCEL] = on_cancel,
    [PROTO_PING] = on_ping,   [PROTO_PONG] = broker_pong, [PROTO_BYE] = on_bye,
    [PROTO_SCALE] = on_scale, [PROTO_MODE] = on_mode,     [PROTO_STATS] = on_stats,
    [PROTO_PURGE] = on_purge, [PROTO_DRAIN] = on_drain,
};

const struct broker_side broker_front_side = {
    .verbs = verbs,
    .opening = PROTO_HELLO,
    .heard = broker_core_client_heard,
    .end_session = end_session,
    .wrong_verb = "no verb of a client",
};
