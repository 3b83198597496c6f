/* The sampled curve against an exact simulation of LRU on the same trace. */
#include "cacher/reuse.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define KEYS     40000
#define REQUESTS 600000

static uint64_t random_state;

/* splitmix64 */
static uint64_t next_random(void)
{
    uint64_t x = (random_state += UINT64_C(0x9e3779b97f4a7c15));
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static void key_of(uint32_t number, uint8_t key[PROTO_DIGEST_BYTES])
{
    uint64_t kept = random_state;

    random_state = number + UINT64_C(77);
    for (size_t i = 0; i < PROTO_DIGEST_BYTES; i += 8) {
        uint64_t word = next_random();
        memcpy(key + i, &word, 8);
    }
    random_state = kept;
}

/* A result of 2 to 150 KB, always the same for a key. */
static uint64_t size_of(uint32_t number)
{
    return 2000 + number * UINT64_C(2654435761) % 148000;
}

/* A Zipf trace, alpha 1: by the inverse of its sums. */
static uint32_t *make_trace(void)
{
    static double sums[KEYS];
    uint32_t *trace = malloc(REQUESTS * sizeof trace[0]);
    double sum = 0;

    assert_non_null(trace);
    random_state = 5;
    for (uint32_t i = 0; i < KEYS; i++)
        sums[i] = sum += 1.0 / (i + 1);
    for (uint32_t n = 0; n < REQUESTS; n++) {
        double at = (double)(next_random() >> 11) / 9007199254740992.0 * sum;
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
    return trace;
}

/* Hit ratio of an LRU of `bytes`, exactly. */
static double simulate(const uint32_t *trace, uint64_t bytes)
{
    static uint32_t newer[KEYS + 1], older[KEYS + 1]; /* KEYS: both ends */
    static bool in[KEYS];
    uint64_t held = 0, hits = 0;

    memset(in, 0, sizeof in);
    newer[KEYS] = older[KEYS] = KEYS;
    for (uint32_t n = 0; n < REQUESTS; n++) {
        uint32_t key = trace[n];
        hits += in[key];
        if (in[key]) {
            newer[older[key]] = newer[key];
            older[newer[key]] = older[key];
        } else {
            held += size_of(key);
        }
        in[key] = true;
        older[key] = older[KEYS];
        newer[key] = KEYS;
        newer[older[KEYS]] = key;
        older[KEYS] = key; /* older[KEYS]: the newest; newer[KEYS]: the oldest */
        while (held > bytes) {
            uint32_t last = newer[KEYS];
            newer[KEYS] = newer[last];
            older[newer[last]] = KEYS;
            in[last] = false;
            held -= size_of(last);
        }
    }
    return (double)hits / REQUESTS;
}

static void the_sampled_curve_is_that_of_an_exact_lru(void **state)
{
    (void)state;
    uint32_t *trace = make_trace();
    uint8_t key[PROTO_DIGEST_BYTES];
    static const uint32_t samples[] = {KEYS, 8192, 2048};
    static const double error[] = {0.01, 0.03, 0.06};

    for (size_t s = 0; s < 3; s++) {
        struct cacher_reuse *reuse = cacher_reuse_new(samples[s], 42);
        double worst = 0;
        assert_non_null(reuse);
        for (uint32_t n = 0; n < REQUESTS; n++) {
            key_of(trace[n], key);
            cacher_reuse_get(reuse, key);
            cacher_reuse_size(reuse, key, size_of(trace[n]));
        }
        struct cacher_reuse_sample sample = cacher_reuse_sample(reuse);
        assert_true(sample.keys <= samples[s]);
        assert_true((sample.rate == 1) == (samples[s] == KEYS));
        for (uint64_t bytes = 16 << 20; bytes <= UINT64_C(4) << 30; bytes *= 2) {
            double exact = simulate(trace, bytes);
            double guess = cacher_reuse_hit_ratio(reuse, bytes);
            worst = fabs(exact - guess) > worst ? fabs(exact - guess) : worst;
        }
        print_message("%u keys watched: wrong by %.3f at most\n", sample.keys, worst);
        assert_true(worst < error[s]);
        cacher_reuse_free(reuse);
    }
    free(trace);
}

static void a_loop_hits_when_it_fits_and_never_before(void **state)
{
    (void)state;
    struct cacher_reuse *reuse = cacher_reuse_new(1000, 1);
    uint8_t key[PROTO_DIGEST_BYTES];

    for (unsigned n = 0; n < 100 * 50; n++) { /* 100 keys of 1024, round and round */
        key_of(n % 100, key);
        cacher_reuse_get(reuse, key);
        cacher_reuse_size(reuse, key, 1024);
    }
    assert_true(cacher_reuse_hit_ratio(reuse, 80 * 1024) == 0);
    assert_true(fabs(cacher_reuse_hit_ratio(reuse, 120 * 1024) - 0.98) < 0.001);
    cacher_reuse_free(reuse);
}

static void nothing_seen_is_no_hit_and_new_keys_alone_never_hit(void **state)
{
    (void)state;
    struct cacher_reuse *reuse = cacher_reuse_new(64, 1);
    uint8_t key[PROTO_DIGEST_BYTES];

    assert_true(cacher_reuse_hit_ratio(reuse, 1 << 30) == 0);
    for (uint32_t n = 0; n < 100000; n++) {
        key_of(n, key);
        cacher_reuse_get(reuse, key);
        cacher_reuse_size(reuse, key, 100);
    }
    assert_true(cacher_reuse_sample(reuse).keys <= 64);
    assert_true(cacher_reuse_hit_ratio(reuse, UINT64_C(1) << 40) < 0.2);
    cacher_reuse_free(reuse);
    assert_null(cacher_reuse_new(0, 1));
    assert_null(cacher_reuse_new(UINT32_MAX, 1));
    cacher_reuse_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sampled_curve_is_that_of_an_exact_lru),
        cmocka_unit_test(a_loop_hits_when_it_fits_and_never_before),
        cmocka_unit_test(nothing_seen_is_no_hit_and_new_keys_alone_never_hit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
