#include "runtime/hotcache.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NEVER UINT64_MAX

/* ---- what the tests share ---- */

static uint64_t random_state;

/* splitmix64; a failure is repeated by its seed. */
static uint64_t next_random(void)
{
    uint64_t x = (random_state += UINT64_C(0x9e3779b97f4a7c15));
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* The key as users have it: 33 bytes, made of a number. */
struct test_key {
    uint8_t bytes[33];
};

static struct test_key key_of(uint64_t number)
{
    struct test_key key;
    for (size_t i = 0; i < sizeof key.bytes; i++)
        key.bytes[i] = (uint8_t)(number >> 8 * (i % 8));
    return key;
}

static struct hotcache_value *value_of(size_t size, uint8_t fill)
{
    uint8_t *bytes = malloc(size > 0 ? size : 1);
    assert_non_null(bytes);
    memset(bytes, fill, size);
    struct hotcache_value *value = hotcache_value_new(bytes, size);
    assert_non_null(value);
    return value;
}

static int put(struct hotcache *cache, uint64_t number, size_t size, uint64_t ttl_us,
               uint64_t now_us)
{
    struct test_key key = key_of(number);
    struct hotcache_value *value = value_of(size, (uint8_t)number);
    int err = hotcache_put(cache, &key, sizeof key, value, ttl_us, now_us);
    hotcache_value_unref(value);
    return err;
}

static bool has(struct hotcache *cache, uint64_t number, uint64_t now_us)
{
    struct test_key key = key_of(number);
    struct hotcache_value *value = hotcache_get(cache, &key, sizeof key, now_us);
    bool found = value != NULL;
    if (found && value->size > 0)
        assert_int_equal(value->bytes[value->size - 1], (uint8_t)number);
    hotcache_value_unref(value);
    return found;
}

/* ---- one thing each ---- */

static void a_value_put_is_got_until_its_time_is_over(void **state)
{
    (void)state;
    struct hotcache *cache = hotcache_new(1 << 20);
    assert_int_equal(put(cache, 1, 100, 50, 1000), 0);

    assert_true(has(cache, 1, 1049));
    assert_int_equal(hotcache_counters(cache)->entries, 1);
    assert_false(has(cache, 1, 1050));
    assert_int_equal(hotcache_counters(cache)->entries, 0);
    assert_int_equal(hotcache_counters(cache)->bytes, 0);
    assert_int_equal(hotcache_counters(cache)->expired, 1);
    assert_int_equal(hotcache_counters(cache)->hits, 1);
    assert_int_equal(hotcache_counters(cache)->misses, 1);
    hotcache_free(cache);
}

static void an_endless_time_to_live_does_not_overflow(void **state)
{
    (void)state;
    struct hotcache *cache = hotcache_new(1 << 20);
    assert_int_equal(put(cache, 1, 100, UINT64_MAX - 5, 1000), 0);
    assert_true(has(cache, 1, UINT64_MAX - 1));
    hotcache_free(cache);
}

static void a_value_outlives_the_cache_that_dropped_it(void **state)
{
    (void)state;
    struct hotcache *cache = hotcache_new(1 << 20);
    struct test_key key = key_of(7);
    assert_int_equal(put(cache, 7, 4000, NEVER, 0), 0);

    struct hotcache_value *held = hotcache_get(cache, &key, sizeof key, 0);
    assert_non_null(held);
    assert_int_equal(held->references, 2);
    assert_true(hotcache_remove(cache, &key, sizeof key));
    assert_false(hotcache_remove(cache, &key, sizeof key));
    assert_int_equal(held->references, 1);
    hotcache_free(cache);
    for (size_t i = 0; i < held->size; i++)
        assert_int_equal(held->bytes[i], 7);
    hotcache_value_unref(held);
}

static void a_newer_value_replaces_the_older_one(void **state)
{
    (void)state;
    struct hotcache *cache = hotcache_new(1 << 20);
    struct test_key key = key_of(1);
    assert_int_equal(put(cache, 1, 5000, NEVER, 0), 0);
    struct hotcache_value *older = hotcache_get(cache, &key, sizeof key, 0);

    assert_int_equal(put(cache, 1, 300, NEVER, 0), 0);
    struct hotcache_value *newer = hotcache_get(cache, &key, sizeof key, 0);
    assert_int_equal(newer->size, 300);
    assert_int_equal(older->references, 1);
    assert_int_equal(hotcache_counters(cache)->entries, 1);
    assert_int_equal(hotcache_counters(cache)->bytes, 300 + HOTCACHE_ENTRY_BYTES);
    hotcache_value_unref(older);
    hotcache_value_unref(newer);
    hotcache_free(cache);
}

static void the_same_value_put_again_survives(void **state)
{
    (void)state;
    struct hotcache *cache = hotcache_new(1 << 20);
    struct test_key key = key_of(1);
    struct hotcache_value *value = value_of(10, 1);

    assert_int_equal(hotcache_put(cache, &key, sizeof key, value, 10, 0), 0);
    hotcache_value_unref(value); /* the cache's is the last one */
    assert_int_equal(hotcache_put(cache, &key, sizeof key, value, 10, 5), 0);
    assert_true(has(cache, 1, 14));
    hotcache_free(cache);
}

static void what_does_not_fit_is_refused_and_counted(void **state)
{
    (void)state;
    const size_t bound = 64 * 1024, largest = bound / 4 - HOTCACHE_ENTRY_BYTES;
    struct hotcache *cache = hotcache_new(bound);

    assert_int_equal(put(cache, 1, largest, NEVER, 0), 0);
    assert_int_equal(put(cache, 2, largest + 1, NEVER, 0), -E2BIG);
    assert_int_equal(hotcache_counters(cache)->refused, 1);
    assert_true(has(cache, 1, 0));

    /* The older value is not the answer any more. */
    assert_int_equal(put(cache, 1, largest + 1, NEVER, 0), -E2BIG);
    assert_false(has(cache, 1, 0));
    hotcache_free(cache);
}

static void a_key_too_long_is_refused_and_never_found(void **state)
{
    (void)state;
    struct hotcache *cache = hotcache_new(1 << 20);
    struct hotcache_value *value = value_of(10, 0);
    uint8_t key[400] = {0};

    assert_int_equal(
        hotcache_put(cache, key, HOTCACHE_KEY_BYTES_MAX + 1, value, NEVER, 0), -EINVAL);
    assert_int_equal(hotcache_put(cache, key, HOTCACHE_KEY_BYTES_MAX, value, NEVER, 0),
                     0);
    assert_null(hotcache_get(cache, key, HOTCACHE_KEY_BYTES_MAX + 256, 0));
    hotcache_value_unref(value);
    hotcache_free(cache);
}

static void keys_that_differ_in_length_alone_are_different(void **state)
{
    (void)state;
    struct hotcache *cache = hotcache_new(1 << 20);
    uint8_t key[HOTCACHE_KEY_BYTES_MAX] = {0};

    for (size_t bytes = 1; bytes <= sizeof key; bytes++) {
        struct hotcache_value *value = value_of(bytes, 0);
        assert_int_equal(hotcache_put(cache, key, bytes, value, NEVER, 0), 0);
        hotcache_value_unref(value);
    }
    for (size_t bytes = 1; bytes <= sizeof key; bytes++) {
        struct hotcache_value *value = hotcache_get(cache, key, bytes, 0);
        assert_non_null(value);
        assert_int_equal(value->size, bytes);
        hotcache_value_unref(value);
    }
    hotcache_free(cache);
}

static void a_cache_of_nothing_keeps_nothing(void **state)
{
    (void)state;
    struct hotcache *cache = hotcache_new(0);
    assert_int_equal(put(cache, 1, 0, NEVER, 0), -E2BIG);
    assert_false(has(cache, 1, 0));
    hotcache_sweep(cache, 0, 100);
    hotcache_resize(cache, 0);
    assert_true(hotcache_consistent(cache));
    hotcache_free(cache);
    hotcache_free(NULL);
    hotcache_value_unref(NULL);
}

static void an_empty_value_is_a_value(void **state)
{
    (void)state;
    struct hotcache *cache = hotcache_new(1 << 20);
    assert_int_equal(put(cache, 1, 0, NEVER, 0), 0);
    assert_true(has(cache, 1, 0));
    assert_int_equal(hotcache_counters(cache)->bytes, HOTCACHE_ENTRY_BYTES);
    hotcache_free(cache);
}

static void a_key_asked_for_again_after_its_eviction_enters_main(void **state)
{
    (void)state;
    const size_t size = 1000 - HOTCACHE_ENTRY_BYTES;
    struct hotcache *cache = hotcache_new(40 * 1000);

    for (uint64_t i = 0; i < 41; i++) /* 0 becomes a ghost */
        assert_int_equal(put(cache, i, size, NEVER, 0), 0);
    assert_false(has(cache, 0, 0));
    assert_int_equal(put(cache, 0, size, NEVER, 0), 0);
    for (uint64_t i = 100; i < 500; i++) /* a scan passes through small */
        assert_int_equal(put(cache, i, size, NEVER, 0), 0);
    assert_true(has(cache, 0, 0));
    assert_true(hotcache_consistent(cache));
    hotcache_free(cache);
}

static void a_purged_key_leaves_no_ghost(void **state)
{
    (void)state;
    struct hotcache *cache = hotcache_new(1 << 20);
    struct test_key key = key_of(1);
    assert_int_equal(put(cache, 1, 10, NEVER, 0), 0);
    assert_true(hotcache_remove(cache, &key, sizeof key));
    assert_int_equal(hotcache_counters(cache)->bytes, 0);
    assert_int_equal(hotcache_counters(cache)->evicted, 0);
    hotcache_free(cache);
}

static void a_sweep_drops_the_expired_and_looks_at_no_more_than_it_may(void **state)
{
    (void)state;
    struct hotcache *cache = hotcache_new(8 << 20);
    for (uint64_t i = 0; i < 3000; i++)
        assert_int_equal(put(cache, i, 100, i % 3 == 0 ? NEVER : 100, 0), 0);

    hotcache_sweep(cache, 100, 1);
    assert_true(hotcache_counters(cache)->expired <= 1);
    uint64_t before = hotcache_counters(cache)->expired;
    hotcache_sweep(cache, 100, 500);
    assert_true(hotcache_counters(cache)->expired <= before + 500);
    assert_true(hotcache_counters(cache)->expired > before);
    assert_true(hotcache_consistent(cache));

    for (int i = 0; i < 30; i++)
        hotcache_sweep(cache, 100, 300);
    assert_int_equal(hotcache_counters(cache)->expired, 2000);
    assert_int_equal(hotcache_counters(cache)->entries, 1000);
    assert_true(hotcache_consistent(cache));
    hotcache_free(cache);
}

static void sweeps_of_one_entry_come_round_to_all(void **state)
{
    (void)state;
    struct hotcache *cache = hotcache_new(8 << 20);
    for (uint64_t i = 0; i < 2000; i++)
        assert_int_equal(put(cache, i, 1, i % 2 == 0 ? NEVER : 100, 0), 0);

    for (int i = 0; i < 6000; i++)
        hotcache_sweep(cache, 100, 1);
    assert_int_equal(hotcache_counters(cache)->expired, 1000);
    hotcache_free(cache);
}

static void a_smaller_bound_holds_at_once(void **state)
{
    (void)state;
    struct hotcache *cache = hotcache_new(8 << 20);
    for (uint64_t i = 0; i < 10000; i++)
        assert_int_equal(put(cache, i, 500, NEVER, 0), 0);

    hotcache_resize(cache, 1 << 20);
    assert_true(hotcache_counters(cache)->bytes <= 1 << 20);
    assert_true(hotcache_counters(cache)->bytes > (1 << 20) - 1000);
    assert_true(hotcache_consistent(cache));
    hotcache_resize(cache, 0);
    assert_int_equal(hotcache_counters(cache)->bytes, 0);
    assert_true(hotcache_consistent(cache));

    hotcache_resize(cache, 1 << 20);
    assert_int_equal(put(cache, 1, 500, NEVER, 0), 0);
    assert_true(has(cache, 1, 0));
    hotcache_free(cache);
}

static void a_clear_leaves_nothing_and_the_cache_goes_on(void **state)
{
    (void)state;
    struct hotcache *cache = hotcache_new(1 << 20);
    for (uint64_t i = 0; i < 5000; i++)
        assert_int_equal(put(cache, i, 500, NEVER, 0), 0);
    hotcache_clear(cache);
    assert_int_equal(hotcache_counters(cache)->bytes, 0);
    assert_int_equal(hotcache_counters(cache)->entries, 0);
    assert_true(hotcache_consistent(cache));
    assert_int_equal(put(cache, 1, 500, NEVER, 0), 0);
    assert_true(has(cache, 1, 0));
    hotcache_free(cache);
}

static void the_table_grows_and_shrinks_without_losing_a_key(void **state)
{
    (void)state;
    const uint64_t count = 20000;
    struct hotcache *cache = hotcache_new(64 << 20);

    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < count; i++)
            assert_int_equal(put(cache, i, 8, NEVER, 0), 0);
        assert_int_equal(hotcache_counters(cache)->entries, count);
        for (uint64_t i = 0; i < count; i++) {
            struct test_key key = key_of(i);
            assert_true(has(cache, i, 0));
            if (i % 16 != 0)
                assert_true(hotcache_remove(cache, &key, sizeof key));
        }
        for (uint64_t i = 0; i < count; i += 16)
            assert_true(has(cache, i, 0));
        assert_true(hotcache_consistent(cache));
    }
    hotcache_free(cache);
}

