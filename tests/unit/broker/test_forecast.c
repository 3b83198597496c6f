/* When what waits will end: Retry-After, and refusal on arrival. */
#include "core_fixture.h"

/* A worker that has ended 40 jobs, one each `ms`. */
static void end_a_job_each(struct fixture *f, unsigned ms)
{
    hello(f, 0);
    enlist(f, 0, 1, 1);
    for (unsigned n = 0; n < 40; n++) {
        submit(f, n);
        ready(f, 0, 1, 1);
        const struct broker_core_action job = *nth(f, BROKER_CORE_JOB, 0);
        f->now_us += ms * MS;
        done(f, &job);
        stay_heard(f);
        clear(f);
    }
}

/* The same, and it is busy with one more. */
static void learn(struct fixture *f, unsigned ms)
{
    end_a_job_each(f, ms);
    submit(f, 99);
    ready(f, 0, 1, 1);
    clear(f);
}

static void retry_after_follows_the_rate_at_which_jobs_end(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    f.limits.lane_jobs = 10;
    open_core(&f);
    end_a_job_each(&f, 200);
    for (unsigned n = 0; n < 10; n++)
        submit(&f, 100 + n);
    clear(&f);
    assert_int_not_equal(submit_as(&f, 0, 200, NORMAL, 1, 0), 0);
    uint32_t ms = nth(&f, BROKER_CORE_REJECT, 0)->retry_after_ms;
    assert_in_range(ms, 2000, 2400); /* ten wait, and this one */
    close_core(&f);
}

static void what_cannot_end_in_its_time_is_refused_on_arrival(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_core(&f);
    learn(&f, 200);
    /* Nothing waits: whatever the time, it is taken. */
    assert_int_equal(submit_as(&f, 0, 100, NORMAL, 1, 10), 0);
    for (unsigned n = 1; n < 9; n++)
        assert_int_equal(submit_as(&f, 0, 100 + n, NORMAL, 1, 0), 0);
    clear(&f);
    assert_int_not_equal(submit_as(&f, 0, 200, NORMAL, 1, 1999), 0); /* the tenth */
    const struct broker_core_action *no = nth(&f, BROKER_CORE_REJECT, 0);
    assert_int_equal(no->status, PROTO_STATUS_FULL);
    assert_int_equal(no->limit, 1999);
    assert_int_equal(no->actual, 2000);
    assert_in_range(no->retry_after_ms, 1800, 2200);
    assert_int_equal(submit_as(&f, 0, 201, NORMAL, 1, 2000), 0);
    assert_int_equal(submit_as(&f, 0, 202, HIGH, 1, 10), 0); /* nobody before it */
    clear(&f);
    assert_int_not_equal(submit_as(&f, 0, 203, HIGH, 1, 399), 0);
    close_core(&f);
}

static void the_forecast_knows_the_batch_lanes_share(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    f.limits.batch_share = 5;
    f.limits.client_jobs = 1000;
    open_core(&f);
    learn(&f, 100);
    for (unsigned n = 0; n < 20; n++)
        assert_int_equal(submit_as(&f, 0, 100 + n, HIGH, 1, 0), 0);
    /* 20 before it, then itself. */
    assert_int_not_equal(submit_as(&f, 0, 200, NORMAL, 1, 2099), 0);
    assert_int_equal(submit_as(&f, 0, 201, BATCH, 1, 2100), 0);
    /* One waits in the batch lane: its turn is one in five. */
    assert_int_not_equal(submit_as(&f, 0, 202, BATCH, 1, 599), 0);
    assert_int_equal(submit_as(&f, 0, 203, BATCH, 1, 600), 0);
    /* 20 before it, and two of the batch lane between them. */
    assert_int_not_equal(submit_as(&f, 0, 204, NORMAL, 1, 2299), 0);
    assert_int_equal(submit_as(&f, 0, 205, NORMAL, 1, 2300), 0);
    close_core(&f);
}

static void nothing_is_forecast_from_a_few_ends(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_with_worker(&f, 1);
    for (unsigned n = 0; n < BROKER_CORE_ENDS_MIN - 1; n++) {
        submit(&f, n);
        ready(&f, 0, 1, 1);
        const struct broker_core_action job = *nth(&f, BROKER_CORE_JOB, 0);
        start(&f, &job);
        live(&f, 3 * SECOND);
        done(&f, &job);
        clear(&f);
    }
    for (unsigned n = 0; n < 9; n++)
        assert_int_equal(submit_as(&f, 0, 100 + n, NORMAL, 1, 10), 0);
    close_core(&f);
}

static void an_attempt_that_stood_still_is_an_end_too(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_with_worker(&f, 1);
    submit(&f, 99); /* there is always one that waits */
    for (unsigned n = 0; n < BROKER_CORE_ENDS_MIN; n++) {
        assert_int_equal(look_at(&f).job_interval_us, 0);
        submit(&f, n);
        clear(&f);
        ready(&f, 0, 1, 1);
        start(&f, nth(&f, BROKER_CORE_JOB, 0));
        live(&f, f.limits.lease_us);
    }
    assert_in_range(look_at(&f).job_interval_us, 4 * SECOND, 6 * SECOND);
    close_core(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(retry_after_follows_the_rate_at_which_jobs_end),
        cmocka_unit_test(what_cannot_end_in_its_time_is_refused_on_arrival),
        cmocka_unit_test(the_forecast_knows_the_batch_lanes_share),
        cmocka_unit_test(nothing_is_forecast_from_a_few_ends),
        cmocka_unit_test(an_attempt_that_stood_still_is_an_end_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
