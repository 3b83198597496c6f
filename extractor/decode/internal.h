/*
 * internal.h - what the files of decode/ share and nobody else includes.
 */
#ifndef DECODE_INTERNAL_H
#define DECODE_INTERNAL_H

#include "extractor/decode/decode.h"

#define DECODE_ROWS_A_STEP 64u /* rows between two looks at `cancel` */

/* One kind of file. Each function gets bytes for which `matches` was true. */
struct decode_codec {
    const char *name;
    bool (*matches)(const uint8_t *bytes, size_t size);
    int (*probe)(const uint8_t *bytes, size_t size, struct decode_info *out,
                 struct decode_error *error);
    /* Fill `out`, made for what `info`, the result of `probe`, says. */
    int (*decode)(const uint8_t *bytes, size_t size, const struct decode_info *info,
                  struct vision_control *control, const struct vision_image *out,
                  struct decode_error *error);
};

extern const struct decode_codec decode_codec_jpeg;
extern const struct decode_codec decode_codec_png;
extern const struct decode_codec decode_codec_webp;
extern const struct decode_codec decode_codec_pnm;

/* Fill `error` and return -1. */
int decode_fail(struct decode_error *error, enum decode_failure kind, const char *format,
                ...) __attribute__((format(printf, 3, 4)));
int decode_fail_memory(struct decode_error *error);
int decode_fail_cancelled(struct decode_error *error);

/* The orientation in an EXIF block, 1 to 8; 1 for whatever is wrong with it. `tiff`
 * begins with the byte order, after "Exif\0\0" where a file has that. */
unsigned decode_exif_orientation(const uint8_t *tiff, size_t size);

/* Turn `image` upright, replacing its pixels. 0, or -ENOMEM with `image` unchanged. */
int decode_orient(struct vision_image *image, unsigned orientation);

/* True at the end of every few rows when the work is to stop. */
static inline bool decode_row_step(struct vision_control *control, size_t row)
{
    return row % DECODE_ROWS_A_STEP == 0 && vision_step(control);
}

static inline void *decode_row(const struct vision_image *image, size_t y)
{
    return (char *)image->pixels + y * image->stride_bytes;
}

/* 65535 * 65536 + 32768 < 2^32: right for 16 bits too. */
static inline uint32_t decode_luma(uint32_t r, uint32_t g, uint32_t b)
{
    return (19595 * r + 38470 * g + 7471 * b + 32768) >> 16;
}

static inline uint32_t decode_be16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static inline uint32_t decode_be32(const uint8_t *p)
{
    return decode_be16(p) << 16 | decode_be16(p + 2);
}

static inline uint32_t decode_le32(const uint8_t *p)
{
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

#endif
