/*
 * What a key tells of a result: forged, cut and foreign ones are refused, made ones pass.
 */
#include "proto/result.h"

#include "proto/bytes.h"
#include "tests/unit/proto/golden.h"

#include <stdbool.h>
#include <zlib.h>

enum { FEATURES = 3, BLOB_BYTES = 160 + FEATURES * 148, WIDTH = 40, HEIGHT = 30 };

struct example {
    uint8_t bytes[4096];
    size_t size;
    uint8_t image_sha256[PROTO_DIGEST_BYTES], key[PROTO_DIGEST_BYTES];
    struct proto_params params;
    struct proto_result_known known; /* all of it */
};

static void example_init(struct example *e, enum proto_kind kind)
{
    memset(e, 0, sizeof *e);
    proto_params_init(&e->params);
    proto_sha256("picture", 7, e->image_sha256);
    proto_key(e->image_sha256, kind, &e->params, e->key);
    e->known = (struct proto_result_known){.kind = kind,
                                           .key = e->key,
                                           .image_sha256 = e->image_sha256,
                                           .params = &e->params,
                                           .width_px = WIDTH,
                                           .height_px = HEIGHT};
}

/* Features of e->params, count and size as given. */
static void put_blob(struct example *e, uint32_t count, uint32_t width, uint32_t height)
{
    struct proto_blob blob = {
        .count = count, .width_px = width, .height_px = height, .params = e->params};

    memcpy(blob.image_sha256, e->image_sha256, sizeof blob.image_sha256);
    proto_key(e->image_sha256, PROTO_KIND_FEATURES, &e->params, e->key);
    memcpy(blob.key, e->key, sizeof blob.key);
    proto_blob_encode_header(&blob, e->bytes);
    e->size = proto_blob_bytes(count);
    assert_true(e->size <= sizeof e->bytes);
}

static void features_init(struct example *e)
{
    example_init(e, PROTO_KIND_FEATURES);
    put_blob(e, FEATURES, WIDTH, HEIGHT);
}

static void put_be32(uint8_t *dst, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        dst[i] = (uint8_t)(value >> 8 * (3 - i));
}

static void put_chunk(struct example *e, const char *type, const void *data, size_t size)
{
    uint8_t *at = e->bytes + e->size;

    put_be32(at, (uint32_t)size);
    memcpy(at + 4, type, 4);
    if (size > 0)
        memcpy(at + 8, data, size);
    put_be32(at + 8 + size, (uint32_t)crc32(0, at + 4, (uInt)size + 4));
    e->size += size + 12;
}

/* Signature and IHDR; `change` at offset `at` of IHDR's data, unless it is negative. */
static void png_begin(struct example *e, uint32_t width, uint32_t height, int at,
                      uint8_t change)
{
    uint8_t header[13] = {0};

    example_init(e, PROTO_KIND_DENOISE);
    memcpy(e->bytes, "\x89PNG\r\n\x1a\n", 8);
    e->size = 8;
    put_be32(header, width);
    put_be32(header + 4, height);
    header[8] = 8;
    if (at >= 0)
        header[at] = change;
    put_chunk(e, "IHDR", header, sizeof header);
}

static void put_pixels(struct example *e)
{
    static const uint8_t rows[(WIDTH + 1) * HEIGHT];
    uint8_t packed[512];
    uLongf size = sizeof packed;

    assert_int_equal(compress(packed, &size, rows, sizeof rows), Z_OK);
    put_chunk(e, "IDAT", packed, size / 2);
    put_chunk(e, "IDAT", packed + size / 2, size - size / 2);
}

static void png_init(struct example *e)
{
    png_begin(e, WIDTH, HEIGHT, -1, 0);
    put_pixels(e);
    put_chunk(e, "IEND", NULL, 0);
}

static const char *check(const struct example *e)
{
    uint8_t *copy = golden_copy(e->bytes, e->size);
    const char *why = proto_result_check(copy, e->size, &e->known, NULL);

    free(copy);
    return why;
}

static void assert_refused(const struct example *e, const char *words)
{
    const char *why = check(e);

    if (why == NULL || strstr(why, words) == NULL)
        fail_msg("\"%s\" where \"%s\" was wanted", why != NULL ? why : "taken", words);
}

/* ---- both kinds ---- */

static void a_result_tells_its_kind_count_and_size(void **state)
{
    struct example e;
    struct proto_result result;

    (void)state;
    features_init(&e);
    assert_null(proto_result_check(e.bytes, e.size, &e.known, &result));
    assert_int_equal(result.kind, PROTO_KIND_FEATURES);
    assert_int_equal(result.count, FEATURES);
    assert_int_equal(result.width_px, WIDTH);
    assert_int_equal(result.height_px, HEIGHT);
    png_init(&e);
    assert_null(proto_result_check(e.bytes, e.size, &e.known, &result));
    assert_int_equal(result.kind, PROTO_KIND_DENOISE);
    assert_int_equal(result.count, 0);
    assert_int_equal(result.width_px, WIDTH);
    assert_int_equal(result.height_px, HEIGHT);
}

