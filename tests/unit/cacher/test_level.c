#include "cacher/level.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define S       UINT64_C(1000000)
#define RESTORE (10 * S)

static bool say(struct cacher_pressure *p, enum cacher_level level, uint64_t now_us)
{
    return cacher_level_say(p, level, 5 * S, now_us);
}

static bool tick(struct cacher_pressure *p, uint64_t now_us)
{
    return cacher_level_tick(p, RESTORE, now_us);
}

static void a_higher_level_holds_at_once_and_repeating_it_changes_nothing(void **state)
{
    (void)state;
    struct cacher_pressure p = {0};
    assert_true(say(&p, CACHER_FORCED, 1 * S));
    assert_int_equal(p.held, CACHER_FORCED);
    assert_false(say(&p, CACHER_FORCED, 2 * S));
    assert_true(say(&p, CACHER_CRITICAL, 3 * S));
    assert_int_equal(p.held, CACHER_CRITICAL);
}

static void a_lower_level_holds_only_after_a_time_without_a_higher_one(void **state)
{
    (void)state;
    struct cacher_pressure p = {0};
    say(&p, CACHER_CRITICAL, 1 * S);
    assert_false(say(&p, CACHER_NORMAL, 2 * S));
    assert_false(tick(&p, 11 * S));
    assert_int_equal(p.held, CACHER_CRITICAL);
    assert_false(say(&p, CACHER_CRITICAL, 11 * S)); /* it came back: begin anew */
    assert_false(say(&p, CACHER_FORCED, 12 * S));
    for (uint64_t at = 13; at < 22; at++) {
        say(&p, CACHER_FORCED, at * S);
        assert_false(tick(&p, at * S));
    }
    assert_true(tick(&p, 22 * S));
    assert_int_equal(p.held, CACHER_FORCED);
    assert_false(tick(&p, 22 * S));
}

static void a_silent_monitor_leaves_no_stale_level(void **state)
{
    (void)state;
    struct cacher_pressure p = {0};
    say(&p, CACHER_FORCED, 1 * S); /* until 6 s */
    assert_false(tick(&p, 5 * S));
    assert_false(tick(&p, 6 * S)); /* counts as normal from here */
    assert_false(tick(&p, 15 * S));
    assert_true(tick(&p, 16 * S));
    assert_int_equal(p.held, CACHER_NORMAL);
    assert_false(tick(&p, 100 * S));
}

static void levels_have_names_and_shares(void **state)
{
    (void)state;
    static const unsigned percents[] = {100, 100, 50, 10};
    enum cacher_level level;
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(
            cacher_level_by_name(cacher_level_name((enum cacher_level)i), &level), 0);
        assert_int_equal(level, i);
        assert_int_equal(cacher_level_percent(level), percents[i]);
    }
    assert_int_equal(cacher_level_by_name("panic", &level), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_higher_level_holds_at_once_and_repeating_it_changes_nothing),
        cmocka_unit_test(a_lower_level_holds_only_after_a_time_without_a_higher_one),
        cmocka_unit_test(a_silent_monitor_leaves_no_stale_level),
        cmocka_unit_test(levels_have_names_and_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
