#include "tests/unit/gateway/flight_fixture.h"

static void a_thousand_who_ask_alike_are_one_flight(void **state)
{
    static struct asker askers[1000];
    struct bench bench;
    unsigned misses = 0;

    (void)state;
    open_bench(&bench, true);
    for (int i = 0; i < 1000; i++)
        join(&bench, &askers[i], key_a);
    assert_int_equal(bench.fake.count, 1);
    answer_miss(&bench, 0, 1);
    assert_int_equal(bench.fake.count, 2);
    answer_blob(&bench, 1, key_a, NULL);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(askers[i].done, 1);
        assert_int_equal(askers[i].status, PROTO_STATUS_OK);
        misses += askers[i].source == GATEWAY_MISS;
    }
    assert_int_equal(misses, 1);
    assert_int_equal(askers[999].source, GATEWAY_COALESCED);
    close_bench(&bench);
}

static void different_keys_and_look_ups_fly_apart(void **state)
{
    struct bench bench;
    struct asker a, b, peek;

    (void)state;
    open_and_join(&bench, &a);
    join(&bench, &b, key_b);
    join_as(&bench, &peek, key_a, true);
    sent_is(&bench, 2, "peek");
    answer_blob(&bench, 1, key_b, NULL);
    assert_int_equal(a.done, 0);
    assert_int_equal(b.done, 1);
    answer_miss(&bench, 2, 0);
    assert_int_equal(peek.done, 1);
    assert_int_equal(peek.status, PROTO_STATUS_NOT_FOUND);
    answer_blob(&bench, 0, key_a, NULL);
    assert_int_equal(a.done, 1);
    close_bench(&bench);
}

static void only_the_last_one_to_leave_cancels(void **state)
{
    struct bench bench;
    struct asker one, two;

    (void)state;
    open_and_join(&bench, &one);
    join(&bench, &two, key_a);
    answer_miss(&bench, 0, 42);
    gateway_flights_leave(bench.flights, &one.waiter, bench.now_us);
    gateway_flights_leave(bench.flights, &one.waiter, bench.now_us); /* twice is fine */
    assert_int_equal(bench.fake.count, 2);
    gateway_flights_leave(bench.flights, &two.waiter, bench.now_us);
    assert_int_equal(bench.fake.sent[2].envelope.verb, PROTO_CANCEL);
    assert_memory_equal(&bench.fake.sent[2].envelope.request,
                        &bench.fake.sent[1].envelope.request, sizeof(struct proto_id));
    sent_is(&bench, 3, "drop");
    assert_int_equal(gateway_flights_counters(bench.flights)->cancelled, 1);
    fake_final(&bench.fake, 1, PROTO_STATUS_CANCELLED, bench.now_us);
    assert_int_equal(one.done + two.done, 0);
    join(&bench, &one, key_a); /* begins anew */
    sent_is(&bench, 4, "get");
    close_bench(&bench);
}

static void a_restarted_broker_is_asked_again_with_the_same_picture(void **state)
{
    struct bench bench;
    struct asker asker;

    (void)state;
    open_and_join(&bench, &asker);
    answer_miss(&bench, 0, 42);
    gateway_mesh_down(bench.fake.mesh, bench.now_us);
    sweep(&bench, S);
    assert_int_equal(asker.done, 0);
    fake_up(&bench.fake, true, bench.now_us);
    gateway_flights_up(bench.flights, bench.now_us);
    sent_is(&bench, 2, "get");
    answer_miss(&bench, 2, 43);
    for (size_t i = 3; i < bench.fake.count; i++)
        if (strcmp(bench.fake.sent[i].submit.method, "features") == 0) {
            assert_int_equal(bench.fake.sent[i].payload_bytes, 7);
            answer_blob(&bench, i, key_a, NULL);
        }
    assert_int_equal(asker.done, 1);
    assert_int_equal(asker.status, PROTO_STATUS_OK);
    assert_int_equal(gateway_flights_counters(bench.flights)->restarted, 1);
    close_bench(&bench);
}

