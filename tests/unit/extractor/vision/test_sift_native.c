#include "extractor/vision/sift_math.h"
#include "extractor/vision/sift_native.h"
#include "extractor/vision/sift_select.h"
#include "tests/unit/extractor/scene.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define TWO_PI 6.283185307179586

static const struct vision_sift_params defaults = {
    .first_octave = -1, .octave_layers = 3, .contrast = 0.04, .edge = 10, .sigma = 1.6};

/* ---- memory that runs out; glibc's own functions stand behind ---- */

static long allocations_left = -1; /* none fails below 0 */

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED
#endif

#if !defined(SANITIZED)
void *__libc_malloc(size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);

static bool fails(void)
{
    return allocations_left >= 0 && allocations_left-- == 0;
}

void *malloc(size_t bytes)
{
    return fails() ? NULL : __libc_malloc(bytes);
}

void *realloc(void *old, size_t bytes)
{
    return fails() ? NULL : __libc_realloc(old, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    *out = fails() ? NULL : __libc_memalign(alignment, bytes);
    return *out == NULL ? ENOMEM : 0;
}
#endif

/* ---- helpers ---- */

static struct vision_features extract_at(unsigned cpu, const struct vision_image *image,
                                         const struct vision_sift_params *params)
{
    struct vision_kernels k;
    struct vision_features features;
    vision_kernels_init(&k, cpu);
    assert_int_equal(vision_sift_native(&k, image, params, NULL, &features), 0);
    return features;
}

static struct vision_image one_spot(size_t w, size_t h, double cx, double cy,
                                    double sigma, double peak)
{
    struct vision_image image = scene_blank(w, h, 16, 0);
    float *grey = calloc(w * h, sizeof *grey);
    for (size_t i = 0; i < w * h; i++)
        grey[i] = 120;
    scene_spot(grey, w, h, cx, cy, sigma, 1, peak);
    scene_quantise(grey, &image);
    free(grey);
    return image;
}

/* The levels of this machine, each with those below it; the scalar one first. */
static size_t levels(unsigned cpu[3])
{
    const unsigned have = vision_cpu_detect();
    size_t count = 0;
    cpu[count++] = 0;
    for (unsigned bit = 1; bit <= VISION_CPU_NEON; bit <<= 1)
        if (have & bit)
            cpu[count++] = have & (2 * bit - 1);
    return count;
}

/* ---- tests ---- */

static void a_spot_is_found_within_a_twentieth_of_a_pixel(void **state)
{
    (void)state;
    static const double sigmas[] = {1.3, 2, 2.7, 3.3};
    uint64_t seed = 11;

    for (int i = 0; i < 160; i++) {
        const double cx = 45 + scene_rand(&seed) % 1000 / 100.0;
        const double cy = 40 + scene_rand(&seed) % 1000 / 100.0;
        const double sigma = sigmas[i % 4] * (i % 16 < 8 ? 1 : 2);
        struct vision_image image =
            one_spot(101, 90, cx, cy, sigma, i % 8 < 4 ? 90 : -90);
        struct vision_sift_params params = defaults;
        params.first_octave = i % 16 < 8 ? -1 : 0;
        struct vision_features f = extract_at(vision_cpu_detect(), &image, &params);

        assert_true(f.count >= 1);
        if (!(fabs(f.items[0].x - cx) < 0.05 && fabs(f.items[0].y - cy) < 0.05))
            fail_msg("sigma %g, octave %d: off by %g, %g", sigma, params.first_octave,
                     f.items[0].x - cx, f.items[0].y - cy);
        /* The DoG of a spot is strongest where sigma * sqrt(k) is the spot's, the blur of
         * the pixels themselves aside. */
        assert_true(fabs(log2(f.items[0].scale * sqrt(1.26) / sigma)) < 0.2);
        vision_features_free(&f);
        free(image.pixels);
    }
}

static void random_params(struct vision_sift_params *p, uint64_t *seed)
{
    static const double contrasts[] = {0, 0.001, 0.04, 0.3, 1};
    static const double edges[] = {1, 2, 10, 1000};
    static const double sigmas[] = {0.6, 0.7, 1.6, 3, 10};

    *p = (struct vision_sift_params){
        .first_octave = (int)(scene_rand(seed) % 6) - 1,
        .octave_layers = 1 + (int)(scene_rand(seed) % 10),
        .contrast = contrasts[scene_rand(seed) % 5],
        .edge = edges[scene_rand(seed) % 4],
        .sigma = sigmas[scene_rand(seed) % 5],
        .max_features = scene_rand(seed) % 3 ? 0 : 1 + scene_rand(seed) % 40,
        .upright = scene_rand(seed) % 4 == 0,
        .norm = scene_rand(seed) % 2 ? VISION_NORM_ROOT : VISION_NORM_L2,
    };
}

/* Noise, spots, a checkerboard or two flat halves. */
static struct vision_image random_picture(uint64_t *seed)
{
    const size_t most = scene_rand(seed) % 4 ? 40 : 150;
    const size_t w = 1 + scene_rand(seed) % most, h = 1 + scene_rand(seed) % most;
    const unsigned depth = scene_rand(seed) % 2 ? 8 : 16, kind = scene_rand(seed) % 4;

    if (kind == 0)
        return scene_spots(w, h, depth, 1 + (unsigned)(w * h / 100), *seed);
    struct vision_image image = scene_blank(w, h, depth, scene_rand(seed) % 3 * 2);
    if (kind == 1)
        scene_noise(&image, *seed);
    const unsigned white = depth == 16 ? 65535 : 255, cell = 1 + scene_rand(seed) % 9;
    for (size_t y = 0; kind > 1 && y < h; y++)
        for (size_t x = 0; x < w; x++)
            scene_set(&image, x, y,
                      kind == 2 ? (x / cell + y / cell) % 2 * white
                                : (x > w / 2) * white);
    return image;
}

static void features_are_sound(const struct vision_features *f,
                               const struct vision_image *image,
                               const struct vision_sift_params *p)
{
    assert_true(p->max_features == 0 || f->count <= p->max_features);
    for (size_t i = 0; i < f->count; i++) {
        const struct vision_feature *g = &f->items[i];
        assert_true(g->x >= 0 && g->x <= (float)(image->width_px - 1));
        assert_true(g->y >= 0 && g->y <= (float)(image->height_px - 1));
        assert_true(g->orientation >= 0 && g->orientation < (float)TWO_PI);
        assert_true(!p->upright || g->orientation == 0);
        assert_true(g->response >= 0 && g->response <= 1.5f);
        assert_true(g->response * (float)p->octave_layers >=
                    (float)p->contrast * 0.9999f);
        assert_true(g->scale > 0.1f && g->scale < 1e6f);
    }
}

static void
any_picture_and_parameters_give_the_same_sound_features_at_every_level(void **state)
{
    (void)state;
    unsigned cpu[3];
    const size_t count = levels(cpu);
    uint64_t seed = 2026;
    size_t found = 0;

    for (int i = 0; i < 1500; i++) {
        const uint64_t from = seed;
        struct vision_image image = random_picture(&seed);
        struct vision_sift_params params;
        random_params(&params, &seed);
        struct vision_features want = extract_at(cpu[0], &image, &params);
        features_are_sound(&want, &image, &params);
        for (size_t level = 1; level < count; level++) {
            struct vision_features got = extract_at(cpu[level], &image, &params);
            if (got.count != want.count ||
                memcmp(got.items, want.items, got.count * sizeof *got.items) != 0)
                fail_msg("level %zu differs, seed %llu", level, (unsigned long long)from);
            vision_features_free(&got);
        }
        found += want.count;
        vision_features_free(&want);
        free(image.pixels);
    }
    assert_true(found > 10000); /* or it tested nothing */
}

static void a_larger_picture_is_the_same_at_every_level(void **state)
{
    (void)state;
    unsigned cpu[3];
    const size_t count = levels(cpu);
    struct vision_image image = scene_spots(701, 403, 8, 2500, 5);
    struct vision_features want = extract_at(cpu[0], &image, &defaults);

    assert_true(want.count > 1000);
    for (size_t level = 1; level < count; level++) {
        struct vision_features got = extract_at(cpu[level], &image, &defaults);
        assert_int_equal(got.count, want.count);
        assert_memory_equal(got.items, want.items, got.count * sizeof *got.items);
        vision_features_free(&got);
    }
    vision_features_free(&want);
    free(image.pixels);
}

static void no_two_features_are_one(void **state)
{
    (void)state;
    struct vision_image image = scene_blank(220, 180, 8, 0);
    struct vision_sift_params params = defaults;
    scene_noise(&image, 3); /* where fits often move */
    params.contrast = 0;
    params.edge = 1000;
    struct vision_features f = extract_at(vision_cpu_detect(), &image, &params);
    assert_true(f.count > 100);
    for (size_t i = 1; i < f.count; i++) {
        const struct vision_feature *a = &f.items[i - 1], *b = &f.items[i];
        assert_false(a->x == b->x && a->y == b->y && a->scale == b->scale &&
                     a->orientation == b->orientation);
    }
    vision_features_free(&f);
    free(image.pixels);
}

/* ---- chosen before it is described ---- */

static vision_sift_finish_fn *true_finish;
static size_t described;

static void counted_finish(uint8_t bytes[VISION_SIFT_RAW_FLOATS],
                           float raw[VISION_SIFT_RAW_FLOATS], unsigned root)
{
    described++;
    true_finish(bytes, raw, root);
}

/* The features, and in `described` how many descriptors were computed. */
static struct vision_features extract_counted(const struct vision_image *image,
                                              const struct vision_sift_params *params)
{
    struct vision_features features;
    struct vision_kernels k;

    vision_kernels_init(&k, vision_cpu_detect());
    true_finish = k.sift.finish;
    k.sift.finish = counted_finish;
    described = 0;
    assert_int_equal(vision_sift_native(&k, image, params, NULL, &features), 0);
    return features;
}

static void check_choice(const struct vision_image *image,
                         const struct vision_sift_params *params)
{
    struct vision_sift_params everything = *params;
    const struct vision_sift_choice choice = {params->mask, params->max_features,
                                              params->spread};

    everything.max_features = 0;
    everything.mask = NULL;
    struct vision_features want = extract_counted(image, &everything);
    const size_t all = described;
    struct vision_features got = extract_counted(image, params);
    assert_int_equal(
        vision_sift_select(&want, image->width_px, image->height_px, &choice), 0);
    assert_int_equal(got.count, want.count);
    assert_memory_equal(got.items, want.items, got.count * sizeof *got.items);
    /* Of those that are not wanted most are not described. */
    assert_true(described <= all);
    if (got.count * 10 < all)
        assert_true(described * 2 < all);
    vision_features_free(&want);
    vision_features_free(&got);
}

static void what_is_chosen_first_is_what_would_be_chosen_of_all(void **state)
{
    (void)state;
    static const uint32_t caps[] = {0, 1, 2, 7, 30, 100, 100000};
    struct vision_image image = scene_spots(300, 220, 8, 900, 31);
    struct vision_image mask = scene_blank(300, 220, 8, 0);

    for (size_t y = 0; y < 220; y++)
        for (size_t x = 0; x < 300; x++)
            scene_set(&mask, x, y, x * x + y * y < 40000);
    for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++)
        for (int how = 0; how < 4; how++) {
            struct vision_sift_params params = defaults;
            params.max_features = caps[i];
            params.spread = how & 1;
            params.mask = how & 2 ? &mask : NULL;
            check_choice(&image, &params);
        }
    free(mask.pixels);
    free(image.pixels);
}

