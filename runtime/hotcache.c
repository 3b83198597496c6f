/*
 * S3-FIFO in bytes.
 *
 * Every entry is in the table and in one of three queues; move_to() is the only way from
 * one to another, and keeps the count of bytes.
 *
 *   put, never seen     -> small   a tenth of the bound
 *   put, key in ghost   -> main
 *   end of small        -> main when it was read twice or more there, else ghost
 *   end of main         -> back to its start, once for each of up to 3 reads, else gone
 *   end of ghost        -> gone
 *
 * A ghost is the entry without its value, so that an eviction allocates nothing and
 * cannot fail. Ghosts count in the bound with what they really cost; they are few enough
 * to cost at most a sixteenth of it, and together stand for no more value bytes than main
 * holds.
 * */
#include "runtime/hotcache.h"
#include "runtime/hotcache_table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define READS_MAX        3 /* more reads of an entry are not counted */
#define READS_TO_PROMOTE 2 /* in small, to enter main */
#define SMALL_PART       10
#define GHOST_PART       16
#define VALUE_PART       4

/* One eviction gives at most this many entries their second chance, then the oldest goes
 * as it is: a million entries that were all read three times would stop the loop. */
#define SECOND_CHANCES_MAX 256

/* One call joins at most this many buckets of a table that has become too large. */
#define JOINS_MAX 4

enum place { NOWHERE, SMALL, MAIN, GHOST, PLACES };

/* The overheads promised in hotcache.h cover what malloc(3) takes: 16 bytes a block, two
 * bucket pointers. */
#define BLOCK_BYTES 16
static_assert(sizeof(struct hotcache_entry) + HOTCACHE_KEY_BYTES_MAX + BLOCK_BYTES +
                      2 * sizeof(void *) <=
                  HOTCACHE_GHOST_BYTES,
              "a ghost costs more than it counts");
static_assert(HOTCACHE_GHOST_BYTES + sizeof(struct hotcache_value) + 2 * BLOCK_BYTES <=
                  HOTCACHE_ENTRY_BYTES,
              "an entry costs more than it counts");

struct queue {
    struct hotcache_entry *newest, *oldest;
    size_t entries;
    size_t value_bytes; /* for ghosts: of the values that they had */
};

struct hotcache {
    size_t bytes_max;
    size_t entries_max; /* SIZE_MAX: none */
    struct queue queue[PLACES];
    struct hotcache_counters counters;

    struct hotcache_table table;

    size_t sweep_bucket, sweep_skip; /* where the next sweep goes on */
};

/* ---- values ---- */

static void destroy_malloced(struct hotcache_value *value)
{
    free((void *)(uintptr_t)value->bytes);
    free(value);
}

struct hotcache_value *hotcache_value_new(uint8_t *bytes, size_t size)
{
    struct hotcache_value *value = malloc(sizeof *value);
    if (value == NULL)
        return NULL;
    *value = (struct hotcache_value){
        .bytes = bytes, .size = size, .references = 1, .destroy = destroy_malloced};
    return value;
}

struct hotcache_value *hotcache_value_ref(struct hotcache_value *value)
{
    assert(value->references > 0 && value->references < UINT32_MAX);
    value->references++;
    return value;
}

void hotcache_value_unref(struct hotcache_value *value)
{
    if (value == NULL)
        return;
    assert(value->references > 0);
    if (--value->references == 0)
        value->destroy(value);
}

/* ---- queues ---- */

static void queue_remove(struct queue *queue, struct hotcache_entry *entry)
{
    *(entry->newer != NULL ? &entry->newer->older : &queue->newest) = entry->older;
    *(entry->older != NULL ? &entry->older->newer : &queue->oldest) = entry->newer;
    queue->entries--;
    queue->value_bytes -= entry->value_bytes;
}

static void queue_add(struct queue *queue, struct hotcache_entry *entry)
{
    entry->newer = NULL;
    entry->older = queue->newest;
    *(queue->newest != NULL ? &queue->newest->newer : &queue->oldest) = entry;
    queue->newest = entry;
    queue->entries++;
    queue->value_bytes += entry->value_bytes;
}

static size_t weight(const struct hotcache_value *value)
{
    return value->size + value->overhead;
}

