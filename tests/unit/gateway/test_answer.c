#include "gateway/answer.h"
#include "runtime/http_internal.h"

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
                 "X-Content-Type-Options: nosniff\r\n"
                 "Vary: Accept\r\n");
    answer.result = NULL;
    answer.by_key = true;
    gateway_answer_headers(&answer, "00", headers);
    assert_non_null(strstr(headers, "Server-Timing: recv;dur=0.090\r\n"));
    assert_non_null(strstr(headers, "Cache-Control: private, immutable"));
}

static struct gateway_options options;
static struct http_clients clients;
static struct gateway_asking asking;
static int err;

/* A gateway with nothing but a hot cache, and a client. */
static void open_gateway(struct gateway *gateway, size_t hot_bytes)
{
    static struct gateway_metrics metrics;
    static struct http_server server; /* nobody is connected */
    static struct http_client client = {.clients = &clients, .references = 1};

    options = (struct gateway_options){.hot_ttl_ms = 1000,
                                       .answer_bytes_max = 1 << 20,
                                       .answers_bytes_max = 1 << 20,
                                       .answers_bytes_per_peer = 1 << 20};
    asking = (struct gateway_asking){.client = &client};
    memset(gateway, 0, sizeof *gateway);
    memset(&metrics, 0, sizeof metrics);
    gateway->options = &options;
    gateway->metrics = &metrics;
    gateway->server = &server;
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
    assert_int_equal(
        gateway_answer_render(&gateway, key, &json, &result, &asking, 0, &one), 0);
    assert_int_equal(
        gateway_answer_render(&gateway, key, &json, &result, &asking, 0, &two), 0);
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
    assert_null(gateway_answer_find(&gateway, key, &bin, &asking, 0, &err));
    assert_int_equal(
        gateway_answer_render(&gateway, key, &bin, &result, &asking, 0, &value), 0);
    assert_ptr_equal(value, result.value);
    hotcache_value_unref(value);
    free_result(&result);
    for (unsigned format = 0; format < PROTO_FORMAT_COUNT; format++) {
        struct gateway_variant variant = {.format = (enum proto_format)format};
        for (int time = 0; time < 2; time++) {
            value = gateway_answer_find(&gateway, key, &variant, &asking, 0, &err);
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
    assert_int_equal(
        gateway_answer_render(&gateway, key, &json, &result, &asking, 0, &value),
        -EPROTO);
    assert_int_equal(
        gateway_answer_render(&gateway, key, &png, &result, &asking, 0, &value), 0);
    assert_int_equal(value->size, 8);
    hotcache_value_unref(value);
    free_result(&result);
    assert_null(gateway_answer_find(&gateway, key, &json, &asking, 0, &err));
    assert_null(gateway_answer_find(&gateway, key, &bin, &asking, 0, &err));
    value = gateway_answer_find(&gateway, key, &png, &asking, 0, &err);
    assert_non_null(value);
    hotcache_value_unref(value);
    result = (struct gateway_result){.value = new_blob()};
    assert_int_equal(
        gateway_answer_render(&gateway, key, &png, &result, &asking, 0, &value), -EPROTO);
    free_result(&result);
    hotcache_free(gateway.hot);
}

static struct hotcache_value *value_of(size_t size)
{
    return hotcache_value_new(calloc(1, size), size);
}

static void an_answer_above_the_bound_is_not_rendered(void **state)
{
    struct gateway gateway;
    struct gateway_variant json = {.format = PROTO_FORMAT_JSON};
    struct gateway_result result = {.value = new_blob()};
    struct hotcache_value *value = NULL;

    (void)state;
    open_gateway(&gateway, 1 << 20);
    options.answer_bytes_max = PROTO_BLOB_HEADER_BYTES; /* JSON's head is longer */
    assert_int_equal(
        gateway_answer_render(&gateway, key, &json, &result, &asking, 0, &value), 0);
    assert_int_equal(gateway_outgoing_may_send(&gateway, &asking, value), -EFBIG);
    assert_int_equal(asking.limit, PROTO_BLOB_HEADER_BYTES);
    assert_int_equal(asking.actual, value->size);
    hotcache_value_unref(value);
    assert_int_equal(gateway_outgoing_may_send(&gateway, &asking, result.value), 0);
    free_result(&result);
    hotcache_free(gateway.hot);

    /* A thousand features are above it for certain: no byte is rendered. */
    struct proto_blob blob = {.width_px = 2, .height_px = 2, .count = 1000};
    uint8_t *bytes = calloc(1, proto_blob_bytes(blob.count));
    proto_params_init(&blob.params);
    proto_blob_encode_header(&blob, bytes);
    result = (struct gateway_result){
        .value = hotcache_value_new(bytes, proto_blob_bytes(blob.count))};
    open_gateway(&gateway, 1 << 20);
    options.answer_bytes_max = 200000;
    assert_int_equal(
        gateway_answer_render(&gateway, key, &json, &result, &asking, 0, &value), -EFBIG);
    assert_int_equal(gateway.metrics->renderings, 0);
    assert_int_equal(asking.limit, 200000);
    assert_true(asking.actual > 200000);
    free_result(&result);
    /* Nor from what the hot cache has. */
    assert_null(gateway_answer_find(&gateway, key, &json, &asking, 0, &err));
    assert_int_equal(err, -EFBIG);
    hotcache_free(gateway.hot);
}

static void a_value_counts_once_for_the_client_that_was_first(void **state)
{
    struct gateway gateway;
    struct hotcache_value *value = value_of(1000);
    struct http_client *one = http_client_get(&clients, (uint8_t[16]){1}),
                       *two = http_client_get(&clients, (uint8_t[16]){2});

    (void)state;
    open_gateway(&gateway, 0);
    value->overhead = 500; /* a message that it pins */
    uint64_t held = sizeof *value + 1500;
    gateway_outgoing_hold(&gateway, value, one);
    gateway_outgoing_hold(&gateway, value, two);
    assert_int_equal(gateway.outgoing_bytes, held);
    assert_int_equal(*http_client_bytes(one), held);
    assert_int_equal(*http_client_bytes(two), 0);
    gateway_outgoing_drop(&gateway, value);
    assert_int_equal(gateway.outgoing_bytes, held);
    /* The entry of a client that left is kept for what it still owes. */
    http_client_unref(one);
    http_client_unref(two);
    assert_int_equal(clients.count, 1);
    gateway_outgoing_drop(&gateway, value);
    assert_int_equal(gateway.outgoing_bytes, 0);
    assert_int_equal(clients.count, 0);
    hotcache_value_unref(value);
    hotcache_free(gateway.hot);
}

static void answers_are_bounded_in_all_and_for_one_client(void **state)
{
    struct gateway gateway;
    struct hotcache_value *first = value_of(1000), *second = value_of(1000),
                          *large = value_of(50000);
    struct http_client *one = http_client_get(&clients, (uint8_t[16]){1}),
                       *two = http_client_get(&clients, (uint8_t[16]){2});

    (void)state;
    open_gateway(&gateway, 0);
    options.answers_bytes_per_peer = 1500;
    options.answers_bytes_max = 2500;
    asking.client = one;
    /* A client without an answer may have one, also a large one while none is held. */
    assert_int_equal(gateway_outgoing_may_send(&gateway, &asking, large), 0);
    gateway_outgoing_hold(&gateway, first, one);
    assert_int_equal(gateway_outgoing_may_send(&gateway, &asking, second), -ENOBUFS);
    assert_int_equal(asking.limit, 1500);
    assert_int_equal(asking.actual, 2 * (1000 + sizeof *first));
    /* A value that is on its way already costs nothing more. */
    assert_int_equal(gateway_outgoing_may_send(&gateway, &asking, first), 0);
    asking.client = two;
    assert_int_equal(gateway_outgoing_may_send(&gateway, &asking, second), 0);
    gateway_outgoing_hold(&gateway, second, two);
    asking.client = one;
    gateway_outgoing_drop(&gateway, first);
    assert_int_equal(gateway_outgoing_may_send(&gateway, &asking, large), -ENOBUFS);
    assert_int_equal(asking.limit, 2500);
    gateway_outgoing_drop(&gateway, second);
    http_client_unref(one);
    http_client_unref(two);
    hotcache_value_unref(first);
    hotcache_value_unref(second);
    hotcache_value_unref(large);
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
        cmocka_unit_test(an_answer_above_the_bound_is_not_rendered),
        cmocka_unit_test(a_value_counts_once_for_the_client_that_was_first),
        cmocka_unit_test(answers_are_bounded_in_all_and_for_one_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
