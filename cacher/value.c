#include "cacher/value.h"

#include <string.h>

/* PNG, third edition: signature; IHDR first, 25 bytes; IEND last, 12 bytes. */
#define PNG_SIGNATURE_BYTES 8
#define PNG_BYTES_MIN       (PNG_SIGNATURE_BYTES + 25 + 12)

static const uint8_t png_begin[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n',
                                    0,    0,   0,   13,  'I',  'H',  'D',  'R'};
static const uint8_t png_end[] = {0, 0, 0, 0, 'I', 'E', 'N', 'D', 0xae, 0x42, 0x60, 0x82};

/* Both ends, so that a cut picture is refused. What lies between is the reader's. */
static const char *check_png(const uint8_t *bytes, size_t size)
{
    if (size < PNG_BYTES_MIN || memcmp(bytes, png_begin, sizeof png_begin) != 0)
        return "the payload begins like a PNG but has no header";
    if (memcmp(bytes + size - sizeof png_end, png_end, sizeof png_end) != 0)
        return "the PNG does not end: it was cut";
    return NULL;
}

const char *cacher_value_check(const uint8_t key[PROTO_DIGEST_BYTES],
                               const uint8_t *bytes, size_t size)
{
    struct proto_blob blob;

    if (size >= PNG_SIGNATURE_BYTES && memcmp(bytes, png_begin, PNG_SIGNATURE_BYTES) == 0)
        return check_png(bytes, size);
    if (proto_blob_decode(bytes, size, &blob) < 0)
        return "the payload is neither features nor a PNG";
    if (memcmp(blob.key, key, PROTO_DIGEST_BYTES) != 0)
        return "the features are those of another key";
    return NULL;
}

static uint32_t get_u32_big(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 |
           bytes[3];
}

void cacher_value_picture(const uint8_t *bytes, size_t size, uint32_t *width_px,
                          uint32_t *height_px)
{
    struct proto_blob blob;

    if (memcmp(bytes, png_begin, PNG_SIGNATURE_BYTES) == 0) {
        *width_px = get_u32_big(bytes + sizeof png_begin);
        *height_px = get_u32_big(bytes + sizeof png_begin + 4);
    } else if (proto_blob_decode(bytes, size, &blob) == 0) {
        *width_px = blob.width_px;
        *height_px = blob.height_px;
    }
}
