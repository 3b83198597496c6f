/*
 * fake_broker.h - the other end of a gateway_link: keeps what was sent, and answers when
 * the test says so. Header only; one test program includes it once.
 */
#ifndef TESTS_GATEWAY_FAKE_BROKER_H
#define TESTS_GATEWAY_FAKE_BROKER_H

#include "gateway/mesh.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define FAKE_SENT_MAX 64

struct fake_sent {
    struct proto_envelope envelope;
    struct proto_submit submit;
    size_t payload_bytes;
};

struct fake_broker {
    struct fake_sent sent[FAKE_SENT_MAX];
    size_t count;
    uint64_t ids;
    int fail; /* what send() returns */
    struct gateway_mesh *mesh;
};

static inline int fake_send(void *arg, struct proto_envelope *envelope, const void *body,
                            zmq_msg_t *payload)
{
    struct fake_broker *fake = arg;

    if (fake->fail < 0)
        return fake->fail;
    assert_true(fake->count < FAKE_SENT_MAX);
    struct fake_sent *sent = &fake->sent[fake->count++];
    *sent = (struct fake_sent){.envelope = *envelope};
    if (envelope->verb == PROTO_SUBMIT)
        sent->submit = *(const struct proto_submit *)body;
    if (payload != NULL)
        sent->payload_bytes = zmq_msg_size(payload);
    return 0;
}

static inline struct proto_id fake_id(void *arg)
{
    struct fake_broker *fake = arg;
    struct proto_id id = {{0xfa}};
    uint64_t count = ++fake->ids;

    memcpy(id.bytes + 8, &count, 8);
    return id;
}

/* A mesh with this broker at its end, up, with credit for 8 jobs and 1000 bytes. */
static inline void fake_open(struct fake_broker *fake)
{
    struct gateway_link link = {fake_send, fake_id, fake};

    memset(fake, 0, sizeof *fake);
    fake->mesh = gateway_mesh_new(&link);
    assert_non_null(fake->mesh);
}

static inline void fake_up(struct fake_broker *fake, bool fresh, uint64_t now_us)
{
    struct proto_welcome welcome = {.credit_jobs = 8, .credit_bytes = 1000};

    gateway_mesh_up(fake->mesh, &welcome, fresh, now_us);
}

static inline const struct fake_sent *fake_last(const struct fake_broker *fake)
{
    assert_true(fake->count > 0);
    return &fake->sent[fake->count - 1];
}

/* Answer what was sent as number `index`. */
static inline void fake_answer(struct fake_broker *fake, size_t index,
                               enum proto_verb verb, enum proto_status status,
                               const struct proto_outcome *outcome, const void *payload,
                               size_t payload_bytes, uint64_t now_us)
{
    uint8_t body[PROTO_BODY_BYTES_MAX];
    struct mesh_msg msg = {.body = body};

    assert_true(index < fake->count);
    msg.envelope.verb = (uint8_t)verb;
    msg.envelope.status = (uint16_t)status;
    msg.envelope.request = fake->sent[index].envelope.request;
    if (outcome != NULL)
        msg.body_bytes =
            (size_t)proto_body_encode(proto_outcome_fields, outcome, body, sizeof body);
    if (payload != NULL) {
        assert_int_equal(mesh_payload_copy(&msg.payload, payload, payload_bytes), 0);
        msg.has_payload = true;
    } else {
        zmq_msg_init(&msg.payload);
    }
    gateway_mesh_on_message(fake->mesh, &msg, now_us);
    zmq_msg_close(&msg.payload);
}

static inline void fake_final(struct fake_broker *fake, size_t index,
                              enum proto_status status, uint64_t now_us)
{
    fake_answer(fake, index, PROTO_FINAL, status, NULL, NULL, 0, now_us);
}

#endif