static void without_a_broker_a_request_waits_a_while_and_no_longer(void **state)
{
    struct bench bench;
    struct asker one, two;

    (void)state;
    open_bench(&bench, false);
    join(&bench, &one, key_a);
    sweep(&bench, S);
    join(&bench, &two, key_b);
    assert_int_equal(one.done, 0);
    sweep(&bench, S);
    assert_int_equal(one.done, 1);
    assert_int_equal(one.status, PROTO_STATUS_UNAVAILABLE);
    assert_int_equal(one.retry_after_ms, 0); /* nobody can tell */
    assert_int_equal(two.done, 0);
    fake_up(&bench.fake, true, bench.now_us);
    gateway_flights_up(bench.flights, bench.now_us);
    answer_blob(&bench, bench.fake.count - 1, key_b, NULL);
    assert_int_equal(two.status, PROTO_STATUS_OK);
    close_bench(&bench);
}

static void answer_draining(struct bench *bench, size_t index, enum proto_verb verb)
{
    fake_answer(&bench->fake, index, verb, PROTO_STATUS_DRAINING, NULL, NULL, 0,
                bench->now_us);
}

static void what_a_draining_broker_refuses_or_ends_is_its_successors(void **state)
{
    static const enum proto_verb verbs[] = {PROTO_REJECT, PROTO_FINAL};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        bool computing = i >= 2;
        struct bench bench;
        struct asker asker;

        open_and_join(&bench, &asker);
        if (computing)
            answer_miss(&bench, 0, 42);
        answer_draining(&bench, computing, verbs[i % 2]);
        sweep(&bench, S);
        assert_int_equal(asker.done, 0);
        assert_int_equal(bench.fake.count, 1 + computing); /* nothing more to this one */
        assert_int_equal(gateway_flights_counters(bench.flights)->cache_failures, 0);
        gateway_mesh_down(bench.fake.mesh, bench.now_us);
        fake_up(&bench.fake, true, bench.now_us);
        gateway_flights_up(bench.flights, bench.now_us);
        sent_is(&bench, bench.fake.count - 1, "get");
        answer_blob(&bench, bench.fake.count - 1, key_a, NULL);
        assert_int_equal(asker.status, PROTO_STATUS_OK);
        close_bench(&bench);
    }
}

static void a_broker_that_stays_away_ends_what_it_had(void **state)
{
    (void)state;
    for (int computing = 0; computing < 2; computing++) {
        struct bench bench;
        struct asker asker;

        open_and_join(&bench, &asker);
        if (computing)
            answer_miss(&bench, 0, 42);
        sweep(&bench, 3 * S); /* it is there, and takes its time */
        gateway_mesh_down(bench.fake.mesh, bench.now_us);
        sweep(&bench, 2 * S - 1);
        assert_int_equal(asker.done, 0);
        sweep(&bench, 1);
        assert_int_equal(asker.done, 1);
        assert_int_equal(asker.status, PROTO_STATUS_UNAVAILABLE);
        /* It comes back after all, and knows what was open: that is not wanted. */
        fake_up(&bench.fake, false, bench.now_us);
        fake_final(&bench.fake, (size_t)computing, PROTO_STATUS_OK, bench.now_us);
        assert_int_equal(asker.done, 1);
        close_bench(&bench);
    }
}

static void a_full_send_queue_is_waited_for_like_an_absent_broker(void **state)
{
    struct bench bench;
    struct asker asker;

    (void)state;
    open_bench(&bench, true);
    bench.fake.fail = -EAGAIN;
    join(&bench, &asker, key_a);
    sweep(&bench, S);
    assert_int_equal(asker.done, 0);
    bench.fake.fail = 0;
    sweep(&bench, 100000);
    sent_is(&bench, 0, "get");
    close_bench(&bench);
}

static void a_long_look_up_is_no_wait_for_the_broker(void **state)
{
    struct bench bench;
    struct asker asker;

    (void)state;
    open_and_join(&bench, &asker);
    sweep(&bench, 5 * S); /* parked behind another's computation */
    bench.fake.fail = -EAGAIN;
    answer_miss(&bench, 0, 0);
    sweep(&bench, S);
    assert_int_equal(asker.done, 0);
    bench.fake.fail = 0;
    sweep(&bench, 100000);
    sent_is(&bench, 1, "get");
    close_bench(&bench);
}

static void without_credit_it_is_full_and_says_which_bound(void **state)
{
    struct bench bench;
    struct asker askers[9];

    (void)state;
    open_bench(&bench, true);
    for (uint8_t i = 0; i < 9; i++) {
        uint8_t key[PROTO_DIGEST_BYTES] = {i};
        join(&bench, &askers[i], key);
    }
    assert_int_equal(askers[7].done, 0);
    assert_int_equal(askers[8].done, 1);
    assert_int_equal(askers[8].status, PROTO_STATUS_FULL);
    assert_int_equal(askers[8].limit, 8);
    assert_int_equal(askers[8].actual, 8);
    for (int i = 0; i < 8; i++)
        gateway_flights_leave(bench.flights, &askers[i].waiter, bench.now_us);
    close_bench(&bench);
}

