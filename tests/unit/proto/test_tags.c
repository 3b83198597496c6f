#include "proto/tags.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define CHECK(text) proto_tags_check(text, strlen(text))

static void well_formed_tags_and_none_pass(void **state)
{
    (void)state;
    assert_null(proto_tags_check(NULL, 0));
    assert_null(CHECK("a"));
    assert_null(CHECK("album:7,customer-12,v1.2_x,A,Z,0,9"));
    assert_null(CHECK("1,2,3,4,5,6,7,8"));
}

static void every_other_byte_is_refused(void **state)
{
    (void)state;
    static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                               "0123456789._:-";

    for (int c = 0; c < 256; c++) {
        char tag[3] = {'a', (char)c, 'b'};
        bool fine = c == ',' || (c != 0 && strchr(good, c) != NULL);
        assert_int_equal(proto_tags_check(tag, sizeof tag) == NULL, fine);
    }
}

static void empty_tags_too_many_and_too_long_ones_are_refused(void **state)
{
    (void)state;
    char text[PROTO_TAGS_BYTES_MAX + 66];

    assert_non_null(CHECK(","));
    assert_non_null(CHECK("a,"));
    assert_non_null(CHECK(",a"));
    assert_non_null(CHECK("a,,b"));
    assert_non_null(CHECK("1,2,3,4,5,6,7,8,9"));
    memset(text, 'x', sizeof text);
    assert_null(proto_tags_check(text, PROTO_TAG_BYTES_MAX));
    assert_non_null(proto_tags_check(text, PROTO_TAG_BYTES_MAX + 1));
    for (unsigned i = 1; i < PROTO_TAGS_MAX; i++)
        text[i * (PROTO_TAG_BYTES_MAX + 1) - 1] = ',';
    assert_null(proto_tags_check(text, PROTO_TAGS_BYTES_MAX));
    text[PROTO_TAGS_BYTES_MAX] = ',';
    assert_non_null(proto_tags_check(text, PROTO_TAGS_BYTES_MAX + 3));
}

static void a_tag_is_found_whole_and_nowhere_else(void **state)
{
    (void)state;
    const char *tags = "red,green,blue";
    size_t bytes = strlen(tags);

    assert_true(proto_tags_have(tags, bytes, "red"));
    assert_true(proto_tags_have(tags, bytes, "green"));
    assert_true(proto_tags_have(tags, bytes, "blue"));
    assert_false(proto_tags_have(tags, bytes, "gree"));
    assert_false(proto_tags_have(tags, bytes, "greens"));
    assert_false(proto_tags_have(tags, bytes, "red,green"));
    assert_false(proto_tags_have(tags, bytes, ""));
    assert_false(proto_tags_have(tags, 2, "red"));
    assert_false(proto_tags_have(NULL, 0, "red"));
}

static void tags_are_taken_one_after_another(void **state)
{
    (void)state;
    const char *tags = "a,bcd,e";
    size_t left = strlen(tags), bytes;

    assert_memory_equal(proto_tags_next(&tags, &left, &bytes), "a", 1);
    assert_int_equal(bytes, 1);
    assert_memory_equal(proto_tags_next(&tags, &left, &bytes), "bcd", 3);
    assert_int_equal(bytes, 3);
    assert_memory_equal(proto_tags_next(&tags, &left, &bytes), "e", 1);
    assert_int_equal(bytes, 1);
    assert_null(proto_tags_next(&tags, &left, &bytes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(well_formed_tags_and_none_pass),
        cmocka_unit_test(every_other_byte_is_refused),
        cmocka_unit_test(empty_tags_too_many_and_too_long_ones_are_refused),
        cmocka_unit_test(a_tag_is_found_whole_and_nowhere_else),
        cmocka_unit_test(tags_are_taken_one_after_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
