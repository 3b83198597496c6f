#include "gateway/answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"

static const uint8_t key[PROTO_DIGEST_BYTES];

static void the_entity_tag_names_key_format_and_descriptors(void **state)
{
    char tag[GATEWAY_ETAG_BYTES];

    (void)state;
    gateway_answer_etag(key, &(struct gateway_variant){.format = PROTO_FORMAT_JSON}, tag);
    assert_string_equal(tag, "\"" ZEROS "-json\"");
    gateway_answer_etag(
        key,
        &(struct gateway_variant){.format = PROTO_FORMAT_JSON,
                                  .descriptors = PROTO_DESCRIPTORS_BASE64},
        tag);
    assert_string_equal(tag, "\"" ZEROS "-json-base64\"");
    gateway_answer_etag(key, &(struct gateway_variant){.format = PROTO_FORMAT_COLMAP},
                        tag);
    assert_string_equal(tag, "\"" ZEROS "-colmap\"");
    gateway_answer_etag(key, &(struct gateway_variant){.png = true}, tag);
    assert_string_equal(tag, "\"" ZEROS "-png\"");
}

static void if_none_match_is_a_list_compared_weakly_and_whole(void **state)
{
    (void)state;
    assert_true(gateway_answer_etag_matches("\"a\"", "\"a\""));
    assert_true(gateway_answer_etag_matches("\"b\", W/\"a\" ,\"c\"", "\"a\""));
    assert_true(gateway_answer_etag_matches(",, \"a\"", "\"a\""));
    assert_false(gateway_answer_etag_matches("\"ab\"", "\"a\""));
    assert_false(gateway_answer_etag_matches("a", "\"a\""));
    assert_false(gateway_answer_etag_matches("", "\"a\""));
    assert_false(gateway_answer_etag_matches("\"a\"b", "\"a\""));
}

static void the_headers_tell_stages_only_of_what_was_computed(void **state)
{
    char headers[GATEWAY_HEADERS_BYTES_MAX];
    struct gateway_variant variant = {.format = PROTO_FORMAT_BIN};
    struct gateway_result result = {.computed = true,
                                    .queue_us = 1,
                                    .decode_us = 1234,
                                    .denoise_us = 20000,
                                    .sift_us = 123456789};
    struct gateway_answer answer = {.http_status = 200,
                                    .key = key,
                                    .variant = &variant,
                                    .source = GATEWAY_MISS,
                                    .recv_us = 90,
                                    .result = &result};

    (void)state;
    gateway_answer_headers(&answer, "ffffffffffffffffffffffffffffffff", headers);
    assert_string_equal(
        headers, "Content-Type: application/octet-stream\r\n"
                 "ETag: \"" ZEROS "-bin\"\r\n"
                 "X-Cache: miss\r\n"
                 "Server-Timing: recv;dur=0.090, queue;dur=0.001, decode;dur=1.234, "
                 "denoise;dur=20.000, sift;dur=123456.789\r\n"
                 "X-Request-Id: ffffffffffffffffffffffffffffffff\r\n"
                 "Vary: Accept\r\n");
    answer.result = NULL;
    answer.by_key = true;
    gateway_answer_headers(&answer, "00", headers);
    assert_non_null(strstr(headers, "Server-Timing: recv;dur=0.090\r\n"));
    assert_non_null(strstr(headers, "Cache-Control: private, immutable"));
}

/* A gateway with nothing but a hot cache. */
static void open_gateway(struct gateway *gateway, size_t hot_bytes)
{
    static struct gateway_options options = {.hot_ttl_ms = 1000};
    static struct gateway_metrics metrics;

    memset(gateway, 0, sizeof *gateway);
    memset(&metrics, 0, sizeof metrics);
    gateway->options = &options;
    gateway->metrics = &metrics;
    gateway->hot = hotcache_new(hot_bytes);
}

static struct hotcache_value *new_blob(void)
{
    struct proto_blob blob = {.width_px = 2, .height_px = 2};
    uint8_t *bytes = malloc(PROTO_BLOB_HEADER_BYTES);

    assert_non_null(bytes);
    proto_params_init(&blob.params);
    proto_blob_encode_header(&blob, bytes);
    return hotcache_value_new(bytes, PROTO_BLOB_HEADER_BYTES);
}

