/*
 * image.h - the grey picture that decoders make and kernels read.
 *
 * A view: it owns nothing by itself. Whoever allocated `pixels` says so where it does.
 * Pixel centres are at integer coordinates, x to the right, y down, (0, 0) is the first.
 */
#ifndef VISION_IMAGE_H
#define VISION_IMAGE_H

#include <stddef.h>
#include <stdint.h>

struct vision_image {
    void *pixels;        /* uint8_t or, in the machine's byte order, uint16_t */
    size_t width_px;     /* 1 to 65535 */
    size_t height_px;    /* 1 to 65535 */
    size_t stride_bytes; /* from one row to the next, >= width * bytes a pixel */
    unsigned depth_bits; /* 8 or 16 */
};

#endif
