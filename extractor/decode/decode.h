/*
 * decode.h - bytes of a JPEG, PNG, WebP or PNM file to one grey picture, and back to PNG.
 *
 * The bytes are hostile. The type is told by the content alone. Size is read from the
 * header and judged before memory for a pixel is asked for. Nothing but grey comes out:
 *
 *   luma      JPEG: the Y channel. RGB of any source, 8 and 16 bits, rounded once:
 *             (19595 R + 38470 G + 7471 B + 32768) >> 16     (0.299, 0.587, 0.114)
 *   JPEG      8 bits; grey, YCbCr, RGB, CMYK and YCCK (inks stored inverted where Adobe's
 *             marker is; R = round(C K / 255)). At most DECODE_JPEG_SCANS_MAX scans. One
 *             that ends before its data does is undecodable, as is one of several scans
 *             without its end marker; other damage that libjpeg bridges is bridged.
 *   PNG       1 to 16 bits, palette, interlaced. 1, 2 and 4 bits are scaled to 8, 16 stay
 *             16. Alpha, tRNS, gamma and colour profiles are ignored; of an APNG the
 * still picture is taken. WebP      still only. Lossy: round((Y - 16) 255 / 219), cut to
 * 0..255. Lossless: luma. Alpha is ignored. PNM       P1 to P6, the first picture of the
 * file. Samples are scaled to the full range of 8 bits, of 16 when maxval > 255: round(v
 * full / maxval). A sample above maxval is an error. In P1 and P4, 1 is black.
 *
 * The picture is malloc'd, its rows without padding.
 * Thread-safe.
 */
#ifndef DECODE_DECODE_H
#define DECODE_DECODE_H

#include "extractor/vision/control.h"
#include "extractor/vision/image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DECODE_PIXELS_MAX     64000000u /* default for decode_options.pixels_max */
#define DECODE_SIDE_MAX_PX    65535u
#define DECODE_JPEG_SCANS_MAX 100u   /* real files have about ten */
#define DECODE_EXIF_MAX_BYTES 65536u /* a longer block is not looked at */

enum decode_format {
    DECODE_FORMAT_JPEG,
    DECODE_FORMAT_PNG,
    DECODE_FORMAT_WEBP,
    DECODE_FORMAT_PNM,
    DECODE_FORMAT_COUNT
};

/* What a file says about itself. */
struct decode_info {
    enum decode_format format;
    uint32_t width_px, height_px; /* as stored, not turned; at least 1 */
    unsigned channels;            /* of the file: 1 to 4; a palette counts as 3 */
    unsigned depth_bits;          /* of the grey picture it becomes: 8 or 16 */
    unsigned orientation;         /* EXIF's 1 to 8; 1 where there is none */
};

enum decode_failure {
    DECODE_BAD_TYPE,        /* the content is of no known type */
    DECODE_UNDECODABLE,     /* of a known type, and broken or not supported */
    DECODE_TOO_MANY_PIXELS, /* or a side too long */
    DECODE_NO_MEMORY,
    DECODE_CANCELLED
};

struct decode_error {
    enum decode_failure kind;
    char detail[160];       /* one sentence for a person */
    uint64_t limit, actual; /* pixels; both 0 where it is not about a limit */
};

struct decode_options {
    uint64_t pixels_max;
    bool upright;                   /* turn the picture as its EXIF orientation says */
    struct vision_control *control; /* may be NULL */
};

/* "jpeg", "png", "webp", "pnm"; `format` is below DECODE_FORMAT_COUNT. */
const char *decode_format_name(enum decode_format format);

/* Read the header and no pixel. 0 with `out`, or -1 with `error`. */
int decode_probe(const uint8_t *bytes, size_t size, struct decode_info *out,
                 struct decode_error *error);

/* 0 with `out`, whose pixels are released with decode_image_free; or -1 with `error`. */
int decode_image(const uint8_t *bytes, size_t size, const struct decode_options *options,
                 struct vision_image *out, struct decode_error *error);

/* Accepts zeroed and already freed. */
void decode_image_free(struct vision_image *image);

/*
 * An image of this shape with malloc'd pixels, not set. 0, or -ENOMEM. `depth_bits` is 8
 * or 16, the sides are 1 to DECODE_SIDE_MAX_PX.
 */
int decode_image_new(size_t width_px, size_t height_px, unsigned depth_bits,
                     struct vision_image *out);

/*
 * Write `image` as a grey PNG. `*bytes` is malloc'd, the caller frees it. 0, -ENOMEM, or
 * -ECANCELED. `control` may be NULL.
 */
int decode_png_write(const struct vision_image *image, struct vision_control *control,
                     uint8_t **bytes, size_t *size);

#endif
