#include "tests/unit/extractor/decode/check.h"

static void assert_pixels(struct bytes file, size_t w, size_t h, unsigned depth,
                          const unsigned *want)
{
    struct vision_image image = decoded(file);
    assert_int_equal(image.width_px, w);
    assert_int_equal(image.height_px, h);
    assert_int_equal(image.depth_bits, depth);
    for (size_t i = 0; i < w * h; i++)
        assert_int_equal(scene_get(&image, i % w, i / w), want[i]);
    decode_image_free(&image);
    free(file.data);
}

#define RAW(text) bytes_copy(text, sizeof(text) - 1)

static void the_six_kinds_are_read(void **state)
{
    (void)state;
    assert_pixels(text_bytes("P1 3 2\n0 1 0\n110"), 3, 2, 8,
                  (unsigned[]){255, 0, 255, 0, 0, 255});
    assert_pixels(text_bytes("P2\n3 1\n255\n0 7 255\n"), 3, 1, 8,
                  (unsigned[]){0, 7, 255});
    assert_pixels(text_bytes("P3 1 2 255 255 0 0 0 0 255"), 1, 2, 8,
                  (unsigned[]){luma_of(255, 0, 0), luma_of(0, 0, 255)});
    assert_pixels(RAW("P4 9 2\n\x80\x80\x7f\x00"), 9, 2, 8,
                  (unsigned[]){0, 255, 255, 255, 255, 255, 255, 255, 0, /* row 2 */
                               255, 0, 0, 0, 0, 0, 0, 0, 255});
    assert_pixels(RAW("P5 2 2 255\n\0\1\x80\xff"), 2, 2, 8, (unsigned[]){0, 1, 128, 255});
    assert_pixels(RAW("P6 1 1 255\n\x10\x20\x30"), 1, 1, 8,
                  (unsigned[]){luma_of(16, 32, 48)});
}

static void samples_are_scaled_to_the_full_range_and_rounded(void **state)
{
    (void)state;
    assert_pixels(text_bytes("P2 3 1 2 0 1 2"), 3, 1, 8, (unsigned[]){0, 128, 255});
    assert_pixels(text_bytes("P2 4 1 1000 0 1 500 1000"), 4, 1, 16,
                  (unsigned[]){0, 66, 32768, 65535});
    assert_pixels(RAW("P5 2 1 65535\n\x12\x34\xff\xff"), 2, 1, 16,
                  (unsigned[]){0x1234, 65535});
    assert_pixels(RAW("P6 1 1 256\n\1\0\1\0\1\0"), 1, 1, 16, (unsigned[]){65535});
}

static void comments_are_skipped(void **state)
{
    (void)state;
    assert_pixels(text_bytes("P2#one\n# two\r2 #three\n1\n# 9\n255\n1 # four\n2"), 2, 1,
                  8, (unsigned[]){1, 2});
    assert_pixels(RAW("P5\n# 7 7 7\n1 1\n255\n#"), 1, 1, 8, (unsigned[]){'#'});
}

static void a_second_picture_is_not_looked_at(void **state)
{
    (void)state;
    assert_pixels(RAW("P5 1 1 255\n\7P5 9 9 garbage"), 1, 1, 8, (unsigned[]){7});
}

static void what_breaks_the_rules_is_undecodable(void **state)
{
    (void)state;
    static const char *const files[] = {
        "P5 ",
        "P5 0 1 255\n",
        "P5 1 0 255\n",
        "P5 -1 1 255\nx",
        "P5 1 1 0\nx",
        "P5 1 1 65536\nxx",
        "P5 1 1 255",
        "P5 1 1 255x",
        "P5 2 1 255\nx",
        "P2 2 1 255 1",
        "P2 1 1 255 256",
        "P2 1 1 255 -1",
        "P2 1 1 255 x",
        "P1 2 1 12",
        "P1 2 1 1",
        "P3 1 1 255 1 2",
        "P5 99999999999999999999 1 255\nx",
        "P5 1 1 100\n\xff",
        "P4 9 1\n\x01",
        "P6 1 1 255\nxx",
        "P5 4294967297 1 255\nx",
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct bytes file = text_bytes(files[i]);
        assert_int_equal(refused(file).kind, DECODE_UNDECODABLE);
        free(file.data);
    }
}

static void too_many_pixels_are_refused_from_the_header(void **state)
{
    (void)state;
    struct bytes file = text_bytes("P5 100000 100000 255\n");
    struct decode_error error = refused(file);
    assert_int_equal(error.kind, DECODE_TOO_MANY_PIXELS);
    assert_true(error.actual == 10000000000u);
    free(file.data);
    file = text_bytes("P1 70000 1\n");
    error = refused(file);
    assert_int_equal(error.kind, DECODE_TOO_MANY_PIXELS);
    assert_int_equal(error.limit, DECODE_SIDE_MAX_PX);
    free(file.data);
}

static void cut_and_damaged_files_do_no_harm(void **state)
{
    (void)state;
    struct bytes files[] = {
        text_bytes("P1 9 3 # c\n010101010 111000111 000000000"),
        text_bytes("P3 2 2 999 # c\n1 2 3 400 500 600 7 8 9 10 11 12\n"),
        RAW("P4 17 2\nabcdef"),
        RAW("P6 2 2 65535\nabcdefghijklmnopqrstuvwx"),
    };
    for (size_t i = 0; i < 4; i++) {
        cut_everywhere(files[i], 1);
        damage_everywhere(files[i], 2000, i);
        free(files[i].data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_six_kinds_are_read),
        cmocka_unit_test(samples_are_scaled_to_the_full_range_and_rounded),
        cmocka_unit_test(comments_are_skipped),
        cmocka_unit_test(a_second_picture_is_not_looked_at),
        cmocka_unit_test(what_breaks_the_rules_is_undecodable),
        cmocka_unit_test(too_many_pixels_are_refused_from_the_header),
        cmocka_unit_test(cut_and_damaged_files_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
