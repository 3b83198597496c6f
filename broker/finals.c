/*
 * finals.c - results that end while their client reads slowly: sent, held back, or ended
 * as full.
 *
 * act.c gives each FINAL to it; broker.c lets it look for room again and tell the core.
 * It never waits, and never holds more than held_bytes for one client.
 */
#include "broker/finals.h"

#include "broker/broker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MS 1000 /* for what was too much: what is held may be read by then */

struct broker_final {
    struct broker_final *next;
    struct proto_envelope envelope;
    struct proto_outcome outcome;
    bool has_payload;
    zmq_msg_t payload; /* initialised always */
    uint64_t bytes, until_us;
};

static int send_now(struct broker *broker, const struct broker_peer *client,
                    const struct proto_envelope *envelope,
                    const struct proto_outcome *outcome, zmq_msg_t *payload)
{
    if (payload != NULL && !mesh_outbox_fits(client->id.outbox, zmq_msg_size(payload)))
        return -EAGAIN;
    return endpoint_send(broker->front, &client->id, envelope, outcome, payload);
}

/* ---- what is held --------------------------------------------------------------- */

static void push(struct broker_finals *finals, struct broker_final *final)
{
    if (finals->last != NULL)
        finals->last->next = final;
    else
        finals->first = final;
    finals->last = final;
    finals->bytes += final->bytes;
}

/* The first one is done with. */
static void pop(struct broker_finals *finals)
{
    struct broker_final *final = finals->first;

    finals->first = final->next;
    if (finals->first == NULL)
        finals->last = NULL;
    finals->bytes -= final->bytes;
    zmq_msg_close(&final->payload);
    free(final);
}

void broker_finals_drop(struct broker_peer *client)
{
    while (client->finals.first != NULL)
        pop(&client->finals);
}

/* ---- what comes ----------------------------------------------------------------- */

/* The client learns at once that its result is lost, and why. */
static void lose(struct broker *broker, const struct broker_peer *client,
                 const struct proto_envelope *envelope, uint64_t bytes)
{
    struct proto_envelope end = *envelope;
    struct proto_outcome outcome = {.limit = broker->options->held_bytes,
                                    .actual = client->finals.bytes + bytes,
                                    .retry_after_ms = RETRY_MS,
                                    .retryable = 1};

    end.status = PROTO_STATUS_FULL;
    snprintf(outcome.code, sizeof outcome.code, "%s",
             proto_status_code(PROTO_STATUS_FULL));
    snprintf(outcome.detail, sizeof outcome.detail,
             "the results that wait for this client are more than held_bytes");
    broker->metrics->finals_lost++;
    (void)endpoint_send(broker->front, &client->id, &end, &outcome, NULL);
}

static int hold(struct broker *broker, struct broker_peer *client,
                const struct proto_envelope *envelope,
                const struct proto_outcome *outcome, zmq_msg_t *payload,
                uint64_t until_us)
{
    uint64_t bytes = sizeof(struct broker_final);

    if (payload != NULL)
        bytes += zmq_msg_size(payload);
    if (client->finals.bytes + bytes > broker->options->held_bytes)
        return -ENOBUFS;
    struct broker_final *final = calloc(1, sizeof *final);
    if (final == NULL)
        return -ENOMEM;
    final->envelope = *envelope;
    final->outcome = *outcome;
    final->has_payload = payload != NULL;
    final->bytes = bytes;
    final->until_us = until_us;
    zmq_msg_init(&final->payload);
    if (payload != NULL)
        mesh_payload_keep(payload, &final->payload);
    push(&client->finals, final);
    broker->metrics->finals_held++;
    broker->held_bytes += bytes;
    client->finals.changed = broker->finals_changed = true;
    return 0;
}

void broker_finals_send(struct broker *broker, struct broker_peer *client,
                        const struct proto_envelope *envelope,
                        const struct proto_outcome *outcome, zmq_msg_t *payload,
                        uint64_t until_us)
{
    uint64_t bytes = payload != NULL ? zmq_msg_size(payload) : 0;
    bool behind = payload != NULL && client->finals.first != NULL;
    int err = behind ? -EAGAIN : send_now(broker, client, envelope, outcome, payload);

    if (err == -EAGAIN && hold(broker, client, envelope, outcome, payload, until_us) < 0)
        lose(broker, client, envelope, bytes);
}

/* ---- room again ----------------------------------------------------------------- */

static void look_at(struct broker *broker, struct broker_peer *client)
{
    struct broker_finals *finals = &client->finals;

    while (finals->first != NULL) {
        struct broker_final *final = finals->first;
        bool late = final->until_us <= broker_now_us(broker);
        zmq_msg_t *payload = final->has_payload ? &final->payload : NULL;
        if (late)
            broker->metrics->finals_late++;
        else if (send_now(broker, client, &final->envelope, &final->outcome, payload) ==
                 -EAGAIN)
            break;
        pop(finals);
    }
    finals->changed = broker->finals_changed = true;
}

void broker_finals_look(struct broker *broker)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < broker->clients.max; i++) {
        struct broker_peer *client = &broker->clients.all[i];
        if (client->used && client->finals.first != NULL)
            look_at(broker, client);
        bytes += client->finals.bytes;
    }
    broker->held_bytes = bytes;
}

void broker_finals_tell(struct broker *broker)
{
    broker->finals_changed = false;
    for (uint32_t i = 0; i < broker->clients.max; i++) {
        struct broker_peer *client = &broker->clients.all[i];
        if (!client->used || !client->finals.changed)
            continue;
        client->finals.changed = false;
        broker_core_client_hold(broker->core, i, client->finals.first != NULL,
                                broker_now_us(broker));
    }
}