static void what_is_not_known_is_not_asked_for(void **state)
{
    struct example e;

    (void)state;
    features_init(&e);
    e.known = (struct proto_result_known){0};
    assert_null(check(&e));
    png_init(&e);
    e.known = (struct proto_result_known){.key = e.key};
    assert_null(check(&e)); /* a PNG does not show what it is of */
}

static void a_result_of_the_other_kind_is_refused(void **state)
{
    struct example e;

    (void)state;
    features_init(&e);
    e.known.kind = PROTO_KIND_DENOISE;
    assert_refused(&e, "no PNG");
    png_init(&e);
    e.known.kind = PROTO_KIND_FEATURES;
    assert_refused(&e, "is a PNG");
    e.known.kind = 0; /* the key says it as well: it is that of the denoised picture */
    proto_key(e.image_sha256, PROTO_KIND_FEATURES, &e.params, e.key);
    assert_refused(&e, "do not make its key");
}

static void any_cut_of_a_result_is_refused(void **state)
{
    struct example whole, e;

    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        if (kind == 0)
            features_init(&whole);
        else
            png_init(&whole);
        for (size_t size = 0; size <= whole.size + 1; size++) {
            e = whole;
            e.known.key = whole.key;
            e.size = size;
            assert_int_equal(check(&e) == NULL, size == whole.size);
        }
    }
}

static void the_size_of_the_picture_may_be_turned_by_exif_only(void **state)
{
    struct example e;

    (void)state;
    features_init(&e);
    put_blob(&e, FEATURES, HEIGHT, WIDTH);
    assert_null(check(&e));
    e.params.orient = PROTO_ORIENT_STORED;
    put_blob(&e, FEATURES, HEIGHT, WIDTH);
    assert_refused(&e, "another size");
    put_blob(&e, FEATURES, WIDTH, HEIGHT);
    assert_null(check(&e));
    put_blob(&e, FEATURES, WIDTH, HEIGHT + 1);
    assert_refused(&e, "another size");
    png_init(&e);
    e.known.width_px++;
    assert_refused(&e, "another size");
}

/* ---- features ---- */

static void features_of_another_key_picture_or_parameters_are_refused(void **state)
{
    struct example e;
    uint8_t other[PROTO_DIGEST_BYTES] = {1};
    struct proto_params params;

    (void)state;
    features_init(&e);
    e.known.key = other;
    assert_refused(&e, "another key");
    features_init(&e);
    e.known.image_sha256 = other;
    assert_refused(&e, "another picture");
    features_init(&e);
    params = e.params;
    params.h = 11;
    e.known.params = &params;
    assert_refused(&e, "other parameters");
}

static void forged_features_do_not_make_the_key_that_they_name(void **state)
{
    struct example e;
    uint8_t wanted[PROTO_DIGEST_BYTES] = {1};

    (void)state;
    features_init(&e);
    memcpy(e.bytes + 64, wanted, sizeof wanted); /* key, in the blob's header */
    e.known = (struct proto_result_known){.key = wanted};
    assert_refused(&e, "do not make its key");
}

static void more_features_than_asked_for_or_possible_are_refused(void **state)
{
    struct example e;

    (void)state;
    features_init(&e);
    e.params.max_features = FEATURES;
    put_blob(&e, FEATURES, WIDTH, HEIGHT);
    assert_null(check(&e));
    e.params.max_features = FEATURES - 1;
    put_blob(&e, FEATURES, WIDTH, HEIGHT);
    assert_refused(&e, "max_features");
    example_init(&e, PROTO_KIND_FEATURES);
    put_blob(&e, 0, 0, HEIGHT);
    assert_refused(&e, "without pixels");

    uint8_t *many = calloc(1, proto_blob_bytes(2000));
    struct proto_blob blob = {.count = 2000, .width_px = 6, .height_px = 6};
    proto_params_init(&blob.params);
    proto_key(blob.image_sha256, PROTO_KIND_FEATURES, &blob.params, blob.key);
    proto_blob_encode_header(&blob, many);
    e.known = (struct proto_result_known){0};
    const char *why = proto_result_check(many, proto_blob_bytes(2000), &e.known, NULL);
    assert_string_equal(why,
                        "there are more features than the picture's pixels can have");
    free(many);
}

