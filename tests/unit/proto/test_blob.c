#include "proto/blob.h"

#include "proto/key.h"
#include "tests/unit/proto/golden.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>

enum { FEATURES = 2, BLOB_BYTES = 160 + FEATURES * 148 };

/* The features of tests/golden/blob.hex. */
static const float keypoints[FEATURES][PROTO_KEYPOINT_FLOATS] = {
    {12.5f, 7.25f, 1.6f, 0.5f, 0.03125f}, {600.1f, 400.9f, 20, 6.25f, 0.1f}};

static void example(uint8_t out[BLOB_BYTES])
{
    struct proto_blob blob = {.count = FEATURES, .width_px = 640, .height_px = 480};

    proto_params_init(&blob.params);
    proto_sha256("picture", 7, blob.image_sha256);
    proto_key(blob.image_sha256, PROTO_KIND_FEATURES, &blob.params, blob.key);
    assert_int_equal(proto_blob_bytes(FEATURES), BLOB_BYTES);
    proto_blob_encode_header(&blob, out);
    for (size_t i = 0; i < FEATURES; i++)
        proto_blob_put_keypoint(out + 160 + 20 * i, keypoints[i]);
    for (size_t i = 0; i < 128; i++) {
        out[200 + i] = (uint8_t)i;
        out[328 + i] = (uint8_t)(255 - i);
    }
}

static void a_blob_is_encoded_as_the_golden_vector_and_back(void **state)
{
    uint8_t golden[1024], bytes[BLOB_BYTES], header[PROTO_BLOB_HEADER_BYTES];
    struct proto_blob blob;

    (void)state;
    assert_int_equal(golden_load("blob", golden, sizeof golden), BLOB_BYTES);
    example(bytes);
    assert_memory_equal(bytes, golden, BLOB_BYTES);
    assert_int_equal(proto_blob_decode(golden, BLOB_BYTES, &blob), 0);
    assert_int_equal(blob.count, FEATURES);
    assert_int_equal(blob.width_px, 640);
    assert_int_equal(blob.height_px, 480);
    assert_ptr_equal(blob.keypoints, golden + 160);
    assert_ptr_equal(blob.descriptors, golden + 200);
    proto_blob_encode_header(&blob, header);
    assert_memory_equal(header, golden, sizeof header);
}

static void keypoints_come_back_at_any_alignment(void **state)
{
    uint8_t bytes[BLOB_BYTES + 8];
    struct proto_blob blob;

    (void)state;
    for (size_t shift = 0; shift < 8; shift++) {
        example(bytes + shift);
        assert_int_equal(proto_blob_decode(bytes + shift, BLOB_BYTES, &blob), 0);
        for (uint32_t i = 0; i < FEATURES; i++) {
            float out[PROTO_KEYPOINT_FLOATS];
            proto_blob_keypoint(&blob, i, out);
            assert_memory_equal(out, keypoints[i], sizeof out);
        }
    }
}

static void a_blob_cut_or_continued_anywhere_is_refused(void **state)
{
    uint8_t bytes[BLOB_BYTES + 1] = {0};
    struct proto_blob blob;

    (void)state;
    example(bytes);
    for (size_t size = 0; size <= sizeof bytes; size++) {
        uint8_t *copy = golden_copy(bytes, size);
        assert_int_equal(proto_blob_decode(copy, size, &blob),
                         size == BLOB_BYTES ? 0 : -EPROTO);
        free(copy);
    }
}

static void any_wrong_byte_of_the_frame_is_refused(void **state)
{
    uint8_t bytes[BLOB_BYTES];
    struct proto_blob blob;

    (void)state;
    for (size_t at = 0; at < PROTO_BLOB_HEADER_BYTES; at++) {
        bool free_to_vary = (at >= 12 && at < 20) || (at >= 32 && at < 96);
        if (at >= 96 && at < 96 + PROTO_PARAMS_BYTES)
            continue; /* test_params.c */
        example(bytes);
        bytes[at] ^= 0x40;
        assert_int_equal(proto_blob_decode(bytes, BLOB_BYTES, &blob),
                         free_to_vary ? 0 : -EPROTO);
    }
}

