#include "gateway/flight_internal.h"

#include "proto/picture.h"

#include <stdio.h>
#include <string.h>

/* ---- computing ------------------------------------------------------------------ */

static uint64_t left_us(const struct gateway_flight *flight, uint64_t now_us)
{
    return flight->deadline_us > now_us ? flight->deadline_us - now_us : 0;
}

static void restart(struct gateway_flight *flight, uint64_t now_us)
{
    flight->flights->counters.restarted++;
    flight->put_wanted = false;
    flight->recalled = flight->has_fallback = false;
    flight->waiting_since_us = now_us;
    gateway_flight_begin(flight, now_us);
}

static struct gateway_result result_of(const struct gateway_ending *ending)
{
    const struct proto_outcome *outcome = ending->outcome;
    struct gateway_result result = {.status = ending->status,
                                    .limit = outcome->limit,
                                    .actual = outcome->actual,
                                    .retry_after_ms = outcome->retry_after_ms};

    snprintf(result.detail, sizeof result.detail, "%s", outcome->detail);
    return result;
}

static void fail_computed(struct gateway_flight *flight,
                          const struct gateway_ending *ending, uint64_t now_us)
{
    struct gateway_result result = result_of(ending);

    result.of_input = strcmp(ending->outcome->blame, "input") == 0 &&
                      proto_status_is_of_input(ending->status);
    /* Ends that a client cannot have caused are not to be told as its fault. */
    if (result.status == PROTO_STATUS_OK || result.status == PROTO_STATUS_MISS ||
        result.status == PROTO_STATUS_BAD_REQUEST ||
        result.status == PROTO_STATUS_CANCELLED)
        result.status = PROTO_STATUS_INTERNAL;
    gateway_flight_finish(flight, &result, GATEWAY_MISS, now_us);
}

static void compute(struct gateway_flight *flight, enum proto_priority priority,
                    uint64_t now_us);

/* Whether it was submitted again: with more priority after a recall; or with the old one,
 * as it had a place there and no other lane's bound is to end its wait. */
static bool compute_again(struct gateway_flight *flight,
                          const struct gateway_ending *ending, uint64_t now_us)
{
    bool recalled = flight->recalled && ending->status == PROTO_STATUS_CANCELLED;
    bool full = flight->has_fallback && ending->status == PROTO_STATUS_FULL;

    flight->recalled = flight->has_fallback = false;
    if (recalled) {
        flight->has_fallback = true;
        flight->fallback = flight->priority;
        compute(flight, flight->ask.priority, now_us);
    } else if (full) {
        compute(flight, flight->fallback, now_us);
    }
    return recalled || full;
}

static void on_computed(const struct gateway_ending *ending, uint64_t now_us, void *owner)
{
    struct gateway_flight *flight = owner;

    flight->exchange = NULL;
    if (compute_again(flight, ending, now_us))
        return;
    /* A follower may have more time left than the leader's request was given. */
    bool again = ending->lost || (ending->overdue && left_us(flight, now_us) > 0);
    if (again)
        restart(flight, now_us);
    else if (ending->status == PROTO_STATUS_OK &&
             gateway_flight_is_result(flight, ending->payload))
        gateway_flight_finish_ok(flight, ending, GATEWAY_MISS, now_us);
    else
        fail_computed(flight, ending, now_us);
}

static void compute(struct gateway_flight *flight, enum proto_priority priority,
                    uint64_t now_us)
{
    const struct gateway_ask *ask = &flight->ask;
    struct proto_submit body = {.service = "extract"};
    struct gateway_submit submit = {.body = &body,
                                    .payload = &flight->image,
                                    .trace = ask->trace,
                                    .budget_us = left_us(flight, now_us),
                                    .priority = priority,
                                    .ended = on_computed,
                                    .owner = flight};

    if (submit.budget_us == 0) { /* it would mean the broker's default */
        gateway_flight_finish_error(flight, PROTO_STATUS_EXPIRED,
                                    "the request's time ran out", now_us);
        return;
    }
    submit.cost_bytes =
        proto_picture_cost_bytes(zmq_msg_data(&flight->image),
                                 zmq_msg_size(&flight->image), ask->kind, &ask->params);
    strcpy(body.method, ask->kind == PROTO_KIND_DENOISE ? "denoise" : "features");
    gateway_flight_name(flight, &body);
    flight->step = GATEWAY_COMPUTE;
    flight->priority = priority;
    int err =
        gateway_mesh_submit(flight->flights->mesh, &submit, now_us, &flight->exchange);
    if (err < 0)
        gateway_flight_fail_submit(flight, err, now_us);
}

/* ---- looking up ----------------------------------------------------------------- */

/* Kept for computing after all: the broker's job_timeout. */
#define COMPUTE_US 15000000u
/* A cache that says "ask again" sooner than this has not waited; it would be asked
 * without end. Its least park_ms is twice as long. */
#define PARKED_MIN_US 50000u

static void look_up(struct gateway_flight *flight, uint64_t budget_us, uint64_t now_us);

static void on_cache_failed(struct gateway_flight *flight, enum proto_status status,
                            uint64_t now_us)
{
    struct gateway_flights *flights = flight->flights;

    flights->counters.cache_failures++;
    /* Neither a full broker nor a short time says anything of the cache. */
    if (status != PROTO_STATUS_FULL &&
        !(status == PROTO_STATUS_EXPIRED && flight->hurried))
        gateway_cache_failed(&flights->cache, now_us);
    if (flight->ask.peek)
        gateway_flight_finish_error(flight, PROTO_STATUS_UNAVAILABLE,
                                    "the cache does not answer", now_us);
    else
        compute(flight, flight->ask.priority, now_us);
}