static void memory_grows_with_the_width_alone(void **state)
{
    (void)state;
    const uint64_t small = vision_sift_native_memory_bytes(4000, 3000, &defaults);
    assert_true(vision_sift_native_memory_bytes(4000, 60000, &defaults) <
                small + (2u << 20));
    assert_true(vision_sift_native_memory_bytes(8000, 3000, &defaults) < 2 * small);
    assert_true(small < 40u << 20);
}

static void a_lack_of_memory_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
#if defined(SANITIZED)
    skip();
#endif
    struct vision_image image = scene_spots(200, 150, 8, 120, 9);
    struct vision_sift_params params = defaults;
    struct vision_features features;
    struct vision_kernels k;
    int failures = 0, err = -ENOMEM;

    params.max_features = 10; /* has heaps too */
    params.spread = true;
    vision_kernels_init(&k, vision_cpu_detect());
    while (err != 0) {
        allocations_left = failures++;
        err = vision_sift_native(&k, &image, &params, NULL, &features);
        allocations_left = -1;
        assert_true(err == 0 || err == -ENOMEM);
    }
    assert_true(failures > 5);
    vision_features_free(&features);
    free(image.pixels);
}

static void it_can_be_cancelled_at_any_step(void **state)
{
    (void)state;
    struct vision_image image = scene_spots(120, 100, 8, 60, 4);
    struct vision_control control = {0};
    struct vision_features features;
    struct vision_kernels k;

    vision_kernels_init(&k, vision_cpu_detect());
    assert_int_equal(vision_sift_native(&k, &image, &defaults, &control, &features), 0);
    vision_features_free(&features);
    const uint32_t steps = control.progress;
    assert_true(steps > 50);
    control.cancel = 1;
    assert_int_equal(vision_sift_native(&k, &image, &defaults, &control, &features),
                     -ECANCELED);
    assert_int_equal(control.progress, steps + 1);
    free(image.pixels);
}