static void a_follower_with_time_left_is_not_hurt_by_the_leaders_deadline(void **state)
{
    struct bench bench;
    struct asker leader, follower;

    (void)state;
    open_and_join(&bench, &leader);
    answer_miss(&bench, 0, 42);
    fake_answer(&bench.fake, 1, PROTO_ACCEPT, PROTO_STATUS_OK, NULL, NULL, 0,
                bench.now_us);
    bench.now_us += 30 * S;
    join(&bench, &follower, key_a);
    gateway_flights_leave(bench.flights, &leader.waiter, bench.now_us);
    sweep(&bench, 31 * S); /* the leader's 60 s are over, the follower's are not */
    assert_int_equal(follower.done, 0);
    sent_is(&bench, bench.fake.count - 1, "get");
    answer_blob(&bench, bench.fake.count - 1, key_a, NULL);
    assert_int_equal(follower.status, PROTO_STATUS_OK);
    close_bench(&bench);
}

static void ends_that_a_client_cannot_have_caused_are_not_told_as_its_fault(void **state)
{
    static const enum proto_status odd[] = {PROTO_STATUS_BAD_REQUEST, PROTO_STATUS_MISS,
                                            PROTO_STATUS_CANCELLED};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct bench bench;
        struct asker asker;
        open_and_join(&bench, &asker);
        answer_miss(&bench, 0, 42);
        fake_final(&bench.fake, 1, odd[i], bench.now_us);
        assert_int_equal(asker.status, PROTO_STATUS_INTERNAL);
        close_bench(&bench);
    }
}

/* ---- priority ------------------------------------------------------------------- */

static const struct fake_sent *sent_at(const struct bench *bench, size_t index)
{
    assert_int_equal(bench->fake.count, index + 1);
    return &bench->fake.sent[index];
}

static void is_recall_of(const struct bench *bench, size_t index, size_t of)
{
    const struct fake_sent *sent = sent_at(bench, index);

    assert_int_equal(sent->envelope.verb, PROTO_CANCEL);
    assert_int_equal(sent->envelope.flags, PROTO_FLAG_FRESH);
    assert_memory_equal(&sent->envelope.request, &bench->fake.sent[of].envelope.request,
                        sizeof(struct proto_id));
}

static void compute_as_batch(struct bench *bench, struct asker *leader)
{
    open_bench(bench, true);
    join_at(bench, leader, key_a, PROTO_PRIORITY_BATCH);
    answer_miss(bench, 0, 42);
    assert_int_equal(sent_at(bench, 1)->envelope.priority, PROTO_PRIORITY_BATCH);
}

static void a_flight_takes_the_highest_priority_of_its_waiters(void **state)
{
    struct bench bench;
    struct asker leader, high, low;

    (void)state;
    compute_as_batch(&bench, &leader);
    join_at(&bench, &high, key_a, PROTO_PRIORITY_HIGH);
    is_recall_of(&bench, 2, 1);
    join_at(&bench, &low, key_a, PROTO_PRIORITY_NORMAL);
    assert_int_equal(bench.fake.count, 3);
    fake_final(&bench.fake, 1, PROTO_STATUS_CANCELLED, bench.now_us);
    assert_int_equal(sent_at(&bench, 3)->envelope.priority, PROTO_PRIORITY_HIGH);
    assert_int_equal(bench.fake.sent[3].payload_bytes, 7);
    answer_blob(&bench, 3, key_a, NULL);
    assert_true(leader.done == 1 && high.done == 1 && low.done == 1);
    sent_is(&bench, 4, "put");
    assert_int_equal(bench.fake.sent[4].submit.lease, 42);
    close_bench(&bench);
}

