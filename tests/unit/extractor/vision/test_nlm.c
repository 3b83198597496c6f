#include "extractor/vision/kernels.h"
#include "extractor/vision/nlm.h"
#include "tests/unit/extractor/scene.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define CANARY 0xA5

static unsigned level; /* bits of enum vision_cpu: main() runs every test at each */

static int run(const struct vision_image *dst, const struct vision_image *src, double h,
               unsigned template_px, unsigned search_px, struct vision_control *control)
{
    struct vision_nlm_params params = {h, template_px, search_px};
    struct vision_kernels kernels;
    void *scratch = aligned_alloc(64, (vision_nlm_scratch_bytes() + 63) / 64 * 64);
    vision_kernels_init(&kernels, level);
    int err = vision_nlm(&kernels, dst, src, &params, scratch, control);
    free(scratch);
    return err;
}

static size_t mirror(ptrdiff_t i, size_t n)
{
    ptrdiff_t last = (ptrdiff_t)n - 1;
    while (i < 0 || i > last)
        i = last == 0 ? 0 : i < 0 ? -i : 2 * last - i;
    return (size_t)i;
}

static double pixel(const struct vision_image *image, ptrdiff_t x, ptrdiff_t y)
{
    return scene_get(image, mirror(x, image->width_px), mirror(y, image->height_px));
}

static double squares(const struct vision_image *image, ptrdiff_t ax, ptrdiff_t ay,
                      ptrdiff_t bx, ptrdiff_t by, int half)
{
    double sum = 0;
    for (int dy = -half; dy <= half; dy++)
        for (int dx = -half; dx <= half; dx++) {
            double d = pixel(image, ax + dx, ay + dy) - pixel(image, bx + dx, by + dy);
            sum += d * d;
        }
    return sum;
}

/* The formulas of nlm.h for 8 bits, pixel by pixel, as they stand there. */
static unsigned definition_u8(const struct vision_image *image, ptrdiff_t x, ptrdiff_t y,
                              float h, int template_px, int search_px)
{
    int shift = 0, area = template_px * template_px;
    const int one = INT32_MAX / (search_px * search_px * 255);
    int64_t weights = 0, total = 0;
    while (1 << shift < area)
        shift++;

    for (int dy = -(search_px / 2); dy <= search_px / 2; dy++)
        for (int dx = -(search_px / 2); dx <= search_px / 2; dx++) {
            int64_t sum = (int64_t)squares(image, x, y, x + dx, y + dy, template_px / 2);
            double unshift = (double)(1 << shift) / area;
            double w = exp(-((double)(sum >> shift) * unshift) / (double)(h * h));
            double weight = nearbyint(one * w);
            if (weight < 0.001 * one)
                weight = 0;
            weights += (int64_t)weight;
            total += (int64_t)weight * (int64_t)pixel(image, x + dx, y + dy);
        }
    return (unsigned)((total + weights / 2) / weights);
}

/* The same idea in floats, for 16 bits: no table, no shift. */
static double ideal_u16(const struct vision_image *image, ptrdiff_t x, ptrdiff_t y,
                        double h, int template_px, int search_px)
{
    double weights = 0, total = 0, scaled = h * 257;
    for (int dy = -(search_px / 2); dy <= search_px / 2; dy++)
        for (int dx = -(search_px / 2); dx <= search_px / 2; dx++) {
            double mean = squares(image, x, y, x + dx, y + dy, template_px / 2) /
                          (template_px * template_px);
            double w = exp(-mean / (scaled * scaled));
            if (w < 0.001)
                w = 0;
            weights += w;
            total += w * pixel(image, x + dx, y + dy);
        }
    return total / weights;
}

static void every_pixel_is_what_the_definition_says(void **state)
{
    (void)state;
    static const double strengths[] = {0.1, 3, 10, 13.9, 40, 255};
    uint64_t seed = 7;

    for (int round = 0; round < 60; round++) {
        size_t w = 1 + scene_rand(&seed) % 24, h = 1 + scene_rand(&seed) % 24;
        unsigned template_px = 1 + 2 * (scene_rand(&seed) % 6);
        unsigned search_px = 1 + 2 * (scene_rand(&seed) % 6);
        double strength = strengths[scene_rand(&seed) % 6];
        struct vision_image src = scene_blank(w, h, 8, scene_rand(&seed) % 5);
        struct vision_image dst = scene_blank(w, h, 8, scene_rand(&seed) % 5);
        scene_noise(&src, seed);
        if (round % 2) /* half of them with few levels, so that weights are not all 0 */
            for (size_t y = 0; y < h; y++)
                for (size_t x = 0; x < w; x++)
                    scene_set(&src, x, y, 100 + scene_get(&src, x, y) % 24);

        assert_int_equal(run(&dst, &src, strength, template_px, search_px, NULL), 0);
        for (size_t y = 0; y < h; y++)
            for (size_t x = 0; x < w; x++)
                assert_int_equal(scene_get(&dst, x, y),
                                 definition_u8(&src, (ptrdiff_t)x, (ptrdiff_t)y,
                                               (float)strength, (int)template_px,
                                               (int)search_px));
        free(src.pixels);
        free(dst.pixels);
    }
}

