/*
 * check.h - what the decoders' tests ask of decode_image, in one line each.
 */
#ifndef TESTS_DECODE_CHECK_H
#define TESTS_DECODE_CHECK_H

#include "extractor/decode/decode.h"
#include "tests/unit/extractor/decode/encode.h"
#include "tests/unit/extractor/scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

static inline unsigned luma_of(unsigned r, unsigned g, unsigned b)
{
    return (unsigned)((19595ull * r + 38470ull * g + 7471ull * b + 32768) >> 16);
}

static inline struct vision_image decoded(struct bytes file)
{
    const struct decode_options options = {.pixels_max = DECODE_PIXELS_MAX,
                                           .upright = true};
    struct decode_error error;
    struct vision_image image = {0};
    if (decode_image(file.data, file.size, &options, &image, &error) < 0)
        fail_msg("not decoded: %s", error.detail);
    return image;
}

/* The failure of a file that must not decode; leaves nothing allocated. */
static inline struct decode_error refused(struct bytes file)
{
    const struct decode_options options = {.pixels_max = DECODE_PIXELS_MAX,
                                           .upright = true};
    struct decode_error error;
    struct vision_image image = {0};
    assert_int_equal(decode_image(file.data, file.size, &options, &image, &error), -1);
    assert_null(image.pixels);
    assert_true(strlen(error.detail) > 10);
    assert_int_equal(error.detail[strlen(error.detail) - 1], '.');
    return error;
}

static inline struct bytes text_bytes(const char *text)
{
    return bytes_copy(text, strlen(text));
}

/* Every prefix of `file` either decodes or is refused, and neither harms. */
static inline void cut_everywhere(struct bytes file, size_t step)
{
    for (size_t size = 0; size < file.size; size += step) {
        const struct decode_options options = {.pixels_max = 1000000, .upright = true};
        struct decode_error error;
        struct vision_image image = {0};
        struct bytes cut = bytes_copy(file.data, size);
        if (decode_image(cut.data, cut.size, &options, &image, &error) == 0)
            decode_image_free(&image);
        free(cut.data);
    }
}

/* Bits flipped at random, `rounds` times. */
static inline void damage_everywhere(struct bytes file, int rounds, uint64_t seed)
{
    for (int i = 0; i < rounds; i++) {
        const struct decode_options options = {.pixels_max = 1000000, .upright = true};
        struct decode_error error;
        struct vision_image image = {0};
        struct bytes bad = bytes_copy(file.data, file.size);
        for (int k = 0; k < 3; k++)
            bad.data[scene_rand(&seed) % bad.size] ^=
                (uint8_t)(1u << scene_rand(&seed) % 8);
        if (decode_image(bad.data, bad.size, &options, &image, &error) == 0)
            decode_image_free(&image);
        free(bad.data);
    }
}

#endif
