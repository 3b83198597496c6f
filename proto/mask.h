/*
 * mask.h - a picture with a mask, as one run of bytes.
 *
 *   picture | mask | "SMMASK1\0" | mask bytes, uint64 little-endian
 *
 * The mask is itself a picture file, of the size that the picture has when it is the
 * right way up; features are kept where it is not 0. The whole run is what is hashed,
 * sent and counted as "the image", so nothing between client and slot has to know of
 * masks. Both directions are pure and thread-safe.
 */
#ifndef PROTO_MASK_H
#define PROTO_MASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROTO_MASK_TRAILER_BYTES 16

/* What follows picture and mask. */
void proto_mask_trailer(uint64_t mask_bytes, uint8_t out[PROTO_MASK_TRAILER_BYTES]);

/*
 * Take bytes from a peer apart. True, with both sizes, when they end with a
 * valid trailer; false when they are just a picture.
 */
bool proto_mask_split(const uint8_t *bytes, size_t size, size_t *picture_bytes,
                      size_t *mask_bytes);

#endif
