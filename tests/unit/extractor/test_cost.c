/*
 * What clients state of a job (proto/picture.h) held against what a slot measures of
 * itself (extractor/pipeline.h): the former must not be less, and not much more.
 */
#include "extractor/decode/decode.h"
#include "extractor/pipeline.h"
#include "extractor/slot.h"
#include "proto/mask.h"
#include "proto/picture.h"
#include "tests/harness/harness.h"
#include "tests/unit/extractor/scene.h"

#include <dirent.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const double sigmas[] = {0.6, 1.6, 4.0, 10.0};
static const int layers[] = {1, 3, 5, 10};

static uint64_t stated(uint32_t w, uint32_t h, unsigned depth_bits, enum proto_kind kind,
                       const struct proto_params *params)
{
    const struct proto_picture picture = {w, h, depth_bits};

    return proto_picture_job_bytes(&picture, kind, params);
}

/* Of the above, what a slot cannot tell from the head alone. */
static uint64_t features(uint32_t w, uint32_t h, enum proto_kind kind,
                         const struct proto_params *params)
{
    const struct proto_picture picture = {w, h, 8};

    return kind == PROTO_KIND_FEATURES ? proto_picture_features_bytes(&picture, params)
                                       : 0;
}

/* `most`: how many times the measure may be stated. */
static void compare(uint32_t w, uint32_t h, const struct proto_params *params,
                    double most)
{
    for (unsigned depth = 8; depth <= 16; depth += 8)
        for (int kind = PROTO_KIND_FEATURES; kind <= PROTO_KIND_DENOISE; kind++) {
            uint64_t need = extractor_pipeline_memory_bytes((enum proto_kind)kind, params,
                                                            w, h, depth);
            uint64_t told = stated(w, h, depth, (enum proto_kind)kind, params);
            uint64_t more = (1 << 20) + features(w, h, (enum proto_kind)kind, params);
            if (told < need || (double)told > most * (double)need + (double)more)
                fail_msg(
                    "%u x %u, %u bits, kind %d, first_octave %d, layers %d, sigma %g, "
                    "sift %d: %lu bytes are needed, %lu stated",
                    w, h, depth, kind, params->first_octave, params->octave_layers,
                    params->sigma, params->sift, need, told);
        }
}

static void every_parameter(uint32_t w, uint32_t h, double most)
{
    struct proto_params params;

    proto_params_init(&params);
    for (int first = -1; first <= 4; first++)
        for (size_t l = 0; l < sizeof layers / sizeof layers[0]; l++)
            for (size_t s = 0; s < sizeof sigmas / sizeof sigmas[0]; s++)
                for (int sift = 0; sift < 2; sift++)
                    for (int denoise = 0; denoise < 2; denoise++) {
                        params.first_octave = first;
                        params.octave_layers = layers[l];
                        params.sigma = sigmas[s];
                        params.sift = (uint8_t)sift;
                        params.denoise = (uint8_t)denoise;
                        /* Rows of octaves that are not made are stated, too. */
                        compare(w, h, &params, first > 0 ? 2 * most : most);
                    }
}

static void what_is_stated_is_enough_and_not_wasteful(void **state)
{
    (void)state;
    every_parameter(640, 480, 3);
    every_parameter(1920, 1080, 3);
    every_parameter(4000, 3000, 3);
    every_parameter(8000, 8000, 3);
}

static void it_is_enough_for_shapes_that_nobody_sends(void **state)
{
    static const uint32_t sides[] = {1, 16, 999, 30000, 65535};
    (void)state;

    for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++)
        for (size_t j = 0; j < sizeof sides / sizeof sides[0]; j++)
            every_parameter(sides[i], sides[j], 1e9);
}

static void with_the_defaults_it_is_close(void **state)
{
    struct proto_params params;
    (void)state;

    proto_params_init(&params);
    compare(640, 480, &params, 1.75);
    compare(1920, 1080, &params, 1.6);
    compare(4000, 3000, &params, 1.1);
}

/* ---- what is really taken ---- */

/* A sanitizer keeps memory of its own beside each allocation. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static uint64_t of_status(const char *name)
{
    char line[200];
    unsigned long kib = 0;
    FILE *file = fopen("/proc/self/status", "r");

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            sscanf(line + strlen(name), ": %lu", &kib);
    if (file != NULL)
        fclose(file);
    return (uint64_t)kib << 10;
}

/* How a job ended, and how much more memory was resident at its peak than before it. */
struct outcome {
    uint64_t peak_bytes;
    enum proto_status status;
    uint32_t count;
};

