/*
 * flight_internal.h - what the files of flight.h share. No one else includes it.
 *
 *   flight.c        the table of flights; who joins, leaves and waits
 *   flight_steps.c  what a flight does: look up, compute, begin again
 *   flight_end.c    how it ends: results, errors, and what the cache is told
 */
#ifndef GATEWAY_FLIGHT_INTERNAL_H
#define GATEWAY_FLIGHT_INTERNAL_H

#include "gateway/cache.h"
#include "gateway/flight.h"

#define GATEWAY_FLIGHT_BUCKETS 1024u /* a power of two */

enum gateway_flight_step { GATEWAY_WAITING, GATEWAY_LOOKUP, GATEWAY_COMPUTE };

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
    enum gateway_flight_step step;
    struct gateway_exchange *exchange; /* open in LOOKUP and COMPUTE */
    enum proto_priority priority; /* of the exchange; ask.priority is the one wanted */
    bool recalled;                /* the exchange, to be submitted with that one */
    bool has_fallback; /* it was recalled from this lane, and may go back to it */
    enum proto_priority fallback;
    uint64_t lease, lease_until_us;
    bool put_wanted;       /* the cache was asked and did not have it */
    uint64_t looked_up_us; /* when it was asked */
    bool hurried;          /* it was given less than cache_wait_us */
};

struct gateway_flights {
    struct gateway_mesh *mesh;
    struct gateway_flight_limits limits;
    struct gateway_cache cache;
    struct gateway_flight *first;
    struct gateway_flight *buckets[GATEWAY_FLIGHT_BUCKETS];
    struct gateway_flight_counters counters;
};

/* ---- flight.c ---- */

/* Off the table: who comes now begins anew. */
void gateway_flight_withdraw(struct gateway_flight *flight);
void gateway_flight_free(struct gateway_flight *flight);
/* The waiter is not waiting any more. */
void gateway_flight_unlink(struct gateway_waiter *waiter);

/* ---- flight_steps.c: each may end, and so free, the flight ---- */

void gateway_flight_begin(struct gateway_flight *flight, uint64_t now_us);
/* Somebody joined who asks with more priority: what no worker was given yet is submitted
 * again with it. */
void gateway_flight_raise(struct gateway_flight *flight, enum proto_priority priority);

/* ---- flight_end.c ---- */

/* Whether a payload (or NULL) is the result that was asked for. */
bool gateway_flight_is_result(struct gateway_flight *flight, zmq_msg_t *payload);
/* Key, picture hash and parameters of what a flight asks for; of a peek the key alone. */
void gateway_flight_name(const struct gateway_flight *flight, struct proto_submit *body);
/* Let the next one who waits for the key compute it, instead of after the lease. */
void gateway_flight_drop_lease(struct gateway_flight *flight, uint64_t now_us);
/* The one way out of a flight that somebody waits for: tells them and frees it. Takes
 * what `result` owns. */
void gateway_flight_finish(struct gateway_flight *flight, struct gateway_result *result,
                           enum gateway_source source, uint64_t now_us);
void gateway_flight_finish_error(struct gateway_flight *flight, enum proto_status status,
                                 const char *detail, uint64_t now_us);
/* With a payload for which gateway_flight_is_result() holds. */
void gateway_flight_finish_ok(struct gateway_flight *flight,
                              const struct gateway_ending *ending,
                              enum gateway_source source, uint64_t now_us);
/* A submit did not go out, for `err`: waits, or ends. */
void gateway_flight_fail_submit(struct gateway_flight *flight, int err, uint64_t now_us);

#endif
