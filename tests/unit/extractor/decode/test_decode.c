#include "tests/unit/extractor/decode/check.h"

static void the_content_tells_the_type_and_the_header_the_rest(void **state)
{
    (void)state;
    struct bytes file = bytes_copy("P6 5 4 65535\n", 13);
    struct decode_info info;
    struct decode_error error;
    assert_int_equal(decode_probe(file.data, file.size, &info, &error), 0);
    assert_string_equal(decode_format_name(info.format), "pnm");
    assert_int_equal(info.width_px, 5);
    assert_int_equal(info.height_px, 4);
    assert_int_equal(info.channels, 3);
    assert_int_equal(info.depth_bits, 16);
    assert_int_equal(info.orientation, 1);
    free(file.data);
}

static void what_is_no_picture_is_of_a_bad_type(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",   "P",        "P5",           "P7 1 1",   "GIF89a......",
        "{}", "\xFF\xD8", "RIFF....WAVE", "\x89PNG\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct bytes file = text_bytes(texts[i]);
        assert_int_equal(refused(file).kind, DECODE_BAD_TYPE);
        free(file.data);
    }
}

static void the_callers_limit_is_exact_and_named(void **state)
{
    (void)state;
    struct decode_options options = {.pixels_max = 6};
    struct decode_error error;
    struct vision_image image;
    struct bytes file = text_bytes("P5 3 2 255\nabcdef");
    assert_int_equal(decode_image(file.data, file.size, &options, &image, &error), 0);
    decode_image_free(&image);
    decode_image_free(&image); /* twice is fine */

    options.pixels_max = 5;
    assert_int_equal(decode_image(file.data, file.size, &options, &image, &error), -1);
    assert_int_equal(error.kind, DECODE_TOO_MANY_PIXELS);
    assert_int_equal(error.limit, 5);
    assert_int_equal(error.actual, 6);
    assert_string_equal(error.detail,
                        "The picture has 6 pixels (3 x 2), at most 5 are decoded.");
    free(file.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_content_tells_the_type_and_the_header_the_rest),
        cmocka_unit_test(what_is_no_picture_is_of_a_bad_type),
        cmocka_unit_test(the_callers_limit_is_exact_and_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
