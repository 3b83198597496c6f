#include "extractor/decode/internal.h"

#include <errno.h>
#include <stdlib.h>

/* Both pictures of a block of 8 bits, or of 16, fit the first-level cache: turned by 90
 * degrees, whole rows would touch a new line for every pixel. */
#define BLOCK_PX 64

/* Where output pixel (x, y) comes from: origin + x * step_x + y * step_y, in pixels. */
struct walk {
    ptrdiff_t origin, step_x, step_y;
    size_t width_px, height_px; /* of the output */
};

/* EXIF 2.3, 4.6.4: which edges of the scene row 0 and column 0 of the file are. */
static struct walk walk_of(ptrdiff_t w, ptrdiff_t h, unsigned orientation)
{
    const ptrdiff_t right = w - 1, bottom = (h - 1) * w;
    const size_t width = (size_t)w, height = (size_t)h;
    switch (orientation) {
    case 2:
        return (struct walk){right, -1, w, width, height};
    case 3:
        return (struct walk){right + bottom, -1, -w, width, height};
    case 4:
        return (struct walk){bottom, 1, -w, width, height};
    case 5:
        return (struct walk){0, w, 1, height, width};
    case 6:
        return (struct walk){bottom, -w, 1, height, width};
    case 7:
        return (struct walk){right + bottom, -w, -1, height, width};
    case 8:
        return (struct walk){right, w, -1, height, width};
    default:
        return (struct walk){0, 1, w, width, height};
    }
}

static void row_part(const struct walk *walk, const struct vision_image *to,
                     const void *from, size_t y, size_t x, size_t end)
{
    ptrdiff_t at =
        walk->origin + (ptrdiff_t)y * walk->step_y + (ptrdiff_t)x * walk->step_x;
    const uint8_t *from8 = from;
    const uint16_t *from16 = from;
    uint8_t *to8 = decode_row(to, y);
    uint16_t *to16 = decode_row(to, y);

    for (; x < end; x++, at += walk->step_x) {
        if (to->depth_bits == 16)
            to16[x] = from16[at];
        else
            to8[x] = from8[at];
    }
}

int decode_orient(struct vision_image *image, unsigned orientation)
{
    struct vision_image turned;
    const struct walk walk =
        walk_of((ptrdiff_t)image->width_px, (ptrdiff_t)image->height_px, orientation);

    if (orientation <= 1 || orientation > 8)
        return 0;
    if (decode_image_new(walk.width_px, walk.height_px, image->depth_bits, &turned) < 0)
        return -ENOMEM;

    for (size_t top = 0; top < walk.height_px; top += BLOCK_PX) {
        size_t bottom = top + BLOCK_PX < walk.height_px ? top + BLOCK_PX : walk.height_px;
        for (size_t left = 0; left < walk.width_px; left += BLOCK_PX) {
            size_t right =
                left + BLOCK_PX < walk.width_px ? left + BLOCK_PX : walk.width_px;
            for (size_t y = top; y < bottom; y++)
                row_part(&walk, &turned, image->pixels, y, left, right);
        }
    }
    decode_image_free(image);
    *image = turned;
    return 0;
}
