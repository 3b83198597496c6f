#include "gateway/flight.h"

#include "tests/unit/gateway/fake_broker.h"

#define S UINT64_C(1000000)

struct bench {
    struct fake_broker fake;
    struct gateway_flights *flights;
    uint64_t now_us;
};

struct asker {
    struct gateway_waiter waiter; /* first: on_done finds the rest by it */
    unsigned done;
    enum proto_status status;
    enum gateway_source source;
    size_t value_bytes;
    uint64_t sift_us, limit, actual, retry_after_ms;
};

static const uint8_t key_a[PROTO_DIGEST_BYTES] = {1, 2, 3};
static const uint8_t key_b[PROTO_DIGEST_BYTES] = {1, 2, 4};

static void on_done(struct gateway_waiter *waiter, struct gateway_result *result,
                    enum gateway_source source)
{
    struct asker *asker = (struct asker *)(void *)waiter;

    assert_null(waiter->flight);
    asker->done++;
    asker->status = result->status;
    asker->source = source;
    asker->sift_us = result->sift_us;
    asker->limit = result->limit;
    asker->actual = result->actual;
    asker->retry_after_ms = result->retry_after_ms;
    asker->value_bytes = result->value != NULL ? result->value->size : 0;
}

static void open_bench(struct bench *bench, bool up)
{
    struct gateway_flight_limits limits = {2 * S, 20 * S, 1 * S};

    fake_open(&bench->fake);
    bench->now_us = 100 * S;
    bench->flights = gateway_flights_new(bench->fake.mesh, &limits);
    assert_non_null(bench->flights);
    if (up)
        fake_up(&bench->fake, true, bench->now_us);
}

static void close_bench(struct bench *bench)
{
    gateway_flights_free(bench->flights);
    gateway_mesh_free(bench->fake.mesh);
}

static void join_for(struct bench *bench, struct asker *asker, const uint8_t *key,
                     bool peek, uint64_t time_us)
{
    struct gateway_ask ask = {.peek = peek,
                              .kind = PROTO_KIND_FEATURES,
                              .deadline_us = bench->now_us + time_us};
    zmq_msg_t image;

    memset(asker, 0, sizeof *asker);
    asker->waiter.done = on_done;
    memcpy(ask.key, key, PROTO_DIGEST_BYTES);
    proto_params_init(&ask.params);
    mesh_payload_copy(&image, "picture", 7);
    ask.image = &image;
    assert_int_equal(
        gateway_flights_join(bench->flights, &ask, &asker->waiter, bench->now_us), 0);
    zmq_msg_close(&image);
}

static void join_as(struct bench *bench, struct asker *asker, const uint8_t *key,
                    bool peek)
{
    join_for(bench, asker, key, peek, 60 * S);
}

static void join(struct bench *bench, struct asker *asker, const uint8_t *key)
{
    join_as(bench, asker, key, false);
}

static void sweep(struct bench *bench, uint64_t after_us)
{
    bench->now_us += after_us;
    gateway_mesh_sweep(bench->fake.mesh, bench->now_us);
    gateway_flights_sweep(bench->flights, bench->now_us);
}

/* A blob without features under `key`. */
static void answer_blob(struct bench *bench, size_t index, const uint8_t *key,
                        const struct proto_outcome *outcome)
{
    uint8_t bytes[PROTO_BLOB_HEADER_BYTES];
    struct proto_blob blob = {.width_px = 1, .height_px = 1};

    memcpy(blob.key, key, PROTO_DIGEST_BYTES);
    proto_params_init(&blob.params);
    proto_blob_encode_header(&blob, bytes);
    fake_answer(&bench->fake, index, PROTO_FINAL, PROTO_STATUS_OK, outcome, bytes,
                sizeof bytes, bench->now_us);
}

static void answer_miss(struct bench *bench, size_t index, uint64_t lease)
{
    fake_answer(&bench->fake, index, PROTO_FINAL, PROTO_STATUS_MISS,
                &(struct proto_outcome){.lease = lease, .cache = "miss"}, NULL, 0,
                bench->now_us);
}

static void sent_is(const struct bench *bench, size_t index, const char *method)
{
    assert_true(index < bench->fake.count);
    assert_string_equal(bench->fake.sent[index].submit.method, method);
}

