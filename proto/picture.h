/*
 * picture.h - what the head of a picture's file tells, and what the work on it will need.
 *
 * For those who pass pictures on and link no image library: gateway and clients state the
 * cost of a job (docs/PROTOCOL.md, cost_bytes) before anybody decodes a pixel. Nothing is
 * refused here; that is the slot's (extractor/decode). The bytes are a peer's and
 * hostile. Pure, thread-safe, no allocation.
 */
#ifndef PROTO_PICTURE_H
#define PROTO_PICTURE_H

#include "proto/key.h"
#include "proto/params.h"

#include <stddef.h>
#include <stdint.h>

/* Markers of a JPEG that are looked at before its size has to have come: a byte of a peer
 * costs no more than this, and real files have about ten. */
#define PROTO_PICTURE_MARKERS_MAX 65536u

struct proto_picture {
    uint32_t width_px, height_px; /* as stored, not turned; at least 1 */
    unsigned depth_bits;          /* of the grey picture it becomes: 8 or 16 */
};

/*
 * JPEG, PNG, WebP or PNM, told by the content. 0, or -EINVAL for bytes that are none of
 * them, or end before their size. What a slot decodes is always understood here, and
 * alike: the fuzz target of the decoders compares.
 */
int proto_picture_probe(const uint8_t *bytes, size_t size, struct proto_picture *out);

/*
 * Memory that a slot needs for a job on a picture of this size, in bytes: an estimate
 * from above of the largest of its stages, which follow each other (test_cost.c holds it
 * against the slot's own measure). With P pixels, b bytes in each of them, W the longer
 * side:
 *
 *   always   1 MiB + P b             the picture, and one of
 *   decode   8 (w + 64) (h + 64) + 256 w   the decoder's coefficients or planes
 *   denoise  P b + 4 MiB             where it is denoised
 *   native   W (512 + 256 n + (1536 + 430 n) s) + 46000 s s            rings of rows;
 *            n layers, s sigma, W twice the longer side where it is doubled first
 *   vlfeat   4 P (1 + d (4 n + 10))  whole planes; d 4 where doubled first, else 1
 *   and with either of them, what the features take
 */
uint64_t proto_picture_job_bytes(const struct proto_picture *picture,
                                 enum proto_kind kind, const struct proto_params *params);

/*
 * How many features a picture of this size may have. A slot refuses one that has more
 * (too_many_features) unless max_features cuts them: so the memory that they take has a
 * bound. It is the least of PROTO_BLOB_FEATURES_MAX and 5000 + P 0.14 min(n, 4) / (s s)
 * / 4^k, k 0 where it is doubled first, else first_octave + 1: more than twice what white
 * noise has, whatever its contrast, and 40 times what photographs have.
 */
uint32_t proto_picture_features_max(const struct proto_picture *picture,
                                    const struct proto_params *params);

/* Keypoints that may wait at once for the rows below them, where max_features cuts. */
uint32_t proto_picture_waiting_max(const struct proto_picture *picture,
                                   const struct proto_params *params);

/* The part of the above that features take: found, sorted, and copied to the result. */
uint64_t proto_picture_features_bytes(const struct proto_picture *picture,
                                      const struct proto_params *params);

/*
 * The same for the bytes of a job, with their own number, and a plane of 16
 * bits more where they end with a mask (mask.h). Bytes that are no picture cost 1 MiB and
 * themselves: the slot refuses them by their head.
 */
uint64_t proto_picture_cost_bytes(const uint8_t *bytes, size_t size, enum proto_kind kind,
                                  const struct proto_params *params);

#endif