/* Wider and higher than a tile, so that tiles meet; checked at and round the seams. */
static void tiles_leave_no_seam(void **state)
{
    (void)state;
    struct vision_image src = scene_spots(530, 150, 8, 300, 3);
    struct vision_image dst = scene_blank(530, 150, 8, 0);

    assert_int_equal(run(&dst, &src, 10, 7, 21, NULL), 0);
    for (size_t y = 60; y < 70; y++)
        for (size_t x = 250; x < 262; x++)
            assert_int_equal(scene_get(&dst, x, y),
                             definition_u8(&src, (ptrdiff_t)x, (ptrdiff_t)y, 10, 7, 21));
    for (size_t x = 505; x < 530; x++)
        assert_int_equal(scene_get(&dst, x, 149),
                         definition_u8(&src, (ptrdiff_t)x, 149, 10, 7, 21));
    free(src.pixels);
    free(dst.pixels);
}

static void sixteen_bits_follow_the_float_formula_closely(void **state)
{
    (void)state;
    static const double strengths[] = {0.5, 5, 10, 60};
    struct vision_image src = scene_spots(40, 33, 16, 30, 5);
    struct vision_image dst = scene_blank(40, 33, 16, 6);
    uint64_t seed = 9;
    for (size_t y = 0; y < 33; y++)
        for (size_t x = 0; x < 40; x++)
            scene_set(&src, x, y, scene_get(&src, x, y) / 2 + scene_rand(&seed) % 3000);

    for (int i = 0; i < 4; i++) {
        assert_int_equal(run(&dst, &src, strengths[i], 5, 11, NULL), 0);
        for (size_t y = 0; y < 33; y++)
            for (size_t x = 0; x < 40; x++) {
                double ideal =
                    ideal_u16(&src, (ptrdiff_t)x, (ptrdiff_t)y, strengths[i], 5, 11);
                /* A quarter of a grey level of 8 bits, where the cut-off falls otherwise
                 * for a pixel; nearly all are within one of 65535. */
                assert_true(fabs(scene_get(&dst, x, y) - ideal) < 64);
            }
    }
    free(src.pixels);
    free(dst.pixels);
}

static void sixteen_bits_agree_with_eight_on_the_same_picture(void **state)
{
    (void)state;
    struct vision_image src8 = scene_spots(70, 50, 8, 40, 4);
    struct vision_image dst8 = scene_blank(70, 50, 8, 0);
    struct vision_image src16 = scene_blank(70, 50, 16, 0);
    struct vision_image dst16 = scene_blank(70, 50, 16, 0);
    for (size_t y = 0; y < 50; y++)
        for (size_t x = 0; x < 70; x++)
            scene_set(&src16, x, y, 257 * scene_get(&src8, x, y));

    assert_int_equal(run(&dst8, &src8, 10, 7, 21, NULL), 0);
    assert_int_equal(run(&dst16, &src16, 10, 7, 21, NULL), 0);
    for (size_t y = 0; y < 50; y++)
        for (size_t x = 0; x < 70; x++)
            assert_true(fabs(scene_get(&dst16, x, y) / 257.0 - scene_get(&dst8, x, y)) <
                        1.0);
    free(src8.pixels);
    free(dst8.pixels);
    free(src16.pixels);
    free(dst16.pixels);
}

static void a_window_of_one_pixel_changes_nothing(void **state)
{
    (void)state;
    for (unsigned depth = 8; depth <= 16; depth += 8) {
        struct vision_image src = scene_blank(300, 70, depth, 0);
        struct vision_image dst = scene_blank(300, 70, depth, 0);
        scene_noise(&src, 11);
        assert_int_equal(run(&dst, &src, 10, 1, 1, NULL), 0);
        assert_memory_equal(src.pixels, dst.pixels, 70 * src.stride_bytes);
        assert_int_equal(run(&dst, &src, 10, 21, 1, NULL), 0);
        assert_memory_equal(src.pixels, dst.pixels, 70 * src.stride_bytes);
        free(src.pixels);
        free(dst.pixels);
    }
}