static void a_float_that_is_not_finite_is_refused_wherever_it_is(void **state)
{
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    uint8_t bytes[BLOB_BYTES];
    struct proto_blob blob;

    (void)state;
    for (size_t i = 0; i < FEATURES * PROTO_KEYPOINT_FLOATS; i++) {
        for (size_t k = 0; k < 4; k++) {
            float keypoint[PROTO_KEYPOINT_FLOATS];
            example(bytes);
            memcpy(keypoint, keypoints[i / 5], sizeof keypoint);
            keypoint[i % 5] = bad[k];
            proto_blob_put_keypoint(bytes + 160 + 20 * (i / 5), keypoint);
            assert_int_equal(proto_blob_decode(bytes, BLOB_BYTES, &blob), -EPROTO);
        }
    }
}

static void a_count_that_lies_is_refused(void **state)
{
    static const uint32_t counts[] = {
        0,           1,         3, PROTO_BLOB_FEATURES_MAX, PROTO_BLOB_FEATURES_MAX + 1,
        0x7fffffffu, UINT32_MAX};
    uint8_t bytes[BLOB_BYTES];
    struct proto_blob blob;

    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        example(bytes);
        for (size_t k = 0; k < 4; k++)
            bytes[8 + k] = (uint8_t)(counts[i] >> 8 * k);
        assert_int_equal(proto_blob_decode(bytes, BLOB_BYTES, &blob), -EPROTO);
    }
}

static void more_features_than_the_bound_are_refused_at_their_full_size(void **state)
{
    const uint32_t count = PROTO_BLOB_FEATURES_MAX + 1;
    struct proto_blob blob;

    (void)state;
    uint8_t *bytes = calloc(1, proto_blob_bytes(count)); /* never written, so not there */
    if (bytes == NULL)
        skip();
    example(bytes);
    for (size_t k = 0; k < 4; k++)
        bytes[8 + k] = (uint8_t)(count >> 8 * k);
    int err = proto_blob_decode(bytes, proto_blob_bytes(count), &blob);
    free(bytes);
    assert_int_equal(err, -EPROTO);
}

static void sizes_do_not_overflow(void **state)
{
    (void)state;
    assert_true(proto_blob_bytes(0) == 160);
    assert_true(proto_blob_bytes(PROTO_BLOB_FEATURES_MAX) == 148000160u);
    assert_true(proto_blob_bytes(UINT32_MAX) == UINT64_C(148) * UINT32_MAX + 160);
}

static void a_blob_without_features_is_a_header(void **state)
{
    struct proto_blob blob = {.width_px = 1, .height_px = 1}, out;
    uint8_t *bytes = malloc(PROTO_BLOB_HEADER_BYTES);

    (void)state;
    proto_params_init(&blob.params);
    proto_blob_encode_header(&blob, bytes);
    assert_int_equal(proto_blob_decode(bytes, PROTO_BLOB_HEADER_BYTES, &out), 0);
    assert_int_equal(out.count, 0);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_blob_is_encoded_as_the_golden_vector_and_back),
        cmocka_unit_test(keypoints_come_back_at_any_alignment),
        cmocka_unit_test(a_blob_cut_or_continued_anywhere_is_refused),
        cmocka_unit_test(any_wrong_byte_of_the_frame_is_refused),
        cmocka_unit_test(a_float_that_is_not_finite_is_refused_wherever_it_is),
        cmocka_unit_test(a_count_that_lies_is_refused),
        cmocka_unit_test(more_features_than_the_bound_are_refused_at_their_full_size),
        cmocka_unit_test(sizes_do_not_overflow),
        cmocka_unit_test(a_blob_without_features_is_a_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