static void a_hit_of_the_cache_answers_without_computing(void **state)
{
    struct bench bench;
    struct asker asker;

    (void)state;
    open_bench(&bench, true);
    join(&bench, &asker, key_a);
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
    open_bench(&bench, true);
    join(&bench, &asker, key_a);
    answer_miss(&bench, 0, 42);
    sent_is(&bench, 1, "features");
    assert_string_equal(bench.fake.sent[1].submit.service, "extract");
    assert_int_equal(bench.fake.sent[1].payload_bytes, 7);
    assert_int_equal(bench.fake.sent[1].submit.params_bytes, PROTO_PARAMS_BYTES);
    assert_int_equal(bench.fake.sent[1].envelope.cost_bytes, (256 << 10) + 7);
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
    open_bench(&bench, true);
    join(&bench, &a, key_a);
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

static void a_failed_computation_drops_its_lease_and_is_told_to_all(void **state)
{
    struct bench bench;
    struct asker one, two;

    (void)state;
    open_bench(&bench, true);
    join(&bench, &one, key_a);
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
    open_bench(&bench, true);
    join(&bench, &asker, key_a);
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
    open_bench(&bench, true);
    join(&bench, &asker, key_a);
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
    open_bench(&bench, true);
    join(&bench, &asker, key_a);
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

static void only_the_last_one_to_leave_cancels(void **state)
{
    struct bench bench;
    struct asker one, two;

    (void)state;
    open_bench(&bench, true);
    join(&bench, &one, key_a);
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

static void a_cache_that_fails_is_passed_by_until_a_probe_comes_back(void **state)
{
    struct bench bench;
    struct asker one, two, three;

    (void)state;
    open_bench(&bench, true);
    join(&bench, &one, key_a);
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
    open_bench(&bench, true);
    join(&bench, &asker, key_a); /* with 60 s */
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
    open_bench(&bench, true);
    join(&bench, &asker, key_a);
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
    open_bench(&bench, true);
    join(&bench, &asker, key_a);
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
    open_bench(&bench, true);
    join(&bench, &asker, key_a);
    answer_blob(&bench, 0, key_b, NULL);
    sent_is(&bench, 1, "features");
    assert_int_equal(gateway_flights_counters(bench.flights)->cache_bad, 1);
    answer_blob(&bench, 1, key_b, NULL); /* from a slot it is an error of ours */
    assert_int_equal(asker.status, PROTO_STATUS_INTERNAL);
    close_bench(&bench);
}

static void a_restarted_broker_is_asked_again_with_the_same_picture(void **state)
{
    struct bench bench;
    struct asker asker;

    (void)state;
    open_bench(&bench, true);
    join(&bench, &asker, key_a);
    answer_miss(&bench, 0, 42);
    gateway_mesh_down(bench.fake.mesh);
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
    open_bench(&bench, true);
    join(&bench, &asker, key_a);
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
    open_bench(&bench, true);
    join(&bench, &leader, key_a);
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
        open_bench(&bench, true);
        join(&bench, &asker, key_a);
        answer_miss(&bench, 0, 42);
        fake_final(&bench.fake, 1, odd[i], bench.now_us);
        assert_int_equal(asker.status, PROTO_STATUS_INTERNAL);
        close_bench(&bench);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hit_of_the_cache_answers_without_computing),
        cmocka_unit_test(a_miss_is_computed_answered_and_then_put_with_its_lease),
        cmocka_unit_test(a_thousand_who_ask_alike_are_one_flight),
        cmocka_unit_test(different_keys_and_look_ups_fly_apart),
        cmocka_unit_test(a_failed_computation_drops_its_lease_and_is_told_to_all),
        cmocka_unit_test(an_input_that_is_refused_is_put_as_such),
        cmocka_unit_test(blame_for_what_does_not_last_is_not_put),
        cmocka_unit_test(a_refusal_that_the_cache_knows_is_told_without_computing),
        cmocka_unit_test(only_the_last_one_to_leave_cancels),
        cmocka_unit_test(a_cache_that_fails_is_passed_by_until_a_probe_comes_back),
        cmocka_unit_test(what_another_gateway_still_computes_is_asked_for_again),
        cmocka_unit_test(it_is_computed_after_all_while_there_is_time_for_that),
        cmocka_unit_test(a_cache_that_does_not_park_is_not_asked_without_end),
        cmocka_unit_test(
            a_result_from_the_cache_that_is_not_the_one_asked_for_is_computed),
        cmocka_unit_test(a_restarted_broker_is_asked_again_with_the_same_picture),
        cmocka_unit_test(without_a_broker_a_request_waits_a_while_and_no_longer),
        cmocka_unit_test(a_full_send_queue_is_waited_for_like_an_absent_broker),
        cmocka_unit_test(a_long_look_up_is_no_wait_for_the_broker),
        cmocka_unit_test(a_look_up_leaves_half_of_the_time_to_compute),
        cmocka_unit_test(without_credit_it_is_full_and_says_which_bound),
        cmocka_unit_test(a_follower_with_time_left_is_not_hurt_by_the_leaders_deadline),
        cmocka_unit_test(ends_that_a_client_cannot_have_caused_are_not_told_as_its_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
