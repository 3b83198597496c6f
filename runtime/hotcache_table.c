#include "runtime/hotcache_table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Buckets in segments, so that the table grows without being copied. */
#define SEGMENT_BUCKETS HOTCACHE_TABLE_BUCKETS_MIN

struct hotcache_segment {
    struct hotcache_entry *bucket[SEGMENT_BUCKETS];
};

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    return x ^ x >> 32;
}

uint64_t hotcache_table_hash(const uint8_t *key, size_t key_bytes)
{
    uint64_t hash = key_bytes;
    for (size_t i = 0; i < key_bytes; i += 8) {
        uint64_t word = 0;
        memcpy(&word, key + i, key_bytes - i < 8 ? key_bytes - i : 8);
        hash = mix(hash ^ word);
    }
    return hash;
}

struct hotcache_entry **hotcache_table_bucket(const struct hotcache_table *table,
                                              size_t index)
{
    return &table->segments[index / SEGMENT_BUCKETS]->bucket[index % SEGMENT_BUCKETS];
}

/* Buckets below the highest power of two that fits are hashed by one bit more when
 * that bucket is there already. */
static size_t bucket_index(const struct hotcache_table *table, uint64_t hash)
{
    size_t low = (size_t)1 << (63 - __builtin_clzll(table->buckets));
    size_t index = hash & (2 * low - 1);
    return index < table->buckets ? index : index & (low - 1);
}

struct hotcache_entry **hotcache_table_find(const struct hotcache_table *table,
                                            const uint8_t *key, size_t key_bytes,
                                            uint64_t hash)
{
    struct hotcache_entry **at = hotcache_table_bucket(table, bucket_index(table, hash));
    while (*at != NULL && ((*at)->hash != hash || (*at)->key_bytes != key_bytes ||
                           memcmp((*at)->key, key, key_bytes) != 0))
        at = &(*at)->next_in_bucket;
    return at;
}

/* Room for one segment more; false when there is no memory, which only makes chains
 * longer. */
static bool add_segment(struct hotcache_table *table)
{
    size_t used = table->buckets / SEGMENT_BUCKETS;
    if (used == table->segments_max) {
        size_t max = used == 0 ? 8 : 2 * used;
        struct hotcache_segment **segments =
            realloc(table->segments, max * sizeof segments[0]);
        if (segments == NULL)
            return false;
        table->segments = segments;
        table->segments_max = max;
    }
    table->segments[used] = calloc(1, sizeof(struct hotcache_segment));
    return table->segments[used] != NULL;
}

/* Split the bucket whose turn it is. */
static void grow(struct hotcache_table *table)
{
    if (table->buckets % SEGMENT_BUCKETS == 0 && !add_segment(table))
        return;
    size_t low = (size_t)1 << (63 - __builtin_clzll(table->buckets));
    struct hotcache_entry **from = hotcache_table_bucket(table, table->buckets - low);
    struct hotcache_entry **to = hotcache_table_bucket(table, table->buckets);
    table->buckets++;

    while (*from != NULL) {
        struct hotcache_entry *entry = *from;
        if (hotcache_table_bucket(table, bucket_index(table, entry->hash)) == to) {
            *from = entry->next_in_bucket;
            entry->next_in_bucket = *to;
            *to = entry;
        } else {
            from = &entry->next_in_bucket;
        }
    }
}

/* Join the last bucket to the one it was split from. */
static void shrink(struct hotcache_table *table)
{
    struct hotcache_entry **last = hotcache_table_bucket(table, --table->buckets);
    size_t low = (size_t)1 << (63 - __builtin_clzll(table->buckets));
    struct hotcache_entry **end = hotcache_table_bucket(table, table->buckets - low);

    while (*end != NULL)
        end = &(*end)->next_in_bucket;
    *end = *last;
    *last = NULL; /* it may come back into use */
    if (table->buckets % SEGMENT_BUCKETS == 0)
        free(table->segments[table->buckets / SEGMENT_BUCKETS]);
}

int hotcache_table_init(struct hotcache_table *table)
{
    *table = (struct hotcache_table){0};
    if (!add_segment(table)) {
        hotcache_table_free(table);
        return -ENOMEM;
    }
    table->buckets = SEGMENT_BUCKETS;
    return 0;
}

void hotcache_table_free(struct hotcache_table *table)
{
    assert(table->entries == 0 && table->buckets <= SEGMENT_BUCKETS);
    if (table->buckets > 0)
        free(table->segments[0]);
    free(table->segments);
    *table = (struct hotcache_table){0};
}

void hotcache_table_insert(struct hotcache_table *table, struct hotcache_entry *entry)
{
    if (table->entries >= table->buckets)
        grow(table);
    struct hotcache_entry **bucket =
        hotcache_table_bucket(table, bucket_index(table, entry->hash));
    entry->next_in_bucket = *bucket;
    *bucket = entry;
    table->entries++;
}

void hotcache_table_take(struct hotcache_table *table, struct hotcache_entry **at)
{
    *at = (*at)->next_in_bucket;
    table->entries--;
}

void hotcache_table_fit(struct hotcache_table *table, size_t joins)
{
    for (; joins > 0 && table->buckets > SEGMENT_BUCKETS &&
           table->entries < table->buckets / 2;
         joins--)
        shrink(table);
}
