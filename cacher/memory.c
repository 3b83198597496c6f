#include "cacher/memory.h"

#include "cacher/tier/ttl.h"
#include "proto/key.h"

#include <errno.h>
#include <malloc.h>
#include <string.h>

#define TTL_LEAST_PART 10 /* of its time to live an old result is kept once more */

int cacher_memory_open(struct cacher_memory *memory,
                       const struct cacher_memory_limits *limits)
{
    *memory =
        (struct cacher_memory){.limits = *limits,
                               .bytes_max = limits->bytes_max,
                               .results = hotcache_new(limits->bytes_max),
                               .refusals = hotcache_new(limits->refusals_bytes_max)};
    if (memory->results == NULL || memory->refusals == NULL) {
        cacher_memory_close(memory);
        return -ENOMEM;
    }
    hotcache_limit_entries(memory->results, limits->entries_max);
    return 0;
}

void cacher_memory_close(struct cacher_memory *memory)
{
    hotcache_free(memory->results);
    hotcache_free(memory->refusals);
    memory->results = memory->refusals = NULL;
}

struct hotcache_value *cacher_memory_get(struct cacher_memory *memory,
                                         const uint8_t key[PROTO_DIGEST_BYTES],
                                         uint64_t now_us)
{
    return hotcache_get(memory->results, key, PROTO_DIGEST_BYTES, now_us);
}

void cacher_memory_drop(struct cacher_memory *memory,
                        const uint8_t key[PROTO_DIGEST_BYTES])
{
    (void)hotcache_remove(memory->results, key, PROTO_DIGEST_BYTES);
}

uint64_t cacher_memory_cost(const struct hotcache_value *result)
{
    return result->size + result->overhead + HOTCACHE_ENTRY_BYTES;
}

struct hotcache_value *cacher_memory_refused(struct cacher_memory *memory,
                                             const uint8_t key[PROTO_DIGEST_BYTES],
                                             uint64_t now_us)
{
    if (hotcache_counters(memory->refusals)->entries == 0)
        return NULL;
    return hotcache_get(memory->refusals, key, PROTO_DIGEST_BYTES, now_us);
}

int cacher_memory_put(struct cacher_memory *memory, const uint8_t key[PROTO_DIGEST_BYTES],
                      struct hotcache_value *result, uint64_t age_us, uint64_t now_us)
{
    uint64_t ttl_us =
        cacher_ttl_us(key, memory->limits.ttl_us, memory->limits.jitter_percent);
    uint64_t least_us = ttl_us / TTL_LEAST_PART;

    (void)hotcache_remove(memory->refusals, key, PROTO_DIGEST_BYTES);
    return hotcache_put(memory->results, key, PROTO_DIGEST_BYTES, result,
                        age_us < ttl_us - least_us ? ttl_us - age_us : least_us, now_us);
}

int cacher_memory_refuse(struct cacher_memory *memory,
                         const uint8_t key[PROTO_DIGEST_BYTES],
                         struct hotcache_value *refusal, uint64_t now_us)
{
    return hotcache_put(memory->refusals, key, PROTO_DIGEST_BYTES, refusal,
                        memory->limits.refusal_ttl_us, now_us);
}

void cacher_memory_sweep(struct cacher_memory *memory, uint64_t now_us, size_t most)
{
    hotcache_sweep(memory->results, now_us, most);
    hotcache_sweep(memory->refusals, now_us, most);
}

/* ---- purges ---- */

static bool has_prefix(const uint8_t key[PROTO_DIGEST_BYTES], const char *prefix)
{
    char hex[PROTO_HEX_BYTES];

    proto_hex(key, hex);
    return strncmp(hex, prefix, strlen(prefix)) == 0;
}

bool cacher_filter_takes(const struct cacher_filter *filter,
                         const struct cacher_record *record)
{
    switch (filter->kind) {
    case CACHER_FILTER_ALL:
        return true;
    case CACHER_FILTER_KEY:
        return memcmp(record->key, filter->key, PROTO_DIGEST_BYTES) == 0;
    case CACHER_FILTER_PREFIX:
        return has_prefix(record->key, filter->prefix);
    case CACHER_FILTER_TAG:
        return proto_tags_have(record->tags, record->tags_bytes, filter->tag);
    case CACHER_FILTER_OLDER:
        return record->created_s < filter->before_s;
    }
    return false;
}

struct purging {
    const struct cacher_filter *filter;
    bool refusals;
    uint64_t matched;
};