static void a_flight_rises_step_by_step(void **state)
{
    struct bench bench;
    struct asker leader, normal, high;

    (void)state;
    compute_as_batch(&bench, &leader);
    join_at(&bench, &normal, key_a, PROTO_PRIORITY_NORMAL);
    fake_final(&bench.fake, 1, PROTO_STATUS_CANCELLED, bench.now_us);
    assert_int_equal(sent_at(&bench, 3)->envelope.priority, PROTO_PRIORITY_NORMAL);
    join_at(&bench, &high, key_a, PROTO_PRIORITY_HIGH);
    is_recall_of(&bench, 4, 3);
    fake_final(&bench.fake, 3, PROTO_STATUS_CANCELLED, bench.now_us);
    assert_int_equal(sent_at(&bench, 5)->envelope.priority, PROTO_PRIORITY_HIGH);
    answer_blob(&bench, 5, key_a, NULL);
    assert_true(leader.done == 1 && normal.done == 1 && high.done == 1);
    close_bench(&bench);
}

static void what_a_worker_has_already_is_not_begun_again(void **state)
{
    struct bench bench;
    struct asker leader, high;

    (void)state;
    compute_as_batch(&bench, &leader);
    join_at(&bench, &high, key_a, PROTO_PRIORITY_HIGH);
    answer_blob(&bench, 1, key_a, NULL);
    assert_true(leader.status == PROTO_STATUS_OK && high.status == PROTO_STATUS_OK);
    sent_is(&bench, 3, "put");
    close_bench(&bench);
}

static void a_full_lane_above_ends_no_wait_in_the_one_below(void **state)
{
    struct bench bench;
    struct asker leader, high;

    (void)state;
    compute_as_batch(&bench, &leader);
    join_at(&bench, &high, key_a, PROTO_PRIORITY_HIGH);
    fake_final(&bench.fake, 1, PROTO_STATUS_CANCELLED, bench.now_us);
    fake_answer(&bench.fake, 3, PROTO_REJECT, PROTO_STATUS_FULL, NULL, NULL, 0,
                bench.now_us);
    assert_int_equal(leader.done, 0);
    assert_int_equal(sent_at(&bench, 4)->envelope.priority, PROTO_PRIORITY_BATCH);
    fake_answer(&bench.fake, 4, PROTO_REJECT, PROTO_STATUS_FULL, NULL, NULL, 0,
                bench.now_us);
    assert_true(leader.status == PROTO_STATUS_FULL && high.status == PROTO_STATUS_FULL);
    close_bench(&bench);
}

static void a_look_up_that_waits_rises_too(void **state)
{
    struct bench bench;
    struct asker leader, high;

    (void)state;
    open_bench(&bench, true);
    join_at(&bench, &leader, key_a, PROTO_PRIORITY_BATCH);
    join_at(&bench, &high, key_a, PROTO_PRIORITY_HIGH);
    is_recall_of(&bench, 1, 0);
    fake_final(&bench.fake, 0, PROTO_STATUS_CANCELLED, bench.now_us);
    sent_is(&bench, 2, "get");
    assert_int_equal(sent_at(&bench, 2)->envelope.priority, PROTO_PRIORITY_HIGH);
    answer_miss(&bench, 2, 42);
    assert_int_equal(sent_at(&bench, 3)->envelope.priority, PROTO_PRIORITY_HIGH);
    answer_blob(&bench, 3, key_a, NULL);
    assert_true(leader.done == 1 && high.done == 1);
    close_bench(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thousand_who_ask_alike_are_one_flight),
        cmocka_unit_test(different_keys_and_look_ups_fly_apart),
        cmocka_unit_test(only_the_last_one_to_leave_cancels),
        cmocka_unit_test(a_restarted_broker_is_asked_again_with_the_same_picture),
        cmocka_unit_test(without_a_broker_a_request_waits_a_while_and_no_longer),
        cmocka_unit_test(what_a_draining_broker_refuses_or_ends_is_its_successors),
        cmocka_unit_test(a_broker_that_stays_away_ends_what_it_had),
        cmocka_unit_test(a_full_send_queue_is_waited_for_like_an_absent_broker),
        cmocka_unit_test(a_long_look_up_is_no_wait_for_the_broker),
        cmocka_unit_test(without_credit_it_is_full_and_says_which_bound),
        cmocka_unit_test(a_follower_with_time_left_is_not_hurt_by_the_leaders_deadline),
        cmocka_unit_test(ends_that_a_client_cannot_have_caused_are_not_told_as_its_fault),
        cmocka_unit_test(a_flight_takes_the_highest_priority_of_its_waiters),
        cmocka_unit_test(a_flight_rises_step_by_step),
        cmocka_unit_test(what_a_worker_has_already_is_not_begun_again),
        cmocka_unit_test(a_full_lane_above_ends_no_wait_in_the_one_below),
        cmocka_unit_test(a_look_up_that_waits_rises_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
