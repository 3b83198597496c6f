#include "extractor/pipeline.h"

#include "extractor/decode/decode.h"
#include "proto/mask.h"
#include "tests/unit/extractor/scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { W = 120, H = 90 };

/* A job on a PNG of spots; the caller frees job.image. */
static struct extractor_job spots_job(enum proto_kind kind, unsigned depth_bits)
{
    struct extractor_job job = {.kind = kind, .pixels_max = DECODE_PIXELS_MAX};
    struct vision_image image = scene_spots(W, H, depth_bits, 40, 77);
    uint8_t *bytes;
    proto_params_init(&job.params);
    assert_int_equal(decode_png_write(&image, NULL, &bytes, &job.image_bytes), 0);
    job.image = bytes;
    memset(job.image_sha256, 0x11, sizeof job.image_sha256);
    memset(job.key, 0x22, sizeof job.key);
    free(image.pixels);
    return job;
}

static struct extractor_result run(const struct extractor_job *job)
{
    struct extractor_result result;
    struct extractor_error error;
    if (extractor_pipeline_run(job, NULL, &result, &error) < 0)
        fail_msg("%s", error.detail);
    return result;
}

static struct extractor_error refuse(const struct extractor_job *job,
                                     struct vision_control *control)
{
    struct extractor_result result = {0};
    struct extractor_error error;
    assert_int_equal(extractor_pipeline_run(job, control, &result, &error), -1);
    assert_null(result.bytes);
    return error;
}

static void features_come_as_a_blob_that_says_whose_they_are(void **state)
{
    (void)state;
    for (unsigned depth = 8; depth <= 16; depth += 8) {
        struct extractor_job job = spots_job(PROTO_KIND_FEATURES, depth);
        job.params.upright = 1;
        struct extractor_result result = run(&job);
        struct proto_blob blob;

        assert_int_equal(proto_blob_decode(result.bytes, result.size, &blob), 0);
        assert_true(blob.count > 5);
        assert_int_equal(blob.count, result.count);
        assert_int_equal(blob.width_px, W);
        assert_int_equal(blob.height_px, H);
        assert_memory_equal(blob.key, job.key, sizeof job.key);
        assert_memory_equal(blob.image_sha256, job.image_sha256, sizeof job.image_sha256);
        assert_int_equal(blob.params.upright, 1);
        assert_true(result.denoise_us > 0 && result.sift_us > 0);

        float before = 2;
        for (uint32_t i = 0; i < blob.count; i++) {
            float k[PROTO_KEYPOINT_FLOATS];
            unsigned sum = 0;
            proto_blob_keypoint(&blob, i, k);
            assert_true(k[0] >= 0 && k[0] < W && k[1] >= 0 && k[1] < H && k[3] == 0);
            assert_true(k[4] <= before);
            before = k[4];
            for (int d = 0; d < PROTO_DESCRIPTOR_BYTES; d++)
                sum += blob.descriptors[i * PROTO_DESCRIPTOR_BYTES + (unsigned)d];
            assert_true(sum > 1000);
        }
        extractor_result_free(&result);
        extractor_result_free(&result); /* twice is fine */
        free((void *)job.image);
    }
}

static void the_parameters_reach_their_stages(void **state)
{
    (void)state;
    struct extractor_job job = spots_job(PROTO_KIND_FEATURES, 8);
    struct extractor_result all = run(&job);

    job.params.denoise = PROTO_DENOISE_NONE;
    struct extractor_result plain = run(&job);
    assert_int_equal(plain.denoise_us, 0);
    assert_true(plain.size != all.size || memcmp(plain.bytes, all.bytes, all.size) != 0);

    job.params.max_features = 3;
    struct extractor_result few = run(&job);
    assert_int_equal(few.count, 3);
    job.params.norm = PROTO_NORM_ROOT;
    struct extractor_result root = run(&job);
    const size_t descriptors = PROTO_BLOB_HEADER_BYTES + 3 * 20;
    assert_memory_equal(few.bytes + PROTO_BLOB_HEADER_BYTES,
                        root.bytes + PROTO_BLOB_HEADER_BYTES, 3 * 20);
    assert_memory_not_equal(few.bytes + descriptors, root.bytes + descriptors, 3 * 128);

    extractor_result_free(&all);
    extractor_result_free(&plain);
    extractor_result_free(&few);
    extractor_result_free(&root);
    free((void *)job.image);
}

static void two_runs_give_the_same_bytes(void **state)
{
    (void)state;
    struct extractor_job job = spots_job(PROTO_KIND_FEATURES, 8);
    struct extractor_result a = run(&job), b = run(&job);
    assert_int_equal(a.size, b.size);
    assert_memory_equal(a.bytes, b.bytes, a.size);
    extractor_result_free(&a);
    extractor_result_free(&b);
    free((void *)job.image);
}

