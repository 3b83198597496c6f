#include "extractor/vision/sift.h"
#include "tests/unit/extractor/scene.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

#define TWO_PI 6.283185307179586

static const struct vision_sift_params defaults = {
    .first_octave = -1, .octave_layers = 3, .contrast = 0.04, .edge = 10, .sigma = 1.6};

static struct vision_features extract(const struct vision_image *image,
                                      struct vision_sift_params params)
{
    struct vision_features features;
    assert_int_equal(vision_sift(image, &params, NULL, &features), 0);
    return features;
}

static struct vision_image one_spot(size_t w, size_t h, double cx, double cy,
                                    double sigma, double stretch)
{
    struct vision_image image = scene_blank(w, h, 16, 0);
    float *grey = calloc(w * h, sizeof *grey);
    for (size_t i = 0; i < w * h; i++)
        grey[i] = 40;
    scene_spot(grey, w, h, cx, cy, sigma, stretch, 180);
    scene_quantise(grey, &image);
    free(grey);
    return image;
}

static bool in_order(const struct vision_feature *a, const struct vision_feature *b)
{
    if (a->response != b->response)
        return a->response > b->response;
    if (a->scale != b->scale)
        return a->scale < b->scale;
    if (a->y != b->y)
        return a->y < b->y;
    return a->x != b->x ? a->x < b->x : a->orientation < b->orientation;
}

static void a_spot_is_found_where_it_is_and_as_large_as_it_is(void **state)
{
    (void)state;
    static const double sigmas[] = {2.5, 4, 7, 12};
    for (int i = 0; i < 4; i++) {
        const double cx = 80.3, cy = 66.8;
        struct vision_image image = one_spot(160, 130, cx, cy, sigmas[i], 1);
        struct vision_features f = extract(&image, defaults);
        assert_true(f.count >= 1);
        /* No bias of a quarter of a pixel: that would be 2.5 times this bound. */
        assert_true(fabs(f.items[0].x - cx) < 0.1 && fabs(f.items[0].y - cy) < 0.1);
        /* The DoG of a Gaussian spot peaks near its sigma / sqrt(1.26): within a third.
         */
        assert_true(f.items[0].scale > sigmas[i] * 0.66);
        assert_true(f.items[0].scale < sigmas[i] * 1.33);
        vision_features_free(&f);
        free(image.pixels);
    }
}

static struct vision_image turned_clockwise(const struct vision_image *image)
{
    struct vision_image turned =
        scene_blank(image->height_px, image->width_px, image->depth_bits, 0);
    for (size_t y = 0; y < turned.height_px; y++)
        for (size_t x = 0; x < turned.width_px; x++)
            scene_set(&turned, x, y, scene_get(image, y, image->height_px - 1 - x));
    return turned;
}

static double angle_apart(double a, double b)
{
    double d = fmod(fabs(a - b), TWO_PI);
    return d > TWO_PI / 2 ? TWO_PI - d : d;
}

/* The first feature of `all` at (x, y) with this scale whose angle is within `slack`. */
static bool is_among(const struct vision_features *all, double x, double y, double scale,
                     double angle, double slack)
{
    for (size_t i = 0; i < all->count; i++) {
        const struct vision_feature *f = &all->items[i];
        if (fabs(f->x - x) < 0.3 && fabs(f->y - y) < 0.3 &&
            fabs(f->scale / scale - 1) < 0.1 &&
            angle_apart(f->orientation, angle) < slack)
            return true;
    }
    return false;
}

/* Clockwise on the screen is from x towards y: angles grow by a quarter. Not all features
 * stay, since an octave keeps the even pixels, which are others in the turned picture. */
static void turning_the_picture_turns_the_features(void **state)
{
    (void)state;
    struct vision_image image = scene_spots(160, 120, 8, 60, 21);
    struct vision_image turned = turned_clockwise(&image);
    struct vision_features a = extract(&image, defaults), b = extract(&turned, defaults);
    size_t placed = 0, angled = 0;

    for (size_t i = 0; i < a.count; i++) {
        const struct vision_feature *f = &a.items[i];
        double x = 119 - f->y, y = f->x, angle = f->orientation + TWO_PI / 4;
        placed += is_among(&b, x, y, f->scale, angle, TWO_PI);
        angled += is_among(&b, x, y, f->scale, angle, 0.1);
    }
    assert_true(a.count >= 30);
    assert_true(placed * 10 >= a.count * 8);
    assert_true(angled * 10 >= placed * 9);
    vision_features_free(&a);
    vision_features_free(&b);
    free(image.pixels);
    free(turned.pixels);
}

