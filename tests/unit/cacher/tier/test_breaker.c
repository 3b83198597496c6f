#include "cacher/tier/breaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define S UINT64_C(1000000)

static struct breaker fresh(void)
{
    return (struct breaker){.failures = 3, .open_us = S, .open_us_max = 5 * S};
}

/* Failures in a row until it opens, at `now_us`. */
static void open_at(struct breaker *breaker, uint64_t now_us)
{
    assert_false(breaker_failed(breaker, now_us));
    assert_false(breaker_failed(breaker, now_us));
    assert_true(breaker_failed(breaker, now_us));
    assert_int_equal(breaker->state, BREAKER_OPEN);
}

static void it_opens_after_failures_in_a_row_only(void **state)
{
    (void)state;
    struct breaker b = fresh();

    for (unsigned i = 0; i < 10; i++) {
        assert_true(breaker_ask(&b, i));
        assert_false(breaker_failed(&b, i));
        assert_false(breaker_failed(&b, i));
        breaker_ok(&b); /* one success, and counting begins anew */
    }
    assert_int_equal(b.state, BREAKER_CLOSED);
    open_at(&b, 10);
    assert_int_equal(b.opened, 1);
}

static void an_open_one_lets_nobody_ask_until_its_time_is_over(void **state)
{
    (void)state;
    struct breaker b = fresh();

    open_at(&b, 0);
    assert_false(breaker_ask(&b, 0));
    assert_false(breaker_ask(&b, S - 1));
    assert_true(breaker_ask(&b, S));
    assert_int_equal(b.state, BREAKER_HALF_OPEN);
}

static void half_open_is_one_probe_and_its_success_closes(void **state)
{
    (void)state;
    struct breaker b = fresh();

    open_at(&b, 0);
    assert_true(breaker_ask(&b, S));
    for (unsigned i = 0; i < 5; i++)
        assert_false(breaker_ask(&b, S + i));
    breaker_ok(&b);
    assert_int_equal(b.state, BREAKER_CLOSED);
    assert_true(breaker_ask(&b, S));
    /* It takes as many failures again as at first, and the first wait. */
    open_at(&b, 2 * S);
    assert_false(breaker_ask(&b, 3 * S - 1));
    assert_true(breaker_ask(&b, 3 * S));
}

static void each_probe_that_fails_doubles_the_wait_up_to_its_bound(void **state)
{
    (void)state;
    static const uint64_t waits[] = {1, 2, 4, 5, 5, 5};
    struct breaker b = fresh();
    uint64_t now_us = 7 * S;

    open_at(&b, now_us);
    for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++) {
        assert_false(breaker_ask(&b, now_us + waits[i] * S - 1));
        now_us += waits[i] * S;
        assert_true(breaker_ask(&b, now_us));
        assert_false(breaker_failed(&b, now_us)); /* said once, when it opened */
        assert_int_equal(b.state, BREAKER_OPEN);
    }
    assert_int_equal(b.opened, 1 + sizeof waits / sizeof waits[0]);
}

static void what_fails_late_does_not_lengthen_the_wait(void **state)
{
    (void)state;
    struct breaker b = fresh();

    open_at(&b, 0);
    for (unsigned i = 0; i < 100; i++)
        assert_false(breaker_failed(&b, S - 1));
    assert_true(breaker_ask(&b, S));
}

static void every_state_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(breaker_state_name(BREAKER_CLOSED), "closed");
    assert_string_equal(breaker_state_name(BREAKER_HALF_OPEN), "half-open");
    assert_string_equal(breaker_state_name(BREAKER_OPEN), "open");
    assert_string_equal(breaker_state_name(77), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_opens_after_failures_in_a_row_only),
        cmocka_unit_test(an_open_one_lets_nobody_ask_until_its_time_is_over),
        cmocka_unit_test(half_open_is_one_probe_and_its_success_closes),
        cmocka_unit_test(each_probe_that_fails_doubles_the_wait_up_to_its_bound),
        cmocka_unit_test(what_fails_late_does_not_lengthen_the_wait),
        cmocka_unit_test(every_state_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