static size_t queue_cost(const struct hotcache *cache, enum place place)
{
    const struct queue *queue = &cache->queue[place];
    return place == GHOST ? queue->entries * HOTCACHE_GHOST_BYTES
                          : queue->entries * HOTCACHE_ENTRY_BYTES + queue->value_bytes;
}

static void update_gauges(struct hotcache *cache)
{
    cache->counters.bytes =
        queue_cost(cache, SMALL) + queue_cost(cache, MAIN) + queue_cost(cache, GHOST);
    cache->counters.entries = cache->queue[SMALL].entries + cache->queue[MAIN].entries;
}

/* To the newest end of the queue of `place`. Moving to GHOST gives up the value. */
static void move_to(struct hotcache *cache, struct hotcache_entry *entry,
                    enum place place)
{
    struct hotcache_value *dropped = NULL;

    if (entry->place != NOWHERE)
        queue_remove(&cache->queue[entry->place], entry);
    if (place == GHOST) {
        dropped = entry->value;
        entry->value = NULL;
    }
    entry->place = (uint8_t)place;
    if (place != NOWHERE)
        queue_add(&cache->queue[place], entry);
    update_gauges(cache);
    hotcache_value_unref(dropped);
}

/* `at` is what points to the entry in the table. */
static void delete_at(struct hotcache *cache, struct hotcache_entry **at)
{
    struct hotcache_entry *entry = *at;

    hotcache_table_take(&cache->table, at);
    move_to(cache, entry, NOWHERE);
    hotcache_value_unref(entry->value);
    free(entry);
}

static void delete_entry(struct hotcache *cache, const struct hotcache_entry *entry)
{
    delete_at(cache, hotcache_table_find(&cache->table, entry->key, entry->key_bytes,
                                         entry->hash));
}

/* ---- eviction ---- */

static void trim_ghosts(struct hotcache *cache)
{
    const struct queue *ghosts = &cache->queue[GHOST];
    size_t stand_for = cache->bytes_max - cache->bytes_max / SMALL_PART;

    while (ghosts->entries > 0 &&
           (queue_cost(cache, GHOST) > cache->bytes_max / GHOST_PART ||
            ghosts->value_bytes > stand_for))
        delete_entry(cache, ghosts->oldest);
}

/* One value less, or a second chance for the oldest entry of the queue whose turn it is;
 * not when `now` says that there were enough of these. */
static bool evict_step(struct hotcache *cache, bool now)
{
    const struct queue *main = &cache->queue[MAIN], *small = &cache->queue[SMALL];
    bool from_small = main->entries == 0 ||
                      (small->entries > 0 &&
                       (queue_cost(cache, SMALL) > cache->bytes_max / SMALL_PART ||
                        small->entries > cache->entries_max / SMALL_PART));
    struct hotcache_entry *oldest = from_small ? small->oldest : main->oldest;

    if (!now && from_small && oldest->reads >= READS_TO_PROMOTE) {
        oldest->reads = 0;
        move_to(cache, oldest, MAIN);
        return false;
    }
    if (!now && !from_small && oldest->reads > 0) {
        oldest->reads--;
        move_to(cache, oldest, MAIN);
        return false;
    }

    cache->counters.evicted++;
    if (from_small) {
        move_to(cache, oldest, GHOST);
        trim_ghosts(cache);
    } else {
        delete_entry(cache, oldest);
    }
    return true;
}

/* Evict until `entries` more, of `bytes`, fit. */
static void make_room(struct hotcache *cache, size_t bytes, size_t entries)
{
    assert(bytes <= cache->bytes_max && entries <= cache->entries_max);
    while (cache->counters.bytes > cache->bytes_max - bytes ||
           cache->counters.entries > cache->entries_max - entries) {
        if (cache->counters.entries == 0) {
            delete_entry(cache, cache->queue[GHOST].oldest);
            continue;
        }
        for (unsigned chances = 0; !evict_step(cache, chances == SECOND_CHANCES_MAX);)
            chances++;
    }
}

/* ---- the cache ---- */

struct hotcache *hotcache_new(size_t bytes_max)
{
    struct hotcache *cache = calloc(1, sizeof *cache);
    if (cache == NULL)
        return NULL;
    cache->bytes_max = bytes_max;
    cache->entries_max = SIZE_MAX;
    if (hotcache_table_init(&cache->table) < 0) {
        free(cache);
        return NULL;
    }
    return cache;
}