/* All were read three times: without the bound on second chances the first put would go
 * through all of them, and then through all again, before it evicts the oldest. */
static void a_cache_full_of_read_entries_evicts_in_bounded_time(void **state)
{
    (void)state;
    struct hotcache *cache = hotcache_new(10 << 20);
    uint64_t count = 0;
    while (hotcache_counters(cache)->evicted == 0)
        assert_int_equal(put(cache, count++, 100, NEVER, 0), 0);
    assert_true(count > 10000);
    const uint64_t oldest = hotcache_counters(cache)->evicted;
    for (int reads = 0; reads < 3; reads++)
        for (uint64_t i = oldest; i < count; i++)
            assert_true(has(cache, i, 0));

    while (hotcache_counters(cache)->evicted == oldest)
        assert_int_equal(put(cache, count++, 100, NEVER, 0), 0);
    assert_true(has(cache, oldest, 0));
    assert_true(has(cache, oldest + 255, 0));
    assert_false(has(cache, oldest + 256, 0));
    assert_true(has(cache, oldest + 257, 0));
    assert_true(hotcache_consistent(cache));
    hotcache_free(cache);
}

static int destroyed;

static void count_destroy(struct hotcache_value *value)
{
    assert_ptr_equal(value->owner, &destroyed);
    destroyed++;
}