static void take(const struct extractor_job *job, struct outcome *out)
{
    struct extractor_result result = {0};
    struct extractor_error error = {.status = PROTO_STATUS_OK};
    FILE *reset;

    extractor_slot_tune_malloc();
    malloc_trim(0);
    reset = fopen("/proc/self/clear_refs", "w"); /* 5: the peak begins anew */
    if (reset != NULL) {
        fputs("5", reset);
        fclose(reset);
    }
    uint64_t before = of_status("VmRSS");
    if (extractor_pipeline_run(job, NULL, &result, &error) == 0)
        out->count = result.count;
    out->status = error.status;
    /* The result is written to shared memory, beside the result. */
    uint64_t after = of_status("VmRSS") + result.size, peak = of_status("VmHWM");
    peak = peak > after ? peak : after;
    out->peak_bytes = peak > before ? peak - before : 0;
}

/* In a process of its own, as a slot begins. */
static struct outcome outcome_of(const struct extractor_job *job)
{
    struct outcome *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;

    assert_ptr_not_equal(shared, MAP_FAILED);
    pid_t child = fork();
    assert_int_not_equal(child, -1);
    if (child == 0) {
        take(job, shared);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    struct outcome outcome = *shared;
    munmap(shared, sizeof *shared);
    return outcome;
}

enum { NOISE, FAINT, DOTS, SPOTS, KINDS };

/* A PGM, or a picture and its mask. Features everywhere: white noise, noise of two grey
 * levels, a grid of dots. */
static void make_picture(struct extractor_job *job, size_t w, size_t h, int kind,
                         bool masked, uint64_t seed)
{
    const size_t most = w * h + 64;
    uint8_t *bytes = malloc(2 * most + PROTO_MASK_TRAILER_BYTES);
    struct vision_image image = scene_blank(w, h, 8, 0);
    size_t size = (size_t)sprintf((char *)bytes, "P5 %zu %zu 255\n", w, h);

    assert_non_null(bytes);
    scene_noise(&image, seed);
    if (kind == SPOTS) {
        free(image.pixels);
        image = scene_spots(w, h, 8, (unsigned)(w * h / 400), seed);
    }
    for (size_t i = 0; i < w * h; i++) {
        uint8_t v = ((const uint8_t *)image.pixels)[i];
        bytes[size + i] = kind == FAINT ? (uint8_t)(128 + v % 2)
                          : kind == DOTS
                              ? (uint8_t)(i % w % 5 < 2 && i / w % 5 < 2 ? 255 : 0)
                              : v;
    }
    size += w * h;
    if (masked) {
        size_t mask = (size_t)sprintf((char *)bytes + size, "P5 %zu %zu 255\n", w, h);
        memset(bytes + size + mask, 1, w * h);
        proto_mask_trailer(mask + w * h, bytes + size + mask + w * h);
        size += mask + w * h + PROTO_MASK_TRAILER_BYTES;
    }
    free(image.pixels);
    job->image = bytes;
    job->image_bytes = size;
}

static void random_params(struct proto_params *p, uint64_t *seed)
{
    static const double some_sigmas[] = {0.6, 1.0, 1.6, 1.6, 4.0};
    static const int some_caps[] = {0, 0, 1, 500, 20000, 1000000};

    proto_params_init(p);
    p->denoise = scene_rand(seed) % 4 == 0 ? PROTO_DENOISE_NLM : PROTO_DENOISE_NONE;
    p->h = 0.1 + scene_rand(seed) % 40;
    p->template = (int)(1 + 2 * (scene_rand(seed) % 4));
    p->search = (int)(1 + 2 * (scene_rand(seed) % 6));
    p->first_octave = (int)(scene_rand(seed) % 3) - 1;
    p->octave_layers = 1 + (int)(scene_rand(seed) % 10);
    p->contrast = scene_rand(seed) % 2 ? 0 : 0.04;
    p->edge = scene_rand(seed) % 2 ? 10 : 1000;
    p->sigma = some_sigmas[scene_rand(seed) % 5];
    p->max_features = some_caps[scene_rand(seed) % 6];
    p->upright = scene_rand(seed) % 4 == 0;
    p->spread = scene_rand(seed) % 2;
    p->sift = scene_rand(seed) % 4 == 0 ? PROTO_SIFT_VLFEAT : PROTO_SIFT_NATIVE;
}

enum { CASES = 36 };

static void no_job_takes_more_than_is_stated(void **state)
{
    uint64_t seed = 9;
    unsigned refused = 0;
    double least = 1e9;
    (void)state;

    if (SANITIZED)
        skip();
    for (unsigned i = 0; i < CASES; i++) {
        struct extractor_job job = {.kind = PROTO_KIND_FEATURES,
                                    .pixels_max = DECODE_PIXELS_MAX};
        size_t w = 16 + scene_rand(&seed) % 800, h = 16 + scene_rand(&seed) % 500;
        int kind = (int)(scene_rand(&seed) % KINDS);

        if (i % 8 == 7)
            job.kind = PROTO_KIND_DENOISE;
        random_params(&job.params, &seed);
        make_picture(&job, w, h, kind, scene_rand(&seed) % 4 == 0, seed);
        uint64_t cost =
            proto_picture_cost_bytes(job.image, job.image_bytes, job.kind, &job.params) -
            job.image_bytes;
        struct outcome got = outcome_of(&job);
        double ratio = (double)cost / (double)got.peak_bytes;
        if (getenv("SIFTMESH_TEST_SAY") != NULL || ratio < 1)
            print_message("%u: %zu x %zu kind %d octave %d layers %d sigma %.1f contrast "
                          "%.2f cap %d sift %d: status %d, %u features, peak %.1f MiB, "
                          "stated %.1f, %.2f times\n",
                          i, w, h, kind, job.params.first_octave,
                          job.params.octave_layers, job.params.sigma, job.params.contrast,
                          job.params.max_features, job.params.sift, got.status, got.count,
                          (double)got.peak_bytes / (1 << 20), (double)cost / (1 << 20),
                          ratio);
        least = ratio < least ? ratio : least;
        refused += got.status == PROTO_STATUS_TOO_MANY_FEATURES;
        assert_true(got.status == PROTO_STATUS_OK ||
                    got.status == PROTO_STATUS_TOO_MANY_FEATURES);
        free((void *)job.image);
    }
    print_message("stated at least %.2f times what was taken; %u of %d refused\n", least,
                  refused, CASES);
    assert_true(least >= 1);
    assert_true(refused < CASES / 4);
}

static void white_noise_is_never_refused(void **state)
{
    struct extractor_job job = {.kind = PROTO_KIND_FEATURES,
                                .pixels_max = DECODE_PIXELS_MAX};
    (void)state;

    for (int n = 1; n <= 10; n += 3)
        for (double sigma = 0.6; sigma < 4; sigma *= 1.6) {
            proto_params_init(&job.params);
            job.params.denoise = PROTO_DENOISE_NONE;
            job.params.contrast = 0;
            job.params.edge = 1000;
            job.params.octave_layers = n;
            job.params.sigma = sigma;
            make_picture(&job, 400, 300, NOISE, false, 3);
            assert_int_equal(outcome_of(&job).status, PROTO_STATUS_OK);
            free((void *)job.image);
        }
}

static void a_large_dense_picture_is_refused_unless_it_is_cut(void **state)
{
    struct extractor_job job = {.kind = PROTO_KIND_FEATURES,
                                .pixels_max = DECODE_PIXELS_MAX};
    struct extractor_result result;
    struct extractor_error error;
    (void)state;

    proto_params_init(&job.params);
    job.params.denoise = PROTO_DENOISE_NONE;
    job.params.sigma = 0.6;
    job.params.contrast = 0;
    make_picture(&job, 1700, 1400, NOISE, false, 3);
    assert_int_equal(extractor_pipeline_run(&job, NULL, &result, &error), -1);
    assert_int_equal(error.status, PROTO_STATUS_TOO_MANY_FEATURES);
    assert_int_equal(error.limit, PROTO_BLOB_FEATURES_MAX);
    assert_in_range(error.actual, PROTO_BLOB_FEATURES_MAX + 1, 2000000);
    assert_true(SANITIZED || outcome_of(&job).peak_bytes <
                                 proto_picture_cost_bytes(job.image, job.image_bytes,
                                                          job.kind, &job.params));

    job.params.max_features = 1000;
    assert_int_equal(extractor_pipeline_run(&job, NULL, &result, &error), 0);
    assert_int_equal(result.count, 1000);
    extractor_result_free(&result);
    free((void *)job.image);
}

/* ---- heads ---- */

static void read_seed(const char *folder, const char *name)
{
    static uint8_t bytes[1 << 20];
    char path[1200];
    struct decode_info want;
    struct decode_error error;
    struct proto_picture got;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    size_t size = fread(bytes, 1, sizeof bytes, in);
    fclose(in);
    assert_int_equal(decode_probe(bytes, size, &want, &error), 0);
    assert_int_equal(proto_picture_probe(bytes, size, &got), 0);
    assert_int_equal(got.width_px, want.width_px);
    assert_int_equal(got.height_px, want.height_px);
    assert_int_equal(got.depth_bits, want.depth_bits);
}

static void real_files_have_the_size_that_their_decoders_see(void **state)
{
    const char *root = getenv("SIFTMESH_SOURCE");
    char folder[900];
    unsigned count = 0;
    (void)state;

    if (root == NULL)
        skip();
    snprintf(folder, sizeof folder, "%s/tests/fuzz/seeds/fuzz_decode", root);
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (entry->d_name[0] != '.') {
            read_seed(folder, entry->d_name);
            count++;
        }
    closedir(dir);
    assert_true(count > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_stated_is_enough_and_not_wasteful),
        cmocka_unit_test(it_is_enough_for_shapes_that_nobody_sends),
        cmocka_unit_test(with_the_defaults_it_is_close),
        cmocka_unit_test(no_job_takes_more_than_is_stated),
        cmocka_unit_test(white_noise_is_never_refused),
        cmocka_unit_test(a_large_dense_picture_is_refused_unless_it_is_cut),
        cmocka_unit_test(real_files_have_the_size_that_their_decoders_see),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