void hotcache_free(struct hotcache *cache)
{
    if (cache == NULL)
        return;
    hotcache_clear(cache);
    hotcache_table_free(&cache->table);
    free(cache);
}

void hotcache_clear(struct hotcache *cache)
{
    for (int place = SMALL; place <= GHOST; place++)
        while (cache->queue[place].oldest != NULL)
            delete_entry(cache, cache->queue[place].oldest);
    hotcache_table_fit(&cache->table, SIZE_MAX);
}

struct hotcache_value *hotcache_get(struct hotcache *cache, const void *key,
                                    size_t key_bytes, uint64_t now_us)
{
    struct hotcache_entry **at = hotcache_table_find(&cache->table, key, key_bytes,
                                                     hotcache_table_hash(key, key_bytes));
    struct hotcache_entry *entry = *at;

    if (entry != NULL && entry->value != NULL && now_us < entry->expires_us) {
        cache->counters.hits++;
        if (entry->reads < READS_MAX)
            entry->reads++;
        return hotcache_value_ref(entry->value);
    }
    cache->counters.misses++;
    if (entry != NULL && entry->value != NULL) {
        cache->counters.expired++;
        delete_at(cache, at);
        hotcache_table_fit(&cache->table, JOINS_MAX);
    }
    return NULL;
}

/* Into the table, in no queue yet. NULL: out of memory. */
static struct hotcache_entry *insert(struct hotcache *cache, const void *key,
                                     size_t key_bytes, uint64_t hash)
{
    struct hotcache_entry *entry = malloc(sizeof *entry + key_bytes);
    if (entry == NULL)
        return NULL;
    *entry = (struct hotcache_entry){
        .hash = hash, .place = NOWHERE, .key_bytes = (uint8_t)key_bytes};
    memcpy(entry->key, key, key_bytes);

    hotcache_table_insert(&cache->table, entry);
    return entry;
}

int hotcache_put(struct hotcache *cache, const void *key, size_t key_bytes,
                 struct hotcache_value *value, uint64_t ttl_us, uint64_t now_us)
{
    if (key_bytes > HOTCACHE_KEY_BYTES_MAX)
        return -EINVAL;
    uint64_t hash = hotcache_table_hash(key, key_bytes);
    struct hotcache_entry **at = hotcache_table_find(&cache->table, key, key_bytes, hash),
                          *entry = *at;
    size_t limit = cache->bytes_max / VALUE_PART;

    if (limit < HOTCACHE_ENTRY_BYTES || weight(value) > limit - HOTCACHE_ENTRY_BYTES) {
        cache->counters.refused++;
        if (entry != NULL && entry->value != NULL)
            delete_at(cache, at); /* the older value is not what was put last */
        return -E2BIG;
    }

    /* Out of every queue while room is made, so that it cannot be evicted itself. */
    enum place place = SMALL;
    if (entry == NULL)
        entry = insert(cache, key, key_bytes, hash);
    else {
        place = entry->place == GHOST ? MAIN : (enum place)entry->place;
        move_to(cache, entry, NOWHERE);
    }
    if (entry == NULL)
        return -ENOMEM;
    if (place == MAIN && entry->value == NULL)
        entry->reads = 0;
    make_room(cache, weight(value) + HOTCACHE_ENTRY_BYTES, 1);

    struct hotcache_value *older = entry->value;
    entry->value = hotcache_value_ref(value);
    entry->value_bytes = weight(value);
    entry->expires_us = ttl_us < UINT64_MAX - now_us ? now_us + ttl_us : UINT64_MAX;
    cache->counters.inserted++;
    move_to(cache, entry, place);
    hotcache_value_unref(older);
    hotcache_table_fit(&cache->table, JOINS_MAX);
    return 0;
}

bool hotcache_remove(struct hotcache *cache, const void *key, size_t key_bytes)
{
    struct hotcache_entry **at = hotcache_table_find(&cache->table, key, key_bytes,
                                                     hotcache_table_hash(key, key_bytes));
    if (*at == NULL)
        return false;
    bool kept = (*at)->value != NULL;
    delete_at(cache, at); /* a ghost too: a purged key starts anew */
    hotcache_table_fit(&cache->table, JOINS_MAX);
    return kept;
}

