#include "extractor/decode/decode.h"
#include "extractor/decode/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const struct decode_codec *const codecs[DECODE_FORMAT_COUNT] = {
    [DECODE_FORMAT_JPEG] = &decode_codec_jpeg,
    [DECODE_FORMAT_PNG] = &decode_codec_png,
    [DECODE_FORMAT_WEBP] = &decode_codec_webp,
    [DECODE_FORMAT_PNM] = &decode_codec_pnm,
};

int decode_fail(struct decode_error *error, enum decode_failure kind, const char *format,
                ...)
{
    va_list args;
    *error = (struct decode_error){.kind = kind};
    va_start(args, format);
    vsnprintf(error->detail, sizeof error->detail, format, args);
    va_end(args);
    return -1;
}

int decode_fail_memory(struct decode_error *error)
{
    return decode_fail(error, DECODE_NO_MEMORY, "There is no memory for the picture.");
}

int decode_fail_cancelled(struct decode_error *error)
{
    return decode_fail(error, DECODE_CANCELLED, "The work was cancelled.");
}

const char *decode_format_name(enum decode_format format)
{
    return codecs[format]->name;
}

int decode_image_new(size_t width_px, size_t height_px, unsigned depth_bits,
                     struct vision_image *out)
{
    size_t stride = width_px * (depth_bits / 8);
    void *pixels = malloc(stride * height_px);
    if (pixels == NULL)
        return -ENOMEM;
    *out = (struct vision_image){pixels, width_px, height_px, stride, depth_bits};
    return 0;
}

void decode_image_free(struct vision_image *image)
{
    free(image->pixels);
    *image = (struct vision_image){0};
}

int decode_probe(const uint8_t *bytes, size_t size, struct decode_info *out,
                 struct decode_error *error)
{
    if (size == 0)
        return decode_fail(error, DECODE_BAD_TYPE, "The picture is empty: 0 bytes.");

    for (unsigned format = 0; format < DECODE_FORMAT_COUNT; format++) {
        struct decode_info info = {.format = format, .orientation = 1};
        if (!codecs[format]->matches(bytes, size))
            continue;
        if (codecs[format]->probe(bytes, size, &info, error) < 0)
            return -1;
        *out = info;
        return 0;
    }
    return decode_fail(error, DECODE_BAD_TYPE,
                       "The content is no JPEG, PNG, WebP or PNM picture.");
}

static int check_size(const struct decode_info *info, uint64_t pixels_max,
                      struct decode_error *error)
{
    const uint64_t pixels = (uint64_t)info->width_px * info->height_px;
    const uint64_t side =
        info->width_px > info->height_px ? info->width_px : info->height_px;

    if (pixels > pixels_max) {
        decode_fail(error, DECODE_TOO_MANY_PIXELS,
                    "The picture has %" PRIu64 " pixels (%" PRIu32 " x %" PRIu32
                    "), at most %" PRIu64 " are decoded.",
                    pixels, info->width_px, info->height_px, pixels_max);
        error->limit = pixels_max;
        error->actual = pixels;
        return -1;
    }
    if (side > DECODE_SIDE_MAX_PX) {
        decode_fail(error, DECODE_TOO_MANY_PIXELS,
                    "A side of the picture has %" PRIu64
                    " pixels, at most %u are decoded.",
                    side, DECODE_SIDE_MAX_PX);
        error->limit = DECODE_SIDE_MAX_PX;
        error->actual = side;
        return -1;
    }
    return 0;
}

int decode_image(const uint8_t *bytes, size_t size, const struct decode_options *options,
                 struct vision_image *out, struct decode_error *error)
{
    struct decode_info info;
    struct vision_image image;

    if (decode_probe(bytes, size, &info, error) < 0 ||
        check_size(&info, options->pixels_max, error) < 0)
        return -1;
    if (decode_image_new(info.width_px, info.height_px, info.depth_bits, &image) < 0)
        return decode_fail_memory(error);

    int err =
        codecs[info.format]->decode(bytes, size, &info, options->control, &image, error);
    if (err == 0 && options->upright && decode_orient(&image, info.orientation) < 0)
        err = decode_fail_memory(error);
    if (err < 0) {
        decode_image_free(&image);
        return -1;
    }
    *out = image;
    return 0;
}
