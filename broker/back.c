/* Messages of workers, one function a verb. docs/PROTOCOL.md section 4. */
#include "broker/broker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void end_session(struct broker *broker, struct broker_peer *peer)
{
    broker_core_worker_bye(broker->core, peer->index, broker_now_us(broker));
    broker_settle(broker);
    broker_peers_remove(&broker->workers, peer);
}

static void on_register(struct broker *broker, struct broker_peer *peer,
                        struct mesh_msg *msg, void *body)
{
    const struct proto_enlist *enlist = body;
    struct broker_core_offer offer = {.service = enlist->service,
                                      .slots = enlist->slots,
                                      .slots_max = enlist->slots_max,
                                      .credit_bytes = enlist->credit_bytes};
    bool unknown = peer == NULL;

    if (unknown)
        peer = broker_peers_add(&broker->workers, &msg->peer);
    if (peer == NULL) {
        broker->metrics->sessions_refused++;
        broker_refuse(broker, broker->back, msg, PROTO_STATUS_FULL,
                      "too many workers are connected");
        return;
    }
    if (unknown) {
        memcpy(peer->role, enlist->service, sizeof peer->role);
        memcpy(peer->name, enlist->name, sizeof peer->name);
        memcpy(peer->host, enlist->host, sizeof peer->host);
        memcpy(peer->version, enlist->version, sizeof peer->version);
        peer->pid = enlist->pid;
        peer->since_us = broker_now_us(broker);
    }
    int err =
        broker_core_register(broker->core, peer->index, &offer, broker_now_us(broker));
    if (err < 0 && err != -EALREADY) {
        broker_refuse(broker, broker->back, msg, PROTO_STATUS_BAD_REQUEST,
                      err == -EINVAL ? "not the name of a service"
                                     : "too many services are known");
        broker->metrics->sessions_refused++;
        broker_peers_remove(&broker->workers, peer);
        return;
    }
    broker_welcome(broker, broker->back, msg, !peer->spoke);
}

static void on_ready(struct broker *broker, struct broker_peer *peer,
                     struct mesh_msg *msg, void *body)
{
    const struct proto_ready *ready = body;
    (void)msg;

    (void)broker_core_ready(broker->core, peer->index, ready->credit, ready->slots,
                            broker_now_us(broker));
}

/* What the core says to late and forged answers, it has counted. */

static void on_start(struct broker *broker, struct broker_peer *peer,
                     struct mesh_msg *msg, void *body)
{
    (void)body;
    (void)broker_core_start(broker->core, peer->index, &msg->envelope.request,
                            msg->envelope.attempt, broker_now_us(broker));
}

static void on_progress(struct broker *broker, struct broker_peer *peer,
                        struct mesh_msg *msg, void *body)
{
    (void)body;
    (void)broker_core_progress(broker->core, peer->index, &msg->envelope.request,
                               msg->envelope.attempt, broker_now_us(broker));
}

/* Workers number their slots from 1; together they are k*1000 + n. */
static uint64_t slot_number(const struct broker *broker, const struct broker_peer *peer,
                            uint64_t slot)
{
    struct broker_core_worker_view view;

    if (slot == 0 || slot > BROKER_CORE_SLOTS_MAX ||
        !broker_core_worker(broker->core, peer->index, &view) ||
        view.number == BROKER_CORE_NONE)
        return slot;
    return slot + (uint64_t)view.number * BROKER_CORE_SLOTS_PER;
}

static void on_done(struct broker *broker, struct broker_peer *peer, struct mesh_msg *msg,
                    void *body)
{
    struct proto_outcome *outcome = body;

    outcome->slot = slot_number(broker, peer, outcome->slot);
    broker->done = outcome;
    broker->done_msg = msg;
    (void)broker_core_done(broker->core, peer->index, &msg->envelope.request,
                           msg->envelope.attempt, msg->envelope.status,
                           broker_now_us(broker));
    broker_settle(broker); /* while the message is there */
    broker->done = NULL;
    broker->done_msg = NULL;
}

static void on_fail(struct broker *broker, struct broker_peer *peer, struct mesh_msg *msg,
                    void *body)
{
    const struct proto_outcome *outcome = body;
    char id[2 * PROTO_ID_BYTES + 1];

    proto_id_hex(&msg->envelope.trace, id);
    log_event(LOG_INFO, "job failed",
              "worker=\"%s\" attempt=%u status=%s trace=%s detail=\"%s\"", peer->name,
              msg->envelope.attempt, proto_status_code(msg->envelope.status), id,
              outcome->detail);
    struct broker_core_failure failure = {
        .status = msg->envelope.status,
        .retryable = outcome->retryable != 0,
        .of_worker = strcmp(outcome->blame, "worker") == 0,
    };
    (void)broker_core_fail(broker->core, peer->index, &msg->envelope.request,
                           msg->envelope.attempt, &failure, broker_now_us(broker));
}

static void on_drain(struct broker *broker, struct broker_peer *peer,
                     struct mesh_msg *msg, void *body)
{
    const struct proto_drain *drain = body;
    (void)msg;

    /* One slot of it: its READY tells what that means. */
    if (drain->slot == 0)
        (void)broker_core_leaving(broker->core, peer->index, broker_now_us(broker));
}

static void on_drained(struct broker *broker, struct broker_peer *peer,
                       struct mesh_msg *msg, void *body)
{
    const struct proto_drain *drain = body;
    unsigned long long slot = slot_number(broker, peer, drain->slot);
    (void)msg;

    log_event(LOG_INFO, "slot drained", "worker=\"%s\" slot=%llu", peer->name, slot);
    broker_publish(broker, "slots", "slot %llu of %s drained", slot, peer->name);
}

static void on_scaled(struct broker *broker, struct broker_peer *peer,
                      struct mesh_msg *msg, void *body)
{
    const struct proto_scaled *scaled = body;
    (void)msg;

    (void)broker_core_scaled(broker->core, peer->index, scaled->target,
                             broker_now_us(broker));
}

static void on_ping(struct broker *broker, struct broker_peer *peer, struct mesh_msg *msg,
                    void *body)
{
    (void)body;
    broker_ping(broker, broker->back, peer, msg);
}

static void on_bye(struct broker *broker, struct broker_peer *peer, struct mesh_msg *msg,
                   void *body)
{
    (void)msg;
    (void)body;
    end_session(broker, peer);
}

static broker_verb_fn *const verbs[PROTO_VERB_END] = {
    [PROTO_REGISTER] = on_register, [PROTO_READY] = on_ready,
    [PROTO_START] = on_start,       [PROTO_PROGRESS] = on_progress,
    [PROTO_DONE] = on_done,         [PROTO_FAIL] = on_fail,
    [PROTO_DRAIN] = on_drain,       [PROTO_DRAINED] = on_drained,
    [PROTO_SCALED] = on_scaled,     [PROTO_PING] = on_ping,
    [PROTO_PONG] = broker_pong,     [PROTO_BYE] = on_bye,
};

const struct broker_side broker_back_side = {
    .verbs = verbs,
    .opening = PROTO_REGISTER,
    .heard = broker_core_worker_heard,
    .end_session = end_session,
    .wrong_verb = "no verb of a worker",
};
