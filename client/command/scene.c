/*
 * scene.c - a picture with things to find: for `siftmesh run` without a photo.
 *
 * A gradient, rectangles and discs of random place, size and brightness, and noise; the
 * generator is seeded, so everybody sees the same scene.
 */
#include "client/command/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH  640
#define HEIGHT 480
#define SHAPES 90

/* xorshift64*, Marsaglia 2003 and Vigna 2014. */
static uint32_t next(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (uint32_t)((*state * 0x2545F4914F6CDD1Du) >> 32);
}

static void put_shape(uint8_t *pixels, uint64_t *state)
{
    int cx = (int)(next(state) % WIDTH), cy = (int)(next(state) % HEIGHT);
    int rx = 4 + (int)(next(state) % 40), ry = 4 + (int)(next(state) % 40);
    int grey = 20 + (int)(next(state) % 216);
    bool disc = next(state) & 1;

    for (int y = cy - ry; y <= cy + ry; y++) {
        for (int x = cx - rx; x <= cx + rx; x++) {
            long dx = (long)(x - cx) * ry, dy = (long)(y - cy) * rx;
            bool inside = !disc || dx * dx + dy * dy <= (long)rx * rx * ry * ry;
            if (inside && x >= 0 && x < WIDTH && y >= 0 && y < HEIGHT)
                pixels[y * WIDTH + x] = (uint8_t)grey;
        }
    }
}

static void add_noise(uint8_t *pixels, uint64_t *state)
{
    for (int i = 0; i < WIDTH * HEIGHT; i++) {
        /* Sum of four: near enough to Gaussian, sd about 9. */
        int noise = (int)(next(state) % 16 + next(state) % 16 + next(state) % 16 +
                          next(state) % 16) -
                    30;
        int grey = pixels[i] + noise;
        pixels[i] = (uint8_t)(grey < 0 ? 0 : grey > 255 ? 255 : grey);
    }
}

uint8_t *command_scene(size_t *size)
{
    char header[32];
    uint64_t state = 0x5146544D45534821u;
    int length = snprintf(header, sizeof header, "P5\n%d %d\n255\n", WIDTH, HEIGHT);
    uint8_t *file = malloc((size_t)length + WIDTH * HEIGHT);

    if (file == NULL)
        return NULL;
    memcpy(file, header, (size_t)length);
    uint8_t *pixels = file + length;
    for (int i = 0; i < WIDTH * HEIGHT; i++)
        pixels[i] = (uint8_t)(60 + (i % WIDTH) * 80 / WIDTH + (i / WIDTH) * 60 / HEIGHT);
    for (int i = 0; i < SHAPES; i++)
        put_shape(pixels, &state);
    add_noise(pixels, &state);
    *size = (size_t)length + WIDTH * HEIGHT;
    return file;
}
