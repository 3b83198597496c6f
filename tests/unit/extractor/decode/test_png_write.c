#include "tests/unit/extractor/decode/check.h"

#include <errno.h>

static void what_is_written_is_read_back_exactly(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        struct vision_image image = scene_blank(1 + 37 * (i / 2), 1 + 23 * (i / 4),
                                                i % 2 ? 16 : 8, 3 * (i / 6) * 2);
        scene_noise(&image, i);
        struct bytes file = {0};
        assert_int_equal(decode_png_write(&image, NULL, &file.data, &file.size), 0);
        struct vision_image back = decoded(file);
        assert_int_equal(back.depth_bits, image.depth_bits);
        assert_int_equal(back.width_px, image.width_px);
        assert_int_equal(back.height_px, image.height_px);
        for (size_t y = 0; y < back.height_px; y++)
            assert_memory_equal(scene_row(&back, y), scene_row(&image, y),
                                back.width_px * back.depth_bits / 8);
        decode_image_free(&back);
        free(file.data);
        free(image.pixels);
    }
}

static void a_cancelled_write_leaves_nothing(void **state)
{
    (void)state;
    struct vision_image image = scene_blank(500, 500, 8, 0);
    struct vision_control control = {.cancel = 1};
    struct bytes file = {0};
    scene_noise(&image, 1);
    assert_int_equal(decode_png_write(&image, &control, &file.data, &file.size),
                     -ECANCELED);
    assert_null(file.data);
    free(image.pixels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back_exactly),
        cmocka_unit_test(a_cancelled_write_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
