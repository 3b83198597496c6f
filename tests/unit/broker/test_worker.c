#include "core_fixture.h"

#include <errno.h>

static void the_broker_never_sends_more_than_the_credit_or_the_slots(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_with_worker(&f, 4);
    for (unsigned n = 1; n <= 9; n++)
        submit(&f, n);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 0); /* no READY yet */
    ready(&f, 0, 2, 3);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 2);
    ready(&f, 0, 2, 3); /* crossed the JOBs: its slots tell the truth */
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 3);
    close_core(&f);
}

static void an_answer_to_another_workers_job_is_forged_and_ignored(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_with_worker(&f, 1);
    enlist(&f, 1, 1, 1);
    ready(&f, 0, 1, 1);
    submit(&f, 1);
    struct broker_core_action job = *nth(&f, BROKER_CORE_JOB, 0);
    job.peer = 1;
    assert_int_equal(done(&f, &job), -EPERM);
    assert_int_equal(fail_job(&f, &job, false), -EPERM);
    job.peer = 0;
    job.attempt = 2;
    assert_int_equal(start(&f, &job), -EPERM); /* an attempt to come */
    job.attempt = 0;
    assert_int_equal(start(&f, &job), -ESTALE);
    job.request.bytes[15] ^= 1; /* another broker's */
    job.attempt = 1;
    assert_int_equal(start(&f, &job), -ESTALE);
    assert_int_equal(broker_core_counters(f.core)->frames_forged, 3);
    assert_int_equal(broker_core_counters(f.core)->frames_late, 2);
    assert_int_equal(open_jobs(&f), 1);
    close_core(&f);
}

static void a_silent_workers_jobs_are_tried_elsewhere(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_with_worker(&f, 1);
    ready(&f, 0, 1, 1);
    submit(&f, 1);
    const struct broker_core_action first = *nth(&f, BROKER_CORE_JOB, 0);
    start(&f, &first);
    f.now_us += SECOND;
    enlist(&f, 1, 1, 1);
    ready(&f, 1, 1, 1);
    clear(&f);
    for (int i = 0; i < 4; i++) {
        pass(&f, SECOND / 2);
        broker_core_worker_heard(f.core, 1, f.now_us);
        broker_core_client_heard(f.core, 0, f.now_us);
    }
    assert_int_equal(nth(&f, BROKER_CORE_WORKER_DOWN, 0)->peer, 0);
    assert_int_equal(nth(&f, BROKER_CORE_WORKER_BYE, 0)->peer, 0);
    const struct broker_core_action *second = nth(&f, BROKER_CORE_JOB, 0);
    assert_int_equal(second->peer, 1);
    assert_int_equal(second->attempt, 2);
    assert_int_equal(done(&f, &first), -ENOTCONN);
    close_core(&f);
}

static void a_leaving_worker_finishes_and_gets_nothing_new(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_with_worker(&f, 2);
    ready(&f, 0, 2, 2);
    submit(&f, 1);
    const struct broker_core_action job = *nth(&f, BROKER_CORE_JOB, 0);
    assert_int_equal(broker_core_leaving(f.core, 0, f.now_us), 0);
    submit(&f, 2);
    ready(&f, 0, 2, 2);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 1);
    assert_int_equal(done(&f, &job), 0);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 0)->status, PROTO_STATUS_OK);
    broker_core_worker_bye(f.core, 0, f.now_us);
    live(&f, 5 * SECOND); /* nobody is left for the second one */
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 1)->status, PROTO_STATUS_UNAVAILABLE);
    close_core(&f);
}

static void what_a_lost_leaving_worker_had_waits_for_its_successor(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_with_worker(&f, 1);
    ready(&f, 0, 1, 1);
    submit(&f, 1);
    start(&f, nth(&f, BROKER_CORE_JOB, 0));
    broker_core_leaving(f.core, 0, f.now_us);
    live(&f, 4 * SECOND + 900 * MS);
    broker_core_worker_bye(f.core, 0, f.now_us);
    live(&f, 4 * SECOND);
    assert_int_equal(count_of(&f, BROKER_CORE_FINAL), 0);
    enlist(&f, 1, 1, 1);
    ready(&f, 1, 1, 1);
    assert_int_equal(nth(&f, BROKER_CORE_JOB, 1)->attempt, 2);
    close_core(&f);
}

