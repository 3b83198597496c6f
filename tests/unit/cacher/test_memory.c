#include "cacher/memory.h"

#include "tests/unit/cacher/fake_tier.h"

#include <stdio.h>

#define S     UINT64_C(1000000)
#define LARGE 1000 /* features: 148 KB */

static const uint8_t *key(unsigned number)
{
    static uint8_t bytes[PROTO_DIGEST_BYTES];
    memset(bytes, 0, sizeof bytes);
    bytes[0] = (uint8_t)number;
    bytes[1] = (uint8_t)(number >> 8);
    return bytes;
}

static void open_memory(struct cacher_memory *memory, uint64_t bytes_max)
{
    struct cacher_memory_limits limits = {.bytes_max = bytes_max,
                                          .refusals_bytes_max = 100000,
                                          .ttl_us = 100 * S,
                                          .refusal_ttl_us = 10 * S};
    *memory = (struct cacher_memory){0};
    assert_int_equal(cacher_memory_open(memory, &limits), 0);
}

static void put(struct cacher_memory *memory, unsigned number, uint64_t created_s,
                uint32_t cost_us, const char *tags, size_t count)
{
    struct hotcache_value *value =
        fake_result((uint8_t)number, created_s, cost_us, tags, count);
    assert_int_equal(cacher_memory_put(memory, key(number), value, 0, 0), 0);
    hotcache_value_unref(value);
}

static bool has(struct cacher_memory *memory, unsigned number, uint64_t now_us)
{
    struct hotcache_value *value = cacher_memory_get(memory, key(number), now_us);
    hotcache_value_unref(value);
    return value != NULL;
}

static bool is_refused(struct cacher_memory *memory, unsigned number, uint64_t now_us)
{
    struct hotcache_value *value = cacher_memory_refused(memory, key(number), now_us);
    hotcache_value_unref(value);
    return value != NULL;
}

static void refuse(struct cacher_memory *memory, unsigned number, uint64_t created_s)
{
    struct cacher_refusal refusal = {.status = PROTO_STATUS_UNDECODABLE,
                                     .created_s = created_s};
    struct hotcache_value *value = cacher_refusal_new(&refusal);
    assert_int_equal(cacher_memory_refuse(memory, key(number), value, 0), 0);
    hotcache_value_unref(value);
}

static void an_old_result_is_kept_for_what_is_left_and_a_tenth_at_least(void **state)
{
    (void)state;
    struct cacher_memory memory;
    struct hotcache_value *value = fake_result(1, 0, 0, "", 0);
    open_memory(&memory, 1 << 20);
    cacher_memory_put(&memory, key(1), value, 30 * S, 0);
    assert_true(has(&memory, 1, 70 * S - 1));
    assert_false(has(&memory, 1, 70 * S));
    cacher_memory_put(&memory, key(1), value, 5000 * S, 0);
    assert_true(has(&memory, 1, 10 * S - 1));
    assert_false(has(&memory, 1, 10 * S));
    hotcache_value_unref(value);
    cacher_memory_close(&memory);
    cacher_memory_close(&memory); /* twice is fine */
}

static void a_refusal_is_short_lived_bounded_and_replaced_by_a_result(void **state)
{
    (void)state;
    struct cacher_memory memory;
    open_memory(&memory, 1 << 20);
    refuse(&memory, 1, 0);
    assert_true(is_refused(&memory, 1, 10 * S - 1));
    assert_false(is_refused(&memory, 1, 10 * S));
    refuse(&memory, 2, 0);
    put(&memory, 2, 0, 0, "", 0);
    assert_false(is_refused(&memory, 2, 0));
    for (unsigned i = 0; i < 10000; i++)
        refuse(&memory, i, 0);
    assert_true(hotcache_counters(memory.refusals)->bytes <= 100000);
    cacher_memory_close(&memory);
}

