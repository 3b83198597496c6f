#include "core_fixture.h"

static void higher_priorities_go_first_and_the_batch_lane_gets_its_share(void **state)
{
    struct fixture f;
    unsigned high = 0, batch = 0;
    (void)state;
    prepare(&f);
    f.limits.batch_share = 5;
    open_with_worker(&f, 1);
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
    open_with_worker(&f, 4);
    enlist(&f, 1, 4, 4);
    ready(&f, 0, 2, 4);
    ready(&f, 1, 4, 4);
    for (unsigned n = 0; n < 6; n++) {
        submit(&f, n);
        assert_int_equal(nth(&f, BROKER_CORE_JOB, n)->peer, want[n]);
    }
    close_core(&f);
}

static void who_lets_a_start_time_pass_is_the_last_choice_until_it_begins(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_with_worker(&f, 4);
    ready(&f, 0, 4, 4);
    submit(&f, 0);
    pass(&f, f.limits.start_us); /* no START; it says READY all the same */
    clear(&f);
    ready(&f, 0, 900, 900);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 1); /* alone: it gets the job again */
    submit(&f, 1);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 1); /* but only one at a time */
    enlist(&f, 1, 2, 2);
    ready(&f, 1, 2, 2);
    submit(&f, 2);
    assert_int_equal(nth(&f, BROKER_CORE_JOB, 1)->peer, 1);
    assert_int_equal(nth(&f, BROKER_CORE_JOB, 2)->peer, 1); /* 900 claimed, 1 is left */
    submit(&f, 3);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 3);
    /* It begins: what waited comes at once, and it is as good as anybody. */
    assert_int_equal(start(&f, nth(&f, BROKER_CORE_JOB, 0)), 0);
    assert_int_equal(nth(&f, BROKER_CORE_JOB, 3)->peer, 0);
    close_core(&f);
}

static void a_second_attempt_uses_the_same_worker_only_when_alone(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_with_worker(&f, 4);
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
    open_with_worker(&f, 1);
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

static void an_overloaded_lane_is_served_from_its_other_end(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    f.limits.newest_first_percent = 50;
    open_with_worker(&f, 1);
    for (unsigned n = 1; n <= 4; n++)
        assert_int_equal(submit_as(&f, 0, n, NORMAL, 1, 10000), 0);
    live(&f, 5 * SECOND); /* exactly half of the time: not yet */
    ready(&f, 0, 1, 1);
    assert_int_equal(mark_of(nth(&f, BROKER_CORE_JOB, 0)), 1);
    done(&f, nth(&f, BROKER_CORE_JOB, 0));
    f.now_us++;
    assert_int_equal(submit_as(&f, 0, 5, NORMAL, 1, 10000), 0);
    ready(&f, 0, 1, 1);
    assert_int_equal(mark_of(nth(&f, BROKER_CORE_JOB, 1)), 5);
    fail_job(&f, nth(&f, BROKER_CORE_JOB, 1), true);
    assert_int_equal(submit_as(&f, 0, 6, NORMAL, 1, 10000), 0);
    ready(&f, 0, 1, 1); /* what was begun goes on before anything new */
    assert_int_equal(mark_of(nth(&f, BROKER_CORE_JOB, 2)), 5);
    done(&f, nth(&f, BROKER_CORE_JOB, 2));
    assert_int_equal(broker_core_counters(f.core)->jobs_newest_first, 1);
    live(&f, 5 * SECOND - 1); /* 2, 3 and 4 are over: 6 is the oldest now */
    assert_int_equal(submit_as(&f, 0, 7, NORMAL, 1, 10000), 0);
    ready(&f, 0, 1, 1);
    assert_int_equal(mark_of(nth(&f, BROKER_CORE_JOB, 3)), 6);
    close_core(&f);
}

static void a_hundred_percent_keeps_the_order_of_arrival(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    f.limits.newest_first_percent = 100;
    open_with_worker(&f, 1);
    for (unsigned n = 1; n <= 3; n++)
        assert_int_equal(submit_as(&f, 0, n, NORMAL, 1, 4000), 0);
    live(&f, 4 * SECOND - 1);
    ready(&f, 0, 1, 1);
    assert_int_equal(mark_of(nth(&f, BROKER_CORE_JOB, 0)), 1);
    close_core(&f);
}

static void the_batch_lane_gets_its_share_under_overload_too(void **state)
{
    struct fixture f;
    unsigned batch = 0;
    (void)state;
    prepare(&f);
    f.limits.batch_share = 4;
    open_with_worker(&f, 1);
    for (unsigned n = 0; n < 20; n++) {
        assert_int_equal(submit_as(&f, 0, 100 + n, BATCH, 1, 8000), 0);
        assert_int_equal(submit_as(&f, 0, 200 + n, HIGH, 1, 8000), 0);
    }
    live(&f, 4500 * MS);
    for (unsigned n = 0; n < 12; n++) {
        ready(&f, 0, 1, 1);
        const struct broker_core_action *job = nth(&f, BROKER_CORE_JOB, n);
        if (mark_of(job) < 200)
            assert_int_equal(mark_of(job), 119 - batch++);
        done(&f, job);
    }
    assert_int_equal(batch, 3);
    close_core(&f);
}

/* Seven requests for a worker with `slots`, of which the last one is high. Returns how
 * many were sent without it. */
static unsigned sent_before_high(struct fixture *f, uint64_t slots, uint32_t high_slots)
{
    prepare(f);
    f->limits.high_slots = high_slots;
    open_with_worker(f, slots);
    /* One high request has come and gone. */
    assert_int_equal(submit_as(f, 0, 99, HIGH, 1, 0), 0);
    ready(f, 0, slots, slots);
    done(f, nth(f, BROKER_CORE_JOB, 0));
    ready(f, 0, slots, slots);
    clear(f);
    for (unsigned n = 0; n < 6; n++)
        assert_int_equal(submit_as(f, 0, n, n % 2 ? NORMAL : BATCH, 1, 0), 0);
    unsigned sent = count_of(f, BROKER_CORE_JOB);
    assert_int_equal(submit_as(f, 0, 7, HIGH, 1, 0), 0);
    return sent;
}

static void a_place_is_kept_for_the_high_lane_while_high_requests_come(void **state)
{
    struct fixture f;
    (void)state;
    assert_int_equal(sent_before_high(&f, 3, 1), 2);
    assert_int_equal(mark_of(nth(&f, BROKER_CORE_JOB, 2)), 7);
    /* It ends, and its place is not for those that wait. */
    done(&f, nth(&f, BROKER_CORE_JOB, 2));
    ready(&f, 0, 1, 3);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 3);
    close_core(&f);
}

