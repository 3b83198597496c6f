#include "gateway/query.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

static struct gateway_query parsed(const char *text, enum gateway_query_scope scope)
{
    struct gateway_query query;
    struct proto_params_error error = {{0}, {0}};

    if (gateway_query_parse(text, scope, &query, &error) < 0)
        fail_msg("'%s': %s", text, error.detail);
    return query;
}

static void refuses(const char *text, enum gateway_query_scope scope, const char *why)
{
    struct gateway_query query;
    struct proto_params_error error = {{0}, {0}};

    assert_int_equal(gateway_query_parse(text, scope, &query, &error), -EINVAL);
    if (strstr(error.detail, why) == NULL)
        fail_msg("'%s': %s", text, error.detail);
}

static void an_empty_query_means_all_defaults(void **state)
{
    struct proto_params defaults;
    struct gateway_query query = parsed("", GATEWAY_QUERY_FEATURES);

    (void)state;
    proto_params_init(&defaults);
    assert_memory_equal(&query.params, &defaults, sizeof defaults);
    assert_false(query.has_descriptors);
    query = parsed("&&", GATEWAY_QUERY_FEATURES);
    assert_memory_equal(&query.params, &defaults, sizeof defaults);
}

static void parameters_are_decoded_and_set(void **state)
{
    struct gateway_query query =
        parsed("h=12%2E5&%64enoise=none&descriptors=base64&max_features=10",
               GATEWAY_QUERY_FEATURES);

    (void)state;
    assert_true(query.params.h == 12.5);
    assert_int_equal(query.params.denoise, PROTO_DENOISE_NONE);
    assert_int_equal(query.params.max_features, 10);
    assert_int_equal(query.descriptors, PROTO_DESCRIPTORS_BASE64);
    assert_true(query.has_descriptors);
}

static void unknown_doubled_and_broken_ones_are_refused(void **state)
{
    (void)state;
    refuses("foo=1", GATEWAY_QUERY_FEATURES, "foo");
    refuses("=1", GATEWAY_QUERY_FEATURES, "");
    refuses("h=1&h=1", GATEWAY_QUERY_FEATURES, "twice");
    refuses("descriptors=none&descriptors=none", GATEWAY_QUERY_FEATURES, "twice");
    refuses("descriptors=hex", GATEWAY_QUERY_FEATURES, "array, base64 or none");
    refuses("h", GATEWAY_QUERY_FEATURES, "h");
    refuses("h=%zz", GATEWAY_QUERY_FEATURES, "escape");
    refuses("h=1%00", GATEWAY_QUERY_FEATURES, "escape");
    refuses("template=6", GATEWAY_QUERY_FEATURES, "template");
}

static void an_over_long_component_is_refused_not_cut(void **state)
{
    char text[400];

    (void)state;
    memset(text, '0', sizeof text);
    memcpy(text, "h=", 2);
    text[2 + 128] = '\0';
    refuses(text, GATEWAY_QUERY_FEATURES, "h");
    text[2 + 128] = '0';
    text[2 + 129] = '\0';
    refuses(text, GATEWAY_QUERY_FEATURES, "over 128 bytes");
}

static void each_route_refuses_what_means_nothing_to_it(void **state)
{
    (void)state;
    assert_int_equal(
        parsed("search=11&orient=stored", GATEWAY_QUERY_DENOISE).params.search, 11);
    refuses("sigma=2", GATEWAY_QUERY_DENOISE, "sigma means nothing here");
    refuses("denoise=none", GATEWAY_QUERY_DENOISE, "denoise means nothing here");
    refuses("descriptors=none", GATEWAY_QUERY_DENOISE, "descriptors means nothing here");
    assert_true(parsed("descriptors=none", GATEWAY_QUERY_LOOKUP).has_descriptors);
    refuses("h=10", GATEWAY_QUERY_LOOKUP, "h means nothing here");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_query_means_all_defaults),
        cmocka_unit_test(parameters_are_decoded_and_set),
        cmocka_unit_test(unknown_doubled_and_broken_ones_are_refused),
        cmocka_unit_test(an_over_long_component_is_refused_not_cut),
        cmocka_unit_test(each_route_refuses_what_means_nothing_to_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
