#include "gateway/accept.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

static const char *const offers[] = {"application/json", "application/msgpack",
                                     "application/octet-stream", "text/plain"};
enum { JSON, MSGPACK, BIN, TEXT };

static int choose(const char *accept)
{
    return gateway_accept_choose(accept, offers, 4);
}

static void without_a_wish_the_first_offer_is_chosen(void **state)
{
    (void)state;
    assert_int_equal(choose(NULL), JSON);
    assert_int_equal(choose(""), JSON);
    assert_int_equal(choose("*/*"), JSON);
    assert_int_equal(choose("text/html, */*;q=0.8"), JSON);
}

static void the_named_type_is_chosen_whatever_its_case(void **state)
{
    (void)state;
    assert_int_equal(choose("application/msgpack"), MSGPACK);
    assert_int_equal(choose("Application/MsgPack"), MSGPACK);
    assert_int_equal(choose("  application/octet-stream ; q=0.4 "), BIN);
    assert_int_equal(choose("text/*"), TEXT);
}

static void the_highest_q_wins_and_a_tie_goes_to_the_earlier_offer(void **state)
{
    (void)state;
    assert_int_equal(choose("application/json;q=0.5, application/msgpack;q=0.9"),
                     MSGPACK);
    assert_int_equal(choose("application/msgpack;q=0.5, application/json;q=0.5"), JSON);
    assert_int_equal(choose("text/plain;q=0.001, application/json;q=0.000"), TEXT);
}

static void the_closest_range_decides_over_a_wider_one(void **state)
{
    (void)state;
    assert_int_equal(choose("*/*, application/json;q=0"), MSGPACK);
    assert_int_equal(choose("application/json;q=0, application/*;q=0.2, */*;q=0.9"),
                     TEXT);
    assert_int_equal(choose("application/*;q=0.1, text/plain;q=0.2"), TEXT);
}

static void what_is_refused_by_all_ranges_is_not_acceptable(void **state)
{
    (void)state;
    assert_int_equal(choose("image/png"), -ENOENT);
    assert_int_equal(choose("*/*;q=0"), -ENOENT);
    assert_int_equal(choose("application/jso"), -ENOENT);
    assert_int_equal(choose("application/jsonp"), -ENOENT);
    assert_int_equal(choose("application"), -ENOENT);
    assert_int_equal(choose("*"), -ENOENT);
    assert_int_equal(choose(",,"), -ENOENT);
}

static void a_range_with_a_malformed_q_is_skipped(void **state)
{
    (void)state;
    assert_int_equal(choose("application/json;q=1.001, text/plain;q=0.1"), TEXT);
    assert_int_equal(choose("application/json;q=0.1234, text/plain;q=0.1"), TEXT);
    assert_int_equal(choose("application/json;q=, text/plain;q=0.1"), TEXT);
    assert_int_equal(choose("application/json;q=-1, text/plain;q=0.1"), TEXT);
    assert_int_equal(choose("application/json;q=0., text/plain;q=1."), TEXT);
}

static void quoted_commas_and_other_parameters_do_not_confuse_it(void **state)
{
    (void)state;
    assert_int_equal(choose("text/plain;x=\"a,b;q=0\";q=0.7, application/json;q=0.6"),
                     TEXT);
    assert_int_equal(choose("text/plain;charset=utf-8"), TEXT);
    assert_int_equal(choose("text/plain;x=\"unclosed, application/json"), TEXT);
    assert_int_equal(choose("text/plain;x=\"\\\", application/json;q=0\""), TEXT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_wish_the_first_offer_is_chosen),
        cmocka_unit_test(the_named_type_is_chosen_whatever_its_case),
        cmocka_unit_test(the_highest_q_wins_and_a_tie_goes_to_the_earlier_offer),
        cmocka_unit_test(the_closest_range_decides_over_a_wider_one),
        cmocka_unit_test(what_is_refused_by_all_ranges_is_not_acceptable),
        cmocka_unit_test(a_range_with_a_malformed_q_is_skipped),
        cmocka_unit_test(quoted_commas_and_other_parameters_do_not_confuse_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
