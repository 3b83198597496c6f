#include "cacher/value.h"

#include "tests/harness/harness.h"

#include <stdlib.h>
#include <string.h>

#define FEATURES 3

/* Grey 1x1, written by hand. */
static const uint8_t png[] = {
    0x89, 'P',  'N',  'G',  '\r', '\n', 0x1a, '\n', 0,    0,    0,    13,   'I',  'H',
    'D',  'R',  0,    0,    0,    1,    0,    0,    0,    1,    8,    0,    0,    0,
    0,    0x3a, 0x7e, 0x9b, 0x55, 0,    0,    0,    10,   'I',  'D',  'A',  'T',  0x78,
    0x9c, 0x63, 0x60, 0,    0,    0,    2,    0,    1,    0x48, 0xaf, 0xa4, 0x71, 0,
    0,    0,    0,    'I',  'E',  'N',  'D',  0xae, 0x42, 0x60, 0x82};

/* A put of `kind` that names picture and parameters. */
static struct proto_submit put_of(enum proto_kind kind)
{
    struct proto_submit submit = {.key_bytes = PROTO_DIGEST_BYTES,
                                  .image_sha256_bytes = PROTO_DIGEST_BYTES,
                                  .params_bytes = PROTO_PARAMS_BYTES};
    struct proto_params params;

    proto_params_init(&params);
    proto_params_encode(&params, submit.params);
    memset(submit.image_sha256, 7, PROTO_DIGEST_BYTES);
    assert_int_equal(proto_key(submit.image_sha256, kind, &params, submit.key), 0);
    return submit;
}

/* A whole blob of FEATURES features, all 0, of that picture. */
static uint8_t *blob_of(const struct proto_submit *submit, size_t *size)
{
    struct proto_blob blob = {.count = FEATURES, .width_px = 8, .height_px = 8};

    memcpy(blob.key, submit->key, PROTO_DIGEST_BYTES);
    memcpy(blob.image_sha256, submit->image_sha256, PROTO_DIGEST_BYTES);
    proto_params_init(&blob.params);
    *size = proto_blob_bytes(FEATURES);
    uint8_t *bytes = calloc(1, *size);
    assert_non_null(bytes);
    proto_blob_encode_header(&blob, bytes);
    return bytes;
}

static const char *check(const struct proto_submit *submit, const uint8_t *bytes,
                         size_t size)
{
    struct proto_result result;

    return cacher_value_check_put(submit, bytes, size, &result);
}

static void a_key_is_of_the_kind_that_picture_and_parameters_prove(void **state)
{
    (void)state;
    struct proto_submit submit = put_of(PROTO_KIND_FEATURES);

    assert_int_equal(cacher_value_kind(&submit), PROTO_KIND_FEATURES);
    submit = put_of(PROTO_KIND_DENOISE);
    assert_int_equal(cacher_value_kind(&submit), PROTO_KIND_DENOISE);
    submit.image_sha256[0] ^= 1;
    assert_int_equal(cacher_value_kind(&submit), 0);
    submit = put_of(PROTO_KIND_DENOISE);
    submit.image_sha256_bytes = 0;
    assert_int_equal(cacher_value_kind(&submit), 0);
    submit = put_of(PROTO_KIND_DENOISE);
    submit.params_bytes--;
    assert_int_equal(cacher_value_kind(&submit), 0);
}

static void features_are_taken_under_their_own_key_only(void **state)
{
    (void)state;
    struct proto_submit submit = put_of(PROTO_KIND_FEATURES);
    size_t size;
    uint8_t *bytes = blob_of(&submit, &size);

    assert_null(check(&submit, bytes, size));
    assert_true(cacher_value_fits(submit.key, PROTO_KIND_FEATURES, bytes, size));
    assert_false(cacher_value_fits(submit.key, PROTO_KIND_DENOISE, bytes, size));
    for (size_t cut = 0; cut < size; cut++)
        assert_non_null(check(&submit, bytes, cut));
    submit.image_sha256_bytes = submit.params_bytes = 0; /* they show what they are */
    assert_null(check(&submit, bytes, size));
    submit.key[31] ^= 1;
    assert_non_null(check(&submit, bytes, size));
    free(bytes);
}

static void features_forged_for_the_key_of_another_picture_are_refused(void **state)
{
    (void)state;
    struct proto_submit submit = put_of(PROTO_KIND_FEATURES), aimed = submit;
    size_t size;

    aimed.image_sha256[5] ^= 1; /* the key that is to be hit, of a picture of one's own */
    uint8_t *bytes = blob_of(&aimed, &size);
    assert_non_null(check(&submit, bytes, size));
    submit.image_sha256_bytes = submit.params_bytes = 0;
    assert_non_null(check(&submit, bytes, size));
    assert_false(cacher_value_fits(submit.key, 0, bytes, size));
    free(bytes);
}

static void a_picture_is_taken_where_its_key_is_proved_to_be_one_of_denoised(void **state)
{
    (void)state;
    struct proto_submit submit = put_of(PROTO_KIND_DENOISE);

    assert_null(check(&submit, png, sizeof png));
    for (size_t cut = 0; cut < sizeof png; cut++)
        assert_non_null(check(&submit, png, cut));
    submit.image_sha256_bytes = 0;
    assert_non_null(check(&submit, png, sizeof png));
    submit = put_of(PROTO_KIND_FEATURES);
    assert_non_null(check(&submit, png, sizeof png));
    assert_false(cacher_value_fits(submit.key, PROTO_KIND_FEATURES, png, sizeof png));
    assert_true(cacher_value_fits(submit.key, 0, png, sizeof png)); /* nobody knows */
}

static void anything_else_is_refused(void **state)
{
    (void)state;
    struct proto_submit submit = put_of(PROTO_KIND_FEATURES);
    uint8_t jpeg[64] = {0xff, 0xd8, 0xff};

    assert_non_null(check(&submit, jpeg, sizeof jpeg));
    assert_non_null(check(&submit, (const uint8_t *)"", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_of_the_kind_that_picture_and_parameters_prove),
        cmocka_unit_test(features_are_taken_under_their_own_key_only),
        cmocka_unit_test(features_forged_for_the_key_of_another_picture_are_refused),
        cmocka_unit_test(
            a_picture_is_taken_where_its_key_is_proved_to_be_one_of_denoised),
        cmocka_unit_test(anything_else_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
