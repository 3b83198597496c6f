/* A flight and the cache: what is asked of it, told to it, and believed. */
#include "tests/unit/gateway/flight_fixture.h"

static void a_hit_of_the_cache_answers_without_computing(void **state)
{
    struct bench bench;
    struct asker asker;

    (void)state;
    open_and_join(&bench, &asker);
    sent_is(&bench, 0, "get");
    assert_int_equal(bench.fake.sent[0].envelope.budget_ms, 20000);
    answer_blob(&bench, 0, key_a, &(struct proto_outcome){.cache = "hit"});
    assert_int_equal(asker.done, 1);
    assert_int_equal(asker.source, GATEWAY_HIT);
    assert_int_equal(asker.value_bytes, PROTO_BLOB_HEADER_BYTES);
    assert_int_equal(bench.fake.count, 1);
    assert_int_equal(gateway_flights_counters(bench.flights)->open, 0);
    close_bench(&bench);
}

static void a_miss_is_computed_answered_and_then_put_with_its_lease(void **state)
{
    struct bench bench;
    struct asker asker;

    (void)state;
    open_and_join(&bench, &asker);
    answer_miss(&bench, 0, 42);
    sent_is(&bench, 1, "features");
    assert_string_equal(bench.fake.sent[1].submit.service, "extract");
    assert_int_equal(bench.fake.sent[1].payload_bytes, 7);
    assert_int_equal(bench.fake.sent[1].submit.params_bytes, PROTO_PARAMS_BYTES);
    assert_int_equal(bench.fake.sent[1].envelope.cost_bytes, (1 << 20) + 7);
    answer_blob(&bench, 1, key_a,
                &(struct proto_outcome){.decode_us = 1, .denoise_us = 2, .sift_us = 5});
    assert_int_equal(asker.done, 1);
    assert_int_equal(asker.source, GATEWAY_MISS);
    assert_int_equal(asker.sift_us, 5);
    sent_is(&bench, 2, "put");
    assert_int_equal(bench.fake.sent[2].submit.lease, 42);
    assert_int_equal(bench.fake.sent[2].submit.cost_us, 8);
    assert_int_equal(bench.fake.sent[2].submit.status, PROTO_STATUS_OK);
    assert_int_equal(bench.fake.sent[2].submit.params_bytes, PROTO_PARAMS_BYTES);
    assert_memory_equal(bench.fake.sent[2].submit.params,
                        bench.fake.sent[1].submit.params, PROTO_PARAMS_BYTES);
    assert_int_equal(bench.fake.sent[2].envelope.cost_bytes, 0);
    assert_int_equal(bench.fake.sent[2].payload_bytes, PROTO_BLOB_HEADER_BYTES);
    fake_final(&bench.fake, 2, PROTO_STATUS_OK, bench.now_us);
    assert_int_equal(gateway_mesh_credit(bench.fake.mesh, PROTO_PRIORITY_HIGH).jobs, 0);
    close_bench(&bench);
}

static void a_failed_computation_drops_its_lease_and_is_told_to_all(void **state)
{
    struct bench bench;
    struct asker one, two;

    (void)state;
    open_and_join(&bench, &one);
    answer_miss(&bench, 0, 42);
    join(&bench, &two, key_a);
    fake_answer(&bench.fake, 1, PROTO_FINAL, PROTO_STATUS_TOO_MANY_PIXELS,
                &(struct proto_outcome){.limit = 64, .actual = 65, .detail = "large"},
                NULL, 0, bench.now_us);
    assert_int_equal(one.status, PROTO_STATUS_TOO_MANY_PIXELS);
    assert_int_equal(two.status, PROTO_STATUS_TOO_MANY_PIXELS);
    assert_int_equal(one.limit, 64);
    assert_int_equal(one.actual, 65);
    sent_is(&bench, 2, "drop");
    assert_int_equal(bench.fake.sent[2].submit.lease, 42);
    close_bench(&bench);
}

static void an_input_that_is_refused_is_put_as_such(void **state)
{
    struct bench bench;
    struct asker asker;

    (void)state;
    open_and_join(&bench, &asker);
    answer_miss(&bench, 0, 42);
    fake_answer(&bench.fake, 1, PROTO_FINAL, PROTO_STATUS_UNDECODABLE,
                &(struct proto_outcome){.blame = "input", .limit = 3, .detail = "no PNG"},
                NULL, 0, bench.now_us);
    assert_int_equal(asker.status, PROTO_STATUS_UNDECODABLE);
    sent_is(&bench, 2, "put");
    const struct fake_sent *put = &bench.fake.sent[2];
    assert_int_equal(put->payload_bytes, 0);
    assert_int_equal(put->submit.lease, 42);
    assert_int_equal(put->submit.status, PROTO_STATUS_UNDECODABLE);
    assert_int_equal(put->submit.limit, 3);
    assert_string_equal(put->submit.detail, "no PNG");
    assert_int_equal(bench.fake.count, 3); /* the put ends the lease, no drop does */
    close_bench(&bench);
}

