/*
 * The watched keys are found by their hash (chains), and stand in a heap, the highest
 * hash first, which is the next to go when the threshold is lowered.
 *
 * Each has a place on a line of time, the later the newer. A Fenwick tree over the places
 * sums the bytes behind any of them in O(log n). When the line is used up, the keys move
 * up to its beginning in their order.
 */
#include "cacher/reuse.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define KEYS_MAX     (1u << 20)
#define NONE         UINT32_MAX
#define HASHES       (1u << 24) /* values of a sampling hash */
#define LINE         4          /* places of the line for each key */
#define STEPS        8          /* of an octave of distances */
#define OCTAVES      44
#define AGE_REQUESTS (1u << 22)

struct watched {
    uint64_t id, bytes;
    uint32_t hash, place, chain, heap;
};

struct cacher_reuse {
    uint32_t keys_max, keys, threshold;
    uint64_t seed, until_age;
    double requests, seen; /* all; of those, watched ones, scaled as `hits` */
    double hits[OCTAVES * STEPS];
    struct watched *all; /* keys_max + 1 */
    uint32_t *heap;      /* the same; indexes of `all` */
    uint32_t *heads, mask;
    uint64_t *tree; /* places + 1; Fenwick, 1-based */
    uint32_t *at;   /* by place: who is there, or NONE */
    uint32_t places, next;
};

struct cacher_reuse *cacher_reuse_new(uint32_t keys_max, uint64_t seed)
{
    struct cacher_reuse *r =
        keys_max > 0 && keys_max <= KEYS_MAX ? calloc(1, sizeof *r) : NULL;
    if (r == NULL)
        return NULL;
    r->keys_max = keys_max;
    r->threshold = HASHES;
    r->seed = seed;
    r->until_age = AGE_REQUESTS;
    r->places = LINE * (keys_max + 1);
    for (r->mask = 16; r->mask < keys_max;)
        r->mask *= 2;
    r->all = calloc(keys_max + 1, sizeof r->all[0]);
    r->heap = calloc(keys_max + 1, sizeof r->heap[0]);
    r->heads = malloc(r->mask * sizeof r->heads[0]);
    r->tree = calloc(r->places + 1, sizeof r->tree[0]);
    r->at = malloc(r->places * sizeof r->at[0]);
    if (r->all == NULL || r->heap == NULL || r->heads == NULL || r->tree == NULL ||
        r->at == NULL) {
        cacher_reuse_free(r);
        return NULL;
    }
    memset(r->heads, 0xff, r->mask * sizeof r->heads[0]);
    memset(r->at, 0xff, r->places * sizeof r->at[0]);
    r->mask--;
    return r;
}

void cacher_reuse_free(struct cacher_reuse *r)
{
    if (r == NULL)
        return;
    free(r->all);
    free(r->heap);
    free(r->heads);
    free(r->tree);
    free(r->at);
    free(r);
}

/* ---- the line of time ---- */

static void add_bytes(struct cacher_reuse *r, uint32_t place, uint64_t bytes)
{
    for (uint32_t i = place + 1; i <= r->places; i += i & -i)
        r->tree[i] += bytes; /* modulo 2^64: taking away works, too */
}

static uint64_t bytes_before(const struct cacher_reuse *r, uint32_t place)
{
    uint64_t sum = 0;

    for (uint32_t i = place; i > 0; i -= i & -i)
        sum += r->tree[i];
    return sum;
}

static void step_up(struct cacher_reuse *r)
{
    uint32_t to = 0;

    memset(r->tree, 0, (r->places + 1) * sizeof r->tree[0]);
    for (uint32_t from = 0; from < r->places; from++) {
        uint32_t who = r->at[from];
        r->at[from] = NONE;
        if (who == NONE)
            continue;
        r->at[to] = who;
        r->all[who].place = to;
        add_bytes(r, to++, r->all[who].bytes);
    }
    r->next = to;
}

static void put_last(struct cacher_reuse *r, uint32_t who)
{
    if (r->next == r->places)
        step_up(r);
    r->all[who].place = r->next;
    r->at[r->next] = who;
    add_bytes(r, r->next++, r->all[who].bytes);
}

static void take_out(struct cacher_reuse *r, uint32_t who)
{
    add_bytes(r, r->all[who].place, -r->all[who].bytes);
    r->at[r->all[who].place] = NONE;
}

/* ---- the heap of hashes ---- */

static void heap_set(struct cacher_reuse *r, uint32_t i, uint32_t who)
{
    r->heap[i] = who;
    r->all[who].heap = i;
}

static void heap_add(struct cacher_reuse *r, uint32_t i, uint32_t who)
{
    while (i > 0 && r->all[r->heap[(i - 1) / 2]].hash < r->all[who].hash) {
        heap_set(r, i, r->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_set(r, i, who);
}

/* The first has left, of `count`: the last takes its place and sinks. */
static void heap_fill(struct cacher_reuse *r, uint32_t count)
{
    uint32_t who = r->heap[count - 1], i = 0;

    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child + 1 < count - 1 &&
            r->all[r->heap[child + 1]].hash > r->all[r->heap[child]].hash)
            child++;
        if (child >= count - 1 || r->all[r->heap[child]].hash <= r->all[who].hash)
            break;
        heap_set(r, i, r->heap[child]);
        i = child;
    }
    if (count > 1)
        heap_set(r, i, who);
}

