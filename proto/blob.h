/*
 * blob.h - the features of one picture as bytes: what slots make, caches keep, and
 * HTTP clients get as application/octet-stream. Normative text: docs/PROTOCOL.md.
 *
 * Little-endian, byte-identical on every machine:
 *
 *   header (PROTO_BLOB_HEADER_BYTES)
 *   count x 5 float32: x, y, scale, orientation, response
 *   count x 128 uint8: descriptor
 *
 * x, y: pixels of the picture as the client sees it (after `orient`), centres at
 * integers. scale: sigma of the keypoint, pixels. orientation: radians in [0, 2 pi),
 * from x towards y (clockwise on a screen). response: |DoG| at the extremum, picture
 * scaled to 0..1. Descriptors: 4 x 4 cells of 8 directions in the order of Lowe's own
 * program, which is OpenCV's; VLFeat turns the 8 the other way (0 7 6 5 4 3 2 1).
 *
 * Pure; thread-safe; nothing here allocates.
 */
#ifndef PROTO_BLOB_H
#define PROTO_BLOB_H

#include "proto/params.h"

#include <stddef.h>
#include <stdint.h>

#define PROTO_DIGEST_BYTES      32
#define PROTO_KEYPOINT_FLOATS   5
#define PROTO_DESCRIPTOR_BYTES  128
#define PROTO_BLOB_VERSION      1
#define PROTO_BLOB_HEADER_BYTES 160
#define PROTO_BLOB_FEATURES_MAX                                                          \
    1000000u /* 148 MB; a picture that has more is refused                               \
              */

struct proto_blob {
    uint32_t count;
    uint32_t width_px, height_px;
    uint8_t image_sha256[PROTO_DIGEST_BYTES]; /* of the bytes the client sent */
    uint8_t key[PROTO_DIGEST_BYTES];
    struct proto_params params;
    const uint8_t *keypoints;   /* borrowed; count x 20 bytes, any alignment */
    const uint8_t *descriptors; /* borrowed; count x 128 bytes */
};

/* Bytes of a blob of `count` features. */
size_t proto_blob_bytes(uint32_t count);

/* Write the header for `blob` (its two pointers are not used) to `out`. */
void proto_blob_encode_header(const struct proto_blob *blob,
                              uint8_t out[PROTO_BLOB_HEADER_BYTES]);

/*
 * Read a blob from a peer; `out` borrows `bytes`. 0, or -EPROTO when anything is wrong:
 * magic, version, size not equal to what `count` says, bad parameters, a float that is
 * not finite.
 */
int proto_blob_decode(const uint8_t *bytes, size_t size, struct proto_blob *out);

/* Feature `i` < count in the machine's byte order: x, y, scale, orientation, response. */
void proto_blob_keypoint(const struct proto_blob *blob, uint32_t i,
                         float out[PROTO_KEYPOINT_FLOATS]);
void proto_blob_put_keypoint(uint8_t *dst, const float keypoint[PROTO_KEYPOINT_FLOATS]);

#endif
