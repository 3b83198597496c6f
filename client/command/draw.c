/*
 * draw.c - what was found, drawn on what was searched: a circle of the keypoint's scale
 * and a line from its centre in its orientation. libpng's simplified API reads and
 * writes.
 */
#include "client/command/command.h"

#include <errno.h>
#include <math.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

/* A circle of this many sigmas is about the part of the picture that a descriptor sees
 * the most of; the whole support would cover everything. */
#define RADIUS_SIGMAS 3.0f
#define RADIUS_MAX_PX 4000.0f

struct canvas {
    uint8_t *rgb;
    int width, height;
};

static void blend(struct canvas *canvas, int x, int y, const uint8_t colour[3],
                  float alpha)
{
    if (x < 0 || y < 0 || x >= canvas->width || y >= canvas->height)
        return;
    uint8_t *p = canvas->rgb + 3 * ((size_t)y * (size_t)canvas->width + (size_t)x);
    for (int c = 0; c < 3; c++)
        p[c] = (uint8_t)(p[c] + (colour[c] - p[c]) * alpha + 0.5f);
}

/* A dot between pixels is shared by the four around it. */
static void dot(struct canvas *canvas, float x, float y, const uint8_t colour[3])
{
    float x0 = floorf(x), y0 = floorf(y), fx = x - x0, fy = y - y0;

    blend(canvas, (int)x0, (int)y0, colour, (1 - fx) * (1 - fy));
    blend(canvas, (int)x0 + 1, (int)y0, colour, fx * (1 - fy));
    blend(canvas, (int)x0, (int)y0 + 1, colour, (1 - fx) * fy);
    blend(canvas, (int)x0 + 1, (int)y0 + 1, colour, fx * fy);
}

static void draw_keypoint(struct canvas *canvas, const float k[PROTO_KEYPOINT_FLOATS])
{
    static const uint8_t colours[][3] = {
        {255, 80, 80}, {80, 220, 80}, {90, 160, 255}, {255, 210, 60}, {240, 100, 255}};
    float radius = fminf(k[2] * RADIUS_SIGMAS, RADIUS_MAX_PX);
    int steps = (int)(2 * 3.14159265f * radius) + 8;
    int octave = k[2] > 0 ? (int)floorf(log2f(k[2])) + 1 : 0;
    const uint8_t *colour = colours[octave < 0 ? 0 : octave % 5];

    for (int i = 0; i < steps; i++) {
        float a = 2 * 3.14159265f * (float)i / (float)steps;
        dot(canvas, k[0] + radius * cosf(a), k[1] + radius * sinf(a), colour);
    }
    for (float t = 0; t < radius; t += 0.7f)
        dot(canvas, k[0] + t * cosf(k[3]), k[1] + t * sinf(k[3]), colour);
}

static int write_png(const struct canvas *canvas, uint8_t **png, size_t *png_bytes)
{
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)canvas->width,
                       .height = (png_uint_32)canvas->height,
                       .format = PNG_FORMAT_RGB};
    png_alloc_size_t size = 0;

    if (!png_image_write_get_memory_size(image, size, 0, canvas->rgb, 0, NULL))
        return -EINVAL;
    *png = malloc(size);
    if (*png == NULL)
        return -ENOMEM;
    if (!png_image_write_to_memory(&image, *png, &size, 0, canvas->rgb, 0, NULL)) {
        free(*png);
        *png = NULL;
        return -EINVAL;
    }
    *png_bytes = size;
    return 0;
}

int command_draw(const uint8_t *grey_png, size_t grey_bytes,
                 const struct proto_blob *blob, uint8_t **png, size_t *png_bytes)
{
    png_image image = {.version = PNG_IMAGE_VERSION};
    struct canvas canvas;
    int err;

    if (!png_image_begin_read_from_memory(&image, grey_png, grey_bytes))
        return -EINVAL;
    image.format = PNG_FORMAT_RGB; /* 8 bits, also from 16 */
    canvas = (struct canvas){malloc(PNG_IMAGE_SIZE(image)), (int)image.width,
                             (int)image.height};
    if (canvas.rgb == NULL) {
        png_image_free(&image);
        return -ENOMEM;
    }
    if (!png_image_finish_read(&image, NULL, canvas.rgb, 0, NULL)) {
        free(canvas.rgb);
        return -EINVAL;
    }
    for (uint32_t i = 0; i < blob->count; i++) {
        float keypoint[PROTO_KEYPOINT_FLOATS];
        proto_blob_keypoint(blob, i, keypoint);
        draw_keypoint(&canvas, keypoint);
    }
    err = write_png(&canvas, png, png_bytes);
    free(canvas.rgb);
    return err;
}
