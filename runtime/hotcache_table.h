/*
 * hotcache_table.h - the hot cache's entries, found by their keys. For hotcache.c alone.
 *
 * A linear hash (Litwin, VLDB 1980): an insertion splits at most one bucket, a call of
 * hotcache_table_fit() joins at most as many as it is told, so no request ever pays for a
 * rehash of everything. Keys are digests or carry one: they are mixed, not seeded. The
 * entries are the caller's.
 */
#ifndef RUNTIME_HOTCACHE_TABLE_H
#define RUNTIME_HOTCACHE_TABLE_H

#include "runtime/hotcache.h"

#define HOTCACHE_TABLE_BUCKETS_MIN 512

struct hotcache_entry {
    struct hotcache_entry *next_in_bucket;
    struct hotcache_entry *newer, *older; /* in its queue */
    uint64_t hash, expires_us;
    struct hotcache_value *value; /* NULL: a ghost */
    size_t value_bytes;           /* kept of a ghost too */
    uint8_t place, reads, key_bytes;
    uint8_t key[];
};

struct hotcache_segment;

struct hotcache_table {
    struct hotcache_segment **segments;
    size_t segments_max;
    size_t buckets; /* in use: at least HOTCACHE_TABLE_BUCKETS_MIN */
    size_t entries;
};

/* 0 or -ENOMEM. */
int hotcache_table_init(struct hotcache_table *table);
/* The table is empty and fitted. Again, and zeroed, is fine. */
void hotcache_table_free(struct hotcache_table *table);

uint64_t hotcache_table_hash(const uint8_t *key, size_t key_bytes);

/* What points to the entry; to NULL when there is none. Good until the next insert or
 * fit. */
struct hotcache_entry **hotcache_table_find(const struct hotcache_table *table,
                                            const uint8_t *key, size_t key_bytes,
                                            uint64_t hash);
/* The chain of bucket `index`, below table->buckets; as good as find's. */
struct hotcache_entry **hotcache_table_bucket(const struct hotcache_table *table,
                                              size_t index);

/* The key is not there yet; `hash` is set. Always succeeds: without memory to grow,
 * chains become longer. */
void hotcache_table_insert(struct hotcache_table *table, struct hotcache_entry *entry);
void hotcache_table_take(struct hotcache_table *table, struct hotcache_entry **at);

/* Join up to `joins` buckets of a table that is less than half full. */
void hotcache_table_fit(struct hotcache_table *table, size_t joins);

#endif
