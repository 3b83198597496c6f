#include "tests/unit/extractor/decode/check.h"

#include <webp/encode.h>

enum { W = 50, H = 34 };

static uint8_t rgb[W * H * 3];

static int make_picture(void **state)
{
    (void)state;
    for (int i = 0; i < W * H; i++) {
        rgb[3 * i] = (uint8_t)(40 + 3 * (i % W));
        rgb[3 * i + 1] = (uint8_t)(220 - 4 * (i / W));
        rgb[3 * i + 2] = (uint8_t)(i % W + i / W);
    }
    return 0;
}

static struct bytes webp(bool lossless)
{
    uint8_t *data = NULL;
    size_t size = lossless ? WebPEncodeLosslessRGB(rgb, W, H, 3 * W, &data)
                           : WebPEncodeRGB(rgb, W, H, 3 * W, 99, &data);
    struct bytes out = bytes_copy(data, size);
    WebPFree(data);
    return out;
}

static void assert_luma(struct bytes file, int slack)
{
    struct vision_image image = decoded(file);
    assert_int_equal(image.width_px, W);
    assert_int_equal(image.height_px, H);
    assert_int_equal(image.depth_bits, 8);
    for (size_t i = 0; i < W * H; i++) {
        int want = (int)luma_of(rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2]);
        assert_true(abs((int)scene_get(&image, i % W, i / W) - want) <= slack);
    }
    decode_image_free(&image);
}

static void lossless_is_exact_and_lossy_is_near(void **state)
{
    (void)state;
    struct bytes file = webp(true);
    assert_luma(file, 0);
    free(file.data);
    file = webp(false);
    assert_luma(file, 6);
    free(file.data);
}

static void lossy_black_and_white_reach_the_ends_of_the_range(void **state)
{
    (void)state;
    for (int level = 0; level <= 255; level += 255) {
        uint8_t pixels[16 * 16 * 3], *data = NULL;
        memset(pixels, level, sizeof pixels);
        size_t size = WebPEncodeRGB(pixels, 16, 16, 48, 100, &data);
        struct bytes file = bytes_copy(data, size);
        struct vision_image image = decoded(file);
        assert_int_equal(scene_get(&image, 8, 8), level);
        decode_image_free(&image);
        free(file.data);
        WebPFree(data);
    }
}

/* Wrap a simple file in the extended form, with `flags` and one more chunk. */
static struct bytes extended(uint8_t flags, const char *type, const void *data,
                             size_t size)
{
    struct bytes file = webp(true);
    uint8_t head[18] = {'V',   'P', '8', 'X', 10,    0, 0, 0,
                        flags, 0,   0,   0,   W - 1, 0, 0, H - 1};
    uint8_t chunk[8] = {0};
    memcpy(chunk, type, 4);
    chunk[4] = (uint8_t)size;
    bytes_insert(&file, 12, head, sizeof head);
    bytes_insert(&file, file.size, chunk, sizeof chunk);
    bytes_insert(&file, file.size, data, size);
    uint32_t riff = (uint32_t)file.size - 8;
    for (int i = 0; i < 4; i++)
        file.data[4 + i] = (uint8_t)(riff >> 8 * i);
    return file;
}

static void the_orientation_of_an_exif_chunk_counts(void **state)
{
    (void)state;
    uint8_t prefixed[6 + EXIF_BYTES] = "Exif";
    exif_block(prefixed + 6, 8, 0);
    for (size_t skip = 0; skip <= 6; skip += 6) {
        struct bytes file =
            extended(0x08, "EXIF", prefixed + skip, sizeof prefixed - skip);
        struct vision_image image = decoded(file);
        assert_int_equal(image.width_px, H);
        assert_int_equal(image.height_px, W);
        decode_image_free(&image);
        free(file.data);
    }
}

static void an_animation_is_refused_by_name(void **state)
{
    (void)state;
    struct bytes file = extended(0x02, "ANIM", "\0\0\0\0\0\0", 6);
    struct decode_error error = refused(file);
    assert_int_equal(error.kind, DECODE_UNDECODABLE);
    assert_non_null(strstr(error.detail, "animation"));
    free(file.data);
}

static void cut_and_damaged_files_do_no_harm(void **state)
{
    (void)state;
    for (int lossless = 0; lossless <= 1; lossless++) {
        struct bytes file = webp(lossless);
        struct bytes half = bytes_copy(file.data, file.size / 2);
        assert_int_equal(refused(half).kind, DECODE_UNDECODABLE);
        cut_everywhere(file, 3);
        damage_everywhere(file, 300, 1);
        free(half.data);
        free(file.data);
    }
    uint8_t exif[EXIF_BYTES];
    exif_block(exif, 3, 1);
    struct bytes file = extended(0x08, "EXIF", exif, sizeof exif);
    cut_everywhere(file, 1);
    damage_everywhere(file, 1000, 2);
    free(file.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lossless_is_exact_and_lossy_is_near),
        cmocka_unit_test(lossy_black_and_white_reach_the_ends_of_the_range),
        cmocka_unit_test(the_orientation_of_an_exif_chunk_counts),
        cmocka_unit_test(an_animation_is_refused_by_name),
        cmocka_unit_test(cut_and_damaged_files_do_no_harm),
    };
    return cmocka_run_group_tests(tests, make_picture, NULL);
}