static void a_purge_takes_what_its_filter_says_and_nothing_else(void **state)
{
    (void)state;
    static const struct {
        struct cacher_filter filter;
        uint64_t matched;
        unsigned left; /* bits: results 0 to 3 */
    } cases[] = {
        {{.kind = CACHER_FILTER_ALL}, 5, 0x0},
        {{.kind = CACHER_FILTER_KEY, .key = {2}}, 1, 0xb},
        {{.kind = CACHER_FILTER_PREFIX, .prefix = "03"}, 1, 0x7},
        {{.kind = CACHER_FILTER_PREFIX, .prefix = "0"}, 5, 0x0},
        {{.kind = CACHER_FILTER_PREFIX, .prefix = "1"}, 0, 0xf},
        {{.kind = CACHER_FILTER_TAG, .tag = "red"}, 2, 0x9},
        {{.kind = CACHER_FILTER_TAG, .tag = "re"}, 0, 0xf},
        {{.kind = CACHER_FILTER_OLDER, .before_s = 102}, 3, 0xc},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cacher_memory memory;
        struct cacher_filter dry = cases[i].filter;
        open_memory(&memory, 1 << 20);
        put(&memory, 0, 100, 0, "", 0);
        put(&memory, 1, 101, 0, "red", 0);
        put(&memory, 2, 102, 0, "blue,red", 0);
        put(&memory, 3, 103, 0, "green", 0);
        refuse(&memory, 4, 50);

        dry.dry_run = true;
        assert_int_equal(cacher_memory_purge(&memory, &dry), cases[i].matched);
        assert_int_equal(hotcache_counters(memory.results)->entries, 4);
        assert_int_equal(memory.counters.purged, 0);
        assert_int_equal(cacher_memory_purge(&memory, &cases[i].filter),
                         cases[i].matched);
        assert_int_equal(memory.counters.purged, cases[i].matched);
        for (unsigned k = 0; k < 4; k++)
            assert_int_equal(has(&memory, k, 0), cases[i].left >> k & 1);
        cacher_memory_close(&memory);
    }
}

/* Resident bytes of this process, shared ones by their share. */
static long pss_kb(void)
{
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    char line[256];
    long kb = 0;

    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "Pss: %ld kB", &kb) == 1)
            break;
    fclose(file);
    return kb;
}

static void pressure_takes_the_cheapest_first_and_memory_goes_back(void **state)
{
    (void)state;
    enum { COUNT = 400 };
    struct cacher_memory memory;
    unsigned kept = 0, kept_dear = 0;
    open_memory(&memory, 64 << 20);
    for (unsigned i = 0; i < COUNT; i++) /* some 59 MB; each fourth one is dear */
        put(&memory, i, 0, i % 4 == 0 ? 90000 : 1000 + i, "", LARGE);
    long full_kb = pss_kb();

    cacher_memory_bound(&memory, 50);
    assert_true(hotcache_consistent(memory.results));
    assert_true(hotcache_counters(memory.results)->bytes <= 32 << 20);
    for (unsigned i = 0; i < COUNT; i++) {
        bool here = has(&memory, i, 0);
        kept += here;
        kept_dear += here && i % 4 == 0;
    }
    assert_int_equal(kept_dear, COUNT / 4);
    assert_in_range(kept, COUNT / 3, COUNT * 6 / 10);
    assert_int_equal(memory.counters.squeezed, COUNT - kept);
#if !defined(__SANITIZE_ADDRESS__)
    assert_true(full_kb - pss_kb() > 20000);
#endif
    cacher_memory_bound(&memory, 10);
    assert_true(hotcache_counters(memory.results)->bytes <= (64 << 20) / 10);
#if !defined(__SANITIZE_ADDRESS__)
    assert_true(full_kb - pss_kb() > 45000);
#endif
    cacher_memory_bound(&memory, 100);
    assert_int_equal(memory.bytes_max, 64 << 20);
    for (unsigned i = 0; i < COUNT; i++)
        put(&memory, i, 0, 1, "", LARGE);
    assert_int_equal(hotcache_counters(memory.results)->entries, COUNT);
    (void)full_kb;
    cacher_memory_close(&memory);
}

static void what_cost_nothing_known_goes_before_anything_else(void **state)
{
    (void)state;
    struct cacher_memory memory;
    open_memory(&memory, 8 << 20);
    for (unsigned i = 0; i < 40; i++)
        put(&memory, i, 0, i < 20 ? 50 : 0, "", LARGE);
    cacher_memory_bound(&memory, 50);
    for (unsigned i = 0; i < 20; i++)
        assert_true(has(&memory, i, 0));
    cacher_memory_close(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_old_result_is_kept_for_what_is_left_and_a_tenth_at_least),
        cmocka_unit_test(a_refusal_is_short_lived_bounded_and_replaced_by_a_result),
        cmocka_unit_test(a_purge_takes_what_its_filter_says_and_nothing_else),
        cmocka_unit_test(pressure_takes_the_cheapest_first_and_memory_goes_back),
        cmocka_unit_test(what_cost_nothing_known_goes_before_anything_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
