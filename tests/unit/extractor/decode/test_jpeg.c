#include "tests/unit/extractor/decode/check.h"

enum { W = 61, H = 45 };

static uint8_t rgb[W * H * 3], cmyk[W * H * 4];

/* Smooth, so that a good quality keeps it within a few levels. */
static int make_pictures(void **state)
{
    (void)state;
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            uint8_t *p = rgb + 3 * (y * W + x), *q = cmyk + 4 * (y * W + x);
            p[0] = (uint8_t)(60 + 2 * x);
            p[1] = (uint8_t)(200 - 2 * y);
            p[2] = (uint8_t)(90 + x + y);
            for (int c = 0; c < 3; c++)
                q[c] = p[c];
            q[3] = (uint8_t)(255 - x);
        }
    return 0;
}

static struct bytes jpeg(J_COLOR_SPACE in, J_COLOR_SPACE stored, int progressive)
{
    const struct jpeg_wish wish = {in, stored, 98, progressive, 0, NULL};
    return jpeg_bytes(in == JCS_CMYK ? cmyk : rgb, W, H, &wish);
}

static void assert_luma_of_rgb(const struct vision_image *image, unsigned slack)
{
    assert_int_equal(image->depth_bits, 8);
    assert_int_equal(image->width_px, W);
    assert_int_equal(image->height_px, H);
    for (size_t y = 0; y < H; y++)
        for (size_t x = 0; x < W; x++) {
            const uint8_t *p = rgb + 3 * (y * W + x);
            int want = (int)luma_of(p[0], p[1], p[2]);
            assert_true(abs((int)scene_get(image, x, y) - want) <= (int)slack);
        }
}

static void colour_becomes_luma_however_it_is_stored(void **state)
{
    (void)state;
    for (int progressive = 0; progressive <= 1; progressive++) {
        struct bytes files[] = {jpeg(JCS_RGB, JCS_YCbCr, progressive),
                                jpeg(JCS_RGB, JCS_RGB, progressive),
                                jpeg(JCS_RGB, JCS_GRAYSCALE, progressive)};
        for (int i = 0; i < 3; i++) {
            struct vision_image image = decoded(files[i]);
            assert_luma_of_rgb(&image, 3);
            decode_image_free(&image);
            free(files[i].data);
        }
    }
}

static void assert_luma_of_cmyk(const struct vision_image *image, bool inverted)
{
    for (size_t y = 0; y < H; y++)
        for (size_t x = 0; x < W; x++) {
            const uint8_t *q = cmyk + 4 * (y * W + x);
            unsigned ink[4];
            for (int c = 0; c < 4; c++)
                ink[c] = inverted ? q[c] : 255u - q[c];
            unsigned want = luma_of(ink[0] * ink[3] / 255, ink[1] * ink[3] / 255,
                                    ink[2] * ink[3] / 255);
            assert_true(abs((int)scene_get(image, x, y) - (int)want) <= 4);
        }
}

static void inks_are_inverted_where_adobe_says_so(void **state)
{
    (void)state;
    struct bytes file = jpeg(JCS_CMYK, JCS_YCCK, 0); /* libjpeg writes Adobe's marker */
    struct vision_image image = decoded(file);
    assert_luma_of_cmyk(&image, true);
    decode_image_free(&image);
    free(file.data);

    file = jpeg(JCS_CMYK, JCS_CMYK, 0);
    uint8_t *adobe = memmem(file.data, file.size, "Adobe", 5);
    assert_non_null(adobe);
    memcpy(adobe, "other", 5);
    image = decoded(file);
    assert_luma_of_cmyk(&image, false);
    decode_image_free(&image);
    free(file.data);
}

static void arithmetic_coding_is_read_and_a_cut_one_is_refused(void **state)
{
    (void)state;
    const struct jpeg_wish wish = {JCS_RGB, JCS_YCbCr, 98, 0, 1, NULL};
    struct bytes file = jpeg_bytes(rgb, W, H, &wish);
    struct vision_image image = decoded(file);
    assert_luma_of_rgb(&image, 3);
    decode_image_free(&image);
    file.size = file.size * 2 / 3;
    assert_int_equal(refused(file).kind, DECODE_UNDECODABLE);
    free(file.data);
}

static void a_file_that_ends_early_is_undecodable(void **state)
{
    (void)state;
    for (int progressive = 0; progressive <= 1; progressive++) {
        struct bytes file = jpeg(JCS_RGB, JCS_YCbCr, progressive);
        file.size = file.size * 3 / 4;
        struct decode_error error = refused(file);
        assert_int_equal(error.kind, DECODE_UNDECODABLE);
        assert_non_null(strstr(error.detail, "ends after"));
        free(file.data);
    }
}

