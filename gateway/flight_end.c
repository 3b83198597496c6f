#include "gateway/flight_internal.h"

#include "proto/picture.h"
#include "proto/result.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A `put` is worth waiting for no longer than this. */
#define PUT_US 5000000u

/* ---- results -------------------------------------------------------------------- */

/* A value that keeps a received message; a large one's bytes are not copied. */
struct message_value {
    struct hotcache_value value;
    zmq_msg_t msg;
};

static void destroy_message_value(struct hotcache_value *value)
{
    struct message_value *whole = value->owner;

    zmq_msg_close(&whole->msg);
    free(whole);
}

static struct hotcache_value *take_value(zmq_msg_t *payload)
{
    struct message_value *whole = calloc(1, sizeof *whole);

    if (whole == NULL)
        return NULL;
    mesh_payload_keep(payload, &whole->msg);
    whole->value = (struct hotcache_value){
        .bytes = zmq_msg_data(&whole->msg),
        .size = zmq_msg_size(&whole->msg),
        .overhead = sizeof *whole - sizeof whole->value + MESH_MESSAGE_BYTES,
        .references = 1,
        .destroy = destroy_message_value,
        .owner = whole,
    };
    return &whole->value;
}

/* Whether a payload is the result that was asked for. What the cache has was checked by
 * it, but for what only a gateway knows. */
bool gateway_flight_is_result(struct gateway_flight *flight, zmq_msg_t *payload)
{
    const struct gateway_ask *ask = &flight->ask;
    struct proto_result_known known = {.key = ask->key,
                                       .sums_checked = flight->step != GATEWAY_COMPUTE};
    struct proto_picture picture;

    if (payload == NULL)
        return false;
    if (!ask->peek) { /* who looks a key up knows no more than the key */
        known.kind = ask->kind;
        known.image_sha256 = ask->image_sha256;
        known.params = &ask->params;
        if (proto_picture_probe(zmq_msg_data(&flight->image),
                                zmq_msg_size(&flight->image), &picture) == 0) {
            known.width_px = picture.width_px;
            known.height_px = picture.height_px;
        }
    }
    return proto_result_check(zmq_msg_data(payload), zmq_msg_size(payload), &known,
                              NULL) == NULL;
}

static void free_result(struct gateway_result *result)
{
    for (size_t i = 0; i < sizeof result->rendered / sizeof result->rendered[0]; i++)
        hotcache_value_unref(result->rendered[i]);
    hotcache_value_unref(result->value);
}

void gateway_flight_name(const struct gateway_flight *flight, struct proto_submit *body)
{
    body->key_bytes = PROTO_DIGEST_BYTES;
    memcpy(body->key, flight->ask.key, PROTO_DIGEST_BYTES);
    if (flight->ask.peek)
        return;
    body->image_sha256_bytes = PROTO_DIGEST_BYTES;
    memcpy(body->image_sha256, flight->ask.image_sha256, PROTO_DIGEST_BYTES);
    body->params_bytes = PROTO_PARAMS_BYTES;
    proto_params_encode(&flight->ask.params, body->params);
}

/* ---- the end -------------------------------------------------------------------- */

static struct gateway_lease lease_of(const struct gateway_flight *flight)
{
    struct gateway_lease lease = {.number = flight->lease,
                                  .until_us = flight->lease_until_us,
                                  .trace = flight->ask.trace};

    memcpy(lease.key, flight->ask.key, sizeof lease.key);
    return lease;
}

/* The result, or that its input is refused: what the cache tells the next one. */
static void send_put(struct gateway_flight *flight, const struct gateway_result *result,
                     uint64_t now_us)
{
    struct gateway_flight_counters *counters = &flight->flights->counters;
    struct proto_submit body = {
        .service = "cache", .method = "put", .lease = flight->lease};
    struct gateway_submit put = {.body = &body,
                                 .trace = flight->ask.trace,
                                 .budget_us = PUT_US,
                                 .priority = PROTO_PRIORITY_NORMAL};

    gateway_flight_name(flight, &body);
    memcpy(body.tags, flight->ask.tags, sizeof flight->ask.tags);
    if (result->value != NULL) {
        put.payload = &((struct message_value *)result->value->owner)->msg;
        body.cost_us = result->decode_us + result->denoise_us + result->sift_us;
    } else {
        body.status = result->status;
        body.limit = result->limit;
        body.actual = result->actual;
        snprintf(body.detail, sizeof body.detail, "%s", result->detail);
    }
    struct gateway_lease lease = lease_of(flight);
    if (gateway_cache_put(&flight->flights->cache, &put, &lease, now_us) == 0)
        counters->puts++;
    else
        counters->puts_left_out++;
}

