/*
 * Warm-up: the results of the store that were used last, into memory and Redis.
 *
 * Newest first and until memory is full, never beyond: in a FIFO what comes last would
 * push out what came first. Redis gets them too for as long as it keeps up.
 */
#include "cacher/state.h"
#include "cacher/value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_RESULTS      64
#define REDIS_AHEAD_BYTES (16u << 20) /* no more is sent while so much is on its way */

struct cacher_warm {
    struct cacher *cacher;
    struct cacher_tier *store, *redis; /* redis may be NULL */
    char cursor[CACHER_CURSOR_BYTES_MAX];
    struct cacher_warmed warmed;
    uint64_t begun_us, end_us;
    void (*done)(const struct cacher_warmed *warmed, void *arg);
    void *arg;
};

static uint64_t clock_us(void)
{
    return uv_hrtime() / 1000;
}

/* False: memory has no room for it. */
static bool keep(struct cacher_warm *warm, const struct cacher_record *record,
                 struct hotcache_value *value)
{
    struct cacher *cacher = warm->cacher;
    struct cacher_memory *memory = &cacher->memory;
    const struct hotcache_counters *now = hotcache_counters(memory->results);
    if (now->bytes + cacher_memory_cost(value) > memory->bytes_max ||
        (memory->limits.entries_max != 0 && now->entries >= memory->limits.entries_max))
        return false;
    if (cacher_memory_put(memory, record->key, value, 0, cacher_now_us(cacher)) < 0)
        return true; /* too large for memory: the next one may not be */
    warm->warmed.results++;
    warm->warmed.bytes += value->size;
    if (warm->redis == NULL ||
        warm->redis->class->counters(warm->redis)->queued_bytes > REDIS_AHEAD_BYTES)
        return true;
    struct cacher_record full = *record;
    full.payload = value->bytes;
    warm->warmed.redis += warm->redis->class->put(warm->redis, &full, value, 0) == 0;
    return true;
}

static bool on_each(const struct cacher_record *record, void *arg)
{
    struct cacher_warm *warm = arg;
    struct cacher *cacher = warm->cacher;

    if (cacher->tiers.closing || clock_us() >= warm->end_us) {
        warm->warmed.why = "time";
        return false;
    }
    struct hotcache_value *known =
        cacher_memory_get(&cacher->memory, record->key, cacher_now_us(cacher));
    hotcache_value_unref(known);
    if (known != NULL ||
        !cacher_value_fits(record->key, 0, record->payload, record->payload_bytes))
        return true;
    struct hotcache_value *value = cacher_result_new(record);
    bool more = value != NULL && keep(warm, record, value);
    if (!more)
        warm->warmed.why = "full";
    hotcache_value_unref(value);
    return more;
}

static void end(struct cacher_warm *warm, const char *why)
{
    if (warm->warmed.why == NULL)
        warm->warmed.why = why;
    warm->warmed.ms = (clock_us() - warm->begun_us) / 1000;
    log_event(LOG_NOTICE, "warmed", "results=%llu bytes=%llu redis=%llu ms=%llu end=%s",
              (unsigned long long)warm->warmed.results,
              (unsigned long long)warm->warmed.bytes,
              (unsigned long long)warm->warmed.redis, (unsigned long long)warm->warmed.ms,
              warm->warmed.why);
    warm->done(&warm->warmed, warm->arg);
    free(warm);
}

static void on_page(int err, const char *cursor, void *arg);

static int next_page(struct cacher_warm *warm)
{
    return warm->store->class->recent(warm->store, PAGE_RESULTS, warm->cursor, on_each,
                                      on_page, warm);
}

static void on_page(int err, const char *cursor, void *arg)
{
    struct cacher_warm *warm = arg;

    if (err < 0 || warm->cacher->tiers.closing)
        end(warm, "down");
    else if (warm->warmed.why != NULL)
        end(warm, warm->warmed.why);
    else if (cursor[0] == '\0' || strlen(cursor) >= sizeof warm->cursor)
        end(warm, "all");
    else if (clock_us() >= warm->end_us)
        end(warm, "time");
    else {
        memmove(warm->cursor, cursor, strlen(cursor) + 1);
        if (next_page(warm) < 0)
            end(warm, "down");
    }
}

int cacher_warm(struct cacher *cacher, uint64_t ms,
                void (*warmed)(const struct cacher_warmed *warmed, void *arg), void *arg)
{
    struct cacher_tier *store = cacher_tiers_by_role(&cacher->tiers, CACHER_ROLE_STORE);

    if (store == NULL || store->class->recent == NULL)
        return -ENOENT;
    struct cacher_warm *warm = calloc(1, sizeof *warm);
    if (warm == NULL)
        return -ENOMEM;
    *warm = (struct cacher_warm){
        .cacher = cacher,
        .store = store,
        .redis = cacher_tiers_by_role(&cacher->tiers, CACHER_ROLE_REDIS),
        .begun_us = clock_us(),
        .end_us = clock_us() + ms * 1000,
        .done = warmed,
        .arg = arg};
    int err = next_page(warm);
    if (err < 0)
        free(warm);
    return err;
}
