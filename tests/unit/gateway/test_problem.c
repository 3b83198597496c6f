#include "gateway/problem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <string.h>

static json_t *written(const struct gateway_problem *problem, size_t capacity)
{
    char text[GATEWAY_PROBLEM_BYTES_MAX];
    size_t size = gateway_problem_write(problem, text, capacity);
    json_error_t error;

    assert_true(size < capacity);
    json_t *document = json_loadb(text, size, 0, &error);
    if (document == NULL)
        fail_msg("%s in %.*s", error.text, (int)size, text);
    return document;
}

static const char *text_of(const json_t *document, const char *name)
{
    return json_string_value(json_object_get(document, name));
}

static void a_problem_has_its_members_and_no_limit_unless_there_is_one(void **state)
{
    struct gateway_problem problem = {PROTO_STATUS_NO_LENGTH, "a sentence",
                                      "0123456789abcdef0123456789abcdef", 0, 0};
    json_t *document = written(&problem, 512);

    (void)state;
    assert_string_equal(text_of(document, "type"),
                        "urn:siftmesh:problem:length_required");
    assert_string_equal(text_of(document, "title"), "The body needs a length");
    assert_int_equal(json_integer_value(json_object_get(document, "status")), 411);
    assert_string_equal(text_of(document, "code"), "length_required");
    assert_string_equal(text_of(document, "detail"), "a sentence");
    assert_string_equal(text_of(document, "request_id"),
                        "0123456789abcdef0123456789abcdef");
    assert_null(json_object_get(document, "limit"));
    json_decref(document);
}

static void a_limit_is_told_with_the_actual_value(void **state)
{
    struct gateway_problem problem = {PROTO_STATUS_TOO_LARGE, "too large", "00", 10, 12};
    json_t *document = written(&problem, 512);

    (void)state;
    assert_int_equal(json_integer_value(json_object_get(document, "limit")), 10);
    assert_int_equal(json_integer_value(json_object_get(document, "actual")), 12);
    json_decref(document);
}

static void bytes_of_a_peer_are_escaped(void **state)
{
    struct gateway_problem problem = {PROTO_STATUS_BAD_TYPE, "a\"b\\c\x01\x7f\xff\n",
                                      "00", 0, 0};
    json_t *document = written(&problem, 512);

    (void)state;
    assert_string_equal(text_of(document, "detail"), "a\"b\\c\x01\x7f?\n");
    json_decref(document);
}

static void a_long_detail_is_cut_and_the_document_stays_whole(void **state)
{
    static char detail[4000];
    struct gateway_problem problem = {PROTO_STATUS_INTERNAL, detail, "00", INT64_MAX,
                                      INT64_MAX};

    (void)state;
    memset(detail, '"', sizeof detail - 1);
    for (size_t capacity = 512; capacity <= 600; capacity++) {
        json_t *document = written(&problem, capacity);
        assert_in_range(strlen(text_of(document, "detail")), 50, 300);
        json_decref(document);
    }
}

static void every_status_makes_a_document(void **state)
{
    (void)state;
    for (unsigned status = 0; status < PROTO_STATUS_COUNT; status++) {
        struct gateway_problem problem = {(enum proto_status)status, "x", "00", 0, 0};
        json_t *document = written(&problem, 512);
        assert_string_equal(text_of(document, "code"), proto_status_code(status));
        json_decref(document);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_problem_has_its_members_and_no_limit_unless_there_is_one),
        cmocka_unit_test(a_limit_is_told_with_the_actual_value),
        cmocka_unit_test(bytes_of_a_peer_are_escaped),
        cmocka_unit_test(a_long_detail_is_cut_and_the_document_stays_whole),
        cmocka_unit_test(every_status_makes_a_document),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