static void a_job_waits_for_a_first_worker_and_not_for_ever(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_core(&f);
    hello(&f, 0);
    submit(&f, 1);
    live(&f, 4 * SECOND);
    submit(&f, 2);
    live(&f, SECOND);
    assert_int_equal(count_of(&f, BROKER_CORE_FINAL), 1);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 0)->status, PROTO_STATUS_UNAVAILABLE);
    enlist(&f, 0, 1, 1);
    live(&f, 5 * SECOND); /* now it waits for a slot: its own time counts */
    assert_int_equal(count_of(&f, BROKER_CORE_FINAL), 1);
    ready(&f, 0, 1, 1);
    assert_int_equal(mark_of(nth(&f, BROKER_CORE_JOB, 0)), 2);
    close_core(&f);
}

static void a_service_without_slots_is_bounded_by_credit_alone(void **state)
{
    struct fixture f;
    struct broker_core_offer offer = {.service = "extract", .slots = 3};
    (void)state;
    prepare(&f);
    open_core(&f);
    hello(&f, 0);
    assert_int_equal(broker_core_register(f.core, 0, &offer, f.now_us), 0);
    assert_int_equal(broker_core_register(f.core, 0, &offer, f.now_us), -EALREADY);
    for (unsigned n = 1; n <= 9; n++)
        submit(&f, n);
    ready(&f, 0, 5, 0);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 5);
    ready(&f, 0, 2, 0);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 7);
    assert_int_equal(scale(&f, "operator", 1, 1, 0), 0);
    ready(&f, 0, 2, 0);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 9);
    close_core(&f);
}

static void payload_credit_holds_but_one_job_of_any_size_gets_through(void **state)
{
    struct fixture f;
    struct broker_core_offer offer = {
        .service = "extract", .slots = 4, .slots_max = 4, .credit_bytes = 1000};
    (void)state;
    prepare(&f);
    open_core(&f);
    hello(&f, 0);
    assert_int_equal(broker_core_register(f.core, 0, &offer, f.now_us), 0);
    ready(&f, 0, 4, 4);
    assert_int_equal(submit_as(&f, 0, 1, NORMAL, 5000, 0), 0);
    assert_int_equal(submit_as(&f, 0, 2, NORMAL, 600, 0), 0);
    assert_int_equal(submit_as(&f, 0, 3, NORMAL, 600, 0), 0);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 1);
    const struct broker_core_action large = *nth(&f, BROKER_CORE_JOB, 0);
    done(&f, &large);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 2);
    close_core(&f);
}

static void a_worker_cannot_say_that_the_broker_stops(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_with_worker(&f, 1);
    ready(&f, 0, 1, 1);
    submit(&f, 1);
    const struct broker_core_action *job = nth(&f, BROKER_CORE_JOB, 0);
    assert_int_equal(broker_core_done(f.core, job->peer, &job->request, job->attempt,
                                      PROTO_STATUS_DRAINING, f.now_us),
                     0);
    take(&f);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 0)->status, PROTO_STATUS_INTERNAL);
    close_core(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_broker_never_sends_more_than_the_credit_or_the_slots),
        cmocka_unit_test(an_answer_to_another_workers_job_is_forged_and_ignored),
        cmocka_unit_test(a_silent_workers_jobs_are_tried_elsewhere),
        cmocka_unit_test(a_leaving_worker_finishes_and_gets_nothing_new),
        cmocka_unit_test(what_a_lost_leaving_worker_had_waits_for_its_successor),
        cmocka_unit_test(a_job_waits_for_a_first_worker_and_not_for_ever),
        cmocka_unit_test(a_service_without_slots_is_bounded_by_credit_alone),
        cmocka_unit_test(payload_credit_holds_but_one_job_of_any_size_gets_through),
        cmocka_unit_test(a_worker_cannot_say_that_the_broker_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
