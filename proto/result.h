/*
 * result.h - whether bytes are the result that a content key means.
 *
 * A result comes from another process: a slot that read a hostile picture, a client of
 * the mesh, a tier that other programs write to. It is checked where it comes in, against
 * all that is known there, before it is served or kept. Features are a blob that fits
 * itself and the key; a denoised picture is a PNG as slots write them: grey, 8 or 16
 * bits, not interlaced, IHDR, IDATs and IEND alone, each chunk whole and with the right
 * CRC, nothing behind. The pixels inside the IDATs are not unpacked.
 *
 * The cost is one pass over the bytes, about a millisecond for each MB of a PNG. Pure,
 * thread-safe. PNG: W3C Recommendation, third edition.
 */
#ifndef PROTO_RESULT_H
#define PROTO_RESULT_H

#include "proto/key.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The facts that a result has to fit. All members are borrowed; zeroed: not known. */
struct proto_result_known {
    enum proto_kind kind;        /* 0: either */
    const uint8_t *key;          /* PROTO_DIGEST_BYTES */
    const uint8_t *image_sha256; /* PROTO_DIGEST_BYTES */
    const struct proto_params *params;
    uint32_t width_px, height_px; /* as stored; both may be exchanged by `orient` */
    bool sums_checked; /* the same bytes passed before: a PNG's CRCs are left out */
};

struct proto_result {
    enum proto_kind kind;
    uint32_t count; /* of features; 0 of a denoised picture */
    uint32_t width_px, height_px;
};

/*
 * NULL with `out` filled (which may be NULL) when `bytes` are such a result, else why
 * not: a static sentence without a full stop. A blob's own key is computed from its
 * picture hash and parameters, so a key alone is enough to tell forged features; a PNG
 * shows neither, so its key is checked where `image_sha256` and `params` are known.
 */
const char *proto_result_check(const uint8_t *bytes, size_t size,
                               const struct proto_result_known *known,
                               struct proto_result *out);

/*
 * More bytes than any result of this kind for a picture of this size has. Features:
 * extrema of one layer are no neighbours, and each has a few orientations, so
 * PROTO_RESULT_DENSITY of them for a pixel of a layer is never reached.
 */
#define PROTO_RESULT_DENSITY 4u
uint64_t proto_result_bytes_max(enum proto_kind kind, const struct proto_params *params,
                                uint64_t width_px, uint64_t height_px);

#endif
