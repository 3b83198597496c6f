#include "gateway/mesh.h"

#include "tests/unit/gateway/fake_broker.h"

#define S UINT64_C(1000000)

struct ended {
    unsigned count;
    enum proto_status status;
    bool lost, overdue;
    uint64_t lease;
};

static void on_ended(const struct gateway_ending *ending, uint64_t now_us, void *owner)
{
    struct ended *ended = owner;

    (void)now_us;
    ended->count++;
    ended->status = ending->status;
    ended->lost = ending->lost;
    ended->overdue = ending->overdue;
    ended->lease = ending->outcome->lease;
}

static int submit_as(struct fake_broker *fake, enum proto_priority priority,
                     size_t payload_bytes, struct ended *ended, uint64_t now_us,
                     struct gateway_exchange **out)
{
    static uint8_t bytes[1000];
    struct proto_submit body = {.service = "cache", .method = "get"};
    struct gateway_submit submit = {.body = &body,
                                    .budget_us = 5 * S,
                                    .priority = priority,
                                    .ended = ended != NULL ? on_ended : NULL,
                                    .owner = ended};
    zmq_msg_t payload;

    mesh_payload_copy(&payload, bytes, payload_bytes);
    if (payload_bytes > 0)
        submit.payload = &payload;
    int err = gateway_mesh_submit(fake->mesh, &submit, now_us, out);
    zmq_msg_close(&payload);
    return err;
}

static int submit(struct fake_broker *fake, size_t payload_bytes, struct ended *ended,
                  uint64_t now_us, struct gateway_exchange **out)
{
    return submit_as(fake, PROTO_PRIORITY_HIGH, payload_bytes, ended, now_us, out);
}

static void the_last_of_the_credit_is_for_what_cannot_wait(void **state)
{
    struct fake_broker fake;

    (void)state;
    fake_open(&fake);
    fake_up(&fake, true, 0);
    /* Nothing is open: all of it. */
    assert_int_equal(submit_as(&fake, PROTO_PRIORITY_BATCH, 1000, NULL, 0, NULL), 0);
    fake_final(&fake, 0, PROTO_STATUS_OK, 1);
    assert_int_equal(submit_as(&fake, PROTO_PRIORITY_BATCH, 700, NULL, 1, NULL), 0);
    assert_int_equal(submit_as(&fake, PROTO_PRIORITY_BATCH, 51, NULL, 1, NULL), -ENOBUFS);
    assert_int_equal(submit_as(&fake, PROTO_PRIORITY_NORMAL, 175, NULL, 1, NULL), 0);
    assert_int_equal(submit_as(&fake, PROTO_PRIORITY_NORMAL, 1, NULL, 1, NULL), -ENOBUFS);
    assert_int_equal(submit_as(&fake, PROTO_PRIORITY_HIGH, 125, NULL, 1, NULL), 0);
    assert_int_equal(submit_as(&fake, PROTO_PRIORITY_HIGH, 1, NULL, 1, NULL), -ENOBUFS);
    /* And of 8 requests: 6, 7 and 8. */
    for (int i = 3; i < 6; i++)
        assert_int_equal(submit_as(&fake, PROTO_PRIORITY_BATCH, 0, NULL, 1, NULL), 0);
    assert_int_equal(submit_as(&fake, PROTO_PRIORITY_BATCH, 0, NULL, 1, NULL), -ENOBUFS);
    assert_int_equal(submit_as(&fake, PROTO_PRIORITY_NORMAL, 0, NULL, 1, NULL), 0);
    assert_int_equal(submit_as(&fake, PROTO_PRIORITY_NORMAL, 0, NULL, 1, NULL), -ENOBUFS);
    assert_int_equal(submit_as(&fake, PROTO_PRIORITY_HIGH, 0, NULL, 1, NULL), 0);
    gateway_mesh_free(fake.mesh);
}

static void an_exchange_ends_once_and_strays_are_counted(void **state)
{
    struct fake_broker fake;
    struct ended ended = {0};

    (void)state;
    fake_open(&fake);
    assert_int_equal(submit(&fake, 0, &ended, 0, NULL), -ENOTCONN);
    fake_up(&fake, true, 0);
    assert_int_equal(submit(&fake, 0, &ended, 0, NULL), 0);
    assert_int_equal(fake_last(&fake)->envelope.budget_ms, 5000);
    fake_answer(&fake, 0, PROTO_ACCEPT, PROTO_STATUS_OK, NULL, NULL, 0, 1);
    assert_int_equal(ended.count, 0);
    fake_answer(&fake, 0, PROTO_FINAL, PROTO_STATUS_MISS,
                &(struct proto_outcome){.lease = 77}, NULL, 0, 2);
    assert_int_equal(ended.count, 1);
    assert_int_equal(ended.status, PROTO_STATUS_MISS);
    assert_int_equal(ended.lease, 77);
    fake_final(&fake, 0, PROTO_STATUS_OK, 3);
    assert_int_equal(ended.count, 1);
    assert_int_equal(gateway_mesh_counters(fake.mesh)->strays, 1);
    gateway_mesh_free(fake.mesh);
}