static void denoise_gives_a_png_of_the_same_shape(void **state)
{
    (void)state;
    for (unsigned depth = 8; depth <= 16; depth += 8) {
        struct extractor_job job = spots_job(PROTO_KIND_DENOISE, depth);
        const struct decode_options options = {.pixels_max = DECODE_PIXELS_MAX};
        struct decode_error error;
        struct vision_image before, after;
        job.params.denoise = PROTO_DENOISE_NONE; /* means nothing to this kind */
        job.params.h = 30;
        struct extractor_result result = run(&job);

        assert_int_equal(result.count, 0);
        assert_int_equal(
            decode_image(job.image, job.image_bytes, &options, &before, &error), 0);
        assert_int_equal(
            decode_image(result.bytes, result.size, &options, &after, &error), 0);
        assert_int_equal(after.depth_bits, depth);
        assert_int_equal(after.width_px, W);
        assert_int_equal(after.height_px, H);
        assert_memory_not_equal(before.pixels, after.pixels, H * after.stride_bytes);
        decode_image_free(&before);
        decode_image_free(&after);
        extractor_result_free(&result);
        free((void *)job.image);
    }
}

static void each_kind_of_bad_picture_has_its_status(void **state)
{
    (void)state;
    struct extractor_job job = {.kind = PROTO_KIND_FEATURES, .pixels_max = 100};
    proto_params_init(&job.params);

    job.image = (const uint8_t *)"nothing";
    job.image_bytes = 7;
    assert_int_equal(refuse(&job, NULL).status, PROTO_STATUS_BAD_TYPE);

    job.image = (const uint8_t *)"P5 9 9 255\nshort";
    job.image_bytes = 16;
    assert_int_equal(refuse(&job, NULL).status, PROTO_STATUS_UNDECODABLE);

    job.image = (const uint8_t *)"P5 10 11 255\n";
    job.image_bytes = 13;
    struct extractor_error error = refuse(&job, NULL);
    assert_int_equal(error.status, PROTO_STATUS_TOO_MANY_PIXELS);
    assert_int_equal(error.limit, 100);
    assert_int_equal(error.actual, 110);
}

static void a_picture_that_needs_too_much_memory_is_refused_from_its_header(void **state)
{
    (void)state;
    struct extractor_job job = spots_job(PROTO_KIND_FEATURES, 8);
    uint64_t needed = extractor_pipeline_memory_bytes(job.kind, &job.params, W, H, 8);
    job.memory_max = needed - 1;
    struct extractor_error error = refuse(&job, NULL);
    assert_int_equal(error.status, PROTO_STATUS_TOO_MANY_PIXELS);
    assert_int_equal(error.limit, needed - 1);
    assert_int_equal(error.actual, needed);

    job.memory_max = needed;
    struct extractor_result result = run(&job);
    extractor_result_free(&result);
    free((void *)job.image);
}

static void twelve_megapixels_need_less_than_250_mb(void **state)
{
    (void)state;
    struct proto_params params;
    proto_params_init(&params);
    assert_true(extractor_pipeline_memory_bytes(PROTO_KIND_FEATURES, &params, 4000, 3000,
                                                8) < 250000000u);
}

static void doubling_and_layers_raise_vlfeats_estimate_of_memory(void **state)
{
    (void)state;
    struct proto_params params;
    proto_params_init(&params);
    params.sift = PROTO_SIFT_VLFEAT;
    uint64_t usual =
        extractor_pipeline_memory_bytes(PROTO_KIND_FEATURES, &params, 4000, 3000, 8);
    assert_true(usual > 4000000000u && usual < 5000000000u); /* 12 Mpx: 4.3 GB */
    params.octave_layers = 4;
    assert_true(extractor_pipeline_memory_bytes(PROTO_KIND_FEATURES, &params, 4000, 3000,
                                                8) > usual);
    params.octave_layers = 3;
    params.first_octave = 0;
    assert_true(extractor_pipeline_memory_bytes(PROTO_KIND_FEATURES, &params, 4000, 3000,
                                                8) < usual / 3);
    assert_true(extractor_pipeline_memory_bytes(PROTO_KIND_DENOISE, &params, 4000, 3000,
                                                8) < usual / 20);
}

static void a_cancelled_job_ends_as_cancelled(void **state)
{
    (void)state;
    static const enum proto_kind kinds[] = {PROTO_KIND_FEATURES, PROTO_KIND_DENOISE};
    for (int i = 0; i < 2; i++) {
        struct extractor_job job = spots_job(kinds[i], 8);
        struct vision_control control = {.cancel = 1};
        assert_int_equal(refuse(&job, &control).status, PROTO_STATUS_CANCELLED);
        free((void *)job.image);
    }
}