static void blame_for_what_does_not_last_is_not_put(void **state)
{
    struct bench bench;
    struct asker asker;

    (void)state;
    open_and_join(&bench, &asker);
    answer_miss(&bench, 0, 42);
    fake_answer(&bench.fake, 1, PROTO_FINAL, PROTO_STATUS_EXPIRED,
                &(struct proto_outcome){.blame = "input"}, NULL, 0, bench.now_us);
    sent_is(&bench, 2, "drop");
    close_bench(&bench);
}

static void a_refusal_that_the_cache_knows_is_told_without_computing(void **state)
{
    struct bench bench;
    struct asker asker;

    (void)state;
    open_and_join(&bench, &asker);
    fake_answer(&bench.fake, 0, PROTO_FINAL, PROTO_STATUS_TOO_MANY_PIXELS,
                &(struct proto_outcome){.cache = "hit", .limit = 64, .actual = 65}, NULL,
                0, bench.now_us);
    assert_int_equal(asker.status, PROTO_STATUS_TOO_MANY_PIXELS);
    assert_int_equal(asker.source, GATEWAY_HIT);
    assert_int_equal(asker.limit, 64);
    assert_int_equal(asker.actual, 65);
    assert_int_equal(bench.fake.count, 1);
    assert_int_equal(gateway_flights_counters(bench.flights)->cache_failures, 0);
    close_bench(&bench);
}

static void a_cache_that_fails_is_passed_by_until_a_probe_comes_back(void **state)
{
    struct bench bench;
    struct asker one, two, three;

    (void)state;
    open_and_join(&bench, &one);
    fake_final(&bench.fake, 0, PROTO_STATUS_UNAVAILABLE, bench.now_us);
    sent_is(&bench, 1, "features");
    answer_blob(&bench, 1, key_a, NULL);
    assert_int_equal(one.source, GATEWAY_MISS);
    assert_int_equal(bench.fake.count, 2); /* no put */
    join(&bench, &two, key_b);
    sent_is(&bench, 2, "features");
    assert_int_equal(gateway_flights_counters(bench.flights)->cache_bypassed, 1);
    join_as(&bench, &three, key_a, true);
    assert_int_equal(three.status, PROTO_STATUS_UNAVAILABLE);

    sweep(&bench, S);
    sent_is(&bench, 3, "peek");
    sweep(&bench, 100000);
    assert_int_equal(bench.fake.count, 4); /* one probe at a time */
    fake_final(&bench.fake, 3, PROTO_STATUS_UNAVAILABLE, bench.now_us);
    sweep(&bench, S);
    sent_is(&bench, 4, "peek");
    answer_miss(&bench, 4, 0);
    assert_int_equal(gateway_flights_counters(bench.flights)->cache_down, 0);
    join(&bench, &three, key_a);
    sent_is(&bench, 5, "get");
    close_bench(&bench);
}

static void answer_still_computing(struct bench *bench, size_t index, uint64_t after_us)
{
    bench->now_us += after_us;
    fake_answer(&bench->fake, index, PROTO_FINAL, PROTO_STATUS_MISS,
                &(struct proto_outcome){.retry_after_ms = 1, .cache = "miss"}, NULL, 0,
                bench->now_us);
}

static void what_another_gateway_still_computes_is_asked_for_again(void **state)
{
    struct bench bench;
    struct asker asker;

    (void)state;
    open_and_join(&bench, &asker); /* with 60 s */
    for (unsigned i = 0; i < 4; i++) {
        sent_is(&bench, i, "get");
        assert_int_equal(bench.fake.count, i + 1);
        answer_still_computing(&bench, i, 10 * S);
    }
    sent_is(&bench, 4, "get"); /* 20 s are left: 5 to ask, 15 to compute */
    assert_int_equal(bench.fake.sent[4].envelope.budget_ms, 5000);
    assert_int_equal(gateway_flights_counters(bench.flights)->cache_again, 4);
    answer_blob(&bench, 4, key_a, &(struct proto_outcome){.cache = "coalesced"});
    assert_int_equal(asker.status, PROTO_STATUS_OK);
    assert_int_equal(asker.source, GATEWAY_COALESCED);
    close_bench(&bench);
}

