#include "runtime/drain.h"
#include "tests/harness/harness.h"

#define S UINT64_C(1000000)

static void nothing_known_is_the_default(void **state)
{
    struct drain drain = {0};
    (void)state;

    assert_int_equal(drain_ms(&drain, 1000, 50 * S), DRAIN_DEFAULT_MS);
    drain_note(&drain, 50 * S);
    assert_int_equal(drain_ms(&drain, 1000, 50 * S), DRAIN_DEFAULT_MS);
}

static void it_follows_the_rate_of_the_last_ends(void **state)
{
    struct drain drain = {0};
    uint64_t now_us = 0;
    (void)state;

    for (int i = 0; i < 100; i++)
        drain_note(&drain, now_us += 5 * S); /* slow, and long ago */
    for (unsigned i = 0; i < DRAIN_ENDS; i++)
        drain_note(&drain, now_us += S / 10);
    assert_int_equal(drain_ms(&drain, 100, now_us), 10000);
    assert_int_equal(drain_ms(&drain, 55, now_us), 5500);
    /* Few ends are as good. */
    drain = (struct drain){0};
    drain_note(&drain, 0);
    drain_note(&drain, 3 * S);
    assert_int_equal(drain_ms(&drain, 2, 3 * S), 6000);
}

static void it_is_cut_at_both_ends_and_never_overflows(void **state)
{
    struct drain drain = {0};
    (void)state;

    drain_note(&drain, S);
    drain_note(&drain, S); /* at once */
    assert_int_equal(drain_ms(&drain, UINT64_MAX, S), DRAIN_DEFAULT_MS);
    drain_note(&drain, S + 10);
    assert_int_equal(drain_ms(&drain, 1, S + 10), DRAIN_MIN_MS);
    assert_int_equal(drain_ms(&drain, 0, S + 10), DRAIN_MIN_MS);
    assert_int_equal(drain_ms(&drain, UINT64_MAX, S + 10), DRAIN_MAX_MS);
}

static void a_pause_counts_as_what_it_is(void **state)
{
    struct drain drain = {0};
    (void)state;

    drain_note(&drain, S);
    drain_note(&drain, 2 * S);
    assert_int_equal(drain_ms(&drain, 3, 2 * S), 3000);
    assert_int_equal(drain_ms(&drain, 3, 6 * S), 12000);
    assert_int_equal(drain_ms(&drain, 1, 1000 * S), DRAIN_MAX_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_known_is_the_default),
        cmocka_unit_test(it_follows_the_rate_of_the_last_ends),
        cmocka_unit_test(it_is_cut_at_both_ends_and_never_overflows),
        cmocka_unit_test(a_pause_counts_as_what_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
