#include "core_fixture.h"

#include <errno.h>

static void an_accepted_request_ends_once_and_its_payload_is_released_once(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_with_worker(&f, 1);
    ready(&f, 0, 1, 1);
    submit(&f, 5);

    assert_int_equal(count_of(&f, BROKER_CORE_ACCEPT), 1);
    const struct broker_core_action job = *nth(&f, BROKER_CORE_JOB, 0);
    assert_int_equal(mark_of(&job), 5);
    assert_int_equal(job.attempt, 1);
    f.now_us += 3 * MS;
    assert_int_equal(done(&f, &job), 0);
    const struct broker_core_action *final = nth(&f, BROKER_CORE_FINAL, 0);
    assert_int_equal(final->status, PROTO_STATUS_OK);
    assert_true(final->pass_on);
    struct proto_id id = id_of(5);
    assert_memory_equal(&final->request, &id, sizeof id);

    assert_int_equal(done(&f, &job), -ESTALE); /* said twice */
    live(&f, 100 * SECOND);
    assert_int_equal(count_of(&f, BROKER_CORE_FINAL), 1);
    assert_int_equal(count_of(&f, BROKER_CORE_RELEASE), 1);
    assert_int_equal(broker_core_counters(f.core)->frames_late, 1);
    close_core(&f);
}

static void without_hello_nothing_is_accepted(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_core(&f);
    assert_int_equal(submit_as(&f, 0, 1, NORMAL, 1, 0), -ENOTCONN);
    assert_int_equal(broker_core_cancel(f.core, 0, &(struct proto_id){{1}}, f.now_us),
                     -ENOTCONN);
    hello(&f, 0);
    assert_int_equal(broker_core_hello(f.core, 0, f.now_us), -EALREADY);
    close_core(&f);
}

static void refusal_of(struct fixture *f, enum proto_status status, uint64_t limit,
                       uint64_t actual)
{
    const struct broker_core_action *reject = nth(f, BROKER_CORE_REJECT, 0);
    assert_int_equal(reject->status, status);
    assert_int_equal(reject->limit, limit);
    assert_int_equal(reject->actual, actual);
    if (status == PROTO_STATUS_FULL)
        assert_true(reject->retry_after_ms >= 100);
    assert_int_equal(count_of(f, BROKER_CORE_RELEASE), 0);
    clear(f);
}

static void each_bound_refuses_with_the_limit_and_the_actual_value(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    f.limits.lane_jobs = 3;
    f.limits.lane_bytes = 1000;
    f.limits.total_bytes = 1500;
    f.limits.client_jobs = 5;
    f.limits.client_bytes = 1200;
    f.limits.payload_bytes_max = 900;
    open_core(&f);
    hello(&f, 0);
    hello(&f, 1);

    assert_int_equal(submit_as(&f, 0, 1, NORMAL, 901, 0), -EAGAIN);
    refusal_of(&f, PROTO_STATUS_TOO_LARGE, 900, 901);
    assert_int_equal(submit_as(&f, 0, 1, NORMAL, UINT64_MAX, 0), -EAGAIN);
    refusal_of(&f, PROTO_STATUS_TOO_LARGE, 900, UINT64_MAX);
    assert_int_equal(submit_as(&f, 0, 1, NORMAL, 900, 0), 0);
    assert_int_equal(submit_as(&f, 0, 2, NORMAL, 101, 0), -EAGAIN);
    refusal_of(&f, PROTO_STATUS_FULL, 1000, 1001); /* lane, bytes */
    assert_int_equal(submit_as(&f, 0, 2, HIGH, 301, 0), -EAGAIN);
    refusal_of(&f, PROTO_STATUS_FULL, 1200, 1201); /* client, bytes */
    assert_int_equal(submit_as(&f, 1, 2, HIGH, 601, 0), -EAGAIN);
    refusal_of(&f, PROTO_STATUS_FULL, 1500, 1501); /* all, bytes */
    for (unsigned n = 2; n <= 4; n++)
        assert_int_equal(submit_as(&f, 0, n, HIGH, 0, 0), 0);
    assert_int_equal(submit_as(&f, 0, 9, HIGH, 0, 0), -EAGAIN);
    refusal_of(&f, PROTO_STATUS_FULL, 3, 4); /* lane, jobs */
    assert_int_equal(submit_as(&f, 0, 5, BATCH, 0, 0), 0);
    assert_int_equal(submit_as(&f, 0, 6, BATCH, 0, 0), -EAGAIN);
    refusal_of(&f, PROTO_STATUS_FULL, 5, 6); /* client, jobs */
    close_core(&f);
}