/* The job's picture with a mask that keeps the columns from `from` on. */
static void put_mask(struct extractor_job *job, size_t width_px, size_t from)
{
    uint8_t pixels[2 * W * H] = {0}, *mask, *together;
    struct vision_image image = {pixels, width_px, H, width_px, 8};
    size_t size;

    for (size_t i = 0; i < width_px * H; i++)
        pixels[i] = i % width_px >= from;
    assert_int_equal(decode_png_write(&image, NULL, &mask, &size), 0);
    together = malloc(job->image_bytes + size + PROTO_MASK_TRAILER_BYTES);
    memcpy(together, job->image, job->image_bytes);
    memcpy(together + job->image_bytes, mask, size);
    proto_mask_trailer(size, together + job->image_bytes + size);
    free((void *)job->image);
    free(mask);
    job->image = together;
    job->image_bytes += size + PROTO_MASK_TRAILER_BYTES;
}

static void a_mask_keeps_what_is_inside_and_then_the_cap_is_applied(void **state)
{
    (void)state;
    for (int sift = PROTO_SIFT_NATIVE; sift <= PROTO_SIFT_VLFEAT; sift++) {
        struct extractor_job job = spots_job(PROTO_KIND_FEATURES, 8);
        struct proto_blob all, some;
        job.params.sift = (uint8_t)sift;
        struct extractor_result whole = run(&job);
        assert_int_equal(proto_blob_decode(whole.bytes, whole.size, &all), 0);

        put_mask(&job, W, W / 2);
        job.params.max_features = 3;
        struct extractor_result kept = run(&job);
        assert_int_equal(proto_blob_decode(kept.bytes, kept.size, &some), 0);
        assert_int_equal(some.count, 3);

        /* The first three of all that lie in the right half. */
        uint32_t n = 0;
        for (uint32_t i = 0; i < all.count && n < some.count; i++) {
            float a[PROTO_KEYPOINT_FLOATS], b[PROTO_KEYPOINT_FLOATS];
            proto_blob_keypoint(&all, i, a);
            if (a[0] < (float)W / 2 - 0.5f)
                continue;
            proto_blob_keypoint(&some, n++, b);
            assert_memory_equal(a, b, sizeof a);
        }
        assert_int_equal(n, 3);
        extractor_result_free(&whole);
        extractor_result_free(&kept);
        free((void *)job.image);
    }
}

static void a_mask_of_another_size_is_refused_with_both_sizes(void **state)
{
    (void)state;
    struct extractor_job job = spots_job(PROTO_KIND_FEATURES, 8);
    put_mask(&job, W - 1, 0);
    struct extractor_error error = refuse(&job, NULL);
    assert_int_equal(error.status, PROTO_STATUS_UNDECODABLE);
    assert_non_null(strstr(error.detail, "119 x 90"));
    assert_non_null(strstr(error.detail, "120 x 90"));
    free((void *)job.image);
}

static void every_level_of_kernels_gives_the_same_bytes(void **state)
{
    (void)state;
    struct extractor_job job = spots_job(PROTO_KIND_FEATURES, 8);
    struct extractor_result fast = run(&job);
    for (unsigned off = 1; off < 4; off++) {
        job.cpu_off = off == 3 ? UINT_MAX : off;
        struct extractor_result slow = run(&job);
        assert_int_equal(slow.size, fast.size);
        assert_memory_equal(slow.bytes, fast.bytes, fast.size);
        extractor_result_free(&slow);
    }
    extractor_result_free(&fast);
    free((void *)job.image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mask_keeps_what_is_inside_and_then_the_cap_is_applied),
        cmocka_unit_test(a_mask_of_another_size_is_refused_with_both_sizes),
        cmocka_unit_test(every_level_of_kernels_gives_the_same_bytes),
        cmocka_unit_test(features_come_as_a_blob_that_says_whose_they_are),
        cmocka_unit_test(the_parameters_reach_their_stages),
        cmocka_unit_test(two_runs_give_the_same_bytes),
        cmocka_unit_test(denoise_gives_a_png_of_the_same_shape),
        cmocka_unit_test(each_kind_of_bad_picture_has_its_status),
        cmocka_unit_test(a_picture_that_needs_too_much_memory_is_refused_from_its_header),
        cmocka_unit_test(twelve_megapixels_need_less_than_250_mb),
        cmocka_unit_test(doubling_and_layers_raise_vlfeats_estimate_of_memory),
        cmocka_unit_test(a_cancelled_job_ends_as_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