static void the_padding_of_rows_is_not_written(void **state)
{
    (void)state;
    struct vision_image src = scene_blank(33, 9, 8, 0), dst = scene_blank(33, 9, 8, 7);
    scene_noise(&src, 12);
    memset(dst.pixels, CANARY, 9 * dst.stride_bytes);

    assert_int_equal(run(&dst, &src, 10, 7, 21, NULL), 0);
    for (size_t y = 0; y < 9; y++)
        for (size_t x = 33; x < 40; x++)
            assert_int_equal(((const uint8_t *)scene_row(&dst, y))[x], CANARY);
    free(src.pixels);
    free(dst.pixels);
}

static void a_cancelled_run_stops_and_a_watched_one_moves(void **state)
{
    (void)state;
    struct vision_image src = scene_spots(300, 100, 8, 20, 2);
    struct vision_image dst = scene_blank(300, 100, 8, 0);
    struct vision_control control = {0};

    assert_int_equal(run(&dst, &src, 10, 7, 21, &control), 0);
    /* Tiles times rows of offsets: of the scalar version 4 tiles, of the others one and
     * half of the rows. */
    const unsigned steps = level == 0 ? 4 * 21 : 2 * 11; /* tiles, offsets */
    assert_int_equal(control.progress, steps);
    control.cancel = 1;
    assert_int_equal(run(&dst, &src, 10, 7, 21, &control), -ECANCELED);
    assert_int_equal(control.progress, steps + 1);
    free(src.pixels);
    free(dst.pixels);
}

static void parameters_and_shapes_out_of_range_are_refused(void **state)
{
    (void)state;
    struct vision_image src = scene_blank(8, 8, 8, 0), dst = scene_blank(8, 8, 8, 0);
    struct vision_image wide = scene_blank(9, 8, 8, 0), deep = scene_blank(8, 8, 16, 0);

    assert_int_equal(run(&dst, &src, 0, 7, 21, NULL), -EINVAL);
    assert_int_equal(run(&dst, &src, NAN, 7, 21, NULL), -EINVAL);
    assert_int_equal(run(&dst, &src, 10, 6, 21, NULL), -EINVAL);
    assert_int_equal(run(&dst, &src, 10, 23, 21, NULL), -EINVAL);
    assert_int_equal(run(&dst, &src, 10, 7, 0, NULL), -EINVAL);
    assert_int_equal(run(&dst, &src, 10, 7, 37, NULL), -EINVAL);
    assert_int_equal(run(&wide, &src, 10, 7, 21, NULL), -EINVAL);
    assert_int_equal(run(&deep, &src, 10, 7, 21, NULL), -EINVAL);
    assert_int_equal(run(&src, &deep, 10, 7, 21, NULL), -EINVAL);
    assert_int_equal(run(&dst, &src, 1e-30, 21, 35, NULL), 0);
    free(src.pixels);
    free(dst.pixels);
    free(wide.pixels);
    free(deep.pixels);
}

static void scratch_is_small_and_every_choice_of_kernels_is_complete(void **state)
{
    (void)state;
    assert_true(vision_nlm_scratch_bytes() <= VISION_NLM_SCRATCH_MAX_BYTES);
    for (unsigned cpu = 0; cpu <= 7; cpu++) {
        struct vision_kernels kernels = {0};
        vision_kernels_init(&kernels, cpu & vision_cpu_detect());
        assert_non_null(kernels.nlm_u8);
        assert_non_null(kernels.nlm_u16);
    }
}

int main(void)
{
    static const char *const levels[] = {"scalar", "avx2", "avx512", "neon"};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pixel_is_what_the_definition_says),
        cmocka_unit_test(tiles_leave_no_seam),
        cmocka_unit_test(sixteen_bits_follow_the_float_formula_closely),
        cmocka_unit_test(sixteen_bits_agree_with_eight_on_the_same_picture),
        cmocka_unit_test(a_window_of_one_pixel_changes_nothing),
        cmocka_unit_test(the_padding_of_rows_is_not_written),
        cmocka_unit_test(a_cancelled_run_stops_and_a_watched_one_moves),
        cmocka_unit_test(parameters_and_shapes_out_of_range_are_refused),
        cmocka_unit_test(scratch_is_small_and_every_choice_of_kernels_is_complete),
    };
    int failed = 0;

    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        assert_int_equal(vision_cpu_parse(levels[i], &level), 0);
        if ((level & ~vision_cpu_detect()) != 0)
            continue;
        printf("# %s\n", levels[i]);
        failed += cmocka_run_group_tests(tests, NULL, NULL);
    }
    return failed;
}
