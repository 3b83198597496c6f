/*
 * tier.h - one interface for what lies behind memory: Redis, or the durable store.
 *
 * A tier may be slow, full, damaged or gone. It answers each call once and in bounded
 * time, and says with its own breaker (breaker.h) when it is not worth asking. Nothing
 * here blocks the loop. The cacher keeps the order: memory, then Redis, then the store;
 * what one finds, those before it get.
 *
 * All calls and callbacks are on the loop thread. A callback is never called from inside
 * the call that asked for it, and always exactly once, also at close (with FAILED).
 * A tier copies what it needs of its arguments before it returns, but for payloads, of
 * which it keeps a reference.
 */
#ifndef CACHER_TIER_TIER_H
#define CACHER_TIER_TIER_H

#include "cacher/tier/breaker.h"
#include "cacher/tier/record.h"
#include "runtime/hotcache.h"
#include "runtime/metrics.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CACHER_CURSOR_BYTES_MAX 160  /* of a cursor's text, with its NUL */
#define CACHER_STEP_KEYS        1000 /* keys looked at in one step of a purge, about */

struct cacher_tier;

enum cacher_found {
    CACHER_FOUND,
    CACHER_MISSING, /* or expired, or damaged (counted) */
    CACHER_FAILED   /* the tier could not say: time-out, no connection, closing */
};

/* `record` (borrowed for the call) with CACHER_FOUND only. */
typedef void cacher_tier_got_fn(enum cacher_found found,
                                const struct cacher_record *record, void *arg);

/* What a purge takes. Exactly one of the kinds; `dry_run` counts and removes nothing. */
enum cacher_filter_kind {
    CACHER_FILTER_ALL,
    CACHER_FILTER_KEY,    /* key */
    CACHER_FILTER_PREFIX, /* keys whose lower-case hex begins so */
    CACHER_FILTER_TAG,
    CACHER_FILTER_OLDER /* created before before_s */
};

struct cacher_filter {
    enum cacher_filter_kind kind;
    uint8_t key[PROTO_DIGEST_BYTES];
    char prefix[2 * PROTO_DIGEST_BYTES + 1];
    char tag[PROTO_TAG_BYTES_MAX + 1];
    uint64_t before_s; /* Unix time */
    bool dry_run;
};

/* One step of a purge ended. `cursor` is where the next one goes on, "" when there is
 * none; err is 0, or -errno: nothing more is known, and cursor is the one asked with. */
typedef void cacher_tier_purged_fn(int err, uint64_t matched, uint64_t removed,
                                   const char *cursor, void *arg);

/* For warm-up: each of the records, most recently used first, borrowed for the call;
 * false: enough. */
typedef bool cacher_tier_each_fn(const struct cacher_record *record, void *arg);
/* A page of them ended; as cacher_tier_purged_fn. */
typedef void cacher_tier_page_fn(int err, const char *cursor, void *arg);

/* All but the gauges only grow. Kept by the tier, read by the cacher for its metrics. */
struct cacher_tier_counters {
    uint64_t hits, misses, errors; /* gets by their end */
    uint64_t damaged;              /* of the misses: bytes that were no record */
    uint64_t puts, puts_lost;      /* written; lost: queue full, failed after the retry */
    uint64_t puts_large;           /* of those refused: above the bound of a value */
    uint64_t removed;              /* by purges and single removals */
    uint64_t evicted, expired;     /* by bound, by age; of a store's retention */
    uint64_t retries, connects, disconnects, timeouts;
    uint64_t breaker_opened;
    struct metrics_histogram get_time, put_time; /* asked until answered */
    /* gauges */
    uint64_t breaker;                   /* enum breaker_state */
    uint64_t entries, bytes;            /* of a store; 0 where it is not known */
    uint64_t queued_puts, queued_bytes; /* behind the answer */
    uint64_t pool_used, pool_idle, pool_waiting, pool_wait_max_us;
};

struct cacher_tier_class {
    const char *name; /* "redis", "sqlite", "postgres" */

    /* 0, and `got` will be called; or -errno, and it will not: -EHOSTDOWN (the breaker is
     * open), -EBUSY (as many gets under way as there may be). */
    int (*get)(struct cacher_tier *tier, const uint8_t key[PROTO_DIGEST_BYTES],
               cacher_tier_got_fn *got, void *arg);
    /* Written behind; `value` holds record->payload, and the tier takes a reference of
     * its own (until written: it is not for other threads, see hotcache.h: a tier with
     * threads unrefs on the loop). ttl_s 0: by the tier's own rule. 0 or -errno: not
     * taken (full, breaker open, too large), counted. */
    int (*put)(struct cacher_tier *tier, const struct cacher_record *record,
               struct hotcache_value *value, uint64_t ttl_s);
    /* The result was used; for last use. Never fails, may be lost. NULL: no use for it.
     */
    void (*touch)(struct cacher_tier *tier, const uint8_t key[PROTO_DIGEST_BYTES]);
    /* One step; see above. `cursor` "" begins. 0 or -errno as get. */
    int (*purge)(struct cacher_tier *tier, const struct cacher_filter *filter,
                 const char *cursor, cacher_tier_purged_fn *purged, void *arg);
    /* A page of at most `most` records. NULL where the tier cannot. 0 or -errno as get.
     */
    int (*recent)(struct cacher_tier *tier, unsigned most, const char *cursor,
                  cacher_tier_each_fn *each, cacher_tier_page_fn *page, void *arg);
    const struct cacher_tier_counters *(*counters)(struct cacher_tier *tier);
    /* More for people, added to `object`: server, version, connections, last error. */
    void (*describe)(struct cacher_tier *tier, json_t *object);
    /* Write what is queued, for at most `ms`; then `closed`, after which the tier is
     * gone. Gets under way end with FAILED first. */
    void (*close)(struct cacher_tier *tier, uint64_t ms, void (*closed)(void *arg),
                  void *arg);
};

/* First member of every tier's own struct. */
struct cacher_tier {
    const struct cacher_tier_class *class;
};

#endif
