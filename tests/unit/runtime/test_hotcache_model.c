/* The hot cache against a model that is too slow to be wrong, and against plain LRU. */
#include "tests/unit/runtime/test_hotcache.h"

#include <stdio.h>

static uint64_t random_state;

/* splitmix64; a failure is repeated by its seed. */
static uint64_t next_random(void)
{
    uint64_t x = (random_state += UINT64_C(0x9e3779b97f4a7c15));
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
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
        cmocka_unit_test(random_operations_give_what_the_naive_model_gives),
        cmocka_unit_test(on_zipf_with_scans_it_hits_at_least_as_often_as_lru),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
