#include "gateway/flight_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *gateway_source_name(unsigned source)
{
    static const char *const names[GATEWAY_SOURCES] = {"hit", "miss", "coalesced"};

    return source < GATEWAY_SOURCES ? names[source] : "unknown";
}

/* ---- the table ------------------------------------------------------------------ */

static struct gateway_flight **bucket_of(struct gateway_flights *flights,
                                         const uint8_t key[PROTO_DIGEST_BYTES])
{
    return &flights->buckets[(key[0] | (unsigned)key[1] << 8) % GATEWAY_FLIGHT_BUCKETS];
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
void gateway_flight_withdraw(struct gateway_flight *flight)
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

void gateway_flight_free(struct gateway_flight *flight)
{
    zmq_msg_close(&flight->image);
    free(flight);
}

void gateway_flight_unlink(struct gateway_waiter *waiter)
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

/* ---- joining and leaving -------------------------------------------------------------
 */

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
        gateway_flight_begin(flight, now_us);
    } else if (ask->priority < flight->ask.priority) {
        gateway_flight_raise(flight, ask->priority);
    }
    return 0;
}

void gateway_flights_leave(struct gateway_flights *flights, struct gateway_waiter *waiter,
                           uint64_t now_us)
{
    struct gateway_flight *flight = waiter->flight;

    if (flight == NULL)
        return;
    gateway_flight_unlink(waiter);
    if (flight->waiters != NULL)
        return;
    flights->counters.cancelled++;
    gateway_flight_withdraw(flight);
    if (flight->exchange != NULL)
        gateway_mesh_cancel(flights->mesh, flight->exchange, now_us);
    gateway_flight_drop_lease(flight, now_us);
    gateway_flight_free(flight);
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
        gateway_flight_free(at);
    }
    gateway_cache_free(&flights->cache);
    free(flights);
}

/* For how long this flight has been without a broker. */
static uint64_t away_us(const struct gateway_flight *flight, uint64_t now_us)
{
    if (flight->step == GATEWAY_WAITING)
        return now_us - flight->waiting_since_us;
    /* A broker that drains still ends what it has; one that is gone may come back. */
    return gateway_mesh_is_connected(flight->flights->mesh)
               ? 0
               : gateway_mesh_away_us(flight->flights->mesh, now_us);
}

static void end_unanswered(struct gateway_flight *flight, uint64_t now_us)
{
    if (flight->exchange != NULL)
        gateway_mesh_cancel(flight->flights->mesh, flight->exchange, now_us);
    flight->exchange = NULL;
    gateway_flight_finish_error(flight, PROTO_STATUS_UNAVAILABLE,
                                "the broker does not answer", now_us);
}

/* Begin again what waits. No flight can end but the one that is begun, so `next` holds.
 */
static void try_waiting(struct gateway_flights *flights, uint64_t now_us, bool give_up)
{
    struct gateway_flight *at = flights->first;

    while (at != NULL) {
        struct gateway_flight *next = at->next;
        if (give_up && away_us(at, now_us) >= flights->limits.mesh_wait_us)
            end_unanswered(at, now_us);
        else if (at->step == GATEWAY_WAITING)
            gateway_flight_begin(at, now_us);
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
    counters->leases_owed = flights->cache.debts_count;
    counters->drops = flights->cache.drops;
    return counters;
}