static void functions_are_those_of_libm(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        const double angle = i * TWO_PI / 20000, power = (i - 10000) / 100.0;
        double sine, cosine;
        sift_sin_cos(angle, &sine, &cosine);
        assert_true(fabs(sine - sin(angle)) < 1e-13);
        assert_true(fabs(cosine - cos(angle)) < 1e-13);
        assert_true(fabs(sift_exp2(power) / exp2(power) - 1) < 1e-14);
        assert_true(fabs(sift_exp(power) / exp(power) - 1) < 1e-13);
    }
}

static void angles_of_gradients_are_those_of_libm(void **state)
{
    (void)state;
    struct vision_kernels k;
    vision_kernels_init(&k, 0);
    for (int i = 0; i < 20000; i++) {
        float samples[VISION_SIFT_SAMPLES_MAX] = {0}, length[VISION_SIFT_POLAR_FLOATS];
        float turn[VISION_SIFT_POLAR_FLOATS];
        const double angle = i * TWO_PI / 20000;
        float *at = samples + VISION_SIFT_GRID + 1; /* of the first cell */
        at[1] = (float)(100 * cos(angle));
        at[VISION_SIFT_GRID] = (float)(100 * sin(angle));
        k.sift.polar(length, turn, samples, VISION_SIFT_GRID, VISION_SIFT_CELLS,
                     VISION_SIFT_CELLS);
        const double off = fabs((double)turn[0] - i / 20000.0);
        assert_true(turn[0] >= 0 && turn[0] <= 1);
        assert_true(fmin(off, 1 - off) < 1e-6);
        assert_true(fabs(length[0] - 100) < 1e-4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_are_those_of_libm),
        cmocka_unit_test(angles_of_gradients_are_those_of_libm),
        cmocka_unit_test(a_spot_is_found_within_a_twentieth_of_a_pixel),
        cmocka_unit_test(
            any_picture_and_parameters_give_the_same_sound_features_at_every_level),
        cmocka_unit_test(a_larger_picture_is_the_same_at_every_level),
        cmocka_unit_test(no_two_features_are_one),
        cmocka_unit_test(what_is_chosen_first_is_what_would_be_chosen_of_all),
        cmocka_unit_test(memory_grows_with_the_width_alone),
        cmocka_unit_test(a_lack_of_memory_is_an_error_and_leaks_nothing),
        cmocka_unit_test(it_can_be_cancelled_at_any_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