static void an_angle_points_where_it_gets_brighter(void **state)
{
    (void)state;
    struct vision_image image = scene_blank(100, 100, 16, 0);
    float *grey = calloc(100 * 100, sizeof *grey);
    for (size_t i = 0; i < 100 * 100; i++)
        grey[i] = 2.0f * (float)(i / 100); /* brighter downwards */
    scene_spot(grey, 100, 100, 50, 50, 4, 1, 60);
    scene_quantise(grey, &image);

    struct vision_features f = extract(&image, defaults);
    bool down = false;
    for (size_t i = 0; i < f.count; i++)
        down |= fabs(f.items[i].x - 50) < 2 &&
                angle_apart(f.items[i].orientation, TWO_PI / 4) < 0.3;
    assert_true(down);
    vision_features_free(&f);
    free(grey);
    free(image.pixels);
}

/* Upright, gradients along +y fall into Lowe's direction 6, which is VLFeat's 2. */
static void descriptors_are_in_lowes_order(void **state)
{
    (void)state;
    struct vision_image image = scene_blank(100, 100, 16, 0);
    float *grey = calloc(100 * 100, sizeof *grey);
    for (size_t i = 0; i < 100 * 100; i++)
        grey[i] = 2.0f * (float)(i / 100);
    scene_spot(grey, 100, 100, 50, 50, 3, 1, 25);
    scene_quantise(grey, &image);

    struct vision_sift_params params = defaults;
    params.upright = true;
    params.contrast = 0.01;
    struct vision_features f = extract(&image, params);
    assert_true(f.count >= 1);
    unsigned sums[8] = {0};
    for (int i = 0; i < VISION_DESCRIPTOR_BYTES; i++)
        sums[i % 8] += f.items[0].descriptor[i];
    for (int i = 0; i < 8; i++)
        assert_true(i == 6 || sums[i] < sums[6]);
    vision_features_free(&f);
    free(grey);
    free(image.pixels);
}

static void two_runs_give_the_same_bytes_in_the_order_of_the_header(void **state)
{
    (void)state;
    struct vision_image image = scene_spots(200, 150, 8, 120, 31);
    struct vision_features a = extract(&image, defaults), b = extract(&image, defaults);

    assert_true(a.count > 50);
    assert_int_equal(a.count, b.count);
    assert_memory_equal(a.items, b.items, a.count * sizeof a.items[0]);
    for (size_t i = 1; i < a.count; i++)
        assert_true(in_order(&a.items[i - 1], &a.items[i]));
    vision_features_free(&a);
    vision_features_free(&b);
    free(image.pixels);
}

static void features_are_within_their_bounds(void **state)
{
    (void)state;
    struct vision_image image = scene_spots(200, 150, 8, 120, 32);
    struct vision_sift_params params = defaults;
    params.contrast = 0.02;
    struct vision_features f = extract(&image, params);

    assert_true(f.count > 50);
    for (size_t i = 0; i < f.count; i++) {
        const struct vision_feature *g = &f.items[i];
        assert_true(g->x >= 0 && g->x <= 199 && g->y >= 0 && g->y <= 149);
        assert_true(g->orientation >= 0 && g->orientation < (float)TWO_PI);
        assert_true(g->response * 3 >= 0.02f && g->response <= 1);
        assert_true(g->scale > 0.5 && g->scale < 100);
        double length = 0;
        for (int k = 0; k < VISION_DESCRIPTOR_BYTES; k++)
            length += pow(g->descriptor[k] / 512.0, 2);
        assert_true(length > 0.7 && length < 1.1); /* 1, less what is cut at 255 */
    }
    vision_features_free(&f);
    free(image.pixels);
}

