/*
 * What clients state of a job (proto/picture.h) held against what a slot measures of
 * itself (extractor/pipeline.h): the former must not be less, and not much more.
 */
#include "extractor/decode/decode.h"
#include "extractor/pipeline.h"
#include "proto/picture.h"
#include "tests/harness/harness.h"

#include <dirent.h>
#include <stdlib.h>

static const double sigmas[] = {0.6, 1.6, 4.0, 10.0};
static const int layers[] = {1, 3, 5, 10};

static uint64_t stated(uint32_t w, uint32_t h, unsigned depth_bits, enum proto_kind kind,
                       const struct proto_params *params)
{
    const struct proto_picture picture = {w, h, depth_bits};

    return proto_picture_job_bytes(&picture, kind, params);
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
            if (told < need || (double)told > most * (double)need)
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
        cmocka_unit_test(real_files_have_the_size_that_their_decoders_see),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
