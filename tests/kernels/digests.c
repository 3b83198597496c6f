/*
 * digests.c - `digests LEVEL`: one line for each whole-picture output of the kernels,
 * with a digest of its bytes. Every CPU level and every architecture has to print what
 * stands in tests/golden/vision.txt; pictures are generated, so nothing but the kernels
 * decides.
 */
#include "extractor/vision/kernels.h"
#include "extractor/vision/sift_native.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    size_t width_px, height_px;
} sizes[] = {{1, 1}, {7, 5}, {64, 48}, {333, 217}, {640, 480}};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static const struct {
    const char *name;
    struct vision_sift_params params;
} sifts[] = {
    {"default", {-1, 3, 0.04, 10, 1.6, 0, false, VISION_NORM_L2, NULL, false, 0, 0}},
    {"capped", {-1, 3, 0.04, 10, 1.6, 50, false, VISION_NORM_ROOT, NULL, false, 0, 0}},
    {"upright", {0, 4, 0.02, 20, 1.2, 0, true, VISION_NORM_L2, NULL, false, 0, 0}},
    {"spread", {-1, 3, 0.04, 10, 1.6, 50, false, VISION_NORM_L2, NULL, true, 0, 0}},
};
enum { SIFTS = sizeof sifts / sizeof sifts[0] };

static const struct vision_nlm_params nlms[] = {
    {.h = 10, .template_px = 7, .search_px = 21},
    {.h = 25, .template_px = 7, .search_px = 21},
    {.h = 6.5, .template_px = 3, .search_px = 11},
};
enum { NLMS = sizeof nlms / sizeof nlms[0] };

/* FNV-1a, 64 bits: enough to notice any change. */
static uint64_t digest(uint64_t state, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    for (size_t i = 0; i < size; i++)
        state = (state ^ at[i]) * 0x100000001b3u;
    return state;
}

#define DIGEST_BEGIN 0xcbf29ce484222325u

/* Squares and gradients with noise, whole numbers throughout. */
static struct vision_image picture(size_t width, size_t height, unsigned depth)
{
    struct vision_image image = {NULL, width, height, width * (depth / 8), depth};
    uint32_t seed = 0x51f7u + (uint32_t)width;

    image.pixels = malloc(height * image.stride_bytes);
    if (image.pixels == NULL)
        exit(71);
    for (size_t y = 0; y < height; y++) {
        for (size_t x = 0; x < width; x++) {
            seed = seed * 1664525u + 1013904223u;
            uint32_t square = ((x / 19) * 7 + (y / 23) * 5) % 9 * 21;
            uint32_t grey = square + x * 40 / width + (seed >> 24) % 17;
            if (depth == 8)
                ((uint8_t *)image.pixels)[y * width + x] = (uint8_t)grey;
            else
                ((uint16_t *)image.pixels)[y * width + x] =
                    (uint16_t)(grey * 257 + (seed >> 16 & 127));
        }
    }
    return image;
}

static void print_nlm(const struct vision_kernels *k, const struct vision_image *image)
{
    void *scratch = aligned_alloc(64, (vision_nlm_scratch_bytes() + 63) & ~(size_t)63);
    struct vision_image out = *image;

    out.pixels = calloc(image->height_px, image->stride_bytes);
    if (scratch == NULL || out.pixels == NULL)
        exit(71);
    for (int i = 0; i < NLMS; i++) {
        int err = vision_nlm(k, &out, image, &nlms[i], scratch, NULL);
        printf("nlm %d %zux%zu %u bit: %d %016" PRIx64 "\n", i, image->width_px,
               image->height_px, image->depth_bits, err,
               digest(DIGEST_BEGIN, out.pixels, image->height_px * image->stride_bytes));
    }
    free(scratch);
    free(out.pixels);
}

static uint64_t features_digest(const struct vision_features *features)
{
    uint64_t state = DIGEST_BEGIN;
    for (size_t i = 0; i < features->count; i++) {
        const struct vision_feature *f = &features->items[i];
        const float values[] = {f->x, f->y, f->scale, f->orientation, f->response};
        state = digest(state, values, sizeof values);
        state = digest(state, f->descriptor, sizeof f->descriptor);
    }
    return state;
}

static void print_sift(const struct vision_kernels *k, const struct vision_image *image)
{
    for (int i = 0; i < SIFTS; i++) {
        struct vision_features features = {0};
        int err = vision_sift_native(k, image, &sifts[i].params, NULL, &features);
        printf("sift %s %zux%zu %u bit: %d %zu features %016" PRIx64 "\n", sifts[i].name,
               image->width_px, image->height_px, image->depth_bits, err, features.count,
               features_digest(&features));
        vision_features_free(&features);
    }
}

int main(int argc, char **argv)
{
    struct vision_kernels k;
    unsigned allowed;

    if (argc != 2 || vision_cpu_parse(argv[1], &allowed) < 0) {
        fprintf(stderr, "usage: digests auto|scalar|avx2|avx512|neon\n");
        return 64;
    }
    vision_kernels_init(&k, allowed & vision_cpu_detect());
    for (unsigned depth = 8; depth <= 16; depth += 8) {
        for (int i = 0; i < SIZES; i++) {
            struct vision_image image =
                picture(sizes[i].width_px, sizes[i].height_px, depth);
            print_nlm(&k, &image);
            print_sift(&k, &image);
            free(image.pixels);
        }
    }
    return 0;
}
