#include "core_fixture.h"

#include <errno.h>

static uint64_t share_of(struct fixture *f, uint32_t worker)
{
    struct broker_core_worker_view view;
    assert_true(broker_core_worker(f->core, worker, &view));
    return view.share;
}

static void dispatch_stops_at_the_target_the_moment_it_changes(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_core(&f);
    hello(&f, 0);
    enlist(&f, 0, 4, 8);
    ready(&f, 0, 4, 4);
    for (unsigned n = 0; n < 8; n++)
        submit(&f, n);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 4);
    const struct broker_core_action jobs[] = {
        *nth(&f, BROKER_CORE_JOB, 0), *nth(&f, BROKER_CORE_JOB, 1),
        *nth(&f, BROKER_CORE_JOB, 2), *nth(&f, BROKER_CORE_JOB, 3)};
    assert_int_equal(scale(&f, "monitor", 2, 1, 0), 0);
    for (int i = 0; i < 2; i++) { /* those in hand finish, and none follows */
        done(&f, &jobs[i]);
        ready(&f, 0, 4, 4);
    }
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 4);
    done(&f, &jobs[2]);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 5);
    assert_int_equal(look_at(&f).running, 2);
    close_core(&f);
}

static void the_least_live_target_holds_and_each_ends_in_its_time(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_core(&f);
    enlist(&f, 0, 4, 8);
    assert_int_equal(look_at(&f).target, 4);
    assert_int_equal(scale(&f, "operator", 6, 1, 10000), 0);
    assert_int_equal(look_at(&f).target, 6);
    assert_int_equal(scale(&f, "monitor", 2, 1, 3000), 0);
    assert_int_equal(look_at(&f).target, 2);
    clear(&f);
    live(&f, 3 * SECOND);
    assert_int_equal(look_at(&f).target, 6);
    assert_int_equal(nth(&f, BROKER_CORE_SLOTS, 0)->from, 2);
    assert_int_equal(nth(&f, BROKER_CORE_SLOTS, 0)->to, 6);
    assert_string_equal(f.texts[0], "the monitor's target has expired");
    assert_int_equal(scale(&f, "operator", 0, 2, 0), 0); /* withdrawn */
    assert_int_equal(look_at(&f).target, 4);
    assert_int_equal(scale(&f, "operator", 100, 3, 0), 0);
    assert_int_equal(look_at(&f).target, 8); /* never above slots_max */
    assert_int_equal(scale(&f, "monitor", 0, 9, 0), 0);
    assert_int_equal(look_at(&f).target, 1); /* never below 1 */
    close_core(&f);
}

static void the_reason_is_that_of_the_target_that_holds(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_core(&f);
    enlist(&f, 0, 4, 8);
    assert_string_equal(look_at(&f).reason, "");
    assert_int_equal(scale(&f, "operator", 4, 1, 10000), 0); /* no other number */
    assert_string_equal(look_at(&f).reason, "operator");
    assert_int_equal(scale(&f, "monitor", 2, 1, 3000), 0);
    assert_string_equal(look_at(&f).reason, "monitor");
    live(&f, 3 * SECOND);
    assert_string_equal(look_at(&f).reason, "operator");
    assert_int_equal(scale(&f, "operator", 0, 2, 0), 0); /* withdrawn */
    assert_string_equal(look_at(&f).reason, "");
    close_core(&f);
}

static void an_older_target_of_the_same_source_is_ignored_while_one_lives(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_core(&f);
    enlist(&f, 0, 4, 8);
    assert_int_equal(scale(&f, "monitor", 3, 10, 5000), 0);
    assert_int_equal(scale(&f, "monitor", 7, 9, 5000), -ESTALE);
    assert_int_equal(look_at(&f).target, 3);
    assert_int_equal(scale(&f, "monitor", 5, 10, 5000), 0); /* said again */
    assert_int_equal(scale(&f, "nobody", 5, 11, 5000), -EINVAL);
    live(&f, 5 * SECOND);
    assert_int_equal(scale(&f, "monitor", 2, 1, 5000), 0); /* it was restarted */
    assert_int_equal(look_at(&f).target, 2);
    close_core(&f);
}

static void shares_add_up_to_the_target_in_proportion(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_core(&f);
    enlist(&f, 0, 4, 8);
    enlist(&f, 1, 2, 4);
    enlist(&f, 2, 2, 4);
    assert_int_equal(share_of(&f, 0), 4); /* as offered, nobody said a target */
    assert_int_equal(count_of(&f, BROKER_CORE_SHARE), 0);
    for (uint64_t target = 1; target <= 16; target++) {
        assert_int_equal(scale(&f, "operator", target, target, 0), 0);
        uint64_t sum = share_of(&f, 0) + share_of(&f, 1) + share_of(&f, 2);
        assert_int_equal(sum, target);
        assert_true(share_of(&f, 0) <= target / 2 + 1);
    }
    assert_int_equal(share_of(&f, 0), 8);
    clear(&f);
    assert_int_equal(scale(&f, "operator", 8, 99, 0), 0);
    assert_int_equal(count_of(&f, BROKER_CORE_SHARE), 3);
    assert_int_equal(share_of(&f, 0), 4);
    broker_core_worker_bye(f.core, 0, f.now_us); /* the others take over */
    assert_int_equal(share_of(&f, 1) + share_of(&f, 2), 8);
    close_core(&f);
}