static void what_can_wait_does_not_keep_out_what_cannot(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    f.limits.total_bytes = 800;
    f.limits.jobs_max = 16;
    open_core(&f);
    hello(&f, 0);

    assert_int_equal(submit_as(&f, 0, 1, BATCH, 800, 0), 0); /* nothing is open: all */
    broker_core_cancel(f.core, 0, &(struct proto_id){{1, 0, 1}}, f.now_us);
    clear(&f);
    assert_int_equal(submit_as(&f, 0, 2, BATCH, 600, 0), 0);
    assert_int_equal(submit_as(&f, 0, 3, BATCH, 1, 0), -EAGAIN);
    refusal_of(&f, PROTO_STATUS_FULL, 600, 601);
    assert_int_equal(submit_as(&f, 0, 4, NORMAL, 100, 0), 0);
    assert_int_equal(submit_as(&f, 0, 5, NORMAL, 1, 0), -EAGAIN);
    refusal_of(&f, PROTO_STATUS_FULL, 700, 701);
    assert_int_equal(submit_as(&f, 0, 6, HIGH, 100, 0), 0);
    assert_int_equal(submit_as(&f, 0, 7, BATCH, 0, 0), 0); /* adds no bytes */
    for (unsigned n = 8; n < 16; n++)
        assert_int_equal(submit_as(&f, 0, n, BATCH, 0, 0), 0);
    assert_int_equal(submit_as(&f, 0, 20, BATCH, 0, 0), -EAGAIN);
    refusal_of(&f, PROTO_STATUS_FULL, 12, 13);
    close_core(&f);
}

static void a_request_id_that_is_open_or_zero_is_refused(void **state)
{
    struct fixture f;
    struct broker_core_request zero = {.service = "extract"};
    (void)state;
    prepare(&f);
    open_core(&f);
    hello(&f, 0);
    hello(&f, 1);
    submit(&f, 1);
    clear(&f);
    assert_int_equal(submit_as(&f, 0, 1, HIGH, 1, 0), -EAGAIN);
    refusal_of(&f, PROTO_STATUS_BAD_REQUEST, 0, 0);
    assert_int_equal(broker_core_submit(f.core, 0, &zero, f.now_us), -EAGAIN);
    refusal_of(&f, PROTO_STATUS_BAD_REQUEST, 0, 0);
    assert_int_equal(submit_as(&f, 1, 1, HIGH, 1, 0), 0); /* another's id is its own */
    close_core(&f);
}

static void a_bad_service_name_is_refused_and_few_unknown_ones_are_made(void **state)
{
    struct fixture f;
    const char *bad[] = {"", "Extract", "a b", "sixteen-letters-"};
    char name[] = "s0";
    (void)state;
    prepare(&f);
    open_core(&f);
    hello(&f, 0);
    for (unsigned i = 0; i < 4; i++) {
        struct broker_core_request request = {.id = id_of(i), .service = bad[i]};
        assert_int_equal(broker_core_submit(f.core, 0, &request, f.now_us), -EAGAIN);
        refusal_of(&f, PROTO_STATUS_BAD_REQUEST, 0, 0);
    }
    for (unsigned i = 0; i < 5; i++, name[1]++) {
        struct broker_core_request request = {.id = id_of(10 + i), .service = name};
        assert_int_equal(broker_core_submit(f.core, 0, &request, f.now_us),
                         i < 4 ? 0 : -EAGAIN);
    }
    assert_int_equal(nth(&f, BROKER_CORE_REJECT, 0)->status, PROTO_STATUS_UNAVAILABLE);
    enlist(&f, 0, 1, 1);  /* a worker still finds a place */
    live(&f, 6 * SECOND); /* and when nobody came, the names are free again */
    submit_as(&f, 0, 50, NORMAL, 0, 0);
    struct broker_core_request request = {.id = id_of(60), .service = "s9"};
    assert_int_equal(broker_core_submit(f.core, 0, &request, f.now_us), 0);
    close_core(&f);
}

