#include "cacher/redis/cursor.h"

#include "tests/harness/harness.h"

#include <string.h>

static void what_was_written_is_read(void **state)
{
    (void)state;
    struct redis_cursor scan = {.at = UINT64_MAX, .server = "[::1]:6379:x y"};
    struct redis_cursor tag = {.tag = true, .at = 1000}, got;
    char text[CACHER_CURSOR_BYTES_MAX];

    redis_cursor_write(&scan, text);
    assert_string_equal(text, "scan:18446744073709551615:[::1]:6379:x y");
    assert_true(redis_cursor_read(text, false, &got));
    assert_true(got.at == UINT64_MAX && !got.tag);
    assert_string_equal(got.server, scan.server);
    redis_cursor_write(&tag, text);
    assert_string_equal(text, "tag:1000");
    assert_true(redis_cursor_read(text, true, &got));
    assert_true(got.at == 1000 && got.tag);
    assert_string_equal(got.server, "");
}

static void nothing_is_the_beginning(void **state)
{
    (void)state;
    struct redis_cursor got = {.at = 1};

    assert_true(redis_cursor_read("", false, &got));
    assert_true(got.at == 0 && got.server[0] == '\0');
    assert_true(redis_cursor_read("", true, &got));
    assert_int_equal(got.at, 0);
}

static void the_longest_server_fits(void **state)
{
    (void)state;
    struct redis_cursor scan = {.at = UINT64_MAX}, got;
    char text[CACHER_CURSOR_BYTES_MAX];

    memset(scan.server, 'a', sizeof scan.server - 1);
    redis_cursor_write(&scan, text);
    assert_true(redis_cursor_read(text, false, &got));
    assert_string_equal(got.server, scan.server);
}

static void anything_else_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "1",         "scan",     "scan:",     "scan:1",
        "scan:1:",   "scan::h",  "scan:+1:h", "scan:-1h",
        "scan:01:h", "scan:1h",  "tag:1",     "scan:18446744073709551616:h",
        "SCAN:1:h",  " scan:1:h"};
    static const char *const wrong_tags[] = {"tag:", "tag:x", "tag:1 ", "tag:-1",
                                             "scan:1:h"};
    struct redis_cursor got;
    char text[CACHER_CURSOR_BYTES_MAX] = "scan:1:";

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(redis_cursor_read(wrong[i], false, &got));
    for (size_t i = 0; i < sizeof wrong_tags / sizeof wrong_tags[0]; i++)
        assert_false(redis_cursor_read(wrong_tags[i], true, &got));
    memset(text + 7, 'a', REDIS_CURSOR_SERVER_BYTES);
    assert_false(redis_cursor_read(text, false, &got));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(nothing_is_the_beginning),
        cmocka_unit_test(the_longest_server_fits),
        cmocka_unit_test(anything_else_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