static void free_result(struct gateway_result *result)
{
    for (size_t i = 0; i < sizeof result->rendered / sizeof result->rendered[0]; i++)
        hotcache_value_unref(result->rendered[i]);
    hotcache_value_unref(result->value);
}

static void one_rendering_serves_all_who_wait_even_without_a_hot_cache(void **state)
{
    struct gateway gateway;
    struct gateway_variant json = {.format = PROTO_FORMAT_JSON};
    struct gateway_result result = {.value = new_blob()};
    struct hotcache_value *one, *two;

    (void)state;
    open_gateway(&gateway, 0);
    assert_int_equal(gateway_answer_render(&gateway, key, &json, &result, 0, &one), 0);
    assert_int_equal(gateway_answer_render(&gateway, key, &json, &result, 0, &two), 0);
    assert_ptr_equal(one, two);
    assert_int_equal(gateway.metrics->renderings, 1);
    hotcache_value_unref(one);
    hotcache_value_unref(two);
    free_result(&result);
    hotcache_free(gateway.hot);
}

static void every_format_can_be_made_later_from_the_hot_result(void **state)
{
    struct gateway gateway;
    struct gateway_variant bin = {.format = PROTO_FORMAT_BIN};
    struct gateway_result result = {.value = new_blob()};
    struct hotcache_value *value;

    (void)state;
    open_gateway(&gateway, 1 << 20);
    assert_null(gateway_answer_find(&gateway, key, &bin, 0));
    assert_int_equal(gateway_answer_render(&gateway, key, &bin, &result, 0, &value), 0);
    assert_ptr_equal(value, result.value);
    hotcache_value_unref(value);
    free_result(&result);
    for (unsigned format = 0; format < PROTO_FORMAT_COUNT; format++) {
        struct gateway_variant variant = {.format = (enum proto_format)format};
        for (int time = 0; time < 2; time++) {
            value = gateway_answer_find(&gateway, key, &variant, 0);
            assert_non_null(value);
            hotcache_value_unref(value);
        }
    }
    assert_int_equal(gateway.metrics->renderings, PROTO_FORMAT_COUNT - 1);
    hotcache_free(gateway.hot);
}

static void a_png_is_no_set_of_features_and_the_other_way_round(void **state)
{
    struct gateway gateway;
    struct gateway_variant json = {.format = PROTO_FORMAT_JSON}, png = {.png = true};
    struct gateway_variant bin = {.format = PROTO_FORMAT_BIN};
    uint8_t *bytes = malloc(8);
    struct gateway_result result;
    struct hotcache_value *value = NULL;

    (void)state;
    open_gateway(&gateway, 1 << 20);
    assert_non_null(bytes);
    memcpy(bytes, "\x89PNG\r\n\x1a\n", 8);
    result = (struct gateway_result){.value = hotcache_value_new(bytes, 8)};
    assert_int_equal(gateway_answer_render(&gateway, key, &json, &result, 0, &value),
                     -EPROTO);
    assert_int_equal(gateway_answer_render(&gateway, key, &png, &result, 0, &value), 0);
    assert_int_equal(value->size, 8);
    hotcache_value_unref(value);
    free_result(&result);
    assert_null(gateway_answer_find(&gateway, key, &json, 0));
    assert_null(gateway_answer_find(&gateway, key, &bin, 0));
    value = gateway_answer_find(&gateway, key, &png, 0);
    assert_non_null(value);
    hotcache_value_unref(value);
    result = (struct gateway_result){.value = new_blob()};
    assert_int_equal(gateway_answer_render(&gateway, key, &png, &result, 0, &value),
                     -EPROTO);
    free_result(&result);
    hotcache_free(gateway.hot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_entity_tag_names_key_format_and_descriptors),
        cmocka_unit_test(if_none_match_is_a_list_compared_weakly_and_whole),
        cmocka_unit_test(the_headers_tell_stages_only_of_what_was_computed),
        cmocka_unit_test(one_rendering_serves_all_who_wait_even_without_a_hot_cache),
        cmocka_unit_test(every_format_can_be_made_later_from_the_hot_result),
        cmocka_unit_test(a_png_is_no_set_of_features_and_the_other_way_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
