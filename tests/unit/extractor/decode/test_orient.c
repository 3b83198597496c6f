#include "extractor/decode/internal.h"
#include "tests/unit/extractor/decode/check.h"

enum { W = 150, H = 70 }; /* more than a block each way, and no multiple of it */

/* Where the pixel at (x, y) of the stored picture lies in the upright one: EXIF's words
 * for which side of the scene the first row and the first column are. */
static void upright_place(unsigned orientation, size_t x, size_t y, size_t *ux,
                          size_t *uy)
{
    const size_t right = W - 1 - x, bottom = H - 1 - y;
    const size_t places[9][2] = {{0, 0},          /* row 0 is at, column 0 is at */
                                 {x, y},          /* 1: top, left */
                                 {right, y},      /* 2: top, right */
                                 {right, bottom}, /* 3: bottom, right */
                                 {x, bottom},     /* 4: bottom, left */
                                 {y, x},          /* 5: left, top */
                                 {bottom, x},     /* 6: right, top */
                                 {bottom, right}, /* 7: right, bottom */
                                 {y, right}};     /* 8: left, bottom */
    *ux = places[orientation][0];
    *uy = places[orientation][1];
}

static void each_orientation_puts_each_pixel_where_exif_says(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 18; i++) {
        const unsigned orientation = i % 9, depth = i < 9 ? 8 : 16;
        struct vision_image stored = scene_blank(W, H, depth, 0), image;
        scene_noise(&stored, i);
        assert_int_equal(decode_image_new(W, H, depth, &image), 0);
        memcpy(image.pixels, stored.pixels, H * stored.stride_bytes);

        assert_int_equal(decode_orient(&image, orientation), 0);
        assert_int_equal(image.width_px, orientation > 4 ? H : W);
        assert_int_equal(image.height_px, orientation > 4 ? W : H);
        for (size_t y = 0; y < H; y++)
            for (size_t x = 0; x < W; x++) {
                size_t ux, uy;
                upright_place(orientation == 0 ? 1 : orientation, x, y, &ux, &uy);
                assert_int_equal(scene_get(&image, ux, uy), scene_get(&stored, x, y));
            }
        decode_image_free(&image);
        free(stored.pixels);
    }
}

static void orientation_is_applied_only_when_asked(void **state)
{
    (void)state;
    uint8_t exif[EXIF_BYTES], pixels[16 * 8 * 3] = {0};
    exif_block(exif, 6, 0);
    const struct jpeg_wish wish = {JCS_RGB, JCS_YCbCr, 90, 0, 0, exif};
    struct bytes file = jpeg_bytes(pixels, 16, 8, &wish);
    struct decode_options options = {.pixels_max = 1000, .upright = false};
    struct decode_error error;
    struct vision_image image;

    assert_int_equal(decode_image(file.data, file.size, &options, &image, &error), 0);
    assert_int_equal(image.width_px, 16);
    decode_image_free(&image);
    options.upright = true;
    assert_int_equal(decode_image(file.data, file.size, &options, &image, &error), 0);
    assert_int_equal(image.width_px, 8);
    decode_image_free(&image);
    free(file.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_orientation_puts_each_pixel_where_exif_says),
        cmocka_unit_test(orientation_is_applied_only_when_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