void gateway_flight_drop_lease(struct gateway_flight *flight, uint64_t now_us)
{
    struct gateway_lease lease = lease_of(flight);

    gateway_cache_drop(&flight->flights->cache, &lease, now_us);
    flight->lease = 0;
}

/* The one way out of a flight that somebody waits for. */
void gateway_flight_finish(struct gateway_flight *flight, struct gateway_result *result,
                           enum gateway_source source, uint64_t now_us)
{
    gateway_flight_withdraw(flight);
    zmq_msg_close(&flight->image); /* the budget first: an answer may make room */
    zmq_msg_init(&flight->image);
    while (flight->waiters != NULL) {
        struct gateway_waiter *waiter = flight->waiters;
        gateway_flight_unlink(waiter);
        waiter->done(waiter, result, waiter->followed ? GATEWAY_COALESCED : source);
    }
    if (flight->put_wanted && (result->status == PROTO_STATUS_OK || result->of_input))
        send_put(flight, result, now_us);
    else
        gateway_flight_drop_lease(flight, now_us);
    free_result(result);
    gateway_flight_free(flight);
}

void gateway_flight_finish_error(struct gateway_flight *flight, enum proto_status status,
                                 const char *detail, uint64_t now_us)
{
    struct gateway_result result = {.status = status};

    snprintf(result.detail, sizeof result.detail, "%s", detail);
    gateway_flight_finish(flight, &result, GATEWAY_MISS, now_us);
}

void gateway_flight_finish_ok(struct gateway_flight *flight,
                              const struct gateway_ending *ending,
                              enum gateway_source source, uint64_t now_us)
{
    const struct proto_outcome *outcome = ending->outcome;
    struct gateway_result result = {
        .status = PROTO_STATUS_OK,
        .value = take_value(ending->payload),
        .computed = flight->step == GATEWAY_COMPUTE,
        .queue_us = outcome->queue_us,
        .decode_us = outcome->decode_us,
        .denoise_us = outcome->denoise_us,
        .sift_us = outcome->sift_us,
    };

    if (result.value == NULL)
        gateway_flight_finish_error(flight, PROTO_STATUS_INTERNAL, "out of memory",
                                    now_us);
    else
        gateway_flight_finish(flight, &result, source, now_us);
}

/* A submit that did not go out: `err` of gateway_mesh_submit(). */
void gateway_flight_fail_submit(struct gateway_flight *flight, int err, uint64_t now_us)
{
    if (err == -ENOTCONN || err == -EAGAIN) {
        flight->step = GATEWAY_WAITING; /* until the sweep or the session tries again */
        return;
    }
    if (err != -ENOBUFS) {
        gateway_flight_finish_error(flight, PROTO_STATUS_INTERNAL,
                                    "the request could not be sent on", now_us);
        return;
    }
    struct gateway_credit credit =
        gateway_mesh_credit(flight->flights->mesh, flight->ask.priority);
    struct gateway_result result = {
        .status = PROTO_STATUS_FULL,
        .retry_after_ms = gateway_mesh_retry_ms(flight->flights->mesh, now_us)};
    bool jobs = credit.jobs >= credit.jobs_max;
    snprintf(result.detail, sizeof result.detail,
             "the gateway has as many %s open at the broker as it may",
             jobs ? "requests" : "bytes");
    result.limit = jobs ? credit.jobs_max : credit.bytes_max;
    result.actual = jobs ? credit.jobs : credit.bytes + zmq_msg_size(&flight->image);
    gateway_flight_finish(flight, &result, GATEWAY_MISS, now_us);
}
