#include "gateway/body.h"
#include "proto/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

static void a_promise_counts_until_the_body_is_freed(void **state)
{
    struct gateway_budget *budget = gateway_budget_new(100);
    struct gateway_body one = {0}, two = {0};

    (void)state;
    assert_int_equal(gateway_body_reserve(&one, budget, 60), 0);
    assert_int_equal(gateway_budget_used(budget), 60);
    assert_int_equal(gateway_body_reserve(&two, budget, 41), -ENOBUFS);
    assert_int_equal(gateway_body_reserve(&two, budget, 40), 0);
    gateway_body_free(&one);
    gateway_body_free(&one);
    assert_int_equal(gateway_budget_used(budget), 40);
    gateway_body_free(&two);
    assert_int_equal(gateway_budget_used(budget), 0);
    gateway_budget_drop(budget);
}

static void a_body_of_unknown_length_grows_up_to_its_bound(void **state)
{
    struct gateway_budget *budget = gateway_budget_new(1000);
    struct gateway_body body = {0};
    uint8_t piece[30];

    (void)state;
    for (unsigned i = 0; i < sizeof piece; i++)
        piece[i] = (uint8_t)i;
    assert_int_equal(gateway_body_reserve(&body, budget, 8), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(gateway_body_append(&body, piece, 30, 100), 0);
    assert_int_equal(gateway_body_append(&body, piece, 11, 100), -E2BIG);
    assert_int_equal(gateway_body_append(&body, piece, 10, 100), 0);
    assert_int_equal(body.size, 100);
    assert_int_equal(body.capacity, 100);
    assert_memory_equal(body.bytes + 60, piece, 30);
    assert_memory_equal(body.bytes + 90, piece, 10);
    gateway_body_free(&body);
    gateway_budget_drop(budget);
}

static void memory_follows_what_arrives_not_what_is_announced(void **state)
{
    struct gateway_budget *budget = gateway_budget_new(8u << 20);
    struct gateway_body small = {0}, large = {0};
    static uint8_t piece[64u << 10];

    (void)state;
    gateway_body_begin(&large, budget, 4u << 20);
    assert_int_equal(gateway_budget_used(budget), 0);
    assert_int_equal(gateway_body_append(&large, piece, 1, 32u << 20), 0);
    assert_int_equal(gateway_budget_used(budget), GATEWAY_BODY_STEP_BYTES);
    while (large.size + sizeof piece <= 4u << 20) {
        assert_int_equal(gateway_body_append(&large, piece, sizeof piece, 32u << 20), 0);
        assert_true(large.capacity <= 2 * large.size);
    }
    assert_int_equal(
        gateway_body_append(&large, piece, (4u << 20) - large.size, 32u << 20), 0);
    assert_int_equal(large.capacity, 4u << 20); /* no more than was announced */

    gateway_body_begin(&small, budget, 100);
    assert_int_equal(gateway_body_append(&small, piece, 100, 32u << 20), 0);
    assert_int_equal(small.capacity, 100);
    gateway_body_free(&small);
    gateway_body_begin(&small, budget, 100000);
    assert_int_equal(gateway_body_append(&small, piece, 1, 32u << 20), 0);
    assert_int_equal(small.capacity, 100000);
    gateway_body_free(&small);
    gateway_body_free(&large);
    assert_int_equal(gateway_budget_used(budget), 0);
    gateway_budget_drop(budget);
}

static void
a_body_alone_may_fill_the_budget_and_the_last_bytes_need_no_doubling(void **state)
{
    struct gateway_budget *budget = gateway_budget_new(100000);
    struct gateway_body one = {.priority = PROTO_PRIORITY_BATCH},
                        two = {.priority = PROTO_PRIORITY_BATCH};
    static uint8_t piece[10000];

    (void)state;
    gateway_body_begin(&one, budget, 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(gateway_body_append(&one, piece, sizeof piece, 1u << 20), 0);
    assert_int_equal(gateway_budget_used(budget), 100000);
    assert_int_equal(gateway_body_append(&one, piece, 1, 1u << 20), -ENOBUFS);
    gateway_body_begin(&two, budget, 0);
    assert_int_equal(gateway_body_append(&two, piece, 1, 1u << 20), -ENOBUFS);
    gateway_body_free(&one);
    assert_int_equal(gateway_body_append(&two, piece, 1, 1u << 20), 0);
    gateway_body_free(&two);
    gateway_budget_drop(budget);
}

static void growth_beyond_the_budget_is_refused_and_loses_nothing(void **state)
{
    struct gateway_budget *budget = gateway_budget_new(50);
    struct gateway_body body = {0};
    const uint8_t piece[40] = {1, 2, 3};

    (void)state;
    assert_int_equal(gateway_body_reserve(&body, budget, 40), 0);
    assert_int_equal(gateway_body_append(&body, piece, 40, 1000), 0);
    assert_int_equal(gateway_body_append(&body, piece, 11, 1000), -ENOBUFS);
    assert_int_equal(gateway_budget_used(budget), 40);
    assert_memory_equal(body.bytes, piece, 40);
    gateway_body_free(&body);
    gateway_budget_drop(budget);
}

static void a_wrapped_body_counts_until_the_last_message_is_closed(void **state)
{
    struct gateway_budget *budget = gateway_budget_new(100);
    struct gateway_body body = {0};
    zmq_msg_t first, second;

    (void)state;
    assert_int_equal(gateway_body_reserve(&body, budget, 50), 0);
    assert_int_equal(gateway_body_append(&body, (const uint8_t *)"abc", 3, 100), 0);
    assert_int_equal(gateway_body_wrap(&body, &first), 0);
    assert_null(body.bytes);
    assert_int_equal(zmq_msg_size(&first), 3);
    assert_memory_equal(zmq_msg_data(&first), "abc", 3);
    zmq_msg_init(&second);
    zmq_msg_copy(&second, &first);
    zmq_msg_close(&first);
    assert_int_equal(gateway_budget_used(budget), 50);
    gateway_budget_drop(budget); /* the message outlives the gateway */
    zmq_msg_close(&second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_promise_counts_until_the_body_is_freed),
        cmocka_unit_test(a_body_of_unknown_length_grows_up_to_its_bound),
        cmocka_unit_test(memory_follows_what_arrives_not_what_is_announced),
        cmocka_unit_test(
            a_body_alone_may_fill_the_budget_and_the_last_bytes_need_no_doubling),
        cmocka_unit_test(growth_beyond_the_budget_is_refused_and_loses_nothing),
        cmocka_unit_test(a_wrapped_body_counts_until_the_last_message_is_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
