#include "core_fixture.h"

static void higher_priorities_go_first_and_the_batch_lane_gets_its_share(void **state)
{
    struct fixture f;
    unsigned high = 0, batch = 0;
    (void)state;
    prepare(&f);
    f.limits.batch_share = 5;
    open_core(&f);
    hello(&f, 0);
    enlist(&f, 0, 1, 1);
    for (unsigned n = 0; n < 10; n++) {
        assert_int_equal(submit_as(&f, 0, 100 + n, BATCH, 1, 0), 0);
        assert_int_equal(submit_as(&f, 0, 200 + n, NORMAL, 1, 0), 0);
        assert_int_equal(submit_as(&f, 0, 300 + n, HIGH, 1, 0), 0);
    }
    for (unsigned n = 0; n < 15; n++) {
        ready(&f, 0, 1, 1);
        const struct broker_core_action *job = nth(&f, BROKER_CORE_JOB, n);
        unsigned mark = mark_of(job);
        assert_int_equal(mark < 200, n % 5 == 4); /* each fifth is a batch job */
        if (mark < 200)
            assert_int_equal(mark, 100 + batch++);
        else if (mark >= 300)
            assert_int_equal(mark, 300 + high++);
        else
            assert_int_equal(high, 10); /* normal only when no high one is left */
        done(&f, job);
    }
    assert_int_equal(batch, 3);
    close_core(&f);
}

static void the_worker_with_most_credit_is_chosen_then_the_longest_unused(void **state)
{
    struct fixture f;
    static const uint32_t want[] = {1, 1, 0, 1, 0, 1};
    (void)state;
    prepare(&f);
    open_core(&f);
    hello(&f, 0);
    enlist(&f, 0, 4, 4);
    enlist(&f, 1, 4, 4);
    ready(&f, 0, 2, 4);
    ready(&f, 1, 4, 4);
    for (unsigned n = 0; n < 6; n++) {
        submit(&f, n);
        assert_int_equal(nth(&f, BROKER_CORE_JOB, n)->peer, want[n]);
    }
    close_core(&f);
}

static void a_second_attempt_uses_the_same_worker_only_when_alone(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_core(&f);
    hello(&f, 0);
    enlist(&f, 0, 4, 4);
    ready(&f, 0, 4, 4);
    submit(&f, 1);
    const struct broker_core_action first = *nth(&f, BROKER_CORE_JOB, 0);
    fail_job(&f, &first, true);
    assert_int_equal(nth(&f, BROKER_CORE_JOB, 1)->peer, 0);
    submit(&f, 2);
    const struct broker_core_action other = *nth(&f, BROKER_CORE_JOB, 2);
    enlist(&f, 1, 1, 1);
    ready(&f, 1, 1, 1);
    fail_job(&f, &other, true);
    assert_int_equal(nth(&f, BROKER_CORE_JOB, 3)->peer, 1); /* though 0 has more credit */
    close_core(&f);
}

static void a_late_clock_lets_no_expired_job_through(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_core(&f);
    hello(&f, 0);
    enlist(&f, 0, 1, 1);
    assert_int_equal(submit_as(&f, 0, 1, NORMAL, 1, 1000), 0);
    assert_int_equal(submit_as(&f, 0, 2, NORMAL, 1, 9000), 0);
    f.now_us += SECOND; /* nobody called broker_core_tick() */
    ready(&f, 0, 1, 1);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 0)->status, PROTO_STATUS_EXPIRED);
    const struct broker_core_action job = *nth(&f, BROKER_CORE_JOB, 0);
    assert_int_equal(mark_of(&job), 2);
    start(&f, &job);
    f.now_us += 8 * SECOND;
    assert_int_equal(fail_job(&f, &job, true), 0);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 1)->status, PROTO_STATUS_EXPIRED);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 1);
    close_core(&f);
}

static void retry_after_follows_the_rate_at_which_jobs_end(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    f.limits.lane_jobs = 10;
    open_core(&f);
    hello(&f, 0);
    enlist(&f, 0, 1, 1);
    for (unsigned n = 0; n < 40; n++) { /* one each 200 ms */
        submit(&f, n);
        ready(&f, 0, 1, 1);
        const struct broker_core_action job = *nth(&f, BROKER_CORE_JOB, 0);
        f.now_us += 200 * MS;
        done(&f, &job);
        stay_heard(&f);
        clear(&f);
    }
    for (unsigned n = 0; n < 10; n++)
        submit(&f, 100 + n);
    clear(&f);
    assert_int_not_equal(submit_as(&f, 0, 200, NORMAL, 1, 0), 0);
    uint32_t ms = nth(&f, BROKER_CORE_REJECT, 0)->retry_after_ms;
    assert_in_range(ms, 2000, 2400); /* ten wait, and this one */
    close_core(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(higher_priorities_go_first_and_the_batch_lane_gets_its_share),
        cmocka_unit_test(the_worker_with_most_credit_is_chosen_then_the_longest_unused),
        cmocka_unit_test(a_second_attempt_uses_the_same_worker_only_when_alone),
        cmocka_unit_test(a_late_clock_lets_no_expired_job_through),
        cmocka_unit_test(retry_after_follows_the_rate_at_which_jobs_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
