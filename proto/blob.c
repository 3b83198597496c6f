/*
 * The header, little-endian:
 *
 *    0  magic "SMFB"           20  u32 0
 *    4  u16 version            24  u32 bytes of the canonical parameters
 *    6  u16 header's bytes     28  u32 0
 *    8  u32 count              32  SHA-256 of the picture's file
 *   12  u32 width              64  content key
 *   16  u32 height             96  canonical parameters, then zeros
 */
#include "proto/blob.h"

#include "proto/bytes.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_HEADER_BYTES = 6,
    AT_COUNT = 8,
    AT_WIDTH = 12,
    AT_HEIGHT = 16,
    AT_ZERO_1 = 20,
    AT_PARAMS_BYTES = 24,
    AT_ZERO_2 = 28,
    AT_IMAGE = 32,
    AT_KEY = 64,
    AT_PARAMS = 96,
    AT_ZERO_3 = AT_PARAMS + PROTO_PARAMS_BYTES,
    KEYPOINT_BYTES = 4 * PROTO_KEYPOINT_FLOATS,
    FEATURE_BYTES = KEYPOINT_BYTES + PROTO_DESCRIPTOR_BYTES,
};

_Static_assert(AT_ZERO_3 <= PROTO_BLOB_HEADER_BYTES, "the parameters fit the header");
_Static_assert(sizeof(size_t) >= 8, "no count of 32 bits overflows a size");

static const uint8_t magic[4] = {'S', 'M', 'F', 'B'};

size_t proto_blob_bytes(uint32_t count)
{
    return PROTO_BLOB_HEADER_BYTES + (size_t)count * FEATURE_BYTES;
}

void proto_blob_encode_header(const struct proto_blob *blob,
                              uint8_t out[PROTO_BLOB_HEADER_BYTES])
{
    memset(out, 0, PROTO_BLOB_HEADER_BYTES);
    memcpy(out + AT_MAGIC, magic, sizeof magic);
    proto_put_u16(out + AT_VERSION, PROTO_BLOB_VERSION);
    proto_put_u16(out + AT_HEADER_BYTES, PROTO_BLOB_HEADER_BYTES);
    proto_put_u32(out + AT_COUNT, blob->count);
    proto_put_u32(out + AT_WIDTH, blob->width_px);
    proto_put_u32(out + AT_HEIGHT, blob->height_px);
    proto_put_u32(out + AT_PARAMS_BYTES, PROTO_PARAMS_BYTES);
    memcpy(out + AT_IMAGE, blob->image_sha256, PROTO_DIGEST_BYTES);
    memcpy(out + AT_KEY, blob->key, PROTO_DIGEST_BYTES);
    proto_params_encode(&blob->params, out + AT_PARAMS);
}

/* What must be there in every header of this version. */
static bool frame_is_right(const uint8_t *header)
{
    static const uint8_t zeros[PROTO_BLOB_HEADER_BYTES - AT_ZERO_3];

    return memcmp(header + AT_MAGIC, magic, sizeof magic) == 0 &&
           proto_get_u16(header + AT_VERSION) == PROTO_BLOB_VERSION &&
           proto_get_u16(header + AT_HEADER_BYTES) == PROTO_BLOB_HEADER_BYTES &&
           proto_get_u32(header + AT_ZERO_1) == 0 &&
           proto_get_u32(header + AT_PARAMS_BYTES) == PROTO_PARAMS_BYTES &&
           proto_get_u32(header + AT_ZERO_2) == 0 &&
           memcmp(header + AT_ZERO_3, zeros, sizeof zeros) == 0;
}

/* A float32 is infinite or no number when all its exponent's bits are set. */
static bool floats_are_finite(const uint8_t *bytes, size_t count)
{
    const uint32_t exponent = 0x7f800000u;
    bool finite = true;

    for (size_t i = 0; i < count; i++)
        finite &= (proto_get_u32(bytes + 4 * i) & exponent) != exponent;
    return finite;
}

int proto_blob_decode(const uint8_t *bytes, size_t size, struct proto_blob *out)
{
    if (size < PROTO_BLOB_HEADER_BYTES || !frame_is_right(bytes))
        return -EPROTO;

    struct proto_blob blob = {
        .count = proto_get_u32(bytes + AT_COUNT),
        .width_px = proto_get_u32(bytes + AT_WIDTH),
        .height_px = proto_get_u32(bytes + AT_HEIGHT),
    };
    if (blob.count > PROTO_BLOB_FEATURES_MAX || size != proto_blob_bytes(blob.count))
        return -EPROTO;
    if (proto_params_decode(bytes + AT_PARAMS, PROTO_PARAMS_BYTES, &blob.params) < 0)
        return -EPROTO;

    memcpy(blob.image_sha256, bytes + AT_IMAGE, PROTO_DIGEST_BYTES);
    memcpy(blob.key, bytes + AT_KEY, PROTO_DIGEST_BYTES);
    blob.keypoints = bytes + PROTO_BLOB_HEADER_BYTES;
    blob.descriptors = blob.keypoints + (size_t)blob.count * KEYPOINT_BYTES;
    if (!floats_are_finite(blob.keypoints, (size_t)blob.count * PROTO_KEYPOINT_FLOATS))
        return -EPROTO;
    *out = blob;
    return 0;
}

void proto_blob_keypoint(const struct proto_blob *blob, uint32_t i,
                         float out[PROTO_KEYPOINT_FLOATS])
{
    const uint8_t *src = blob->keypoints + (size_t)i * KEYPOINT_BYTES;

    for (size_t k = 0; k < PROTO_KEYPOINT_FLOATS; k++)
        out[k] = proto_get_f32(src + 4 * k);
}

void proto_blob_put_keypoint(uint8_t *dst, const float keypoint[PROTO_KEYPOINT_FLOATS])
{
    for (size_t k = 0; k < PROTO_KEYPOINT_FLOATS; k++)
        proto_put_f32(dst + 4 * k, keypoint[k]);
}
