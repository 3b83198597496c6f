/*
 * cache_trace.c - the hot cache on made traces, beside an exact LRU of the same bytes.
 *
 *     build/release/bin/cache_trace [REQUESTS]
 *
 * First hit ratios: keys drawn by Zipf's law, each with a size of its own (half of them
 * 2 KB, half 20 to 150 KB), alone and with a share of requests for keys that come once
 * (a scan). Then what a request costs, from an empty cache to ten times its bound, when
 * every one is a miss: the last tenth beside the first after the bound was reached.
 */
#include "runtime/hotcache.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KEYS 100000u /* of the Zipf part; scanned ones come after */

static uint64_t random_state = 1;

/* splitmix64 */
static uint64_t next_random(void)
{
    uint64_t x = (random_state += UINT64_C(0x9e3779b97f4a7c15));
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static size_t size_of(uint32_t key)
{
    uint32_t mixed = key * 2654435761u;
    return mixed & 1 ? 2000 : 20000 + (mixed >> 8) % 130000;
}

/* ---- the trace ---- */

static void make_trace(uint32_t *trace, size_t requests, double alpha, unsigned scans)
{
    static double sums[KEYS];
    uint32_t scanned = KEYS;
    double sum = 0;

    random_state = 42;
    for (uint32_t i = 0; i < KEYS; i++)
        sums[i] = sum += pow(i + 1, -alpha);
    for (size_t n = 0; n < requests; n++) {
        if (next_random() % 100 < scans) {
            trace[n] = scanned++;
            continue;
        }
        double at = (double)(next_random() >> 11) * 0x1p-53 * sum;
        uint32_t low = 0, high = KEYS - 1;
        while (low < high) {
            uint32_t middle = (low + high) / 2;
            if (sums[middle] < at)
                low = middle + 1;
            else
                high = middle;
        }
        trace[n] = low;
    }
}

/* ---- the hot cache ---- */

static void no_destroy(struct hotcache_value *value)
{
    free(value);
}

/* Bytes that nobody looks at are not there. */
static void put(struct hotcache *cache, uint32_t number, size_t size)
{
    uint8_t key[32] = {0};
    struct hotcache_value *value = calloc(1, sizeof *value);

    if (value == NULL)
        exit(71);
    *value =
        (struct hotcache_value){.size = size, .references = 1, .destroy = no_destroy};
    memcpy(key, &number, sizeof number);
    (void)hotcache_put(cache, key, sizeof key, value, UINT64_MAX, 0);
    hotcache_value_unref(value);
}

static bool get(struct hotcache *cache, uint32_t number)
{
    uint8_t key[32] = {0};

    memcpy(key, &number, sizeof number);
    struct hotcache_value *value = hotcache_get(cache, key, sizeof key, 0);
    hotcache_value_unref(value);
    return value != NULL;
}

static double run_hotcache(const uint32_t *trace, size_t requests, size_t bytes)
{
    struct hotcache *cache = hotcache_new(bytes);
    size_t hits = 0;

    for (size_t n = 0; n < requests; n++) {
        bool hit = get(cache, trace[n]);
        hits += hit;
        if (!hit)
            put(cache, trace[n], size_of(trace[n]));
    }
    hotcache_free(cache);
    return (double)hits / (double)requests;
}

/* ---- LRU: exact, entries cost what they cost there, no ghosts ---- */

static double run_lru(const uint32_t *trace, size_t requests, size_t bytes)
{
    size_t keys = KEYS + requests, held = 0, hits = 0;
    uint32_t end = (uint32_t)keys;
    uint32_t *newer = calloc(keys + 1, sizeof *newer),
             *older = calloc(keys + 1, sizeof *older);
    bool *in = calloc(keys, 1);

    if (newer == NULL || older == NULL || in == NULL)
        exit(71);
    newer[end] = older[end] = end;
    for (size_t n = 0; n < requests; n++) {
        uint32_t key = trace[n];
        hits += in[key];
        if (in[key]) {
            newer[older[key]] = newer[key];
            older[newer[key]] = older[key];
        } else {
            held += size_of(key) + HOTCACHE_ENTRY_BYTES;
        }
        in[key] = true;
        older[key] = older[end]; /* the newest until now */
        newer[key] = end;
        newer[older[end]] = key;
        older[end] = key;
        while (held > bytes) {
            uint32_t last = newer[end];
            newer[end] = newer[last];
            older[newer[last]] = end;
            in[last] = false;
            held -= size_of(last) + HOTCACHE_ENTRY_BYTES;
        }
    }
    free(newer);
    free(older);
    free(in);
    return (double)hits / (double)requests;
}

/* ---- tables ---- */

static int compare(size_t requests)
{
    static const double alphas[] = {0.7, 0.9, 1.1};
    static const unsigned scans[] = {0, 20, 50}, percents[] = {1, 5, 20};
    uint32_t *trace = malloc(requests * sizeof *trace);
    size_t whole = 0;
    int worse = 0;

    if (trace == NULL)
        return 71;
    for (uint32_t key = 0; key < KEYS; key++)
        whole += size_of(key) + HOTCACHE_ENTRY_BYTES;
    printf("%u keys, %.1f GB in all, %zu requests; hit ratios in percent\n\n", KEYS,
           (double)whole / 1e9, requests);
    printf("alpha  scanned  bound   S3-FIFO    LRU   difference\n");
    for (size_t a = 0; a < 3; a++) {
        for (size_t s = 0; s < 3; s++) {
            make_trace(trace, requests, alphas[a], scans[s]);
            for (size_t p = 0; p < 3; p++) {
                size_t bytes = whole / 100 * percents[p];
                double ours = 100 * run_hotcache(trace, requests, bytes);
                double lru = 100 * run_lru(trace, requests, bytes);
                printf("%5.1f  %5u %%  %3u %%  %8.2f  %5.2f       %+5.2f\n", alphas[a],
                       scans[s], percents[p], ours, lru, ours - lru);
                worse += ours < lru;
            }
        }
    }
    printf("\nworse than LRU in %d of 27\n", worse);
    free(trace);
    return worse > 0;
}

/* Of this process's own time: others may be at work here. */
static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void all_misses(void)
{
    const size_t entries = 100000, size = 2000;
    struct hotcache *cache = hotcache_new(entries * (size + HOTCACHE_ENTRY_BYTES));
    uint32_t key = 0;
    double first = 0, last = 0;

    printf("\nevery request a miss, a cache of %zu results:\n", entries);
    for (int turn = 0; turn <= 10; turn++) {
        double begun = seconds();
        for (size_t n = 0; n < entries; n++, key++)
            if (!get(cache, key))
                put(cache, key, size);
        double ns = (seconds() - begun) * 1e9 / (double)entries;
        printf("  filled %2d times: %6.0f ns a request\n", turn + 1, ns);
        first = turn == 1 ? ns : first;
        last = ns;
    }
    printf("  the last time beside the second: %.2f\n", last / first);
    hotcache_free(cache);
}

int main(int argc, char **argv)
{
    size_t requests = argc > 1 ? strtoul(argv[1], NULL, 10) : 2000000;

    if (requests < 1000 || requests > 100000000) {
        fprintf(stderr, "Usage: cache_trace [REQUESTS], 1000 to 100000000\n");
        return 64;
    }
    int worse = compare(requests);
    all_misses();
    return worse;
}