static void cancel_drops_a_waiting_request_and_aborts_a_running_one(void **state)
{
    struct fixture f;
    struct proto_id first = id_of(1), second = id_of(2);
    (void)state;
    prepare(&f);
    open_with_worker(&f, 1);
    ready(&f, 0, 1, 1);
    submit(&f, 1);
    submit(&f, 2);
    clear(&f);
    assert_int_equal(broker_core_cancel(f.core, 0, &second, f.now_us), 0);
    assert_int_equal(count_of(&f, BROKER_CORE_ABORT), 0);
    assert_int_equal(broker_core_cancel(f.core, 0, &first, f.now_us), 0);
    assert_int_equal(count_of(&f, BROKER_CORE_ABORT), 1);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 1)->status, PROTO_STATUS_CANCELLED);
    assert_int_equal(count_of(&f, BROKER_CORE_RELEASE), 2);
    assert_int_equal(broker_core_cancel(f.core, 0, &first, f.now_us), -ENOENT);
    close_core(&f);
}

static void recall_ends_only_what_no_worker_was_given(void **state)
{
    struct fixture f;
    struct proto_id first = id_of(1), second = id_of(2);
    (void)state;
    prepare(&f);
    open_with_worker(&f, 1);
    ready(&f, 0, 1, 1);
    submit(&f, 1);
    submit(&f, 2);
    const struct broker_core_action job = *nth(&f, BROKER_CORE_JOB, 0);
    clear(&f);
    assert_int_equal(broker_core_recall(f.core, 0, &first, f.now_us), -EBUSY);
    assert_int_equal(count_of(&f, BROKER_CORE_FINAL), 0);
    assert_int_equal(broker_core_recall(f.core, 0, &second, f.now_us), 0);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 0)->status, PROTO_STATUS_CANCELLED);
    assert_int_equal(broker_core_recall(f.core, 0, &second, f.now_us), -ENOENT);
    assert_int_equal(done(&f, &job), 0);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 1)->status, PROTO_STATUS_OK);
    close_core(&f);
}

static void a_silent_client_loses_its_session_and_its_work(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_core(&f);
    hello(&f, 0);
    hello(&f, 1);
    enlist(&f, 0, 1, 1);
    ready(&f, 0, 1, 1);
    submit(&f, 1);
    submit(&f, 2);
    start(&f, nth(&f, BROKER_CORE_JOB, 0));
    clear(&f);
    for (int i = 0; i < 6; i++) {
        pass(&f, SECOND / 2);
        broker_core_client_heard(f.core, 1, f.now_us);
        broker_core_worker_heard(f.core, 0, f.now_us);
    }
    assert_int_equal(nth(&f, BROKER_CORE_CLIENT_BYE, 0)->peer, 0);
    assert_int_equal(count_of(&f, BROKER_CORE_CLIENT_BYE), 1);
    assert_int_equal(count_of(&f, BROKER_CORE_FINAL), 0); /* nobody is there */
    assert_int_equal(count_of(&f, BROKER_CORE_RELEASE), 2);
    assert_int_equal(count_of(&f, BROKER_CORE_ABORT), 1);
    assert_int_equal(open_jobs(&f), 0);
    assert_int_equal(submit_as(&f, 0, 3, NORMAL, 1, 0), -ENOTCONN);
    close_core(&f);
}

static void a_draining_broker_refuses_and_finishes(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_with_worker(&f, 1);
    ready(&f, 0, 1, 1);
    submit(&f, 1);
    submit(&f, 2);
    const struct broker_core_action job = *nth(&f, BROKER_CORE_JOB, 0);
    clear(&f);
    broker_core_drain(f.core);
    assert_int_equal(submit_as(&f, 0, 3, NORMAL, 1, 0), -EAGAIN);
    refusal_of(&f, PROTO_STATUS_DRAINING, 0, 0);
    done(&f, &job);
    ready(&f, 0, 1, 1);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 1); /* what waits goes on */
    broker_core_stop(f.core, f.now_us);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 1)->status, PROTO_STATUS_DRAINING);
    assert_int_equal(count_of(&f, BROKER_CORE_ABORT), 1);
    assert_int_equal(open_jobs(&f), 0);
    close_core(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_accepted_request_ends_once_and_its_payload_is_released_once),
        cmocka_unit_test(without_hello_nothing_is_accepted),
        cmocka_unit_test(each_bound_refuses_with_the_limit_and_the_actual_value),
        cmocka_unit_test(what_can_wait_does_not_keep_out_what_cannot),
        cmocka_unit_test(a_request_id_that_is_open_or_zero_is_refused),
        cmocka_unit_test(a_bad_service_name_is_refused_and_few_unknown_ones_are_made),
        cmocka_unit_test(cancel_drops_a_waiting_request_and_aborts_a_running_one),
        cmocka_unit_test(recall_ends_only_what_no_worker_was_given),
        cmocka_unit_test(a_silent_client_loses_its_session_and_its_work),
        cmocka_unit_test(a_draining_broker_refuses_and_finishes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
