#include "gateway/flight.h"

#include "gateway/cache.h"
#include "proto/blob.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 1024u /* a power of two */
/* A `put` is worth waiting for no longer than this. */
#define PUT_US 5000000u

enum step { WAITING, LOOKUP, COMPUTE };

struct gateway_flight {
    struct gateway_flights *flights;
    struct gateway_flight *chain;           /* of a bucket */
    struct gateway_flight *previous, *next; /* all */
    struct gateway_ask ask;                 /* its image pointer is not used */
    zmq_msg_t image;
    bool has_image;
    struct gateway_waiter *waiters;
    uint64_t deadline_us; /* the latest of its waiters' */
    uint64_t waiting_since_us;
    enum step step;
    struct gateway_exchange *exchange; /* open in LOOKUP and COMPUTE */
    uint64_t lease;
    bool put_wanted; /* the cache was asked and did not have it */
};

struct gateway_flights {
    struct gateway_mesh *mesh;
    struct gateway_flight_limits limits;
    struct gateway_cache cache;
    struct gateway_flight *first;
    struct gateway_flight *buckets[BUCKETS];
    struct gateway_flight_counters counters;
};

static void begin(struct gateway_flight *flight, uint64_t now_us);

const char *gateway_source_name(unsigned source)
{
    static const char *const names[GATEWAY_SOURCES] = {"hit", "miss", "coalesced"};

    return source < GATEWAY_SOURCES ? names[source] : "unknown";
}

/* ---- the table ------------------------------------------------------------------ */

static struct gateway_flight **bucket_of(struct gateway_flights *flights,
                                         const uint8_t key[PROTO_DIGEST_BYTES])
{
    return &flights->buckets[(key[0] | (unsigned)key[1] << 8) % BUCKETS];
}

static struct gateway_flight *find(struct gateway_flights *flights,
                                   const struct gateway_ask *ask)
{
    struct gateway_flight *at = *bucket_of(flights, ask->key);

    while (at != NULL && (at->ask.peek != ask->peek ||
                          memcmp(at->ask.key, ask->key, PROTO_DIGEST_BYTES) != 0))
        at = at->chain;
    return at;
}

static struct gateway_flight *new_flight(struct gateway_flights *flights,
                                         struct gateway_ask *ask)
{
    struct gateway_flight **bucket = bucket_of(flights, ask->key);
    struct gateway_flight *flight = calloc(1, sizeof *flight);

    if (flight == NULL)
        return NULL;
    flight->flights = flights;
    flight->ask = *ask;
    zmq_msg_init(&flight->image);
    if (!ask->peek) {
        zmq_msg_move(&flight->image, ask->image);
        flight->has_image = true;
    }
    flight->chain = *bucket;
    *bucket = flight;
    flight->next = flights->first;
    if (flight->next != NULL)
        flight->next->previous = flight;
    flights->first = flight;
    flights->counters.flights++;
    flights->counters.open++;
    return flight;
}

/* Off the table: who comes now begins anew. */
static void withdraw(struct gateway_flight *flight)
{
    struct gateway_flights *flights = flight->flights;
    struct gateway_flight **at = bucket_of(flights, flight->ask.key);

    while (*at != flight)
        at = &(*at)->chain;
    *at = flight->chain;
    if (flight->previous != NULL)
        flight->previous->next = flight->next;
    else
        flights->first = flight->next;
    if (flight->next != NULL)
        flight->next->previous = flight->previous;
    flights->counters.open--;
}

static void free_flight(struct gateway_flight *flight)
{
    zmq_msg_close(&flight->image);
    free(flight);
}

static void unlink_waiter(struct gateway_waiter *waiter)
{
    struct gateway_flight *flight = waiter->flight;

    if (waiter->previous != NULL)
        waiter->previous->next = waiter->next;
    else
        flight->waiters = waiter->next;
    if (waiter->next != NULL)
        waiter->next->previous = waiter->previous;
    waiter->flight = NULL;
    waiter->previous = waiter->next = NULL;
}

/* ---- results -------------------------------------------------------------------- */