static void a_share_is_told_again_until_the_worker_confirms_it(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_core(&f);
    enlist(&f, 0, 4, 8);
    assert_int_equal(scale(&f, "operator", 2, 1, 0), 0);
    live(&f, 3 * SECOND);
    unsigned told = count_of(&f, BROKER_CORE_SHARE);
    assert_in_range(told, 3, 4);
    broker_core_scaled(f.core, 0, 4, f.now_us); /* an older one */
    live(&f, SECOND);
    assert_int_equal(count_of(&f, BROKER_CORE_SHARE), told + 1);
    broker_core_scaled(f.core, 0, 2, f.now_us);
    live(&f, 5 * SECOND);
    assert_int_equal(count_of(&f, BROKER_CORE_SHARE), told + 1);
    close_core(&f);
}

static void an_aborted_job_holds_its_place_until_the_worker_accounts_for_it(void **state)
{
    struct fixture f;
    struct proto_id first = id_of(0);
    (void)state;
    prepare(&f);
    open_with_worker(&f, 4);
    assert_int_equal(scale(&f, "monitor", 1, 1, 60000), 0);
    ready(&f, 0, 4, 4);
    submit(&f, 0);
    submit(&f, 1);
    start(&f, nth(&f, BROKER_CORE_JOB, 0));
    assert_int_equal(broker_core_cancel(f.core, 0, &first, f.now_us), 0);
    assert_int_equal(look_at(&f).aborting, 1);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 1);
    ready(&f, 0, 3, 4); /* three free: the fourth is still at it */
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 1);
    ready(&f, 0, 4, 4);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 2);

    const struct broker_core_action second = *nth(&f, BROKER_CORE_JOB, 1);
    start(&f, &second);
    submit(&f, 2);
    struct proto_id id = id_of(1);
    assert_int_equal(broker_core_cancel(f.core, 0, &id, f.now_us), 0);
    live(&f, 5 * SECOND); /* or until its lease is over */
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 3);
    close_core(&f);
}

static void slots_of_several_workers_have_numbers_of_their_own(void **state)
{
    struct fixture f;
    struct broker_core_offer cache = {.service = "cache"};
    (void)state;
    prepare(&f);
    open_core(&f);
    assert_int_equal(broker_core_register(f.core, 0, &cache, f.now_us), 0);
    enlist(&f, 1, 2, 4);
    enlist(&f, 2, 2, 4);
    assert_int_equal(broker_core_drain_slot(f.core, 2), 0);
    assert_int_equal(nth(&f, BROKER_CORE_DRAIN, 0)->peer, 1);
    assert_int_equal(nth(&f, BROKER_CORE_DRAIN, 0)->to, 2);
    assert_int_equal(broker_core_drain_slot(f.core, 1003), 0);
    assert_int_equal(nth(&f, BROKER_CORE_DRAIN, 1)->peer, 2);
    assert_int_equal(nth(&f, BROKER_CORE_DRAIN, 1)->to, 3);
    assert_int_equal(broker_core_drain_slot(f.core, 0), -ENOENT);
    assert_int_equal(broker_core_drain_slot(f.core, 2001), -ENOENT);
    broker_core_worker_bye(f.core, 1, f.now_us);
    assert_int_equal(broker_core_drain_slot(f.core, 2), -ENOENT);
    enlist(&f, 3, 1, 1); /* takes the lowest number that is free */
    assert_int_equal(broker_core_drain_slot(f.core, 1), 0);
    assert_int_equal(nth(&f, BROKER_CORE_DRAIN, 2)->peer, 3);
    close_core(&f);
}

static void a_level_is_told_and_falls_back_in_its_time(void **state)
{
    struct fixture f;
    struct broker_core_view view;
    (void)state;
    prepare(&f);
    open_core(&f);
    broker_core_mode(f.core, BROKER_CORE_CRITICAL, "memory", 2000, f.now_us);
    assert_int_equal(nth(&f, BROKER_CORE_MODE, 0)->to, BROKER_CORE_CRITICAL);
    broker_core_look(f.core, &view);
    assert_int_equal(view.level, BROKER_CORE_CRITICAL);
    assert_int_equal(view.level_until_us, f.now_us + 2 * SECOND);
    pass(&f, 2 * SECOND);
    assert_int_equal(nth(&f, BROKER_CORE_MODE, 1)->to, BROKER_CORE_NORMAL);
    broker_core_look(f.core, &view);
    assert_int_equal(view.level, BROKER_CORE_NORMAL);
    close_core(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dispatch_stops_at_the_target_the_moment_it_changes),
        cmocka_unit_test(the_least_live_target_holds_and_each_ends_in_its_time),
        cmocka_unit_test(the_reason_is_that_of_the_target_that_holds),
        cmocka_unit_test(an_older_target_of_the_same_source_is_ignored_while_one_lives),
        cmocka_unit_test(shares_add_up_to_the_target_in_proportion),
        cmocka_unit_test(a_share_is_told_again_until_the_worker_confirms_it),
        cmocka_unit_test(an_aborted_job_holds_its_place_until_the_worker_accounts_for_it),
        cmocka_unit_test(slots_of_several_workers_have_numbers_of_their_own),
        cmocka_unit_test(a_level_is_told_and_falls_back_in_its_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