static void the_owners_destroy_is_called_once(void **state)
{
    (void)state;
    static const uint8_t bytes[4] = {1, 2, 3, 4};
    struct hotcache *cache = hotcache_new(1 << 20);
    struct hotcache_value value = {bytes, sizeof bytes, 1, count_destroy, &destroyed};

    destroyed = 0;
    assert_int_equal(hotcache_put(cache, "a", 1, &value, NEVER, 0), 0);
    assert_int_equal(hotcache_put(cache, "b", 1, &value, NEVER, 0), 0);
    hotcache_value_unref(&value);
    assert_true(hotcache_remove(cache, "a", 1));
    assert_int_equal(destroyed, 0);
    hotcache_free(cache);
    assert_int_equal(destroyed, 1);
}

/* ---- the naive model: the same rules on arrays, oldest last ---- */

enum { MODEL_SMALL, MODEL_MAIN, MODEL_GHOST, MODEL_QUEUES };
#define MODEL_MAX 4096

struct model_entry {
    uint64_t number, expires_us;
    size_t size;
    unsigned reads;
};

struct model {
    size_t bound;
    struct model_entry queue[MODEL_QUEUES][MODEL_MAX];
    size_t count[MODEL_QUEUES];
};

static size_t model_cost(const struct model *m, int q)
{
    size_t cost = 0;
    for (size_t i = 0; i < m->count[q]; i++)
        cost += q == MODEL_GHOST ? HOTCACHE_GHOST_BYTES
                                 : HOTCACHE_ENTRY_BYTES + m->queue[q][i].size;
    return cost;
}