static void bounds_of_sizes_hold_for_any_numbers(void **state)
{
    struct proto_params params;

    (void)state;
    proto_params_init(&params);
    assert_int_equal(
        proto_result_bytes_max(PROTO_KIND_FEATURES, &params, UINT32_MAX, UINT32_MAX),
        proto_blob_bytes(PROTO_BLOB_FEATURES_MAX));
    params.max_features = 10;
    assert_int_equal(proto_result_bytes_max(PROTO_KIND_FEATURES, &params, 4000, 3000),
                     proto_blob_bytes(10));
    uint64_t png = proto_result_bytes_max(PROTO_KIND_DENOISE, &params, 4000, 3000);
    assert_in_range(png, 24000000, 25000000);
}

/* ---- PNG ---- */

static void a_png_that_slots_do_not_write_is_refused(void **state)
{
    struct example e;
    static const struct {
        int at; /* in IHDR's data */
        uint8_t value;
    } changes[] = {{8, 1}, {8, 4}, {8, 255}, {9, 2}, {9, 3}, {10, 1}, {11, 1}, {12, 1}};

    (void)state;
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        png_begin(&e, WIDTH, HEIGHT, changes[i].at, changes[i].value);
        put_pixels(&e);
        put_chunk(&e, "IEND", NULL, 0);
        assert_refused(&e, "is not grey");
    }
    png_begin(&e, 0, HEIGHT, -1, 0);
    assert_refused(&e, "no size");
    png_begin(&e, WIDTH, 0x80000000u, -1, 0);
    assert_refused(&e, "no size");
}

static void a_png_with_a_script_in_it_or_behind_it_is_refused(void **state)
{
    static const char script[] = "<script>alert(1)</script>";
    struct example e;

    (void)state;
    png_begin(&e, WIDTH, HEIGHT, -1, 0);
    put_chunk(&e, "tEXt", script, sizeof script);
    put_pixels(&e);
    put_chunk(&e, "IEND", NULL, 0);
    assert_refused(&e, "chunk that denoised pictures do not have");
    png_init(&e);
    memcpy(e.bytes + e.size, script, sizeof script);
    e.size += sizeof script;
    assert_refused(&e, "bytes follow");
    example_init(&e, PROTO_KIND_DENOISE);
    memcpy(e.bytes, "\x89PNG\r\n\x1a\n", 8);
    memcpy(e.bytes + 8, script, sizeof script);
    e.size = 8 + sizeof script;
    assert_refused(&e, "no header");
    png_begin(&e, WIDTH, HEIGHT, -1, 0);
    put_pixels(&e);
    put_chunk(&e, "IEND", script, sizeof script);
    assert_refused(&e, "no pixels");
}

static void a_png_without_pixels_or_larger_than_them_is_refused(void **state)
{
    static const uint8_t noise[3000];
    struct example e;

    (void)state;
    png_begin(&e, WIDTH, HEIGHT, -1, 0);
    put_chunk(&e, "IEND", NULL, 0);
    assert_refused(&e, "no pixels");
    png_begin(&e, WIDTH, HEIGHT, -1, 0);
    put_chunk(&e, "IDAT", noise, sizeof noise);
    put_chunk(&e, "IEND", NULL, 0);
    assert_refused(&e, "larger than its pixels");
}

/* Every byte counts, and the CRCs alone may be left out. */
static void any_changed_byte_of_a_png_is_refused(void **state)
{
    struct example whole, e;

    (void)state;
    png_init(&whole);
    for (size_t i = 0; i < whole.size; i++) {
        e = whole;
        e.known.kind = 0;
        e.bytes[i] ^= 1;
        assert_non_null(check(&e));
    }
    e = whole;
    e.bytes[e.size - 20] ^= 1; /* in the last IDAT's CRC or data */
    assert_refused(&e, "wrong CRC");
    e.known.sums_checked = true;
    assert_null(check(&e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_result_tells_its_kind_count_and_size),
        cmocka_unit_test(what_is_not_known_is_not_asked_for),
        cmocka_unit_test(a_result_of_the_other_kind_is_refused),
        cmocka_unit_test(any_cut_of_a_result_is_refused),
        cmocka_unit_test(the_size_of_the_picture_may_be_turned_by_exif_only),
        cmocka_unit_test(features_of_another_key_picture_or_parameters_are_refused),
        cmocka_unit_test(forged_features_do_not_make_the_key_that_they_name),
        cmocka_unit_test(more_features_than_asked_for_or_possible_are_refused),
        cmocka_unit_test(bounds_of_sizes_hold_for_any_numbers),
        cmocka_unit_test(a_png_that_slots_do_not_write_is_refused),
        cmocka_unit_test(a_png_with_a_script_in_it_or_behind_it_is_refused),
        cmocka_unit_test(a_png_without_pixels_or_larger_than_them_is_refused),
        cmocka_unit_test(any_changed_byte_of_a_png_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