static void
a_kept_place_is_for_all_when_no_high_request_has_come_for_a_while(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    f.limits.start_us = f.limits.lease_us = f.limits.job_us = 60 * SECOND;
    open_with_worker(&f, 3);
    assert_int_equal(submit_as(&f, 0, 99, HIGH, 1, 0), 0);
    ready(&f, 0, 3, 3);
    done(&f, nth(&f, BROKER_CORE_JOB, 0));
    ready(&f, 0, 3, 3);
    clear(&f);
    for (unsigned n = 0; n < 4; n++)
        submit(&f, n);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 2);
    live(&f, BROKER_CORE_HIGH_HOLD_US - 1);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 2);
    pass(&f, 1); /* time alone */
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 3);
    close_core(&f);
}

static void a_third_of_the_target_is_kept_at_most(void **state)
{
    struct fixture f;
    (void)state;
    assert_int_equal(sent_before_high(&f, 2, 1), 2);
    close_core(&f);
    assert_int_equal(sent_before_high(&f, 5, 9), 4);
    close_core(&f);
    assert_int_equal(sent_before_high(&f, 6, 9), 4);
    close_core(&f);
    assert_int_equal(sent_before_high(&f, 6, 1), 5);
    close_core(&f);
    assert_int_equal(sent_before_high(&f, 6, 0), 6);
    close_core(&f);
}

/* The worker that a job of `service` about a key of `key`s goes to. */
static uint32_t worker_of_key(struct fixture *f, const char *service, unsigned n,
                              uint8_t key)
{
    uint8_t bytes[BROKER_CORE_KEY_BYTES];
    struct broker_core_request request = {
        .id = id_of(n), .service = service, .key = bytes, .payload = &marks[n]};

    memset(bytes, key, sizeof bytes);
    clear(f);
    assert_int_equal(broker_core_submit(f->core, 0, &request, f->now_us), 0);
    assert_int_equal(count_of(f, BROKER_CORE_JOB), 1);
    const struct broker_core_action *job = nth(f, BROKER_CORE_JOB, 0);
    uint32_t worker = job->peer;
    done(f, job);
    return worker;
}