static void it_is_computed_after_all_while_there_is_time_for_that(void **state)
{
    struct bench bench;
    struct asker asker, other;

    (void)state;
    open_and_join(&bench, &asker);
    for (unsigned i = 0; i < 4; i++)
        answer_still_computing(&bench, i, 10 * S);
    answer_still_computing(&bench, 4, 5 * S);
    sent_is(&bench, 5, "features");
    assert_int_equal(bench.fake.sent[5].envelope.budget_ms, 15000);
    /* A look-up that had little time and was parked until its end: the cache is well. */
    join(&bench, &other, key_b);
    for (unsigned i = 6; i < 10; i++)
        answer_still_computing(&bench, i, 10 * S);
    bench.now_us += 5 * S;
    fake_final(&bench.fake, 10, PROTO_STATUS_EXPIRED, bench.now_us);
    sent_is(&bench, 11, "features");
    assert_int_equal(gateway_flights_counters(bench.flights)->cache_down, 0);
    assert_int_equal(gateway_flights_counters(bench.flights)->cache_failures, 1);
    close_bench(&bench);
}

static void a_cache_that_does_not_park_is_not_asked_without_end(void **state)
{
    struct bench bench;
    struct asker asker;

    (void)state;
    open_and_join(&bench, &asker);
    answer_still_computing(&bench, 0, 49999);
    sent_is(&bench, 1, "features");
    close_bench(&bench);
}

static void
a_result_from_the_cache_that_is_not_the_one_asked_for_is_computed(void **state)
{
    struct bench bench;
    struct asker asker;

    (void)state;
    open_and_join(&bench, &asker);
    answer_blob(&bench, 0, key_b, NULL);
    sent_is(&bench, 1, "features");
    assert_int_equal(gateway_flights_counters(bench.flights)->cache_bad, 1);
    answer_blob(&bench, 1, key_b, NULL); /* from a slot it is an error of ours */
    assert_int_equal(asker.status, PROTO_STATUS_INTERNAL);
    close_bench(&bench);
}

static void a_look_up_leaves_half_of_the_time_to_compute(void **state)
{
    struct bench bench;
    struct asker asker;

    (void)state;
    open_bench(&bench, true);
    join_for(&bench, &asker, key_a, false, 10 * S);
    assert_int_equal(bench.fake.sent[0].envelope.budget_ms, 5000);
    sweep(&bench, 5 * S - 20000);
    answer_miss(&bench, 0, 0); /* still being computed */
    sent_is(&bench, 1, "features");
    assert_int_equal(bench.fake.sent[1].envelope.budget_ms, 5020);
    answer_blob(&bench, 1, key_a, NULL);
    assert_int_equal(asker.status, PROTO_STATUS_OK);
    close_bench(&bench);
}

/* ---- leases --------------------------------------------------------------------- */

static void compute_under_lease(struct bench *bench, struct asker *asker)
{
    open_and_join(bench, asker);
    fake_answer(&bench->fake, 0, PROTO_FINAL, PROTO_STATUS_MISS,
                &(struct proto_outcome){.lease = 42, .lease_ms = 20000}, NULL, 0,
                bench->now_us);
}

static void drop_is_sent(const struct bench *bench, size_t index)
{
    sent_is(bench, index, "drop");
    assert_int_equal(bench->fake.sent[index].submit.lease, 42);
    assert_memory_equal(bench->fake.sent[index].submit.key, key_a, PROTO_DIGEST_BYTES);
    assert_int_equal(bench->fake.count, index + 1);
}

static void a_put_that_the_credit_leaves_out_ends_its_lease(void **state)
{
    struct proto_welcome little = {.credit_jobs = 8, .credit_bytes = 100};
    struct bench bench;
    struct asker asker;

    (void)state;
    compute_under_lease(&bench, &asker);
    gateway_mesh_up(bench.fake.mesh, &little, false, bench.now_us);
    answer_blob(&bench, 1, key_a, NULL);
    assert_int_equal(asker.status, PROTO_STATUS_OK);
    assert_int_equal(gateway_flights_counters(bench.flights)->puts_left_out, 1);
    drop_is_sent(&bench, 2);
    fake_final(&bench.fake, 2, PROTO_STATUS_OK, bench.now_us);
    assert_int_equal(gateway_flights_counters(bench.flights)->leases_owed, 0);
    assert_int_equal(gateway_flights_counters(bench.flights)->drops, 1);
    close_bench(&bench);
}

