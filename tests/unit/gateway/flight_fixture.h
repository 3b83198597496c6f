/*
 * flight_fixture.h - flights over a fake broker, a clock that the test sets, and who
 * asks. Header only; one test program includes it once.
 */
#ifndef TESTS_GATEWAY_FLIGHT_FIXTURE_H
#define TESTS_GATEWAY_FLIGHT_FIXTURE_H

#include "gateway/flight.h"
#include "tests/unit/gateway/fake_broker.h"

#define S UINT64_C(1000000)

struct bench {
    struct fake_broker fake;
    struct gateway_flights *flights;
    uint64_t now_us;
};

struct asker {
    struct gateway_waiter waiter; /* first: on_done finds the rest by it */
    unsigned done;
    enum proto_status status;
    enum gateway_source source;
    size_t value_bytes;
    uint64_t sift_us, limit, actual, retry_after_ms;
};

static const uint8_t image_a[PROTO_DIGEST_BYTES] = {1, 2, 3};
static const uint8_t image_b[PROTO_DIGEST_BYTES] = {1, 2, 4};
/* Of features with the defaults; made by open_bench(). */
static uint8_t key_a[PROTO_DIGEST_BYTES], key_b[PROTO_DIGEST_BYTES];

static inline const uint8_t *image_of(const uint8_t *key)
{
    return memcmp(key, key_b, PROTO_DIGEST_BYTES) == 0 ? image_b : image_a;
}

static inline void on_done(struct gateway_waiter *waiter, struct gateway_result *result,
                           enum gateway_source source)
{
    struct asker *asker = (struct asker *)(void *)waiter;

    assert_null(waiter->flight);
    asker->done++;
    asker->status = result->status;
    asker->source = source;
    asker->sift_us = result->sift_us;
    asker->limit = result->limit;
    asker->actual = result->actual;
    asker->retry_after_ms = result->retry_after_ms;
    asker->value_bytes = result->value != NULL ? result->value->size : 0;
}

static inline void open_bench(struct bench *bench, bool up)
{
    struct gateway_flight_limits limits = {2 * S, 20 * S, 1 * S};
    struct proto_params params;

    proto_params_init(&params);
    assert_int_equal(proto_key(image_a, PROTO_KIND_FEATURES, &params, key_a), 0);
    assert_int_equal(proto_key(image_b, PROTO_KIND_FEATURES, &params, key_b), 0);

    fake_open(&bench->fake);
    bench->now_us = 100 * S;
    bench->flights = gateway_flights_new(bench->fake.mesh, &limits);
    assert_non_null(bench->flights);
    if (up)
        fake_up(&bench->fake, true, bench->now_us);
}

static inline void close_bench(struct bench *bench)
{
    gateway_flights_free(bench->flights);
    gateway_mesh_free(bench->fake.mesh);
}

static inline void join_with(struct bench *bench, struct asker *asker, const uint8_t *key,
                             struct gateway_ask ask)
{
    zmq_msg_t image;

    memset(asker, 0, sizeof *asker);
    asker->waiter.done = on_done;
    memcpy(ask.key, key, PROTO_DIGEST_BYTES);
    memcpy(ask.image_sha256, image_of(key), PROTO_DIGEST_BYTES);
    proto_params_init(&ask.params);
    mesh_payload_copy(&image, "picture", 7);
    ask.image = &image;
    assert_int_equal(
        gateway_flights_join(bench->flights, &ask, &asker->waiter, bench->now_us), 0);
    zmq_msg_close(&image);
}

static inline void join_for(struct bench *bench, struct asker *asker, const uint8_t *key,
                            bool peek, uint64_t time_us)
{
    join_with(bench, asker, key,
              (struct gateway_ask){.peek = peek,
                                   .kind = PROTO_KIND_FEATURES,
                                   .deadline_us = bench->now_us + time_us});
}

static inline void join_at(struct bench *bench, struct asker *asker, const uint8_t *key,
                           enum proto_priority priority)
{
    join_with(bench, asker, key,
              (struct gateway_ask){.kind = PROTO_KIND_FEATURES,
                                   .priority = priority,
                                   .deadline_us = bench->now_us + 60 * S});
}

static inline void join_as(struct bench *bench, struct asker *asker, const uint8_t *key,
                           bool peek)
{
    join_for(bench, asker, key, peek, 60 * S);
}

static inline void join(struct bench *bench, struct asker *asker, const uint8_t *key)
{
    join_as(bench, asker, key, false);
}

static inline void sweep(struct bench *bench, uint64_t after_us)
{
    bench->now_us += after_us;
    gateway_mesh_sweep(bench->fake.mesh, bench->now_us);
    gateway_flights_sweep(bench->flights, bench->now_us);
}

/* A blob without features under `key`. */
static inline void answer_blob(struct bench *bench, size_t index, const uint8_t *key,
                               const struct proto_outcome *outcome)
{
    uint8_t bytes[PROTO_BLOB_HEADER_BYTES];
    struct proto_blob blob = {.width_px = 1, .height_px = 1};

    memcpy(blob.key, key, PROTO_DIGEST_BYTES);
    memcpy(blob.image_sha256, image_of(key), PROTO_DIGEST_BYTES);
    proto_params_init(&blob.params);
    proto_blob_encode_header(&blob, bytes);
    fake_answer(&bench->fake, index, PROTO_FINAL, PROTO_STATUS_OK, outcome, bytes,
                sizeof bytes, bench->now_us);
}

static inline void answer_miss(struct bench *bench, size_t index, uint64_t lease)
{
    fake_answer(&bench->fake, index, PROTO_FINAL, PROTO_STATUS_MISS,
                &(struct proto_outcome){.lease = lease, .cache = "miss"}, NULL, 0,
                bench->now_us);
}

static inline void sent_is(const struct bench *bench, size_t index, const char *method)
{
    assert_true(index < bench->fake.count);
    assert_string_equal(bench->fake.sent[index].submit.method, method);
}

/* The usual beginning: the session is up, and one asks for key_a. */
static inline void open_and_join(struct bench *bench, struct asker *asker)
{
    open_bench(bench, true);
    join(bench, asker, key_a);
}

#endif