static void a_whole_picture_without_its_end_marker_is_taken(void **state)
{
    (void)state;
    struct bytes file = jpeg(JCS_RGB, JCS_YCbCr, 0);
    file.size -= 2;
    struct vision_image image = decoded(file);
    assert_luma_of_rgb(&image, 3);
    decode_image_free(&image);
    free(file.data);

    file = jpeg(JCS_RGB, JCS_YCbCr, 1); /* of several scans more may have been meant */
    file.size -= 2;
    assert_int_equal(refused(file).kind, DECODE_UNDECODABLE);
    free(file.data);
}

/* Each scan costs a pass over all coefficients, and 20 bytes of file. */
static void a_file_of_too_many_scans_is_refused(void **state)
{
    (void)state;
    struct bytes file = jpeg(JCS_RGB, JCS_YCbCr, 1);
    uint8_t *last = NULL;
    for (size_t i = 0; i + 1 < file.size; i++)
        if (file.data[i] == 0xFF && file.data[i + 1] == 0xDA)
            last = file.data + i;
    assert_non_null(last);
    struct bytes scan = bytes_copy(last, (size_t)(file.data + file.size - 2 - last));
    for (unsigned i = 0; i < DECODE_JPEG_SCANS_MAX; i++)
        bytes_insert(&file, file.size - 2, scan.data, scan.size);

    struct decode_error error = refused(file);
    assert_int_equal(error.kind, DECODE_UNDECODABLE);
    assert_int_equal(error.limit, DECODE_JPEG_SCANS_MAX);
    assert_int_equal(error.actual, DECODE_JPEG_SCANS_MAX + 1);
    free(scan.data);
    free(file.data);
}

static void set_size(struct bytes *file, unsigned w, unsigned h)
{
    const uint8_t sof[2] = {0xFF, 0xC0};
    uint8_t *at = memmem(file->data, file->size, sof, 2);
    assert_non_null(at);
    at[5] = (uint8_t)(h >> 8);
    at[6] = (uint8_t)h;
    at[7] = (uint8_t)(w >> 8);
    at[8] = (uint8_t)w;
}

static void a_size_out_of_bounds_is_refused_from_the_header(void **state)
{
    (void)state;
    struct bytes file = jpeg(JCS_RGB, JCS_YCbCr, 0);
    set_size(&file, 60000, 50000);
    struct decode_error error = refused(file);
    assert_int_equal(error.kind, DECODE_TOO_MANY_PIXELS);
    assert_int_equal(error.limit, DECODE_PIXELS_MAX);
    assert_int_equal(error.actual, 3000000000u);

    set_size(&file, 65501, 1);
    error = refused(file);
    assert_int_equal(error.kind, DECODE_TOO_MANY_PIXELS);
    assert_int_equal(error.limit, 65500);
    assert_int_equal(error.actual, 65501);

    set_size(&file, 61, 0);
    assert_int_equal(refused(file).kind, DECODE_UNDECODABLE);
    free(file.data);
}

static void cut_and_damaged_files_do_no_harm(void **state)
{
    (void)state;
    uint8_t exif[EXIF_BYTES];
    exif_block(exif, 6, 0);
    for (int i = 0; i < 4; i++) {
        const struct jpeg_wish wish = {JCS_RGB, JCS_YCbCr, 80, i & 1, i & 2, exif};
        struct bytes file = jpeg_bytes(rgb, W, H, &wish);
        cut_everywhere(file, 7);
        damage_everywhere(file, 300, (uint64_t)i + 1);
        free(file.data);
    }
}

static void a_cancelled_decode_says_so(void **state)
{
    (void)state;
    struct vision_control control = {.cancel = 1};
    const struct decode_options options = {.pixels_max = 1000000, .control = &control};
    struct decode_error error;
    struct vision_image image;
    for (int progressive = 0; progressive <= 1; progressive++) {
        struct bytes file = jpeg(JCS_RGB, JCS_YCbCr, progressive);
        assert_int_equal(decode_image(file.data, file.size, &options, &image, &error),
                         -1);
        assert_int_equal(error.kind, DECODE_CANCELLED);
        free(file.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(colour_becomes_luma_however_it_is_stored),
        cmocka_unit_test(inks_are_inverted_where_adobe_says_so),
        cmocka_unit_test(arithmetic_coding_is_read_and_a_cut_one_is_refused),
        cmocka_unit_test(a_file_that_ends_early_is_undecodable),
        cmocka_unit_test(a_whole_picture_without_its_end_marker_is_taken),
        cmocka_unit_test(a_file_of_too_many_scans_is_refused),
        cmocka_unit_test(a_size_out_of_bounds_is_refused_from_the_header),
        cmocka_unit_test(cut_and_damaged_files_do_no_harm),
        cmocka_unit_test(a_cancelled_decode_says_so),
    };
    return cmocka_run_group_tests(tests, make_pictures, NULL);
}