static void a_key_stays_with_its_worker_where_there_are_no_slots(void **state)
{
    struct fixture f;
    struct broker_core_offer offer = {.service = "cache"};
    uint32_t first[40];
    unsigned n = 0, of_two = 0;
    (void)state;
    prepare(&f);
    open_core(&f);
    hello(&f, 0);
    for (uint32_t worker = 0; worker < 3; worker++)
        assert_int_equal(broker_core_register(f.core, worker, &offer, f.now_us), 0);
    for (unsigned round = 0; round < 3; round++) {
        for (uint32_t worker = 0; worker < 3; worker++) /* whoever has more credit */
            ready(&f, worker, 100 + 50 * ((worker + round) % 3), 0);
        for (uint8_t key = 0; key < 40; key++) {
            uint32_t worker = worker_of_key(&f, "cache", n++, key);
            if (round == 0)
                first[key] = worker;
            assert_int_equal(worker, first[key]);
            of_two += worker == 2;
        }
    }
    assert_in_range(of_two, 3 * 5, 3 * 25); /* each has a share of them */

    /* One goes: only its keys move. */
    broker_core_worker_bye(f.core, 2, f.now_us);
    for (uint8_t key = 0; key < 40; key++) {
        uint32_t worker = worker_of_key(&f, "cache", n++, key);
        if (first[key] != 2)
            assert_int_equal(worker, first[key]);
        first[key] = worker;
    }
    /* One is full: the other takes its keys. */
    ready(&f, 0, 0, 0);
    for (uint8_t key = 0; key < 40; key++)
        assert_int_equal(worker_of_key(&f, "cache", n++, key), 1);
    close_core(&f);
}

static void jobs_of_a_client_that_reads_slowly_are_overtaken(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    open_with_worker(&f, 4);
    hello(&f, 1);
    assert_int_equal(submit_as(&f, 0, 1, NORMAL, 100, 0), 0);
    assert_int_equal(submit_as(&f, 0, 2, NORMAL, 100, 0), 0);
    assert_int_equal(submit_as(&f, 1, 3, NORMAL, 100, 0), 0);
    assert_int_equal(submit_as(&f, 1, 4, BATCH, 100, 0), 0);
    broker_core_client_hold(f.core, 0, true, f.now_us);
    ready(&f, 0, 4, 4);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 2);
    assert_int_equal(mark_of(nth(&f, BROKER_CORE_JOB, 0)), 3);
    assert_int_equal(mark_of(nth(&f, BROKER_CORE_JOB, 1)), 4);
    broker_core_client_hold(f.core, 0, false, f.now_us);
    assert_int_equal(mark_of(nth(&f, BROKER_CORE_JOB, 2)), 1);
    assert_int_equal(mark_of(nth(&f, BROKER_CORE_JOB, 3)), 2);
    /* It is of the session: a new one reads. */
    broker_core_client_hold(f.core, 0, true, f.now_us);
    broker_core_client_bye(f.core, 0, f.now_us);
    hello(&f, 0);
    ready(&f, 0, 4, 4);
    assert_int_equal(submit_as(&f, 0, 5, NORMAL, 100, 0), 0);
    assert_int_equal(mark_of(nth(&f, BROKER_CORE_JOB, 4)), 5);
    close_core(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(higher_priorities_go_first_and_the_batch_lane_gets_its_share),
        cmocka_unit_test(the_worker_with_most_credit_is_chosen_then_the_longest_unused),
        cmocka_unit_test(who_lets_a_start_time_pass_is_the_last_choice_until_it_begins),
        cmocka_unit_test(a_second_attempt_uses_the_same_worker_only_when_alone),
        cmocka_unit_test(a_late_clock_lets_no_expired_job_through),
        cmocka_unit_test(an_overloaded_lane_is_served_from_its_other_end),
        cmocka_unit_test(a_hundred_percent_keeps_the_order_of_arrival),
        cmocka_unit_test(the_batch_lane_gets_its_share_under_overload_too),
        cmocka_unit_test(a_place_is_kept_for_the_high_lane_while_high_requests_come),
        cmocka_unit_test(
            a_kept_place_is_for_all_when_no_high_request_has_come_for_a_while),
        cmocka_unit_test(a_third_of_the_target_is_kept_at_most),
        cmocka_unit_test(a_key_stays_with_its_worker_where_there_are_no_slots),
        cmocka_unit_test(jobs_of_a_client_that_reads_slowly_are_overtaken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
