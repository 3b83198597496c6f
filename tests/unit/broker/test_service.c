#include "core_fixture.h"

static void open_with_budget(struct fixture *f, uint32_t percent, uint32_t per_s,
                             uint32_t burst)
{
    prepare(f);
    f->limits.retry_percent = percent;
    f->limits.retry_per_s = per_s;
    f->limits.retry_burst = burst;
    open_with_worker(f, 1);
}

/* A job whose slot is lost; true when it got a second attempt, which goes well. */
static bool lose_one(struct fixture *f, unsigned n)
{
    clear(f);
    submit(f, n);
    ready(f, 0, 1, 1);
    fail_job(f, nth(f, BROKER_CORE_JOB, 0), true);
    ready(f, 0, 1, 1);
    if (count_of(f, BROKER_CORE_JOB) == 2) {
        done(f, nth(f, BROKER_CORE_JOB, 1));
        return true;
    }
    assert_int_equal(nth(f, BROKER_CORE_FINAL, 0)->status, PROTO_STATUS_WORKER_LOST);
    return false;
}

static unsigned lose_many(struct fixture *f, unsigned jobs)
{
    unsigned retried = 0;
    for (unsigned n = 0; n < jobs; n++)
        retried += lose_one(f, n);
    return retried;
}

static void second_attempts_beyond_the_budget_end_as_worker_lost(void **state)
{
    struct fixture f;
    (void)state;
    open_with_budget(&f, 0, 0, 3);
    assert_int_equal(lose_many(&f, 10), 3);
    assert_int_equal(broker_core_counters(f.core)->retries_refused, 7);
    assert_int_equal(broker_core_counters(f.core)->jobs_retried, 3);
    live(&f, 60 * SECOND); /* nothing a second: time gives none */
    assert_int_equal(lose_many(&f, 10), 0);
    close_core(&f);
}

static void traffic_earns_its_share_of_second_attempts(void **state)
{
    struct fixture f;
    (void)state;
    open_with_budget(&f, 20, 0, 5);
    assert_int_equal(lose_many(&f, 5), 5);
    assert_int_equal(lose_many(&f, 100), 20); /* and 0.8 of the first five */
    close_core(&f);
}

static void time_earns_second_attempts_up_to_the_burst(void **state)
{
    struct fixture f;
    (void)state;
    open_with_budget(&f, 0, 10, 4);
    assert_int_equal(lose_many(&f, 10), 4);
    live(&f, 100 * MS - 1);
    assert_false(lose_one(&f, 20));
    live(&f, 1);
    assert_true(lose_one(&f, 21));
    assert_false(lose_one(&f, 22));
    live(&f, 3600 * SECOND);
    assert_int_equal(lose_many(&f, 10), 4);
    close_core(&f);
}

static void a_job_that_was_not_begun_needs_no_budget(void **state)
{
    struct fixture f;
    (void)state;
    open_with_budget(&f, 0, 0, 0);
    submit(&f, 1);
    ready(&f, 0, 1, 1);
    refuse_job(&f, nth(&f, BROKER_CORE_JOB, 0));
    ready(&f, 0, 1, 1);
    assert_int_equal(nth(&f, BROKER_CORE_JOB, 1)->attempt, 1);
    assert_int_equal(broker_core_counters(f.core)->retries_refused, 0);
    close_core(&f);
}

static void each_service_has_its_own_budget(void **state)
{
    struct fixture f;
    struct broker_core_offer offer = {.service = "cache"};
    struct broker_core_request request = {.service = "cache", .priority = NORMAL};
    (void)state;
    open_with_budget(&f, 0, 0, 1);
    assert_int_equal(lose_many(&f, 2), 1);
    assert_int_equal(broker_core_register(f.core, 1, &offer, f.now_us), 0);
    ready(&f, 1, 1, 0);
    clear(&f);
    request.id = id_of(9);
    assert_int_equal(broker_core_submit(f.core, 0, &request, f.now_us), 0);
    fail_job(&f, nth(&f, BROKER_CORE_JOB, 0), true);
    ready(&f, 1, 1, 0);
    assert_int_equal(nth(&f, BROKER_CORE_JOB, 1)->attempt, 2);
    close_core(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(second_attempts_beyond_the_budget_end_as_worker_lost),
        cmocka_unit_test(traffic_earns_its_share_of_second_attempts),
        cmocka_unit_test(time_earns_second_attempts_up_to_the_burst),
        cmocka_unit_test(a_job_that_was_not_begun_needs_no_budget),
        cmocka_unit_test(each_service_has_its_own_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
