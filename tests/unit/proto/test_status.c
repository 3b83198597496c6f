#include "proto/status.h"
#include "tests/unit/proto/golden.h"

static void every_status_has_a_unique_code_and_an_http_status(void **state)
{
    (void)state;
    for (unsigned i = 0; i < PROTO_STATUS_COUNT; i++) {
        assert_true(proto_status_is_known(i));
        assert_in_range(proto_status_http(i), i == PROTO_STATUS_OK ? 200 : 400, 599);
        assert_true(strlen(proto_status_title(i)) > 0);
        for (unsigned k = 0; k < i; k++)
            assert_string_not_equal(proto_status_code(i), proto_status_code(k));
    }
}

static void a_number_outside_the_table_is_unknown_and_500(void **state)
{
    static const unsigned outside[] = {PROTO_STATUS_COUNT, 65535, 0xffffffffu};

    (void)state;
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) {
        assert_false(proto_status_is_known(outside[i]));
        assert_string_equal(proto_status_code(outside[i]), "unknown");
        assert_string_equal(proto_status_title(outside[i]), "unknown");
        assert_int_equal(proto_status_http(outside[i]), 500);
    }
}

static void a_status_keeps_its_number_its_code_and_its_http_status(void **state)
{
    (void)state;
    assert_int_equal(PROTO_STATUS_FULL, 16);
    assert_string_equal(proto_status_code(PROTO_STATUS_FULL), "full");
    assert_int_equal(proto_status_http(PROTO_STATUS_FULL), 503);
    assert_int_equal(PROTO_STATUS_UNDECODABLE, 10);
    assert_int_equal(proto_status_http(PROTO_STATUS_UNDECODABLE), 422);
    assert_string_equal(proto_status_title(PROTO_STATUS_OK), "The request was answered");
}

static void only_what_the_bytes_are_to_blame_for_lasts(void **state)
{
    (void)state;
    assert_true(proto_status_is_of_input(PROTO_STATUS_BAD_TYPE));
    assert_true(proto_status_is_of_input(PROTO_STATUS_UNDECODABLE));
    assert_true(proto_status_is_of_input(PROTO_STATUS_TOO_MANY_PIXELS));
    /* The broker remembers these, or nobody does. */
    assert_false(proto_status_is_of_input(PROTO_STATUS_OK));
    assert_false(proto_status_is_of_input(PROTO_STATUS_POISON_INPUT));
    assert_false(proto_status_is_of_input(PROTO_STATUS_EXPIRED));
    assert_false(proto_status_is_of_input(PROTO_STATUS_MISS));
    assert_false(proto_status_is_of_input(9999));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_a_unique_code_and_an_http_status),
        cmocka_unit_test(a_number_outside_the_table_is_unknown_and_500),
        cmocka_unit_test(a_status_keeps_its_number_its_code_and_its_http_status),
        cmocka_unit_test(only_what_the_bytes_are_to_blame_for_lasts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
