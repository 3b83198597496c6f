#include "tests/unit/runtime/test_hotcache.h"

#include <errno.h>

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
    struct hotcache_value value = {.bytes = bytes,
                                   .size = sizeof bytes,
                                   .references = 1,
                                   .destroy = count_destroy,
                                   .owner = &destroyed};

    destroyed = 0;
    assert_int_equal(hotcache_put(cache, "a", 1, &value, NEVER, 0), 0);
    assert_int_equal(hotcache_put(cache, "b", 1, &value, NEVER, 0), 0);
    hotcache_value_unref(&value);
    assert_true(hotcache_remove(cache, "a", 1));
    assert_int_equal(destroyed, 0);
    hotcache_free(cache);
    assert_int_equal(destroyed, 1);
}

static void what_a_value_costs_beside_its_bytes_counts(void **state)
{
    (void)state;
    struct hotcache *cache = hotcache_new(100000);
    struct test_key key = key_of(1);
    struct hotcache_value *value = value_of(1000, 1);

    value->overhead = 500;
    assert_int_equal(hotcache_put(cache, &key, sizeof key, value, NEVER, 0), 0);
    hotcache_value_unref(value);
    assert_int_equal(hotcache_counters(cache)->bytes, 1500 + HOTCACHE_ENTRY_BYTES);
    assert_true(hotcache_consistent(cache));

    value = value_of(1000, 1);
    value->overhead = 25000;
    assert_int_equal(hotcache_put(cache, &key, sizeof key, value, NEVER, 0), -E2BIG);
    hotcache_value_unref(value);
    assert_int_equal(hotcache_counters(cache)->bytes, 0);
    hotcache_free(cache);
}

static void a_bound_of_entries_holds_beside_that_of_bytes(void **state)
{
    (void)state;
    struct hotcache *cache = hotcache_new(1 << 20);

    for (uint64_t i = 0; i < 100; i++)
        assert_int_equal(put(cache, i, 10, NEVER, 0), 0);
    hotcache_limit_entries(cache, 20);
    assert_int_equal(hotcache_counters(cache)->entries, 20);
    for (uint64_t i = 100; i < 200; i++) {
        assert_int_equal(put(cache, i, 10, NEVER, 0), 0);
        assert_int_equal(hotcache_counters(cache)->entries, 20);
        assert_true(has(cache, i, 0));
    }
    assert_true(hotcache_consistent(cache));
    hotcache_limit_entries(cache, 0);
    for (uint64_t i = 200; i < 300; i++)
        assert_int_equal(put(cache, i, 10, NEVER, 0), 0);
    assert_int_equal(hotcache_counters(cache)->entries, 120);
    hotcache_limit_entries(cache, 1);
    assert_int_equal(put(cache, 1, 10, NEVER, 0), 0);
    assert_int_equal(hotcache_counters(cache)->entries, 1);
    assert_true(hotcache_consistent(cache));
    hotcache_free(cache);
}

/* Keeps what has an odd number; counts all. */
static bool keep_odd(const uint8_t *key, size_t key_bytes,
                     const struct hotcache_value *value, void *arg)
{
    assert_int_equal(key_bytes, sizeof(struct test_key));
    assert_int_equal(value->bytes[0], key[0]);
    ++*(unsigned *)arg;
    return key[0] % 2 == 1;
}

static void each_value_is_shown_once_and_goes_where_told(void **state)
{
    (void)state;
    struct hotcache *cache = hotcache_new(1 << 20);
    unsigned shown = 0;

    for (uint64_t i = 0; i < 200; i++)
        assert_int_equal(put(cache, i, 10, i < 100 ? NEVER : 5, 0), 0);
    hotcache_each(cache, keep_odd, &shown);
    assert_int_equal(shown, 200);
    for (uint64_t i = 0; i < 200; i++)
        assert_int_equal(has(cache, i, 1), i % 2 == 1);
    assert_int_equal(hotcache_counters(cache)->entries, 100);
    assert_true(hotcache_consistent(cache));
    hotcache_free(cache);
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
        cmocka_unit_test(what_a_value_costs_beside_its_bytes_counts),
        cmocka_unit_test(a_bound_of_entries_holds_beside_that_of_bytes),
        cmocka_unit_test(each_value_is_shown_once_and_goes_where_told),
        cmocka_unit_test(a_sweep_drops_the_expired_and_looks_at_no_more_than_it_may),
        cmocka_unit_test(sweeps_of_one_entry_come_round_to_all),
        cmocka_unit_test(a_smaller_bound_holds_at_once),
        cmocka_unit_test(a_clear_leaves_nothing_and_the_cache_goes_on),
        cmocka_unit_test(the_table_grows_and_shrinks_without_losing_a_key),
        cmocka_unit_test(a_cache_full_of_read_entries_evicts_in_bounded_time),
        cmocka_unit_test(the_owners_destroy_is_called_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