/* The cache has no such thing. */
static void on_cache_miss(struct gateway_flight *flight, uint64_t lease,
                          uint64_t lease_ms, uint64_t now_us)
{
    if (flight->ask.peek) {
        gateway_flight_finish_error(flight, PROTO_STATUS_NOT_FOUND,
                                    "no result is known under this key", now_us);
        return;
    }
    flight->lease = lease;
    flight->lease_until_us = now_us + lease_ms * 1000;
    flight->put_wanted = true;
    compute(flight, flight->ask.priority, now_us);
}

/* Another one is still computing it, and what it finds will be here: better to wait for
 * it than to compute the same, while there is time left to compute it after all. */
static bool ask_again(struct gateway_flight *flight, const struct gateway_ending *ending,
                      uint64_t now_us)
{
    uint64_t left = left_us(flight, now_us);

    if (ending->outcome->retry_after_ms == 0 || ending->outcome->lease != 0 ||
        left <= COMPUTE_US || now_us - flight->looked_up_us < PARKED_MIN_US)
        return false;
    flight->flights->counters.cache_again++;
    look_up(flight, left - COMPUTE_US, now_us);
    return true;
}

/* A recalled look-up that no cacher was given yet is made again, with the priority that
 * is wanted now. */
static bool look_up_raised(struct gateway_flight *flight,
                           const struct gateway_ending *ending, uint64_t now_us)
{
    bool again = flight->recalled && ending->status == PROTO_STATUS_CANCELLED;

    flight->recalled = false;
    if (again)
        gateway_flight_begin(flight, now_us);
    return again;
}

static void on_looked_up(const struct gateway_ending *ending, uint64_t now_us,
                         void *owner)
{
    struct gateway_flight *flight = owner;
    bool parked = strcmp(ending->outcome->cache, "coalesced") == 0;

    flight->exchange = NULL;
    flight->waiting_since_us = now_us; /* if it has to wait from here on */
    if (look_up_raised(flight, ending, now_us))
        return;
    if (ending->lost) {
        restart(flight, now_us);
    } else if (ending->status == PROTO_STATUS_MISS ||
               ending->status == PROTO_STATUS_NOT_FOUND) {
        if (flight->ask.peek || !ask_again(flight, ending, now_us))
            on_cache_miss(flight, ending->outcome->lease, ending->outcome->lease_ms,
                          now_us);
    } else if (proto_status_is_of_input(ending->status)) {
        struct gateway_result result = result_of(ending); /* as it was computed before */
        gateway_flight_finish(flight, &result, parked ? GATEWAY_COALESCED : GATEWAY_HIT,
                              now_us);
    } else if (ending->status != PROTO_STATUS_OK) {
        on_cache_failed(flight, ending->status, now_us);
    } else if (gateway_flight_is_result(flight, ending->payload)) {
        gateway_flight_finish_ok(flight, ending, parked ? GATEWAY_COALESCED : GATEWAY_HIT,
                                 now_us);
    } else {
        flight->flights->counters.cache_bad++; /* the next put overwrites it */
        on_cache_miss(flight, 0, 0, now_us);
    }
}

/* In `budget_us`, or the usual time where that is less. */
static void look_up(struct gateway_flight *flight, uint64_t budget_us, uint64_t now_us)
{
    struct gateway_flights *flights = flight->flights;
    struct proto_submit body = {.service = "cache"};
    uint64_t usual_us = flights->limits.cache_wait_us;
    struct gateway_submit submit = {.body = &body,
                                    .trace = flight->ask.trace,
                                    .budget_us =
                                        budget_us < usual_us ? budget_us : usual_us,
                                    .priority = flight->ask.priority,
                                    .ended = on_looked_up,
                                    .owner = flight};

    strcpy(body.method, flight->ask.peek ? "peek" : "get");
    gateway_flight_name(flight, &body);
    flight->step = GATEWAY_LOOKUP;
    flight->looked_up_us = now_us;
    flight->hurried = budget_us < usual_us;
    int err = gateway_mesh_submit(flights->mesh, &submit, now_us, &flight->exchange);
    if (err < 0)
        gateway_flight_fail_submit(flight, err, now_us);
}

/* ---- priority ------------------------------------------------------------------- */

void gateway_flight_raise(struct gateway_flight *flight, enum proto_priority priority)
{
    flight->ask.priority = priority;
    if (flight->exchange == NULL || flight->recalled)
        return;
    flight->recalled = true;
    gateway_mesh_recall(flight->flights->mesh, flight->exchange);
}

/* ---- beginning ------------------------------------------------------------------ */

void gateway_flight_begin(struct gateway_flight *flight, uint64_t now_us)
{
    struct gateway_flights *flights = flight->flights;

    flight->step = GATEWAY_WAITING;
    if (left_us(flight, now_us) == 0) {
        gateway_flight_finish_error(flight, PROTO_STATUS_EXPIRED,
                                    "the request's time ran out", now_us);
        return;
    }
    if (!gateway_mesh_is_up(flights->mesh))
        return;
    if (!gateway_cache_is_down(&flights->cache)) {
        /* Who waits for another's computation that never ends has time left to compute.
         */
        look_up(flight, (left_us(flight, now_us) + 1) / 2, now_us);
    } else if (flight->ask.peek) {
        gateway_flight_finish_error(flight, PROTO_STATUS_UNAVAILABLE,
                                    "the cache does not answer", now_us);
    } else {
        flights->counters.cache_bypassed++;
        compute(flight, flight->ask.priority, now_us);
    }
}
