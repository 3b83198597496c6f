/*
 * render.h - features in the formats that clients ask for.
 *
 * The blob itself is one of them (application/octet-stream). Positions: pixel centres at
 * integers, but COLMAP's text has +0.5. Descriptors: the blob's order, which is Lowe's,
 * in every format (see docs/API.md for each). Every renderer is deterministic.
 * Thread-safe.
 */
#ifndef PROTO_RENDER_H
#define PROTO_RENDER_H

#include "proto/blob.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* FORMAT(NAME, "name", "media type", "file suffix") */
#define PROTO_FORMATS(FORMAT)                                                            \
    FORMAT(JSON, "json", "application/json", ".json")                                    \
    FORMAT(MSGPACK, "msgpack", "application/msgpack", ".msgpack")                        \
    FORMAT(BIN, "bin", "application/octet-stream", ".bin")                               \
    FORMAT(NPZ, "npz", "application/x-npz", ".npz")                                      \
    FORMAT(COLMAP, "colmap", "text/plain", ".txt")                                       \
    FORMAT(LOWE, "lowe", "text/x-lowe", ".sift")

enum proto_format {
#define FORMAT(name, text, media, suffix) PROTO_FORMAT_##name,
    PROTO_FORMATS(FORMAT)
#undef FORMAT
        PROTO_FORMAT_COUNT
};

enum proto_descriptors {
    PROTO_DESCRIPTORS_ARRAY,
    PROTO_DESCRIPTORS_BASE64,
    PROTO_DESCRIPTORS_NONE
};

const char *proto_format_name(enum proto_format format);
const char *proto_format_media(enum proto_format format);
const char *proto_format_suffix(enum proto_format format);
/* 0 with `out`, or -ENOENT. */
int proto_format_by_name(const char *name, enum proto_format *out);

/*
 * Render the blob in `bytes`. `descriptors` matters to JSON only. `*out` is malloc'd,
 * `*size` its length; the caller frees. 0, -EPROTO for a bad blob, or -ENOMEM.
 *
 * JSON: {"key","image":{"width","height","sha256"},"params":{...},"count",
 *   "keypoints":[[x,y,scale,orientation,response]...],"descriptors":[[...]...] or
 *   a base64 string of count*128 bytes}; "descriptors" is absent for NONE. Floats are
 *   the shortest text that reads back to the same float32.
 * msgpack: the same map; keypoints and descriptors are bin (float32 LE, uint8).
 * npz: stored zip of keypoints.npy (count,5 <f4), descriptors.npy (count,128 |u1),
 *   key.npy (a text of 64 digits); timestamps fixed, so bytes are deterministic.
 * COLMAP: "count 128\n", then "x+0.5 y+0.5 scale orientation d1 ... d128\n".
 * Lowe: "count 128\n", then "row col scale orientation\n" and 128 numbers in lines of
 *   20; angles in (-pi, pi], from x away from y.
 */
int proto_render(const uint8_t *bytes, size_t bytes_size, enum proto_format format,
                 enum proto_descriptors descriptors, uint8_t **out, size_t *size);

/*
 * The least and the most bytes that proto_render() can make of the blob, from its head
 * alone: before memory is spent on it. 0 or -EPROTO.
 */
int proto_render_bounds(const uint8_t *bytes, size_t bytes_size, enum proto_format format,
                        enum proto_descriptors descriptors, uint64_t *least,
                        uint64_t *most);

#endif