static void a_cap_keeps_the_first_of_the_order(void **state)
{
    (void)state;
    struct vision_image image = scene_spots(200, 150, 8, 120, 33);
    struct vision_features all = extract(&image, defaults);
    for (uint32_t cap = 1; cap < all.count + 20; cap += 7) {
        struct vision_sift_params params = defaults;
        params.max_features = cap;
        struct vision_features few = extract(&image, params);
        assert_int_equal(few.count, cap < all.count ? cap : all.count);
        assert_memory_equal(few.items, all.items, few.count * sizeof few.items[0]);
        vision_features_free(&few);
    }
    vision_features_free(&all);
    free(image.pixels);
}

static void upright_gives_one_feature_a_keypoint(void **state)
{
    (void)state;
    struct vision_image image = scene_spots(200, 150, 8, 120, 34);
    struct vision_sift_params params = defaults;
    params.upright = true;
    struct vision_features f = extract(&image, params);
    struct vision_features all = extract(&image, defaults);

    assert_true(f.count > 30 && f.count <= all.count);
    for (size_t i = 0; i < f.count; i++) {
        assert_true(f.items[i].orientation == 0);
        assert_true(i == 0 || f.items[i].x != f.items[i - 1].x ||
                    f.items[i].y != f.items[i - 1].y ||
                    f.items[i].scale != f.items[i - 1].scale);
    }
    vision_features_free(&f);
    vision_features_free(&all);
    free(image.pixels);
}

/* RootSIFT: squares of it are shares of a sum, so they are proportional to the L2 one. */
static void root_is_the_square_root_of_the_share(void **state)
{
    (void)state;
    struct vision_image image = scene_spots(200, 150, 8, 120, 35);
    struct vision_sift_params params = defaults;
    params.norm = VISION_NORM_ROOT;
    struct vision_features root = extract(&image, params), l2 = extract(&image, defaults);

    assert_int_equal(root.count, l2.count);
    for (size_t i = 0; i < root.count; i++) {
        double sum = 0;
        for (int k = 0; k < VISION_DESCRIPTOR_BYTES; k++)
            sum += l2.items[i].descriptor[k];
        for (int k = 0; k < VISION_DESCRIPTOR_BYTES; k++) {
            double share = l2.items[i].descriptor[k] / sum;
            double want = fmin(255, 512 * sqrt(share));
            double slack = 512 * (sqrt(share + 0.7 / sum) - sqrt(share)) + 1.5;
            if (l2.items[i].descriptor[k] < 255) /* what was cut is lost */
                assert_true(fabs(root.items[i].descriptor[k] - want) <=
                            slack + want * 0.02);
        }
    }
    vision_features_free(&root);
    vision_features_free(&l2);
    free(image.pixels);
}

static void sixteen_bits_of_the_same_picture_give_the_same_features(void **state)
{
    (void)state;
    struct vision_image eight = scene_spots(150, 120, 8, 80, 36);
    struct vision_image sixteen = scene_blank(150, 120, 16, 2);
    for (size_t y = 0; y < 120; y++)
        for (size_t x = 0; x < 150; x++)
            scene_set(&sixteen, x, y, 257 * scene_get(&eight, x, y));
    struct vision_features a = extract(&eight, defaults), b = extract(&sixteen, defaults);

    assert_true(a.count > 20);
    assert_int_equal(a.count, b.count);
    assert_memory_equal(a.items, b.items, a.count * sizeof a.items[0]);
    vision_features_free(&a);
    vision_features_free(&b);
    free(eight.pixels);
    free(sixteen.pixels);
}

static void a_later_first_octave_is_a_part_of_the_whole(void **state)
{
    (void)state;
    struct vision_image image = scene_spots(203, 151, 8, 90, 37); /* odd sides */
    struct vision_sift_params params = defaults;
    params.first_octave = 0;
    struct vision_features whole = extract(&image, params);
    for (params.first_octave = 1; params.first_octave <= 4; params.first_octave++) {
        struct vision_features part = extract(&image, params);
        size_t at = 0;
        assert_true(part.count < whole.count);
        for (size_t i = 0; i < part.count; i++) {
            while (at < whole.count &&
                   memcmp(&whole.items[at], &part.items[i], sizeof part.items[i]) != 0)
                at++;
            assert_true(at < whole.count);
        }
        vision_features_free(&part);
    }
    vision_features_free(&whole);
    free(image.pixels);
}

