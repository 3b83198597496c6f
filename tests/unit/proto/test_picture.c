#include "proto/mask.h"
#include "proto/picture.h"
#include "tests/harness/harness.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

struct example {
    const uint8_t *bytes;
    size_t size;
    struct proto_picture want;
};

/* Heads only: nothing behind what is asked for. */
static const struct example examples[] = {
    /* APP0 of 4 bytes, a restart, fill bytes, SOF2: 8 bits, 258 high, 515 wide */
    {BYTES("\xff\xd8\xff\xe0\0\4ab\xff\xd0\xff\xff\xff\xc2\0\x0b\x08\1\2\2\3"),
     {515, 258, 8}},
    /* rubbish between segments, a length of 0: passed over as libjpeg does */
    {BYTES("\xff\xd8\xff\xe1\0\0xx\xff\0\xff\xc0\0\x0b\x08\0\1\xff\xff"), {65535, 1, 8}},
    {BYTES("\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\1\0\0\0\0\0\7\x10"), {65536, 7, 16}},
    {BYTES("\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\3\0\0\0\7\1"), {3, 7, 8}},
    {BYTES("RIFF....WEBPVP8 \xff\0\0\0\0\0\0\x9d\1\x2a\x40\1\xf0\xc0"), {320, 240, 8}},
    {BYTES("RIFF....WEBP\0\0\0\x9d\1\x2a\x40\1\xf0\xc0"), {320, 240, 8}}, /* no chunk */
    {BYTES("RIFF....WEBPVP8L\xff\0\0\0\x2f\x3f\x01\x3c\x00"), {320, 241, 8}},
    {BYTES("RIFF....WEBPVP8X\x0a\0\0\0\0\0\0\0\x3f\1\0\xef\0\0"), {320, 240, 8}},
    {BYTES("P5 # a comment\n3 4\n255\n"), {3, 4, 8}},
    {BYTES("P6\n3\t4#255 1\n256 "), {3, 4, 16}},
    {BYTES("P1 10 20 "), {10, 20, 8}},
};

static void the_head_of_each_format_tells_its_size(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        struct proto_picture got = {0};
        assert_int_equal(proto_picture_probe(examples[i].bytes, examples[i].size, &got),
                         0);
        assert_int_equal(got.width_px, examples[i].want.width_px);
        assert_int_equal(got.height_px, examples[i].want.height_px);
        assert_int_equal(got.depth_bits, examples[i].want.depth_bits);
    }
}

/* On the heap, so that a sanitizer sees a read past the end. */
static int probe_copy(const uint8_t *bytes, size_t size, struct proto_picture *out)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    if (size > 0)
        memcpy(copy, bytes, size);
    int err = proto_picture_probe(copy, size, out);
    free(copy);
    return err;
}

static void a_head_cut_anywhere_is_refused_and_never_read_past(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++)
        for (size_t size = 0; size < examples[i].size; size++) {
            struct proto_picture got = {99, 99, 99};
            /* A number of a PNM may end where the bytes do: that is a size, too. */
            if (probe_copy(examples[i].bytes, size, &got) == 0)
                assert_int_equal(examples[i].bytes[0], 'P');
            else
                assert_int_equal(got.width_px, 99);
        }
}

static void what_has_no_size_is_refused(void **state)
{
    static const struct {
        const uint8_t *bytes;
        size_t size;
    } bad[] = {
        {BYTES("GIF89a\1\0\1\0")},
        {BYTES("\xff\xd8\xff\xc0\0\x0b\x08\0\0\0\5")},                 /* no height */
        {BYTES("\xff\xd8\xff\xda\0\2\xff\xc0\0\x0b\x08\0\1\0\5")},     /* a scan first */
        {BYTES("\xff\xd8\xff\xe0\xff\xff\xff\xc0\0\x0b\x08\0\1\0\5")}, /* too long */
        {BYTES("\xff\xd8\xff\xd9\xff\xc0\0\x0b\x08\0\1\0\5")},         /* an end first */
        {BYTES("\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\0\0\0\0\7\x10")},
        {BYTES("\x89PNG\r\n\x1a\n\0\0\0\x0dIDAT\0\0\0\1\0\0\0\7\x10")},
        {BYTES("RIFF....WEBPJUNK\xff\0\0\0\0\0\0\x9d\1\x2a\x40\1\xf0\xc0")},
        {BYTES("P5 3 4 ")},
        {BYTES("P5 4294967296 4 255 ")},
        {BYTES("P5 0 4 255 ")},
        {BYTES("P7 3 4 255 ")},
    };
    struct proto_picture got;
    (void)state;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(probe_copy(bad[i].bytes, bad[i].size, &got), -EINVAL);
}

static void a_jpeg_of_nothing_but_markers_is_given_up(void **state)
{
    size_t size = 2 + 4 * (PROTO_PICTURE_MARKERS_MAX + 8);
    uint8_t *bytes = malloc(size);
    struct proto_picture got;
    (void)state;

    memcpy(bytes, "\xff\xd8", 2);
    for (size_t at = 2; at + 4 <= size; at += 4)
        memcpy(bytes + at, "\xff\xe0\0\2", 4);
    memcpy(bytes + size - 9, "\xff\xc0\0\x0b\x08\0\1\0\5", 9);
    assert_int_equal(proto_picture_probe(bytes, size, &got), -EINVAL);
    free(bytes);
}

static uint64_t cost_of(const char *text, size_t size)
{
    struct proto_params params;
    proto_params_init(&params);
    return proto_picture_cost_bytes((const uint8_t *)text, size, PROTO_KIND_FEATURES,
                                    &params);
}

static void the_cost_follows_the_pixels_not_the_bytes(void **state)
{
    char text[64];
    uint64_t before = 0;
    (void)state;

    for (unsigned side = 64; side <= 1u << 20; side *= 2) {
        int size = snprintf(text, sizeof text, "P5 %u %u 255 ", side, side);
        uint64_t cost = cost_of(text, (size_t)size);
        assert_true(cost > before && cost > 9ull * side * side);
        before = cost;
    }
    /* Sides that no file should have, where sums would overflow. */
    int size = snprintf(text, sizeof text, "P6 4294967295 4294967295 65535 ");
    assert_true(cost_of(text, (size_t)size) > 1ull << 50);
    /* What is no picture costs its bytes and what every job needs. */
    assert_true(cost_of("hello", 5) < 5u << 20);
    assert_int_equal(cost_of("hello world", 11) - cost_of("hello", 5), 6);
}

static void a_mask_costs_a_plane_of_16_bits_more(void **state)
{
    uint8_t bytes[64] = "P5 1000 1000 255 mask";
    size_t picture = 17, mask = 4;
    (void)state;

    uint64_t plain = cost_of((const char *)bytes, picture);
    proto_mask_trailer(mask, bytes + picture + mask);
    size_t whole = picture + mask + PROTO_MASK_TRAILER_BYTES;
    assert_int_equal(cost_of((const char *)bytes, whole),
                     plain + 2000000 + whole - picture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_head_of_each_format_tells_its_size),
        cmocka_unit_test(a_head_cut_anywhere_is_refused_and_never_read_past),
        cmocka_unit_test(what_has_no_size_is_refused),
        cmocka_unit_test(a_jpeg_of_nothing_but_markers_is_given_up),
        cmocka_unit_test(the_cost_follows_the_pixels_not_the_bytes),
        cmocka_unit_test(a_mask_costs_a_plane_of_16_bits_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