static size_t model_bytes(const struct model *m)
{
    return model_cost(m, MODEL_SMALL) + model_cost(m, MODEL_MAIN) +
           model_cost(m, MODEL_GHOST);
}

static struct model_entry model_take(struct model *m, int q, size_t i)
{
    struct model_entry entry = m->queue[q][i];
    memmove(&m->queue[q][i], &m->queue[q][i + 1],
            (--m->count[q] - i) * sizeof m->queue[q][0]);
    return entry;
}

static void model_add(struct model *m, int q, struct model_entry entry)
{
    assert_true(m->count[q] < MODEL_MAX);
    memmove(&m->queue[q][1], &m->queue[q][0], m->count[q]++ * sizeof m->queue[q][0]);
    m->queue[q][0] = entry;
}

static bool model_find(const struct model *m, uint64_t number, int *q, size_t *i)
{
    for (*q = 0; *q < MODEL_QUEUES; (*q)++)
        for (*i = 0; *i < m->count[*q]; (*i)++)
            if (m->queue[*q][*i].number == number)
                return true;
    return false;
}

static void model_trim_ghosts(struct model *m)
{
    for (;;) {
        size_t stand_for = 0;
        for (size_t i = 0; i < m->count[MODEL_GHOST]; i++)
            stand_for += m->queue[MODEL_GHOST][i].size;
        if (model_cost(m, MODEL_GHOST) <= m->bound / 16 &&
            stand_for <= m->bound - m->bound / 10)
            return;
        m->count[MODEL_GHOST]--;
    }
}