/* ---- keys ---- */

static uint64_t id_of(const uint8_t *key)
{
    uint64_t id;
    memcpy(&id, key + 8, sizeof id);
    return id;
}

static uint32_t hash_of(const struct cacher_reuse *r, const uint8_t *key)
{
    uint64_t mixed;

    memcpy(&mixed, key, sizeof mixed);
    mixed = (mixed ^ r->seed) * UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ mixed >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return (uint32_t)(mixed >> 40);
}

static uint32_t find(const struct cacher_reuse *r, uint64_t id)
{
    uint32_t who = r->heads[id & r->mask];

    while (who != NONE && r->all[who].id != id)
        who = r->all[who].chain;
    return who;
}

static void unchain(struct cacher_reuse *r, uint32_t who)
{
    uint32_t *link = &r->heads[r->all[who].id & r->mask];

    while (*link != who)
        link = &r->all[*link].chain;
    *link = r->all[who].chain;
}

/* Entry `from` moves to `to`, which is free. */
static void move(struct cacher_reuse *r, uint32_t from, uint32_t to)
{
    struct watched *key = &r->all[to];

    if (from == to)
        return;
    unchain(r, from);
    *key = r->all[from];
    key->chain = r->heads[key->id & r->mask];
    r->heads[key->id & r->mask] = to;
    r->heap[key->heap] = to;
    r->at[key->place] = to;
}

static void drop_highest(struct cacher_reuse *r)
{
    uint32_t who = r->heap[0];

    take_out(r, who);
    unchain(r, who);
    heap_fill(r, r->keys);
    move(r, --r->keys, who);
}

/* One more than may be is watched: fewer hashes from now on. What was counted counts for
 * fewer requests, as if it had been sampled so from the start. */
static void lower(struct cacher_reuse *r)
{
    uint32_t before = r->threshold;

    r->threshold = r->all[r->heap[0]].hash;
    while (r->keys > 0 && r->all[r->heap[0]].hash >= r->threshold)
        drop_highest(r);
    double share = (double)r->threshold / before;
    r->seen *= share;
    for (size_t i = 0; i < sizeof r->hits / sizeof r->hits[0]; i++)
        r->hits[i] *= share;
}

static void watch(struct cacher_reuse *r, uint64_t id, uint32_t hash)
{
    uint32_t who = r->keys++;

    r->all[who] =
        (struct watched){.id = id, .hash = hash, .chain = r->heads[id & r->mask]};
    r->heads[id & r->mask] = who;
    heap_add(r, who, who);
    put_last(r, who);
    if (r->keys > r->keys_max)
        lower(r);
}

/* ---- distances ---- */

/* Upper end of step i: 2^(i / STEPS), in equal parts of its octave. */
static double top_of(size_t i)
{
    double octave = (double)(UINT64_C(1) << i / STEPS);
    return octave + octave / STEPS * (double)(i % STEPS + 1);
}

static size_t step_of(double distance)
{
    size_t i = 0;

    while (i < OCTAVES * STEPS - 1 && distance > top_of(i | (STEPS - 1)))
        i += STEPS;
    while (i < OCTAVES * STEPS - 1 && distance > top_of(i))
        i++;
    return i;
}

static void age(struct cacher_reuse *r)
{
    r->until_age = AGE_REQUESTS;
    r->requests /= 2;
    r->seen /= 2;
    for (size_t i = 0; i < sizeof r->hits / sizeof r->hits[0]; i++)
        r->hits[i] /= 2;
}

void cacher_reuse_get(struct cacher_reuse *r, const uint8_t key[PROTO_DIGEST_BYTES])
{
    uint32_t hash = hash_of(r, key);

    r->requests++;
    if (--r->until_age == 0)
        age(r);
    if (hash >= r->threshold)
        return;
    uint32_t who = find(r, id_of(key));
    r->seen++;
    if (who == NONE) {
        watch(r, id_of(key), hash);
        return;
    }
    /* Its own bytes are needed as well. */
    double bytes =
        (double)(bytes_before(r, r->next) - bytes_before(r, r->all[who].place));
    r->hits[step_of(bytes * HASHES / r->threshold)]++;
    take_out(r, who);
    put_last(r, who);
}

void cacher_reuse_size(struct cacher_reuse *r, const uint8_t key[PROTO_DIGEST_BYTES],
                       uint64_t bytes)
{
    uint32_t who = find(r, id_of(key));

    if (who == NONE || r->all[who].bytes == bytes)
        return;
    add_bytes(r, r->all[who].place, bytes - r->all[who].bytes);
    r->all[who].bytes = bytes;
}

double cacher_reuse_hit_ratio(const struct cacher_reuse *r, uint64_t bytes)
{
    double expected = r->requests * r->threshold / HASHES;
    double hits = expected - r->seen; /* SHARDS-adj: to the smallest distances */

    if (expected <= 0)
        return 0;
    for (size_t i = 0; i < OCTAVES * STEPS && top_of(i) <= (double)bytes; i++)
        hits += r->hits[i];
    double ratio = hits / expected;
    return ratio > 0 ? ratio < 1 ? ratio : 1 : 0;
}

struct cacher_reuse_sample cacher_reuse_sample(const struct cacher_reuse *r)
{
    return (struct cacher_reuse_sample){
        .keys = r->keys, .rate = (double)r->threshold / HASHES, .requests = r->requests};
}