static void the_credit_in_jobs_and_bytes_is_kept(void **state)
{
    struct fake_broker fake;

    (void)state;
    fake_open(&fake);
    fake_up(&fake, true, 0);
    assert_int_equal(submit(&fake, 600, NULL, 0, NULL), 0);
    assert_int_equal(submit(&fake, 401, NULL, 0, NULL), -ENOBUFS);
    assert_int_equal(submit(&fake, 400, NULL, 0, NULL), 0);
    for (int i = 2; i < 8; i++)
        assert_int_equal(submit(&fake, 0, NULL, 0, NULL), 0);
    assert_int_equal(submit(&fake, 0, NULL, 0, NULL), -ENOBUFS);
    fake_final(&fake, 0, PROTO_STATUS_OK, 1);
    assert_int_equal(gateway_mesh_credit(fake.mesh, PROTO_PRIORITY_HIGH).jobs, 7);
    assert_int_equal(gateway_mesh_credit(fake.mesh, PROTO_PRIORITY_HIGH).bytes, 400);
    assert_int_equal(submit(&fake, 600, NULL, 1, NULL), 0);
    gateway_mesh_free(fake.mesh);
}

static void a_frame_that_could_not_be_sent_leaves_nothing_open(void **state)
{
    struct fake_broker fake;

    (void)state;
    fake_open(&fake);
    fake_up(&fake, true, 0);
    fake.fail = -EAGAIN;
    assert_int_equal(submit(&fake, 100, NULL, 0, NULL), -EAGAIN);
    assert_int_equal(gateway_mesh_credit(fake.mesh, PROTO_PRIORITY_HIGH).jobs, 0);
    assert_int_equal(gateway_mesh_credit(fake.mesh, PROTO_PRIORITY_HIGH).bytes, 0);
    gateway_mesh_free(fake.mesh);
}

static void a_broker_that_was_restarted_loses_what_was_open(void **state)
{
    struct fake_broker fake;
    struct ended one = {0}, two = {0};

    (void)state;
    fake_open(&fake);
    fake_up(&fake, true, 0);
    submit(&fake, 10, &one, 0, NULL);
    submit(&fake, 10, &two, 0, NULL);
    gateway_mesh_down(fake.mesh, 1);
    assert_int_equal(one.count, 0);
    fake_up(&fake, false, 1);
    assert_int_equal(one.count, 0);
    fake_up(&fake, true, 2);
    assert_int_equal(one.count + two.count, 2);
    assert_true(one.lost && two.lost);
    assert_int_equal(gateway_mesh_credit(fake.mesh, PROTO_PRIORITY_HIGH).bytes, 0);
    gateway_mesh_free(fake.mesh);
}

static void a_broker_that_drains_is_away_for_what_is_new(void **state)
{
    struct fake_broker fake;
    struct ended one = {0}, two = {0};

    (void)state;
    fake_open(&fake);
    assert_true(gateway_mesh_away_us(fake.mesh, S) == GATEWAY_MESH_NEVER);
    fake_up(&fake, true, 0);
    assert_true(gateway_mesh_away_us(fake.mesh, S) == 0);
    submit(&fake, 10, &one, S, NULL);
    submit(&fake, 10, &two, S, NULL);
    fake_answer(&fake, 1, PROTO_REJECT, PROTO_STATUS_DRAINING, NULL, NULL, 0, 2 * S);
    assert_int_equal(one.count, 0);
    assert_int_equal(two.count, 1);
    assert_true(two.lost);
    assert_false(gateway_mesh_is_up(fake.mesh));
    assert_true(gateway_mesh_is_connected(fake.mesh));
    assert_int_equal(submit(&fake, 10, &two, 2 * S, NULL), -ENOTCONN);
    fake_final(&fake, 0, PROTO_STATUS_OK, 3 * S); /* what it had it ends */
    assert_int_equal(one.count, 1);
    assert_int_equal(one.status, PROTO_STATUS_OK);
    gateway_mesh_down(fake.mesh, 4 * S);
    assert_true(gateway_mesh_away_us(fake.mesh, 5 * S) == 3 * S);
    fake_up(&fake, true, 6 * S);
    assert_true(gateway_mesh_is_up(fake.mesh));
    gateway_mesh_free(fake.mesh);
}