static void model_make_room(struct model *m, size_t bytes)
{
    unsigned chances = 0;
    while (model_bytes(m) + bytes > m->bound) {
        size_t small = m->count[MODEL_SMALL], main = m->count[MODEL_MAIN];
        if (small + main == 0) {
            m->count[MODEL_GHOST]--;
            continue;
        }
        bool from_small =
            main == 0 || (small > 0 && model_cost(m, MODEL_SMALL) > m->bound / 10);
        int q = from_small ? MODEL_SMALL : MODEL_MAIN;
        struct model_entry entry = model_take(m, q, m->count[q] - 1);
        bool chance = chances < 256 && entry.reads >= (from_small ? 2u : 1u);

        chances = chance ? chances + 1 : 0;
        if (chance) {
            entry.reads = from_small ? 0 : entry.reads - 1;
            model_add(m, MODEL_MAIN, entry);
        } else if (from_small) {
            model_add(m, MODEL_GHOST, entry);
            model_trim_ghosts(m);
        }
    }
}

static bool model_get(struct model *m, uint64_t number, uint64_t now_us)
{
    int q;
    size_t i;
    if (!model_find(m, number, &q, &i) || q == MODEL_GHOST)
        return false;
    struct model_entry *entry = &m->queue[q][i];
    if (now_us >= entry->expires_us) {
        model_take(m, q, i);
        return false;
    }
    entry->reads += entry->reads < 3;
    return true;
}

static void model_put(struct model *m, uint64_t number, size_t size, uint64_t expires_us)
{
    struct model_entry entry = {.number = number};
    int q, target = MODEL_SMALL;
    size_t i;
    bool known = model_find(m, number, &q, &i);

    if (size + HOTCACHE_ENTRY_BYTES > m->bound / 4) {
        if (known && q != MODEL_GHOST)
            model_take(m, q, i);
        return;
    }
    if (known) {
        entry = model_take(m, q, i);
        target = q == MODEL_GHOST ? MODEL_MAIN : q;
        if (q == MODEL_GHOST)
            entry.reads = 0;
    }
    model_make_room(m, size + HOTCACHE_ENTRY_BYTES);
    entry.size = size;
    entry.expires_us = expires_us;
    model_add(m, target, entry);
}

static void model_remove(struct model *m, uint64_t number)
{
    int q;
    size_t i;
    if (model_find(m, number, &q, &i))
        model_take(m, q, i);
}

static void model_expire(struct model *m, uint64_t now_us)
{
    for (int q = MODEL_SMALL; q <= MODEL_MAIN; q++)
        for (size_t i = 0; i < m->count[q];)
            if (now_us >= m->queue[q][i].expires_us)
                model_take(m, q, i);
            else
                i++;
}

