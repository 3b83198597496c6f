#include "core_fixture.h"

#include <errno.h>

static void open_with(struct fixture *f, uint32_t workers)
{
    prepare(f);
    open_core(f);
    hello(f, 0);
    for (uint32_t i = 0; i < workers; i++) {
        enlist(f, i, 1, 1);
        ready(f, i, 1, 1);
    }
}

static void a_job_without_start_goes_to_another_worker_with_its_abort(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 2);
    submit(&f, 1);
    const struct broker_core_action first = *nth(&f, BROKER_CORE_JOB, 0);
    clear(&f);
    pass(&f, SECOND - 1);
    assert_int_equal(count_of(&f, BROKER_CORE_ABORT), 0);
    pass(&f, 1);
    const struct broker_core_action *abort = nth(&f, BROKER_CORE_ABORT, 0);
    assert_int_equal(abort->peer, first.peer);
    assert_int_equal(abort->attempt, 1);
    const struct broker_core_action *second = nth(&f, BROKER_CORE_JOB, 0);
    assert_int_not_equal(second->peer, first.peer);
    assert_int_equal(second->attempt, 2);
    assert_memory_equal(&second->request, &first.request, sizeof first.request);
    assert_int_equal(second->budget_ms, 59000);
    assert_int_equal(done(&f, &first), -ESTALE);
    assert_int_equal(done(&f, second), 0);
    assert_int_equal(count_of(&f, BROKER_CORE_FINAL), 1);
    close_core(&f);
}

static void two_lost_attempts_end_the_request(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 2);
    submit(&f, 1);
    clear(&f);
    pass(&f, 2 * SECOND);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 0)->status, PROTO_STATUS_WORKER_LOST);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 1);
    assert_int_equal(count_of(&f, BROKER_CORE_RELEASE), 1);
    assert_int_equal(broker_core_counters(f.core)->start_timeouts, 2);
    close_core(&f);
}

static void a_job_that_stands_still_is_taken_back_after_its_lease(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 2);
    submit(&f, 1);
    const struct broker_core_action job = *nth(&f, BROKER_CORE_JOB, 0);
    start(&f, &job);
    live(&f, 4 * SECOND);
    assert_int_equal(broker_core_progress(f.core, job.peer, &job.request, 1, f.now_us),
                     0);
    clear(&f);
    live(&f, 4 * SECOND);
    assert_int_equal(count_of(&f, BROKER_CORE_ABORT), 0);
    live(&f, SECOND);
    assert_int_equal(count_of(&f, BROKER_CORE_ABORT), 1);
    assert_int_equal(nth(&f, BROKER_CORE_JOB, 0)->attempt, 2);
    close_core(&f);
}

static void a_job_that_takes_too_long_is_tried_once_more_and_then_ends(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 2);
    submit(&f, 1);
    for (unsigned attempt = 1; attempt <= 2; attempt++) {
        const struct broker_core_action job = *nth(&f, BROKER_CORE_JOB, attempt - 1);
        assert_int_equal(start(&f, &job), 0);
        for (int i = 0; i < 15; i++) {
            assert_int_equal(broker_core_progress(f.core, job.peer, &job.request,
                                                  job.attempt, f.now_us),
                             0);
            live(&f, SECOND);
        }
    }
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 0)->status, PROTO_STATUS_EXPIRED);
    assert_int_equal(broker_core_counters(f.core)->lease_timeouts, 2);
    close_core(&f);
}

static void a_deadline_ends_a_waiting_and_a_running_request(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 1);
    assert_int_equal(submit_as(&f, 0, 1, NORMAL, 1, 2000), 0);
    assert_int_equal(submit_as(&f, 0, 2, NORMAL, 1, 1500), 0);
    const struct broker_core_action job = *nth(&f, BROKER_CORE_JOB, 0);
    assert_int_equal(job.budget_ms, 2000);
    start(&f, &job);
    clear(&f);
    pass(&f, 1500 * MS);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 0)->status, PROTO_STATUS_EXPIRED);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 0)->queue_us, 1500 * MS);
    assert_int_equal(count_of(&f, BROKER_CORE_ABORT), 0);
    pass(&f, 500 * MS);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 1)->status, PROTO_STATUS_EXPIRED);
    assert_int_equal(count_of(&f, BROKER_CORE_ABORT), 1);
    assert_int_equal(open_jobs(&f), 0);
    close_core(&f);
}

