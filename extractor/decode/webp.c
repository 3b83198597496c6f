#include "extractor/decode/internal.h"

#include <string.h>
#include <webp/decode.h>

enum { RIFF_HEAD_BYTES = 12, CHUNK_HEAD_BYTES = 8, FORMAT_LOSSLESS = 2 };

static bool matches(const uint8_t *bytes, size_t size)
{
    return size >= RIFF_HEAD_BYTES && memcmp(bytes, "RIFF", 4) == 0 &&
           memcmp(bytes + 8, "WEBP", 4) == 0;
}

static const char *reason(VP8StatusCode status)
{
    switch (status) {
    case VP8_STATUS_NOT_ENOUGH_DATA:
        return "The WebP file ends too early.";
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return "The WebP file uses a feature that is not supported.";
    default:
        return "The WebP file is damaged.";
    }
}

static int fail(VP8StatusCode status, struct decode_error *error)
{
    if (status == VP8_STATUS_OUT_OF_MEMORY)
        return decode_fail_memory(error);
    return decode_fail(error, DECODE_UNDECODABLE, "%s", reason(status));
}

static unsigned orientation(const uint8_t *bytes, size_t size)
{
    size_t at = RIFF_HEAD_BYTES;
    while (size - at >= CHUNK_HEAD_BYTES) {
        size_t length = decode_le32(bytes + at + 4);
        bool is_exif = memcmp(bytes + at, "EXIF", 4) == 0;
        at += CHUNK_HEAD_BYTES;
        if (length > size - at)
            break;
        if (is_exif) {
            bool prefixed = length >= 6 && memcmp(bytes + at, "Exif\0", 6) == 0;
            size_t skip = prefixed ? 6 : 0; /* against the specification, but common */
            return decode_exif_orientation(bytes + at + skip, length - skip);
        }
        length += length & 1; /* chunks are padded to even sizes */
        at += length > size - at ? size - at : length;
    }
    return 1;
}

static int probe(const uint8_t *bytes, size_t size, struct decode_info *out,
                 struct decode_error *error)
{
    WebPBitstreamFeatures features;
    VP8StatusCode status = WebPGetFeatures(bytes, size, &features);
    if (status != VP8_STATUS_OK)
        return fail(status, error);
    if (features.width < 1 || features.height < 1)
        return fail(VP8_STATUS_BITSTREAM_ERROR, error);
    if (features.has_animation)
        return decode_fail(
            error, DECODE_UNDECODABLE,
            "The WebP file is an animation; only still pictures are taken.");
    out->width_px = (uint32_t)features.width;
    out->height_px = (uint32_t)features.height;
    out->channels = features.has_alpha ? 4 : 3;
    out->depth_bits = 8;
    out->orientation = orientation(bytes, size);
    return 0;
}

/* WebP's Y is 16 to 235. */
static uint8_t full_range(uint8_t y)
{
    int value = ((y - 16) * 255 * 2 + 219) / (219 * 2);
    return (uint8_t)(y <= 16 ? 0 : value > 255 ? 255 : value);
}

static void row_of_yuv(uint8_t *to, const uint8_t *luma, size_t n)
{
    for (size_t x = 0; x < n; x++)
        to[x] = full_range(luma[x]);
}

static void row_of_rgb(uint8_t *to, const uint8_t *rgb, size_t n)
{
    for (size_t x = 0; x < n; x++)
        to[x] = (uint8_t)decode_luma(rgb[3 * x], rgb[3 * x + 1], rgb[3 * x + 2]);
}

static void to_grey(const WebPDecBuffer *from, const struct vision_image *out)
{
    for (size_t y = 0; y < out->height_px; y++) {
        if (from->colorspace == MODE_RGB)
            row_of_rgb(decode_row(out, y),
                       from->u.RGBA.rgba + y * (size_t)from->u.RGBA.stride,
                       out->width_px);
        else
            row_of_yuv(decode_row(out, y),
                       from->u.YUVA.y + y * (size_t)from->u.YUVA.y_stride, out->width_px);
    }
}

/* libwebp cannot be stopped midway; a picture has at most 16383 x 16383 pixels. */
static int decode(const uint8_t *bytes, size_t size, const struct decode_info *info,
                  struct vision_control *control, const struct vision_image *out,
                  struct decode_error *error)
{
    WebPDecoderConfig config;
    int err = 0;

    if (vision_step(control))
        return decode_fail_cancelled(error);
    if (!WebPInitDecoderConfig(&config))
        return fail(VP8_STATUS_UNSUPPORTED_FEATURE, error);
    VP8StatusCode status = WebPGetFeatures(bytes, size, &config.input);
    if (status == VP8_STATUS_OK) {
        bool lossless = config.input.format == FORMAT_LOSSLESS;
        config.output.colorspace = lossless ? MODE_RGB : MODE_YUV;
        status = WebPDecode(bytes, size, &config);
    }
    if (status != VP8_STATUS_OK)
        err = fail(status, error);
    else if ((uint32_t)config.output.width != info->width_px ||
             (uint32_t)config.output.height != info->height_px)
        err = fail(VP8_STATUS_BITSTREAM_ERROR, error);
    else
        to_grey(&config.output, out);
    WebPFreeDecBuffer(&config.output);
    return err;
}

const struct decode_codec decode_codec_webp = {"webp", matches, probe, decode};
