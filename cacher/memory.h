/*
 * memory.h - the first tier: results and refusals in this process.
 *
 * Two hot caches (runtime/hotcache.h): results, weighed in bytes with all they cost, and
 * the refusals of inputs, small and short-lived. Purges but those of one key look at
 * every entry, some 30 ns each. Under pressure results go by what computing them took for
 * each of their bytes, least first, and the pages they were on go back to the system. One
 * thread; time is an argument.
 */
#ifndef CACHER_MEMORY_H
#define CACHER_MEMORY_H

#include "cacher/result.h"
#include "cacher/tier/tier.h"

struct cacher_memory_limits {
    uint64_t bytes_max;          /* of results */
    uint64_t entries_max;        /* of results; 0: no such bound */
    uint64_t refusals_bytes_max; /* of refusals */
    uint64_t ttl_us, refusal_ttl_us;
    unsigned jitter_percent; /* of ttl_us, value.h */
};

/* All grow. What the bounds and the time to live remove is in hotcache_counters(). */
struct cacher_memory_counters {
    uint64_t squeezed; /* under pressure, beyond what had expired */
    uint64_t purged;
};

struct cacher_memory {
    struct hotcache *results, *refusals;
    struct cacher_memory_limits limits;
    struct cacher_memory_counters counters;
    uint64_t bytes_max; /* that holds */
};

/* 0 or -ENOMEM. `memory` is zeroed or closed. */
int cacher_memory_open(struct cacher_memory *memory,
                       const struct cacher_memory_limits *limits);
void cacher_memory_close(struct cacher_memory *memory); /* zeroed, closed: fine */

/* A new reference, or NULL. */
struct hotcache_value *cacher_memory_get(struct cacher_memory *memory,
                                         const uint8_t key[PROTO_DIGEST_BYTES],
                                         uint64_t now_us);
struct hotcache_value *cacher_memory_refused(struct cacher_memory *memory,
                                             const uint8_t key[PROTO_DIGEST_BYTES],
                                             uint64_t now_us);

/* It is no result of the key: forgotten. */
void cacher_memory_drop(struct cacher_memory *memory,
                        const uint8_t key[PROTO_DIGEST_BYTES]);

/* Bytes that count against the bound. */
uint64_t cacher_memory_cost(const struct hotcache_value *result);
/* For the time to live of its key less `age_us`, but a tenth of it at least. Takes a
 * reference of its own; a refusal of the key is forgotten. As hotcache_put. */
int cacher_memory_put(struct cacher_memory *memory, const uint8_t key[PROTO_DIGEST_BYTES],
                      struct hotcache_value *result, uint64_t age_us, uint64_t now_us);
/* As hotcache_put. */
int cacher_memory_refuse(struct cacher_memory *memory,
                         const uint8_t key[PROTO_DIGEST_BYTES],
                         struct hotcache_value *refusal, uint64_t now_us);

/* How many results and refusals the filter takes; they are gone unless it is a dry run.
 * Refusals have no tags. */
uint64_t cacher_memory_purge(struct cacher_memory *memory,
                             const struct cacher_filter *filter);
/* Whether the filter takes a record. Only key, created and tags are looked at. */
bool cacher_filter_takes(const struct cacher_filter *filter,
                         const struct cacher_record *record);

/* Drop what has expired, looking at no more than `most` entries. */
void cacher_memory_sweep(struct cacher_memory *memory, uint64_t now_us, size_t most);
/* The bound is `percent` of its whole from now on; what is freed goes back to the
 * system. */
void cacher_memory_bound(struct cacher_memory *memory, unsigned percent);

#endif
