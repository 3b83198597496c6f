/*
 * Which characters are shown, and what becomes of all others.
 */
#include "proto/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

static const char *cleaned(const char *text)
{
    static char out[64];
    return proto_text_copy(text, out, sizeof out);
}

static void what_can_be_read_stays(void **state)
{
    static const char *const good[] = {
        "",       "photo 1.jpg", "\xc3\xa9t\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
        "\"\\<&>"};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_string_equal(cleaned(good[i]), good[i]);
}

static void what_steers_a_terminal_does_not(void **state)
{
    (void)state;
    assert_string_equal(cleaned("\x1b]0;owned\x07"), "?]0;owned?");
    assert_string_equal(cleaned("a\nb\rc\td\x7f"), "a?b?c?d?");
    assert_string_equal(cleaned("\xc2\x9b"
                                "31m"),
                        "??31m"); /* CSI in one character */
    assert_string_equal(cleaned("gpj.\xe2\x80\xae"
                                "exe"),
                        "gpj.???exe");
    assert_string_equal(cleaned("\xe2\x80\xa8"), "???");
}

static void what_is_no_utf8_does_not_stay(void **state)
{
    (void)state;
    assert_string_equal(cleaned("\xff\xfe"), "??");
    assert_string_equal(cleaned("\xc3"), "?");                /* cut */
    assert_string_equal(cleaned("\xc0\xaf"), "??");           /* overlong */
    assert_string_equal(cleaned("\xed\xa0\x80"), "???");      /* a surrogate */
    assert_string_equal(cleaned("\xf4\x90\x80\x80"), "????"); /* beyond U+10FFFF */
    assert_string_equal(cleaned("\x80x"), "?x");
}

static void a_copy_that_is_cut_says_so_and_stays_whole(void **state)
{
    char out[8];
    (void)state;
    assert_string_equal(proto_text_copy("1234567", out, sizeof out), "1234567");
    assert_string_equal(proto_text_copy("12345678", out, sizeof out), "1234...");
    assert_string_equal(proto_text_copy("123\xc3\xa9zzzz", out, sizeof out), "123...");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_can_be_read_stays),
        cmocka_unit_test(what_steers_a_terminal_does_not),
        cmocka_unit_test(what_is_no_utf8_does_not_stay),
        cmocka_unit_test(a_copy_that_is_cut_says_so_and_stays_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