static void model_resize(struct model *m, size_t bound)
{
    m->bound = bound;
    model_trim_ghosts(m);
    model_make_room(m, 0);
}

#define HELD_MAX 32

/* One random step on both; references of past gets are held, and looked at, all along. */
static void random_step(struct hotcache *cache, struct model *m, uint64_t now_us,
                        struct hotcache_value **held)
{
    uint64_t kind = next_random() % 100;
    uint64_t number = next_random() % 4 ? next_random() % 60 : next_random() % 600;
    struct test_key key = key_of(number);

    if (kind < 50) {
        struct hotcache_value *value = hotcache_get(cache, &key, sizeof key, now_us);
        assert_int_equal(value != NULL, model_get(m, number, now_us));
        struct hotcache_value **slot = &held[next_random() % HELD_MAX];
        for (size_t i = 0; *slot != NULL && i < (*slot)->size; i++)
            assert_int_equal((*slot)->bytes[i], (*slot)->bytes[0]);
        hotcache_value_unref(*slot);
        *slot = value;
    } else if (kind < 92) {
        size_t size = next_random() % (next_random() % 8 ? 900 : m->bound / 3 + 1);
        uint64_t ttl_us = next_random() % 3 ? 5000 : next_random() % 500;
        (void)put(cache, number, size, ttl_us, now_us);
        model_put(m, number, size, now_us + ttl_us);
    } else if (kind < 97) {
        (void)hotcache_remove(cache, &key, sizeof key);
        model_remove(m, number);
    } else if (kind < 99) {
        hotcache_sweep(cache, now_us, 100000);
        model_expire(m, now_us);
    } else {
        size_t bound = next_random() % 10 ? 30000 + next_random() % 60000 : 0;
        hotcache_resize(cache, bound);
        model_resize(m, bound);
    }
}

static void random_operations_give_what_the_naive_model_gives(void **state)
{
    (void)state;
    struct model *m = calloc(1, sizeof *m);
    assert_non_null(m);

    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct hotcache_value *held[HELD_MAX] = {NULL};
        random_state = seed;
        *m = (struct model){.bound = 50000};
        struct hotcache *cache = hotcache_new(m->bound);

        for (uint64_t step = 0; step < 3000; step++) {
            random_step(cache, m, step, held);
            const struct hotcache_counters *c = hotcache_counters(cache);
            if (c->bytes != model_bytes(m) || c->bytes > m->bound ||
                c->entries != m->count[MODEL_SMALL] + m->count[MODEL_MAIN] ||
                !hotcache_consistent(cache))
                fail_msg("seed %ju step %ju: %ju bytes, model %zu, bound %zu",
                         (uintmax_t)seed, (uintmax_t)step, (uintmax_t)c->bytes,
                         model_bytes(m), m->bound);
        }
        hotcache_free(cache);
        for (size_t i = 0; i < HELD_MAX; i++)
            hotcache_value_unref(held[i]);
    }
    free(m);
}

/* ---- against plain LRU ---- */

#define TRACE_KEYS  20000
#define TRACE_STEPS 200000
#define TRACE_BYTES 1000 /* of each entry, overhead included */

struct lru {
    size_t capacity, count;
    uint32_t newer[2 * TRACE_STEPS],
        older[2 * TRACE_STEPS]; /* by key; 0 is the ring's end */
    bool in[2 * TRACE_STEPS];
};

static void lru_take(struct lru *lru, uint32_t key)
{
    lru->older[lru->newer[key]] = lru->older[key];
    lru->newer[lru->older[key]] = lru->newer[key];
    lru->in[key] = false;
    lru->count--;
}

/* True for a hit; after it the key is the newest in any case. */
static bool lru_access(struct lru *lru, uint32_t key)
{
    bool hit = lru->in[key];
    if (hit)
        lru_take(lru, key);
    else if (lru->count == lru->capacity)
        lru_take(lru, lru->newer[0]);
    lru->older[key] = lru->older[0];
    lru->newer[key] = 0;
    lru->newer[lru->older[0]] = key;
    lru->older[0] = key;
    lru->in[key] = true;
    lru->count++;
    return hit;
}

