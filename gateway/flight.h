/*
 * flight.h - results on their way: one flight a key, however many wait for it.
 *
 *   WAITING --> LOOKUP --miss--> COMPUTE --> end
 *      \--------(no cache)--------/
 *
 * A flight asks the cache service, and asks again while another gateway computes the
 * same; computes where it has to, with the highest priority of its waiters, and tells
 * all of them at once; then it hands the result to the cache. It begins again where the
 * broker forgot it, and ends early when nobody waits any more. A cache that does not
 * answer is passed by until it answers a probe: only the hit rate suffers.
 *
 * No socket, no clock: messages leave through mesh.h, time is an argument. One thread.
 */
#ifndef GATEWAY_FLIGHT_H
#define GATEWAY_FLIGHT_H

#include "gateway/mesh.h"
#include "proto/key.h"
#include "proto/tags.h"
#include "runtime/hotcache.h"

#include <stdbool.h>

enum gateway_source { GATEWAY_HIT, GATEWAY_MISS, GATEWAY_COALESCED, GATEWAY_SOURCES };
/* "hit", "miss", "coalesced": X-Cache, and the label of a counter. */
const char *gateway_source_name(unsigned source);

/* The end of a flight, the same for all who wait but `source`. */
struct gateway_result {
    enum proto_status status;
    char detail[256];
    uint64_t limit, actual, retry_after_ms;
    struct hotcache_value *value; /* OK: blob or PNG, borrowed; else NULL */
    bool computed;                /* the times below are of this flight */
    bool of_input; /* not OK, and the next one who sends this will be told the same */
    uint64_t queue_us, decode_us, denoise_us, sift_us;
    /* Renderings that waiters share; owned by the result, see answer.h. */
    struct hotcache_value *rendered[16];
};

/* Embedded in who waits. Zeroed is "not waiting". */
struct gateway_waiter {
    struct gateway_flight *flight;
    struct gateway_waiter *previous, *next;
    bool followed; /* came when the flight was under way */
    /* No longer waiting when called. */
    void (*done)(struct gateway_waiter *waiter, struct gateway_result *result,
                 enum gateway_source source);
};

struct gateway_ask {
    uint8_t key[PROTO_DIGEST_BYTES];
    bool
        peek; /* look only; nothing else of what follows but trace and deadline is used */
    enum proto_kind kind;
    uint8_t image_sha256[PROTO_DIGEST_BYTES];
    struct proto_params params;
    enum proto_priority priority;
    struct proto_id trace;
    uint64_t deadline_us;
    char tags[PROTO_TAGS_BYTES_MAX + 1]; /* for the cache, where it is computed */
    zmq_msg_t *image; /* moved from where the flight is new, else left alone */
};

struct gateway_flight_limits {
    uint64_t mesh_wait_us;   /* for a broker that is away or drains */
    uint64_t cache_wait_us;  /* for the answer of the cache */
    uint64_t cache_probe_us; /* between probes of a cache that failed */
};

struct gateway_flight_counters {
    uint64_t flights, cancelled, restarted, cache_failures, cache_bypassed, cache_bad,
        cache_again, puts, puts_left_out, drops; /* only grow */
    uint64_t open, cache_down, leases_owed;      /* gauges */
};

struct gateway_flights;

/* NULL: out of memory. `mesh` is borrowed. */
struct gateway_flights *gateway_flights_new(struct gateway_mesh *mesh,
                                            const struct gateway_flight_limits *limits);
/* Nobody may wait any more. NULL is fine. */
void gateway_flights_free(struct gateway_flights *flights);

/*
 * Wait for a key. 0, and `done` is called once, maybe before this returns; or -ENOMEM.
 */
int gateway_flights_join(struct gateway_flights *flights, struct gateway_ask *ask,
                         struct gateway_waiter *waiter, uint64_t now_us);
/* Wait no longer; `done` is not called. The last one to leave cancels the work. */
void gateway_flights_leave(struct gateway_flights *flights, struct gateway_waiter *waiter,
                           uint64_t now_us);

/* The session opened: begin what waited for it. After gateway_mesh_up(). */
void gateway_flights_up(struct gateway_flights *flights, uint64_t now_us);
/* Some times a second, after gateway_mesh_sweep(). */
void gateway_flights_sweep(struct gateway_flights *flights, uint64_t now_us);

const struct gateway_flight_counters *
gateway_flights_counters(const struct gateway_flights *flights);

#endif
