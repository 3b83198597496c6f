/*
 * plan.h - capacity from what is measured: how much memory Redis needs for the traffic
 * of now, and what hit ratio a larger or smaller memory would have.
 *
 * Redis in the steady state holds what was made in one time to live:
 *
 *     bytes = new results a second x ttl_s x mean of cacher_plan_redis_bytes(record)
 *
 * Rates are means over the last PLAN_WINDOW_S, exponentially weighted, or since the start
 * where that is shorter. Pure: time is an argument. One thread.
 */
#ifndef CACHER_PLAN_H
#define CACHER_PLAN_H

#include "cacher/reuse.h"

#include <jansson.h>

#define PLAN_WINDOW_S   300
#define PLAN_REUSE_KEYS 16384 /* watched; some 100 bytes each */

struct cacher_plan {
    struct cacher_reuse *reuse;
    uint64_t gets;                        /* all grow */
    uint64_t results, bytes, redis_bytes; /* made: payloads, and as Redis keeps them */
    double gets_per_s, results_per_s;
    uint64_t gets_before, results_before; /* at the last tick */
    uint64_t ticked_us;                   /* 0: not yet */
    double seconds;                       /* measured */
};

/* 0 or -ENOMEM. */
int cacher_plan_open(struct cacher_plan *plan, uint64_t seed);
void cacher_plan_close(struct cacher_plan *plan); /* zeroed, closed: fine */

/* A get; `bytes` that its result takes in memory, 0: not here. */
void cacher_plan_get(struct cacher_plan *plan, const uint8_t key[PROTO_DIGEST_BYTES],
                     uint64_t bytes);
/* A result was found behind memory, where it takes `bytes`. */
void cacher_plan_found(struct cacher_plan *plan, const uint8_t key[PROTO_DIGEST_BYTES],
                       uint64_t bytes);
/* A new result, of `payload_bytes`, as a record `record_bytes`. */
void cacher_plan_made(struct cacher_plan *plan, const uint8_t key[PROTO_DIGEST_BYTES],
                      uint64_t bytes, uint64_t payload_bytes, uint64_t record_bytes);
/* About once a second. */
void cacher_plan_tick(struct cacher_plan *plan, uint64_t now_us);

/*
 * What a string of `bytes` costs in Redis' used_memory: the size class of jemalloc, and
 * 216 bytes for key, entry and expiry. Measured on Redis 7.0.15 with keys of 78 bytes:
 * 2260 for 2000, 32968 for 29000, 164056 for 150000. What the system sees (RSS) was 17
 * to 25 % more.
 */
uint64_t cacher_plan_redis_bytes(uint64_t bytes);

/* What memory is now, for the answer. */
struct cacher_plan_memory {
    uint64_t bytes_max, bytes, entries, hits, misses, ttl_s;
};
/* The answer of the method `plan`; NULL: out of memory. */
json_t *cacher_plan_json(const struct cacher_plan *plan,
                         const struct cacher_plan_memory *memory);

#endif