static void tiny_and_thin_and_flat_pictures_do_no_harm(void **state)
{
    (void)state;
    static const size_t sides[] = {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 40};
    const size_t n = sizeof sides / sizeof sides[0];
    for (size_t i = 0; i < n * n * 3; i++) {
        struct vision_image image = scene_blank(sides[i % n], sides[i / n % n], 8, 0);
        struct vision_sift_params params = defaults;
        params.first_octave = (int)(i / (n * n)) - 1;
        params.contrast = 0;
        scene_noise(&image, i + 1);
        struct vision_features f = extract(&image, params);
        if (image.width_px < 4 || image.height_px < 4)
            assert_int_equal(f.count, 0);
        vision_features_free(&f);
        free(image.pixels);
    }

    struct vision_image flat = scene_blank(64, 64, 8, 0);
    struct vision_features none = extract(&flat, defaults);
    assert_int_equal(none.count, 0);
    vision_features_free(&none);
    vision_features_free(&none); /* twice is fine */
    free(flat.pixels);
}

static void a_cancelled_run_says_so(void **state)
{
    (void)state;
    struct vision_image image = scene_spots(150, 120, 8, 80, 38);
    struct vision_control control = {.cancel = 1};
    struct vision_features features = {0};
    assert_int_equal(vision_sift(&image, &defaults, &control, &features), -ECANCELED);
    assert_null(features.items);

    control.cancel = 0;
    uint32_t before = control.progress;
    assert_int_equal(vision_sift(&image, &defaults, &control, &features), 0);
    assert_true(control.progress > before + 5);
    vision_features_free(&features);
    free(image.pixels);
}

static void what_cannot_be_done_is_refused(void **state)
{
    (void)state;
    struct vision_image image = {NULL, 30000, 30000, 30000, 8};
    struct vision_sift_params params = defaults;
    struct vision_features features;
    assert_int_equal(vision_sift(&image, &params, NULL, &features), -EFBIG);
    assert_true(vision_sift_memory_bytes(30000, 30000, &params) ==
                4ull * 900000000 *
                    (4 * 22 + 1)); /* see sift_vlfeat.c for the 22 planes */

    image.width_px = image.height_px = 1;
    params.first_octave = -2;
    assert_int_equal(vision_sift(&image, &params, NULL, &features), -EINVAL);
    params = defaults;
    params.octave_layers = 0;
    assert_int_equal(vision_sift(&image, &params, NULL, &features), -EINVAL);
    params = defaults;
    params.edge = 0.5;
    assert_int_equal(vision_sift(&image, &params, NULL, &features), -EINVAL);
    params = defaults;
    params.sigma = NAN;
    assert_int_equal(vision_sift(&image, &params, NULL, &features), -EINVAL);
    params = defaults;
    params.contrast = -0.1;
    assert_int_equal(vision_sift(&image, &params, NULL, &features), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_spot_is_found_where_it_is_and_as_large_as_it_is),
        cmocka_unit_test(turning_the_picture_turns_the_features),
        cmocka_unit_test(an_angle_points_where_it_gets_brighter),
        cmocka_unit_test(descriptors_are_in_lowes_order),
        cmocka_unit_test(two_runs_give_the_same_bytes_in_the_order_of_the_header),
        cmocka_unit_test(features_are_within_their_bounds),
        cmocka_unit_test(a_cap_keeps_the_first_of_the_order),
        cmocka_unit_test(upright_gives_one_feature_a_keypoint),
        cmocka_unit_test(root_is_the_square_root_of_the_share),
        cmocka_unit_test(sixteen_bits_of_the_same_picture_give_the_same_features),
        cmocka_unit_test(a_later_first_octave_is_a_part_of_the_whole),
        cmocka_unit_test(tiny_and_thin_and_flat_pictures_do_no_harm),
        cmocka_unit_test(a_cancelled_run_says_so),
        cmocka_unit_test(what_cannot_be_done_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