static void a_put_that_is_refused_or_lost_ends_its_lease(void **state)
{
    static const enum proto_status ends[] = {PROTO_STATUS_FULL, PROTO_STATUS_UNAVAILABLE,
                                             PROTO_STATUS_WORKER_LOST};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct bench bench;
        struct asker asker;
        compute_under_lease(&bench, &asker);
        answer_blob(&bench, 1, key_a, NULL);
        sent_is(&bench, 2, "put");
        if (i < 3)
            fake_answer(&bench.fake, 2, i == 0 ? PROTO_REJECT : PROTO_FINAL, ends[i],
                        NULL, NULL, 0, bench.now_us);
        else
            fake_up(&bench.fake, true, bench.now_us); /* another broker */
        drop_is_sent(&bench, 3);
        close_bench(&bench);
    }
}

static void a_drop_is_repeated_until_it_is_taken(void **state)
{
    struct bench bench;
    struct asker asker;

    (void)state;
    compute_under_lease(&bench, &asker);
    bench.fake.fail = -EAGAIN;
    answer_blob(&bench, 1, key_a, NULL);
    sweep(&bench, 1 * S);
    assert_int_equal(bench.fake.count, 2);
    bench.fake.fail = 0;
    sweep(&bench, 1 * S);
    drop_is_sent(&bench, 2);
    sweep(&bench, 1 * S); /* it is under way */
    assert_int_equal(bench.fake.count, 3);
    fake_final(&bench.fake, 2, PROTO_STATUS_UNAVAILABLE, bench.now_us);
    sweep(&bench, 1 * S);
    drop_is_sent(&bench, 3);
    fake_final(&bench.fake, 3, PROTO_STATUS_OK, bench.now_us);
    sweep(&bench, 1 * S);
    assert_int_equal(bench.fake.count, 4);
    close_bench(&bench);
}

static void a_flight_that_begins_again_and_fails_ends_its_lease(void **state)
{
    struct bench bench;
    struct asker asker;

    (void)state;
    compute_under_lease(&bench, &asker);
    fake_up(&bench.fake, true, bench.now_us); /* another broker */
    sent_is(&bench, 2, "get");
    fake_final(&bench.fake, 2, PROTO_STATUS_UNAVAILABLE, bench.now_us);
    sent_is(&bench, 3, "features");
    fake_final(&bench.fake, 3, PROTO_STATUS_WORKER_LOST, bench.now_us);
    assert_int_equal(asker.status, PROTO_STATUS_WORKER_LOST);
    drop_is_sent(&bench, 4);
    close_bench(&bench);
}

static void a_lease_that_is_over_is_owed_no_more(void **state)
{
    struct bench bench;
    struct asker asker;

    (void)state;
    compute_under_lease(&bench, &asker);
    bench.fake.fail = -EAGAIN;
    answer_blob(&bench, 1, key_a, NULL);
    assert_int_equal(gateway_flights_counters(bench.flights)->leases_owed, 1);
    sweep(&bench, 19 * S);
    assert_int_equal(gateway_flights_counters(bench.flights)->leases_owed, 1);
    sweep(&bench, 1 * S);
    assert_int_equal(gateway_flights_counters(bench.flights)->leases_owed, 0);
    close_bench(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hit_of_the_cache_answers_without_computing),
        cmocka_unit_test(a_miss_is_computed_answered_and_then_put_with_its_lease),
        cmocka_unit_test(a_failed_computation_drops_its_lease_and_is_told_to_all),
        cmocka_unit_test(an_input_that_is_refused_is_put_as_such),
        cmocka_unit_test(blame_for_what_does_not_last_is_not_put),
        cmocka_unit_test(a_refusal_that_the_cache_knows_is_told_without_computing),
        cmocka_unit_test(a_cache_that_fails_is_passed_by_until_a_probe_comes_back),
        cmocka_unit_test(what_another_gateway_still_computes_is_asked_for_again),
        cmocka_unit_test(it_is_computed_after_all_while_there_is_time_for_that),
        cmocka_unit_test(a_cache_that_does_not_park_is_not_asked_without_end),
        cmocka_unit_test(
            a_result_from_the_cache_that_is_not_the_one_asked_for_is_computed),
        cmocka_unit_test(a_look_up_leaves_half_of_the_time_to_compute),
        cmocka_unit_test(a_put_that_the_credit_leaves_out_ends_its_lease),
        cmocka_unit_test(a_put_that_is_refused_or_lost_ends_its_lease),
        cmocka_unit_test(a_drop_is_repeated_until_it_is_taken),
        cmocka_unit_test(a_flight_that_begins_again_and_fails_ends_its_lease),
        cmocka_unit_test(a_lease_that_is_over_is_owed_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
