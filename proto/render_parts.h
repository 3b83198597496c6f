/*
 * render_parts.h - the single renderers behind render.h; for render*.c alone.
 *
 * Each appends to `out`; what it could not allocate shows in out->failed.
 */
#ifndef PROTO_RENDER_PARTS_H
#define PROTO_RENDER_PARTS_H

#include "proto/number.h"
#include "proto/output.h"
#include "proto/render.h"

/* The texts of all bytes, each after a separator: ",0" to ",255". */
struct proto_byte_texts {
    char text[256][4];
    uint8_t length[256];
};

/* Room for the floats of a keypoint and what stands between them. */
#define PROTO_KEYPOINT_TEXT_BYTES   (PROTO_KEYPOINT_FLOATS * (PROTO_NUMBER_BYTES + 1) + 4)
#define PROTO_DESCRIPTOR_TEXT_BYTES (4 * PROTO_DESCRIPTOR_BYTES) /* at most */

/* About a microsecond: cheap enough to be made for each rendering, so nothing global. */
void proto_byte_texts_init(struct proto_byte_texts *texts, char separator);

/*
 * Write `count` bytes as texts to `at`, each after its separator. Returns the end. `at`
 * has room for 4 bytes each, all of which may be written.
 */
uint8_t *proto_byte_texts_put(const struct proto_byte_texts *texts, uint8_t *at,
                              const uint8_t *bytes, size_t count);

void proto_render_json(const struct proto_blob *blob, enum proto_descriptors descriptors,
                       struct proto_output *out);
void proto_render_msgpack(const struct proto_blob *blob, struct proto_output *out);
void proto_render_npz(const struct proto_blob *blob, struct proto_output *out);
void proto_render_colmap(const struct proto_blob *blob, struct proto_output *out);
void proto_render_lowe(const struct proto_blob *blob, struct proto_output *out);

#endif
