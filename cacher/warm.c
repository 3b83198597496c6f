/*
 * Warm-up: the results of the store that were used last, into memory; then what is in
 * memory, into Redis, which may have been emptied.
 *
 * Newest first and until memory is full, never beyond: in a FIFO what comes last would
 * push out what came first. Redis gets as much at once as it keeps up with.
 */
#include "cacher/state.h"
#include "cacher/value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_RESULTS      64
#define REDIS_AHEAD_BYTES (16u << 20) /* no more is sent while so much is on its way */
#define REDIS_AHEAD_MS    5           /* then it is looked at again */
#define REDIS_AT_ONCE     64          /* results, then others have their turn */

struct cacher_warm {
    struct cacher *cacher;
    struct cacher_tier *store, *redis;   /* one of them may be NULL */
    uv_timer_t timer;                    /* with redis: goes on writing to it */
    uint8_t (*keys)[PROTO_DIGEST_BYTES]; /* in memory, to be written */
    size_t keys_count, keys_done;
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
static bool keep(struct cacher_warm *warm, const uint8_t key[PROTO_DIGEST_BYTES],
                 struct hotcache_value *value)
{
    struct cacher *cacher = warm->cacher;
    struct cacher_memory *memory = &cacher->memory;
    const struct hotcache_counters *now = hotcache_counters(memory->results);
    if (now->bytes + cacher_memory_cost(value) > memory->bytes_max ||
        (memory->limits.entries_max != 0 && now->entries >= memory->limits.entries_max))
        return false;
    if (cacher_memory_put(memory, key, value, 0, cacher_now_us(cacher)) < 0)
        return true; /* too large for memory: the next one may not be */
    warm->warmed.results++;
    warm->warmed.bytes += value->size;
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
    bool more = value != NULL && keep(warm, record->key, value);
    if (!more)
        warm->warmed.why = "full";
    hotcache_value_unref(value);
    return more;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct cacher_warm *warm = handle->data;
    struct cacher *cacher = warm->cacher;

    free(warm);
    cacher_one_closed(cacher);
}

static void end(struct cacher_warm *warm)
{
    warm->warmed.ms = (clock_us() - warm->begun_us) / 1000;
    log_event(LOG_NOTICE, "warmed", "results=%llu bytes=%llu redis=%llu ms=%llu end=%s",
              (unsigned long long)warm->warmed.results,
              (unsigned long long)warm->warmed.bytes,
              (unsigned long long)warm->warmed.redis, (unsigned long long)warm->warmed.ms,
              warm->warmed.why);
    warm->done(&warm->warmed, warm->arg);
    free(warm->keys);
    if (warm->redis == NULL)
        free(warm);
    else
        uv_close((uv_handle_t *)&warm->timer, on_timer_closed);
}

/* ---- from memory to Redis ---- */

static bool on_key(const uint8_t *key, size_t key_bytes,
                   const struct hotcache_value *value, void *arg)
{
    struct cacher_warm *warm = arg;
    (void)value;

    memcpy(warm->keys[warm->keys_count++], key, key_bytes);
    return true;
}

/* 0, also where it has gone meanwhile or is too large for Redis. */
static int write_one(struct cacher_warm *warm, const uint8_t key[PROTO_DIGEST_BYTES])
{
    struct cacher *cacher = warm->cacher;
    struct cacher_record record;
    struct hotcache_value *value =
        cacher_memory_get(&cacher->memory, key, cacher_now_us(cacher));

    if (value == NULL)
        return 0;
    cacher_result_record(value, key, &record);
    int err = warm->redis->class->put(warm->redis, &record, value, 0);
    hotcache_value_unref(value);
    warm->warmed.redis += err == 0;
    return err == -E2BIG ? 0 : err;
}

static void on_timer(uv_timer_t *timer)
{
    struct cacher_warm *warm = timer->data;
    uint64_t again_ms = 0;

    if (warm->cacher->tiers.closing) {
        warm->warmed.why = "down";
        end(warm);
        return;
    }
    if (warm->keys_done < warm->keys_count && clock_us() >= warm->end_us) {
        warm->warmed.why = "time";
        end(warm);
        return;
    }
    for (unsigned i = 0; i < REDIS_AT_ONCE && warm->keys_done < warm->keys_count; i++) {
        again_ms = REDIS_AHEAD_MS;
        if (warm->redis->class->counters(warm->redis)->queued_bytes > REDIS_AHEAD_BYTES)
            break;
        int err = write_one(warm, warm->keys[warm->keys_done]);
        if (err == -EBUSY)
            break;
        if (err < 0) {
            warm->warmed.why = "down";
            end(warm);
            return;
        }
        again_ms = 0;
        warm->keys_done++;
    }
    if (warm->keys_done < warm->keys_count)
        uv_timer_start(timer, on_timer, again_ms, 0);
    else
        end(warm);
}

/* The store is done with, for the reason `why`. */
static void go_on(struct cacher_warm *warm, const char *why)
{
    struct hotcache *results = warm->cacher->memory.results;

    if (warm->warmed.why == NULL)
        warm->warmed.why = why;
    if (warm->redis == NULL) {
        end(warm);
        return;
    }
    warm->keys = calloc(hotcache_counters(results)->entries + 1, sizeof warm->keys[0]);
    if (warm->keys != NULL)
        hotcache_each(results, on_key, warm);
    uv_timer_start(&warm->timer, on_timer, 0, 0);
}

/* ---- from the store to memory ---- */

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
        go_on(warm, "down");
    else if (warm->warmed.why != NULL)
        go_on(warm, warm->warmed.why);
    else if (cursor[0] == '\0' || strlen(cursor) >= sizeof warm->cursor)
        go_on(warm, "all");
    else if (clock_us() >= warm->end_us)
        go_on(warm, "time");
    else {
        memmove(warm->cursor, cursor, strlen(cursor) + 1);
        if (next_page(warm) < 0)
            go_on(warm, "down");
    }
}

int cacher_warm(struct cacher *cacher, uint64_t ms,
                void (*warmed)(const struct cacher_warmed *warmed, void *arg), void *arg)
{
    struct cacher_tier *store = cacher_tiers_by_role(&cacher->tiers, CACHER_ROLE_STORE);
    struct cacher_tier *redis = cacher_tiers_by_role(&cacher->tiers, CACHER_ROLE_REDIS);

    if (store == NULL && redis == NULL)
        return -ENOENT;
    struct cacher_warm *warm = calloc(1, sizeof *warm);
    if (warm == NULL)
        return -ENOMEM;
    *warm = (struct cacher_warm){.cacher = cacher,
                                 .store = store,
                                 .redis = redis,
                                 .begun_us = clock_us(),
                                 .end_us = clock_us() + ms * 1000,
                                 .done = warmed,
                                 .arg = arg};
    int err = store != NULL ? next_page(warm) : 0;
    if (redis == NULL) {
        if (err < 0)
            free(warm);
        return err;
    }
    (void)uv_timer_init(service_loop(cacher->service), &warm->timer);
    warm->timer.data = warm;
    cacher->open++;
    if (store == NULL || err < 0)
        go_on(warm, store == NULL ? "all" : "down");
    return 0;
}
