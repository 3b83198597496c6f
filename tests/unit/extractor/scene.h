/*
 * scene.h - pictures for the tests of extractor/: noise, and scenes with features in
 * known places. Everything comes from a seed, so a failure can be run again.
 */
#ifndef TESTS_SCENE_H
#define TESTS_SCENE_H

#include "extractor/vision/image.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static inline uint32_t scene_rand(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

/* malloc'd pixels; rows are `padding` bytes longer than needed. */
static inline struct vision_image scene_blank(size_t w, size_t h, unsigned depth_bits,
                                              size_t padding)
{
    size_t stride = w * (depth_bits / 8) + padding;
    struct vision_image image = {calloc(h, stride), w, h, stride, depth_bits};
    return image;
}

static inline void *scene_row(const struct vision_image *image, size_t y)
{
    return (char *)image->pixels + y * image->stride_bytes;
}

static inline unsigned scene_get(const struct vision_image *image, size_t x, size_t y)
{
    const void *row = scene_row(image, y);
    return image->depth_bits == 16 ? ((const uint16_t *)row)[x]
                                   : ((const uint8_t *)row)[x];
}

static inline void scene_set(const struct vision_image *image, size_t x, size_t y,
                             unsigned v)
{
    void *row = scene_row(image, y);
    if (image->depth_bits == 16)
        ((uint16_t *)row)[x] = (uint16_t)v;
    else
        ((uint8_t *)row)[x] = (uint8_t)v;
}

static inline void scene_noise(const struct vision_image *image, uint64_t seed)
{
    for (size_t y = 0; y < image->height_px; y++)
        for (size_t x = 0; x < image->width_px; x++)
            scene_set(image, x, y,
                      scene_rand(&seed) & (image->depth_bits == 16 ? 65535u : 255u));
}

/* Add a Gaussian spot of `sigma` pixels and height `peak` (of 255) round (cx, cy), which
 * need not be integers; sigma_y / sigma_x is `stretch`. */
static inline void scene_spot(float *grey, size_t w, size_t h, double cx, double cy,
                              double sigma, double stretch, double peak)
{
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++) {
            double dx = ((double)x - cx) / sigma,
                   dy = ((double)y - cy) / (sigma * stretch);
            grey[y * w + x] += (float)(peak * exp(-0.5 * (dx * dx + dy * dy)));
        }
}

/* Turn 0..255 floats into pixels of the image's depth. */
static inline void scene_quantise(const float *grey, const struct vision_image *image)
{
    const float scale = image->depth_bits == 16 ? 257.0f : 1.0f;
    for (size_t y = 0; y < image->height_px; y++)
        for (size_t x = 0; x < image->width_px; x++) {
            float v = grey[y * image->width_px + x];
            v = v < 0 ? 0 : v > 255 ? 255 : v;
            scene_set(image, x, y, (unsigned)lrintf(v * scale));
        }
}

/* `count` spots of all sizes on a grey ground: a picture with features. */
static inline struct vision_image scene_spots(size_t w, size_t h, unsigned depth_bits,
                                              unsigned count, uint64_t seed)
{
    struct vision_image image = scene_blank(w, h, depth_bits, 0);
    float *grey = malloc(w * h * sizeof *grey);
    for (size_t i = 0; i < w * h; i++)
        grey[i] = 110;
    for (unsigned i = 0; i < count; i++) {
        double cx = scene_rand(&seed) % (unsigned)w, cy = scene_rand(&seed) % (unsigned)h;
        double sigma = 1.5 + scene_rand(&seed) % 60 / 10.0;
        double stretch = 0.6 + scene_rand(&seed) % 100 / 100.0;
        scene_spot(grey, w, h, cx, cy, sigma, stretch, scene_rand(&seed) % 2 ? 90 : -90);
    }
    scene_quantise(grey, &image);
    free(grey);
    return image;
}

#endif
