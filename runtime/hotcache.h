/*
 * hotcache.h - a bounded map from short keys to shared, immutable bytes.
 *
 * S3-FIFO (Yang et al., SOSP 2023) weighed in bytes: a small queue (a tenth) filters
 * what is asked for once, a main queue keeps what is asked for again, a ghost queue
 * remembers keys alone. The bound counts value bytes, HOTCACHE_ENTRY_BYTES for each entry
 * and HOTCACHE_GHOST_BYTES for each ghost; it holds at every moment, but for values that
 * callers still have a reference to after their eviction. A second bound, of entries, may
 * be added. Entries expire by a time to live. Used as the gateway's hot cache and as the
 * cacher's memory tier. One thread; `now_us` is the caller's clock.
 */
#ifndef RUNTIME_HOTCACHE_H
#define RUNTIME_HOTCACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HOTCACHE_KEY_BYTES_MAX 48
#define HOTCACHE_ENTRY_BYTES   256 /* what an entry costs beside its value */
#define HOTCACHE_GHOST_BYTES   160

struct hotcache;

/* Shared bytes; freed when the last reference is dropped. Not for several threads. The
 * size does not change once the value is in a cache; destroy() calls no function of a
 * cache. */
struct hotcache_value {
    const uint8_t *bytes;
    size_t size;
    uint32_t references;
    uint32_t overhead; /* bytes that it costs beside them and HOTCACHE_ENTRY_BYTES */
    void (*destroy)(struct hotcache_value *value); /* frees bytes; value too */
    void *owner;                                   /* for destroy */
    /* For who sends it: answers that do so now, and on whose account. */
    uint32_t answers;
    void *payer;
};

/* A value with one reference, which takes over malloc'd `bytes`. NULL: out of memory
 * (`bytes` stays the caller's). */
struct hotcache_value *hotcache_value_new(uint8_t *bytes, size_t size);
struct hotcache_value *hotcache_value_ref(struct hotcache_value *value);
void hotcache_value_unref(struct hotcache_value *value); /* NULL is fine */

struct hotcache_counters {
    uint64_t hits, misses, inserted, evicted, expired, refused; /* only grow */
    uint64_t bytes, entries;                                    /* gauges */
};

/* NULL: out of memory. `bytes_max` 0 is a cache that keeps nothing. */
struct hotcache *hotcache_new(size_t bytes_max);
void hotcache_free(struct hotcache *cache); /* NULL is fine */

/* A new reference, or NULL. Counts a hit or a miss. */
struct hotcache_value *hotcache_get(struct hotcache *cache, const void *key,
                                    size_t key_bytes, uint64_t now_us);
/* Keeps a reference of its own to `value` (replacing an older one) until
 * now_us + ttl_us. 0; -E2BIG for a value that with HOTCACHE_ENTRY_BYTES is above a
 * quarter of the bound (not kept, counted as refused; an older one is dropped); -EINVAL
 * for a key too long; -ENOMEM. */
int hotcache_put(struct hotcache *cache, const void *key, size_t key_bytes,
                 struct hotcache_value *value, uint64_t ttl_us, uint64_t now_us);
/* Whether there was a value. Counted nowhere, like hotcache_clear. */
bool hotcache_remove(struct hotcache *cache, const void *key, size_t key_bytes);
void hotcache_clear(struct hotcache *cache);
/* Show every value that is kept, the oldest of each queue first, expired ones too; the
 * visitor calls no function of the cache. What it says false to is removed like
 * hotcache_remove does. */
void hotcache_each(struct hotcache *cache,
                   bool (*keep)(const uint8_t *key, size_t key_bytes,
                                const struct hotcache_value *value, void *arg),
                   void *arg);
/* Drop expired entries, looking at no more than `most` entries; call on a timer. */
void hotcache_sweep(struct hotcache *cache, uint64_t now_us, size_t most);
/* A new bound; evicts down to it. */
void hotcache_resize(struct hotcache *cache, size_t bytes_max);
/* The bound of entries, 0: none; evicts down to it. */
void hotcache_limit_entries(struct hotcache *cache, size_t entries_max);
const struct hotcache_counters *hotcache_counters(const struct hotcache *cache);

/* For tests: counts everything anew, and says whether that gives the counters, whether
 * each entry is found by its key, and whether the bound holds. */
bool hotcache_consistent(const struct hotcache *cache);

#endif
