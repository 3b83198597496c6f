#include "cacher/value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FEATURES 3

/* A whole blob of FEATURES features, all 0, under a key of 7s. */
static uint8_t *blob_of(uint8_t key[PROTO_DIGEST_BYTES], size_t *size)
{
    struct proto_blob blob = {.count = FEATURES, .width_px = 8, .height_px = 8};
    memset(key, 7, PROTO_DIGEST_BYTES);
    memcpy(blob.key, key, PROTO_DIGEST_BYTES);
    proto_params_init(&blob.params);
    *size = proto_blob_bytes(FEATURES);
    uint8_t *bytes = calloc(1, *size);
    assert_non_null(bytes);
    proto_blob_encode_header(&blob, bytes);
    return bytes;
}

static void features_are_taken_under_their_own_key_only(void **state)
{
    (void)state;
    uint8_t key[PROTO_DIGEST_BYTES];
    size_t size;
    uint8_t *bytes = blob_of(key, &size);

    assert_null(cacher_value_check(key, bytes, size));
    key[31] ^= 1;
    assert_non_null(cacher_value_check(key, bytes, size));
    free(bytes);
}

static void features_that_are_cut_or_broken_are_refused(void **state)
{
    (void)state;
    uint8_t key[PROTO_DIGEST_BYTES];
    size_t size;
    uint8_t *bytes = blob_of(key, &size);

    for (size_t cut = 0; cut < size; cut++)
        assert_non_null(cacher_value_check(key, bytes, cut));
    memset(bytes + PROTO_BLOB_HEADER_BYTES, 0xff, 4); /* not a number */
    assert_non_null(cacher_value_check(key, bytes, size));
    free(bytes);
}

/* Grey 1x1, written by hand. */
static const uint8_t png[] = {
    0x89, 'P',  'N',  'G',  '\r', '\n', 0x1a, '\n', 0,    0,    0,    13,   'I',  'H',
    'D',  'R',  0,    0,    0,    1,    0,    0,    0,    1,    8,    0,    0,    0,
    0,    0x3a, 0x7e, 0x9b, 0x55, 0,    0,    0,    10,   'I',  'D',  'A',  'T',  0x78,
    0x9c, 0x63, 0x60, 0,    0,    0,    2,    0,    1,    0x48, 0xaf, 0xa4, 0x71, 0,
    0,    0,    0,    'I',  'E',  'N',  'D',  0xae, 0x42, 0x60, 0x82};

static void a_whole_png_is_taken_and_a_cut_one_refused(void **state)
{
    (void)state;
    static const uint8_t key[PROTO_DIGEST_BYTES];

    assert_null(cacher_value_check(key, png, sizeof png));
    for (size_t cut = 0; cut < sizeof png; cut++)
        assert_non_null(cacher_value_check(key, png, cut));
}

static void anything_else_is_refused(void **state)
{
    (void)state;
    static const uint8_t key[PROTO_DIGEST_BYTES];
    uint8_t jpeg[64] = {0xff, 0xd8, 0xff};

    assert_non_null(cacher_value_check(key, jpeg, sizeof jpeg));
    assert_non_null(cacher_value_check(key, (const uint8_t *)"", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_are_taken_under_their_own_key_only),
        cmocka_unit_test(features_that_are_cut_or_broken_are_refused),
        cmocka_unit_test(a_whole_png_is_taken_and_a_cut_one_refused),
        cmocka_unit_test(anything_else_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