/* A value that keeps a received message alive; bytes are not copied. */
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
    zmq_msg_init(&whole->msg);
    zmq_msg_move(&whole->msg, payload);
    whole->value = (struct hotcache_value){
        .bytes = zmq_msg_data(&whole->msg),
        .size = zmq_msg_size(&whole->msg),
        .references = 1,
        .destroy = destroy_message_value,
        .owner = whole,
    };
    return &whole->value;
}

/* Whether a payload is the result that was asked for. */
static bool is_result(const struct gateway_flight *flight, zmq_msg_t *payload)
{
    static const uint8_t png[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    struct proto_blob blob;

    if (payload == NULL)
        return false;
    const uint8_t *bytes = zmq_msg_data(payload);
    size_t size = zmq_msg_size(payload);
    /* Who looks a key up cannot know of which kind it is. */
    if ((flight->ask.peek || flight->ask.kind == PROTO_KIND_DENOISE) &&
        size > sizeof png && memcmp(bytes, png, sizeof png) == 0)
        return true;
    return proto_blob_decode(bytes, size, &blob) == 0 &&
           memcmp(blob.key, flight->ask.key, PROTO_DIGEST_BYTES) == 0;
}

static void free_result(struct gateway_result *result)
{
    for (size_t i = 0; i < sizeof result->rendered / sizeof result->rendered[0]; i++)
        hotcache_value_unref(result->rendered[i]);
    hotcache_value_unref(result->value);
}

/* ---- the end -------------------------------------------------------------------- */

static void send_put(struct gateway_flight *flight, struct hotcache_value *value,
                     uint64_t now_us)
{
    struct gateway_flight_counters *counters = &flight->flights->counters;
    struct message_value *whole = value->owner;
    struct proto_submit body = {.service = "cache", .method = "put", .key_bytes = 32};
    struct gateway_submit put = {.body = &body,
                                 .payload = &whole->msg,
                                 .trace = flight->ask.trace,
                                 .budget_us = PUT_US,
                                 .priority = PROTO_PRIORITY_NORMAL};

    body.lease = flight->lease;
    memcpy(body.key, flight->ask.key, PROTO_DIGEST_BYTES);
    if (gateway_mesh_submit(flight->flights->mesh, &put, now_us, NULL) == 0)
        counters->puts++;
    else
        counters->puts_left_out++;
}

/* Let the next one who waits for the key compute it, instead of after the lease. */
static void drop_lease(struct gateway_flight *flight, uint64_t now_us)
{
    struct proto_submit body = {.service = "cache", .method = "drop", .key_bytes = 32};
    struct gateway_submit drop = {.body = &body,
                                  .trace = flight->ask.trace,
                                  .budget_us = PUT_US,
                                  .priority = PROTO_PRIORITY_NORMAL};

    if (flight->lease == 0)
        return;
    body.lease = flight->lease;
    memcpy(body.key, flight->ask.key, PROTO_DIGEST_BYTES);
    /* Where it cannot be sent the lease runs out. */
    (void)gateway_mesh_submit(flight->flights->mesh, &drop, now_us, NULL);
    flight->lease = 0;
}

/* The one way out of a flight that somebody waits for. */
static void finish(struct gateway_flight *flight, struct gateway_result *result,
                   enum gateway_source source, uint64_t now_us)
{
    withdraw(flight);
    zmq_msg_close(&flight->image); /* the budget first: an answer may make room */
    zmq_msg_init(&flight->image);
    while (flight->waiters != NULL) {
        struct gateway_waiter *waiter = flight->waiters;
        unlink_waiter(waiter);
        waiter->done(waiter, result, waiter->followed ? GATEWAY_COALESCED : source);
    }
    if (result->status != PROTO_STATUS_OK)
        drop_lease(flight, now_us);
    else if (flight->put_wanted)
        send_put(flight, result->value, now_us);
    free_result(result);
    free_flight(flight);
}

static void finish_error(struct gateway_flight *flight, enum proto_status status,
                         const char *detail, uint64_t now_us)
{
    struct gateway_result result = {.status = status};

    snprintf(result.detail, sizeof result.detail, "%s", detail);
    if (status == PROTO_STATUS_FULL || status == PROTO_STATUS_UNAVAILABLE)
        result.retry_after_ms = 1000;
    finish(flight, &result, GATEWAY_MISS, now_us);
}

static void finish_ok(struct gateway_flight *flight, const struct gateway_ending *ending,
                      enum gateway_source source, uint64_t now_us)
{
    const struct proto_outcome *outcome = ending->outcome;
    struct gateway_result result = {
        .status = PROTO_STATUS_OK,
        .value = take_value(ending->payload),
        .computed = flight->step == COMPUTE,
        .queue_us = outcome->queue_us,
        .decode_us = outcome->decode_us,
        .denoise_us = outcome->denoise_us,
        .sift_us = outcome->sift_us,
    };

    if (result.value == NULL)
        finish_error(flight, PROTO_STATUS_INTERNAL, "out of memory", now_us);
    else
        finish(flight, &result, source, now_us);
}

/* A submit that did not go out: `err` of gateway_mesh_submit(). */
static void fail_submit(struct gateway_flight *flight, int err, uint64_t now_us)
{
    if (err == -ENOTCONN || err == -EAGAIN) {
        flight->step = WAITING; /* until the sweep or the session tries again */
        return;
    }
    if (err != -ENOBUFS) {
        finish_error(flight, PROTO_STATUS_INTERNAL, "the request could not be sent on",
                     now_us);
        return;
    }
    struct gateway_credit credit = gateway_mesh_credit(flight->flights->mesh);
    struct gateway_result result = {.status = PROTO_STATUS_FULL, .retry_after_ms = 1000};
    bool jobs = credit.jobs >= credit.jobs_max;
    snprintf(result.detail, sizeof result.detail,
             "the gateway has as many %s open at the broker as it may",
             jobs ? "requests" : "bytes");
    result.limit = jobs ? credit.jobs_max : credit.bytes_max;
    result.actual = jobs ? credit.jobs : credit.bytes + zmq_msg_size(&flight->image);
    finish(flight, &result, GATEWAY_MISS, now_us);
}

/* ---- computing ------------------------------------------------------------------ */

static uint64_t left_us(const struct gateway_flight *flight, uint64_t now_us)
{
    return flight->deadline_us > now_us ? flight->deadline_us - now_us : 0;
}

static void restart(struct gateway_flight *flight, uint64_t now_us)
{
    flight->flights->counters.restarted++;
    flight->lease = 0;
    flight->put_wanted = false;
    flight->waiting_since_us = now_us;
    begin(flight, now_us);
}

static void fail_computed(struct gateway_flight *flight,
                          const struct gateway_ending *ending, uint64_t now_us)
{
    const struct proto_outcome *outcome = ending->outcome;
    struct gateway_result result = {.status = ending->status,
                                    .limit = outcome->limit,
                                    .actual = outcome->actual,
                                    .retry_after_ms = outcome->retry_after_ms};

    snprintf(result.detail, sizeof result.detail, "%s", outcome->detail);
    /* Ends that a client cannot have caused are not to be told as its fault. */
    if (result.status == PROTO_STATUS_OK || result.status == PROTO_STATUS_MISS ||
        result.status == PROTO_STATUS_BAD_REQUEST ||
        result.status == PROTO_STATUS_CANCELLED)
        result.status = PROTO_STATUS_INTERNAL;
    finish(flight, &result, GATEWAY_MISS, now_us);
}

static void on_computed(const struct gateway_ending *ending, uint64_t now_us, void *owner)
{
    struct gateway_flight *flight = owner;

    flight->exchange = NULL;
    /* A follower may have more time left than the leader's request was given. */
    bool again = ending->lost || (ending->overdue && left_us(flight, now_us) > 0);
    if (again)
        restart(flight, now_us);
    else if (ending->status == PROTO_STATUS_OK && is_result(flight, ending->payload))
        finish_ok(flight, ending, GATEWAY_MISS, now_us);
    else
        fail_computed(flight, ending, now_us);
}

static void compute(struct gateway_flight *flight, uint64_t now_us)
{
    const struct gateway_ask *ask = &flight->ask;
    struct proto_submit body = {.service = "extract",
                                .key_bytes = 32,
                                .image_sha256_bytes = 32,
                                .params_bytes = PROTO_PARAMS_BYTES};
    struct gateway_submit submit = {.body = &body,
                                    .payload = &flight->image,
                                    .trace = ask->trace,
                                    .budget_us = left_us(flight, now_us),
                                    .priority = ask->priority,
                                    .ended = on_computed,
                                    .owner = flight};

    if (submit.budget_us == 0) { /* it would mean the broker's default */
        finish_error(flight, PROTO_STATUS_EXPIRED, "the request's time ran out", now_us);
        return;
    }
    strcpy(body.method, ask->kind == PROTO_KIND_DENOISE ? "denoise" : "features");
    memcpy(body.key, ask->key, PROTO_DIGEST_BYTES);
    memcpy(body.image_sha256, ask->image_sha256, PROTO_DIGEST_BYTES);
    proto_params_encode(&ask->params, body.params);
    flight->step = COMPUTE;
    int err =
        gateway_mesh_submit(flight->flights->mesh, &submit, now_us, &flight->exchange);
    if (err < 0)
        fail_submit(flight, err, now_us);
}

/* ---- looking up ----------------------------------------------------------------- */

static void on_cache_failed(struct gateway_flight *flight, enum proto_status status,
                            uint64_t now_us)
{
    struct gateway_flights *flights = flight->flights;

    flights->counters.cache_failures++;
    if (status != PROTO_STATUS_FULL) /* a full broker says nothing of the cache */
        gateway_cache_failed(&flights->cache, now_us);
    if (flight->ask.peek)
        finish_error(flight, PROTO_STATUS_UNAVAILABLE, "the cache does not answer",
                     now_us);
    else
        compute(flight, now_us);
}

/* The cache has no such thing. */
static void on_cache_miss(struct gateway_flight *flight, uint64_t lease, uint64_t now_us)
{
    if (flight->ask.peek) {
        finish_error(flight, PROTO_STATUS_NOT_FOUND, "no result is known under this key",
                     now_us);
        return;
    }
    flight->lease = lease;
    flight->put_wanted = true;
    compute(flight, now_us);
}

static void on_looked_up(const struct gateway_ending *ending, uint64_t now_us,
                         void *owner)
{
    struct gateway_flight *flight = owner;
    bool parked = strcmp(ending->outcome->cache, "coalesced") == 0;

    flight->exchange = NULL;
    if (ending->lost) {
        restart(flight, now_us);
    } else if (ending->status == PROTO_STATUS_MISS ||
               ending->status == PROTO_STATUS_NOT_FOUND) {
        on_cache_miss(flight, ending->outcome->lease, now_us);
    } else if (ending->status != PROTO_STATUS_OK) {
        on_cache_failed(flight, ending->status, now_us);
    } else if (is_result(flight, ending->payload)) {
        finish_ok(flight, ending, parked ? GATEWAY_COALESCED : GATEWAY_HIT, now_us);
    } else {
        flight->flights->counters.cache_bad++; /* the next put overwrites it */
        on_cache_miss(flight, 0, now_us);
    }
}

static void look_up(struct gateway_flight *flight, uint64_t now_us)
{
    struct gateway_flights *flights = flight->flights;
    struct proto_submit body = {.service = "cache", .key_bytes = 32};
    uint64_t left = left_us(flight, now_us);
    struct gateway_submit submit = {.body = &body,
                                    .trace = flight->ask.trace,
                                    .budget_us = left < flights->limits.cache_wait_us
                                                     ? left
                                                     : flights->limits.cache_wait_us,
                                    .priority = flight->ask.priority,
                                    .ended = on_looked_up,
                                    .owner = flight};

    strcpy(body.method, flight->ask.peek ? "peek" : "get");
    memcpy(body.key, flight->ask.key, PROTO_DIGEST_BYTES);
    flight->step = LOOKUP;
    int err = gateway_mesh_submit(flights->mesh, &submit, now_us, &flight->exchange);
    if (err < 0)
        fail_submit(flight, err, now_us);
}

/* ---- beginning ------------------------------------------------------------------ */

static void begin(struct gateway_flight *flight, uint64_t now_us)
{
    struct gateway_flights *flights = flight->flights;

    flight->step = WAITING;
    if (left_us(flight, now_us) == 0) {
        finish_error(flight, PROTO_STATUS_EXPIRED, "the request's time ran out", now_us);
        return;
    }
    if (!gateway_mesh_is_up(flights->mesh))
        return;
    if (!gateway_cache_is_down(&flights->cache)) {
        look_up(flight, now_us);
    } else if (flight->ask.peek) {
        finish_error(flight, PROTO_STATUS_UNAVAILABLE, "the cache does not answer",
                     now_us);
    } else {
        flights->counters.cache_bypassed++;
        compute(flight, now_us);
    }
}

int gateway_flights_join(struct gateway_flights *flights, struct gateway_ask *ask,
                         struct gateway_waiter *waiter, uint64_t now_us)
{
    struct gateway_flight *flight = find(flights, ask);
    bool fresh = flight == NULL;

    if (fresh)
        flight = new_flight(flights, ask);
    if (flight == NULL)
        return -ENOMEM;
    waiter->flight = flight;
    waiter->followed = !fresh;
    waiter->previous = NULL;
    waiter->next = flight->waiters;
    if (waiter->next != NULL)
        waiter->next->previous = waiter;
    flight->waiters = waiter;
    if (flight->deadline_us < ask->deadline_us)
        flight->deadline_us = ask->deadline_us;
    if (fresh) {
        flight->waiting_since_us = now_us;
        begin(flight, now_us);
    }
    return 0;
}

void gateway_flights_leave(struct gateway_flights *flights, struct gateway_waiter *waiter,
                           uint64_t now_us)
{
    struct gateway_flight *flight = waiter->flight;

    if (flight == NULL)
        return;
    unlink_waiter(waiter);
    if (flight->waiters != NULL)
        return;
    flights->counters.cancelled++;
    withdraw(flight);
    if (flight->exchange != NULL)
        gateway_mesh_cancel(flights->mesh, flight->exchange, now_us);
    drop_lease(flight, now_us);
    free_flight(flight);
}

/* ---- the whole ------------------------------------------------------------------ */

struct gateway_flights *gateway_flights_new(struct gateway_mesh *mesh,
                                            const struct gateway_flight_limits *limits)
{
    struct gateway_flights *flights = calloc(1, sizeof *flights);

    if (flights == NULL)
        return NULL;
    flights->mesh = mesh;
    flights->limits = *limits;
    gateway_cache_init(&flights->cache, mesh, limits->cache_probe_us);
    return flights;
}

void gateway_flights_free(struct gateway_flights *flights)
{
    if (flights == NULL)
        return;
    for (struct gateway_flight *at = flights->first, *next; at != NULL; at = next) {
        next = at->next;
        free_flight(at);
    }
    free(flights);
}

/* Begin again what waits. No flight can end but the one that is begun, so `next` holds.
 */
static void try_waiting(struct gateway_flights *flights, uint64_t now_us, bool give_up)
{
    struct gateway_flight *at = flights->first;

    while (at != NULL) {
        struct gateway_flight *next = at->next;
        bool late =
            give_up && now_us - at->waiting_since_us >= flights->limits.mesh_wait_us;
        if (at->step == WAITING && late)
            finish_error(at, PROTO_STATUS_UNAVAILABLE, "the broker does not answer",
                         now_us);
        else if (at->step == WAITING)
            begin(at, now_us);
        at = next;
    }
}

void gateway_flights_up(struct gateway_flights *flights, uint64_t now_us)
{
    gateway_cache_probe(&flights->cache, now_us);
    try_waiting(flights, now_us, false);
}

void gateway_flights_sweep(struct gateway_flights *flights, uint64_t now_us)
{
    gateway_cache_sweep(&flights->cache, now_us);
    try_waiting(flights, now_us, true);
}

const struct gateway_flight_counters *
gateway_flights_counters(const struct gateway_flights *flights)
{
    struct gateway_flight_counters *counters =
        &((struct gateway_flights *)(uintptr_t)flights)->counters;

    counters->cache_down = gateway_cache_is_down(&flights->cache);
    return counters;
}