static bool survives(const uint8_t *key, size_t key_bytes,
                     const struct hotcache_value *value, void *arg)
{
    struct purging *purging = arg;
    struct cacher_record record;
    (void)key_bytes;

    if (purging->refusals) {
        record = (struct cacher_record){.created_s = cacher_refusal_of(value)->created_s};
        memcpy(record.key, key, PROTO_DIGEST_BYTES);
    } else {
        cacher_result_record(value, key, &record);
    }
    if (!cacher_filter_takes(purging->filter, &record))
        return true;
    purging->matched++;
    return purging->filter->dry_run;
}

static uint64_t purge_key(struct cacher_memory *memory, const uint8_t *key)
{
    uint64_t matched = hotcache_remove(memory->results, key, PROTO_DIGEST_BYTES);

    matched += hotcache_remove(memory->refusals, key, PROTO_DIGEST_BYTES);
    memory->counters.purged += matched;
    return matched;
}

uint64_t cacher_memory_purge(struct cacher_memory *memory,
                             const struct cacher_filter *filter)
{
    struct purging purging = {.filter = filter};
    bool whole = filter->kind == CACHER_FILTER_ALL && !filter->dry_run;

    if (filter->kind == CACHER_FILTER_KEY && !filter->dry_run)
        return purge_key(memory, filter->key);

    hotcache_each(memory->results, survives, &purging);
    purging.refusals = true;
    hotcache_each(memory->refusals, survives, &purging);
    if (whole) { /* the ghosts too: what comes now begins anew */
        hotcache_clear(memory->results);
        hotcache_clear(memory->refusals);
    }
    if (!filter->dry_run)
        memory->counters.purged += purging.matched;
    return purging.matched;
}

/* ---- pressure ---- */

/* Computing time for each byte, in steps of a quarter of an octave: sums of bytes by it
 * say what has to go without sorting, and without memory where there is none. */
#define WORTHS 128

struct squeeze {
    uint64_t bytes[WORTHS]; /* by worth */
    uint64_t excess;        /* still to go */
    unsigned worth;         /* all below it goes, and of it as much as is needed */
    uint64_t removed;
};

static unsigned worth_of(const struct hotcache_value *value)
{
    static const uint8_t no_key[PROTO_DIGEST_BYTES];
    struct cacher_record record;

    cacher_result_record(value, no_key, &record);
    uint64_t ratio = ((uint64_t)record.cost_us << 16) / cacher_memory_cost(value);
    if (ratio < 4)
        return (unsigned)ratio;
    unsigned octave = 63 - (unsigned)__builtin_clzll(ratio); /* at least 2 */
    unsigned quarter = (unsigned)(ratio >> (octave - 2)) & 3;
    unsigned worth = 4 * (octave - 1) + quarter;
    return worth < WORTHS ? worth : WORTHS - 1;
}

static bool weigh(const uint8_t *key, size_t key_bytes,
                  const struct hotcache_value *value, void *arg)
{
    struct squeeze *squeeze = arg;
    (void)key;
    (void)key_bytes;

    squeeze->bytes[worth_of(value)] += cacher_memory_cost(value);
    return true;
}

static bool is_worth_it(const uint8_t *key, size_t key_bytes,
                        const struct hotcache_value *value, void *arg)
{
    struct squeeze *squeeze = arg;
    unsigned worth = worth_of(value);
    (void)key;
    (void)key_bytes;

    if (worth > squeeze->worth || (worth == squeeze->worth && squeeze->excess == 0))
        return true;
    if (worth == squeeze->worth) /* the oldest of its queue are shown first */
        squeeze->excess -= squeeze->excess < cacher_memory_cost(value)
                               ? squeeze->excess
                               : cacher_memory_cost(value);
    squeeze->removed++;
    return false;
}

/* Make room below `bytes` by the worth of results. */
static void squeeze_to(struct cacher_memory *memory, uint64_t bytes)
{
    struct squeeze squeeze = {0};
    uint64_t all = 0;

    hotcache_each(memory->results, weigh, &squeeze);
    for (unsigned i = 0; i < WORTHS; i++)
        all += squeeze.bytes[i];
    if (all <= bytes)
        return;
    squeeze.excess = all - bytes;
    while (squeeze.bytes[squeeze.worth] < squeeze.excess)
        squeeze.excess -= squeeze.bytes[squeeze.worth++];
    hotcache_each(memory->results, is_worth_it, &squeeze);
    memory->counters.squeezed += squeeze.removed;
}

void cacher_memory_bound(struct cacher_memory *memory, unsigned percent)
{
    uint64_t bound = memory->limits.bytes_max / 100 * percent +
                     memory->limits.bytes_max % 100 * percent / 100;
    bool smaller = bound < memory->bytes_max;

    memory->bytes_max = bound;
    if (smaller)
        squeeze_to(memory, bound - bound / 16); /* ghosts may keep the rest */
    hotcache_resize(memory->results, bound);
    if (smaller)
        malloc_trim(0);
}