static void a_budget_beyond_the_bound_is_cut(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 1);
    assert_int_equal(submit_as(&f, 0, 1, NORMAL, 1, UINT32_MAX), 0);
    assert_int_equal(nth(&f, BROKER_CORE_JOB, 0)->budget_ms, 600000);
    close_core(&f);
}

static void a_retryable_failure_is_tried_elsewhere_and_another_is_not(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 2);
    submit(&f, 1);
    const struct broker_core_action first = *nth(&f, BROKER_CORE_JOB, 0);
    start(&f, &first);
    assert_int_equal(fail_job(&f, &first, true), 0);
    const struct broker_core_action second = *nth(&f, BROKER_CORE_JOB, 1);
    assert_int_not_equal(second.peer, first.peer);
    assert_int_equal(fail_job(&f, &second, true), 0);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 0)->status, PROTO_STATUS_WORKER_LOST);

    clear(&f);
    ready(&f, 0, 1, 1);
    ready(&f, 1, 1, 1);
    submit(&f, 2);
    const struct broker_core_action third = *nth(&f, BROKER_CORE_JOB, 0);
    assert_int_equal(fail_job(&f, &third, false), 0);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 0)->status, PROTO_STATUS_WORKER_LOST);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 1);
    close_core(&f);
}

static void a_second_attempt_keeps_its_place_before_later_requests(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 1);
    for (unsigned n = 1; n <= 3; n++)
        submit(&f, n);
    const struct broker_core_action first = *nth(&f, BROKER_CORE_JOB, 0);
    clear(&f);
    fail_job(&f, &first, true);
    ready(&f, 0, 1, 1);
    assert_int_equal(mark_of(nth(&f, BROKER_CORE_JOB, 0)), 1);
    close_core(&f);
}

static void a_job_that_could_not_be_sent_loses_no_attempt(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 1);
    submit(&f, 1);
    struct broker_core_action job = *nth(&f, BROKER_CORE_JOB, 0);
    clear(&f);
    broker_core_unsent(f.core, &job.request, f.now_us);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 0); /* not before its READY */
    ready(&f, 0, 1, 1);
    assert_int_equal(nth(&f, BROKER_CORE_JOB, 0)->attempt, 1);
    clear(&f);
    assert_int_equal(refuse_job(&f, &job), 0);
    ready(&f, 0, 1, 1);
    assert_int_equal(nth(&f, BROKER_CORE_JOB, 0)->attempt, 1);
    assert_int_equal(broker_core_counters(f.core)->jobs_returned, 2);
    close_core(&f);
}

static void a_worker_that_always_refuses_costs_attempts_in_the_end(void **state)
{
    struct fixture f;
    unsigned jobs = 0;
    (void)state;
    open_with(&f, 1);
    submit(&f, 1);
    while (count_of(&f, BROKER_CORE_FINAL) == 0 && jobs < 100) {
        const struct broker_core_action job = *nth(&f, BROKER_CORE_JOB, jobs++);
        refuse_job(&f, &job);
        ready(&f, 0, 1, 1);
    }
    assert_int_equal(jobs, BROKER_CORE_RETURNS_MAX + BROKER_CORE_ATTEMPTS_MAX);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 0)->status, PROTO_STATUS_UNAVAILABLE);
    close_core(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_without_start_goes_to_another_worker_with_its_abort),
        cmocka_unit_test(two_lost_attempts_end_the_request),
        cmocka_unit_test(a_job_that_stands_still_is_taken_back_after_its_lease),
        cmocka_unit_test(a_job_that_takes_too_long_is_tried_once_more_and_then_ends),
        cmocka_unit_test(a_deadline_ends_a_waiting_and_a_running_request),
        cmocka_unit_test(a_budget_beyond_the_bound_is_cut),
        cmocka_unit_test(a_retryable_failure_is_tried_elsewhere_and_another_is_not),
        cmocka_unit_test(a_second_attempt_keeps_its_place_before_later_requests),
        cmocka_unit_test(a_job_that_could_not_be_sent_loses_no_attempt),
        cmocka_unit_test(a_worker_that_always_refuses_costs_attempts_in_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