static void
the_sweep_ends_what_is_overdue_but_gives_the_broker_the_first_word(void **state)
{
    struct fake_broker fake;
    struct ended ended = {0};

    (void)state;
    fake_open(&fake);
    fake_up(&fake, true, 0);
    submit(&fake, 0, &ended, 0, NULL);
    fake_answer(&fake, 0, PROTO_ACCEPT, PROTO_STATUS_OK, NULL, NULL, 0, 1);
    gateway_mesh_sweep(fake.mesh, 5 * S + 100000);
    assert_int_equal(ended.count, 0);
    gateway_mesh_sweep(fake.mesh, 5 * S + 300000);
    assert_int_equal(ended.count, 1);
    assert_int_equal(ended.status, PROTO_STATUS_EXPIRED);
    assert_true(ended.overdue && !ended.lost);
    assert_int_equal(fake_last(&fake)->envelope.verb, PROTO_CANCEL);
    gateway_mesh_free(fake.mesh);
}

static void a_submit_that_is_never_accepted_is_lost(void **state)
{
    struct fake_broker fake;
    struct ended ended = {0};
    struct proto_submit body = {.service = "extract"};
    struct gateway_submit submit = {
        .body = &body, .budget_us = 60 * S, .ended = on_ended, .owner = &ended};

    (void)state;
    fake_open(&fake);
    fake_up(&fake, true, 0);
    assert_int_equal(gateway_mesh_submit(fake.mesh, &submit, 0, NULL), 0);
    gateway_mesh_sweep(fake.mesh, 9 * S);
    assert_int_equal(ended.count, 0);
    gateway_mesh_sweep(fake.mesh, 11 * S);
    assert_int_equal(ended.count, 1);
    assert_true(ended.lost);
    gateway_mesh_free(fake.mesh);
}

static void what_is_cancelled_keeps_its_credit_until_the_broker_lets_go(void **state)
{
    struct fake_broker fake;
    struct ended ended = {0};
    struct gateway_exchange *exchange;

    (void)state;
    fake_open(&fake);
    fake_up(&fake, true, 0);
    submit(&fake, 500, &ended, 0, &exchange);
    gateway_mesh_cancel(fake.mesh, exchange, 1);
    assert_int_equal(fake_last(&fake)->envelope.verb, PROTO_CANCEL);
    assert_int_equal(gateway_mesh_credit(fake.mesh, PROTO_PRIORITY_HIGH).bytes, 500);
    fake_final(&fake, 0, PROTO_STATUS_CANCELLED, 2);
    assert_int_equal(gateway_mesh_credit(fake.mesh, PROTO_PRIORITY_HIGH).bytes, 0);
    submit(&fake, 500, &ended, 3, &exchange);
    gateway_mesh_cancel(fake.mesh, exchange, 3);
    gateway_mesh_sweep(fake.mesh, 3 * S); /* its FINAL was lost */
    assert_int_equal(gateway_mesh_credit(fake.mesh, PROTO_PRIORITY_HIGH).bytes, 0);
    assert_int_equal(ended.count, 0);
    gateway_mesh_free(fake.mesh);
}

static void a_reject_with_status_ok_is_no_success(void **state)
{
    struct fake_broker fake;
    struct ended ended = {0};

    (void)state;
    fake_open(&fake);
    fake_up(&fake, true, 0);
    submit(&fake, 0, &ended, 0, NULL);
    fake_answer(&fake, 0, PROTO_REJECT, PROTO_STATUS_OK, NULL, NULL, 0, 1);
    assert_int_equal(ended.count, 1);
    assert_int_equal(ended.status, PROTO_STATUS_INTERNAL);
    gateway_mesh_free(fake.mesh);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_exchange_ends_once_and_strays_are_counted),
        cmocka_unit_test(the_credit_in_jobs_and_bytes_is_kept),
        cmocka_unit_test(the_last_of_the_credit_is_for_what_cannot_wait),
        cmocka_unit_test(a_frame_that_could_not_be_sent_leaves_nothing_open),
        cmocka_unit_test(a_broker_that_was_restarted_loses_what_was_open),
        cmocka_unit_test(a_broker_that_drains_is_away_for_what_is_new),
        cmocka_unit_test(
            the_sweep_ends_what_is_overdue_but_gives_the_broker_the_first_word),
        cmocka_unit_test(a_submit_that_is_never_accepted_is_lost),
        cmocka_unit_test(what_is_cancelled_keeps_its_credit_until_the_broker_lets_go),
        cmocka_unit_test(a_reject_with_status_ok_is_no_success),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