static uint32_t zipf(const double *sums)
{
    double at = (double)(next_random() >> 11) * 0x1p-53 * sums[TRACE_KEYS - 1];
    uint32_t low = 0, high = TRACE_KEYS - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (sums[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low + 1;
}

/* Hits of both on a Zipf trace with alpha 1, in which `scans` per cent of the requests
 * are for keys that come once. */
static void run_trace(size_t entries, unsigned scans, uint64_t *s3fifo_hits,
                      uint64_t *lru_hits)
{
    double *sums = malloc(TRACE_KEYS * sizeof *sums), sum = 0;
    struct lru *lru = calloc(1, sizeof *lru);
    struct hotcache *cache = hotcache_new(entries * TRACE_BYTES);
    assert_non_null(sums);
    assert_non_null(lru);
    for (unsigned i = 0; i < TRACE_KEYS; i++)
        sums[i] = sum += 1.0 / (i + 1);
    lru->capacity = entries;

    uint32_t next_scanned = TRACE_KEYS + 1;
    random_state = 42;
    *lru_hits = 0;
    for (unsigned step = 0; step < TRACE_STEPS; step++) {
        bool scan = next_random() % 100 < scans;
        uint32_t key = scan ? next_scanned++ : zipf(sums);
        *lru_hits += lru_access(lru, key);
        if (!has(cache, key, 0))
            assert_int_equal(
                put(cache, key, TRACE_BYTES - HOTCACHE_ENTRY_BYTES, NEVER, 0), 0);
    }
    *s3fifo_hits = hotcache_counters(cache)->hits;
    assert_true(hotcache_consistent(cache));
    hotcache_free(cache);
    free(lru);
    free(sums);
}

static void on_zipf_with_scans_it_hits_at_least_as_often_as_lru(void **state)
{
    (void)state;
    static const size_t sizes[] = {200, 1000, 4000};
    static const unsigned scans[] = {0, 20, 50};

    for (size_t s = 0; s < 3; s++)
        for (size_t c = 0; c < 3; c++) {
            uint64_t s3fifo_hits, lru_hits;
            run_trace(sizes[s], scans[c], &s3fifo_hits, &lru_hits);
            print_message("%zu entries, %u %% scanned: %.1f %% hits, LRU %.1f %%\n",
                          sizes[s], scans[c], 100.0 * (double)s3fifo_hits / TRACE_STEPS,
                          100.0 * (double)lru_hits / TRACE_STEPS);
            assert_true(s3fifo_hits >= lru_hits);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_put_is_got_until_its_time_is_over),
        cmocka_unit_test(an_endless_time_to_live_does_not_overflow),
        cmocka_unit_test(a_value_outlives_the_cache_that_dropped_it),
        cmocka_unit_test(a_newer_value_replaces_the_older_one),
        cmocka_unit_test(the_same_value_put_again_survives),
        cmocka_unit_test(what_does_not_fit_is_refused_and_counted),
        cmocka_unit_test(a_key_too_long_is_refused_and_never_found),
        cmocka_unit_test(keys_that_differ_in_length_alone_are_different),
        cmocka_unit_test(a_cache_of_nothing_keeps_nothing),
        cmocka_unit_test(an_empty_value_is_a_value),
        cmocka_unit_test(a_key_asked_for_again_after_its_eviction_enters_main),
        cmocka_unit_test(a_purged_key_leaves_no_ghost),
        cmocka_unit_test(a_sweep_drops_the_expired_and_looks_at_no_more_than_it_may),
        cmocka_unit_test(sweeps_of_one_entry_come_round_to_all),
        cmocka_unit_test(a_smaller_bound_holds_at_once),
        cmocka_unit_test(a_clear_leaves_nothing_and_the_cache_goes_on),
        cmocka_unit_test(the_table_grows_and_shrinks_without_losing_a_key),
        cmocka_unit_test(a_cache_full_of_read_entries_evicts_in_bounded_time),
        cmocka_unit_test(the_owners_destroy_is_called_once),
        cmocka_unit_test(random_operations_give_what_the_naive_model_gives),
        cmocka_unit_test(on_zipf_with_scans_it_hits_at_least_as_often_as_lru),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