void hotcache_sweep(struct hotcache *cache, uint64_t now_us, size_t most)
{
    size_t joins = most;
    size_t buckets = most + HOTCACHE_TABLE_BUCKETS_MIN; /* empty ones are bounded too */
    if (buckets > cache->table.buckets || buckets < most)
        buckets = cache->table.buckets; /* once round */

    while (most > 0 && buckets > 0) {
        if (cache->sweep_bucket >= cache->table.buckets)
            cache->sweep_bucket = cache->sweep_skip = 0;
        struct hotcache_entry **at =
            hotcache_table_bucket(&cache->table, cache->sweep_bucket);
        for (size_t i = 0; i < cache->sweep_skip && *at != NULL; i++)
            at = &(*at)->next_in_bucket;

        for (; *at != NULL && most > 0; most--) {
            if ((*at)->value != NULL && now_us >= (*at)->expires_us) {
                cache->counters.expired++;
                delete_at(cache, at);
            } else {
                at = &(*at)->next_in_bucket;
                cache->sweep_skip++;
            }
        }
        if (*at == NULL) {
            cache->sweep_bucket++;
            cache->sweep_skip = 0;
            buckets--;
        }
    }
    hotcache_table_fit(&cache->table, joins);
}

void hotcache_resize(struct hotcache *cache, size_t bytes_max)
{
    cache->bytes_max = bytes_max;
    trim_ghosts(cache);
    make_room(cache, 0, 0);
    hotcache_table_fit(&cache->table, SIZE_MAX);
}

void hotcache_limit_entries(struct hotcache *cache, size_t entries_max)
{
    cache->entries_max = entries_max != 0 ? entries_max : SIZE_MAX;
    make_room(cache, 0, 0);
    hotcache_table_fit(&cache->table, SIZE_MAX);
}

void hotcache_each(struct hotcache *cache,
                   bool (*keep)(const uint8_t *key, size_t key_bytes,
                                const struct hotcache_value *value, void *arg),
                   void *arg)
{
    for (int place = SMALL; place <= MAIN; place++) {
        struct hotcache_entry *next;
        for (struct hotcache_entry *e = cache->queue[place].oldest; e != NULL; e = next) {
            next = e->newer;
            if (!keep(e->key, e->key_bytes, e->value, arg))
                delete_entry(cache, e);
        }
    }
    hotcache_table_fit(&cache->table, SIZE_MAX);
}

const struct hotcache_counters *hotcache_counters(const struct hotcache *cache)
{
    return &cache->counters;
}

/* ---- for tests ---- */

static bool queue_consistent(const struct hotcache *cache, enum place place)
{
    const struct queue *queue = &cache->queue[place];
    size_t entries = 0, value_bytes = 0;
    const struct hotcache_entry *newer = NULL;

    for (const struct hotcache_entry *e = queue->newest; e != NULL;
         newer = e, e = e->older) {
        bool right =
            e->newer == newer && e->place == place && e->reads <= READS_MAX &&
            (e->value == NULL) == (place == GHOST) &&
            *hotcache_table_find(&cache->table, e->key, e->key_bytes, e->hash) == e;
        if (!right)
            return false;
        entries++;
        value_bytes += e->value_bytes;
    }
    return queue->oldest == newer && queue->entries == entries &&
           queue->value_bytes == value_bytes;
}

bool hotcache_consistent(const struct hotcache *cache)
{
    size_t in_table = 0, bytes = 0, entries = 0;

    for (size_t i = 0; i < cache->table.buckets; i++)
        for (const struct hotcache_entry *e = *hotcache_table_bucket(&cache->table, i);
             e != NULL; e = e->next_in_bucket) {
            in_table++;
            entries += e->value != NULL;
            bytes += e->value != NULL ? HOTCACHE_ENTRY_BYTES + weight(e->value)
                                      : HOTCACHE_GHOST_BYTES;
        }
    return queue_consistent(cache, SMALL) && queue_consistent(cache, MAIN) &&
           queue_consistent(cache, GHOST) && in_table == cache->table.entries &&
           bytes == cache->counters.bytes && entries == cache->counters.entries &&
           bytes <= cache->bytes_max && entries <= cache->entries_max &&
           queue_cost(cache, GHOST) <= cache->bytes_max / GHOST_PART;
}
