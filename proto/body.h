/*
 * body.h - the typed msgpack bodies of SMP/1, from the table bodies.tbl.
 *
 * One encoder and one decoder walk a list of fields, so a body is declared once. Neither
 * allocates; the decoder trusts nothing. Thread-safe.
 */
#ifndef PROTO_BODY_H
#define PROTO_BODY_H

#include <stddef.h>
#include <stdint.h>

#define PROTO_BODY_BYTES_MAX 4096 /* no body is larger; a larger frame is refused */

enum proto_field_type { PROTO_STR = 1, PROTO_UINT, PROTO_BYTES };

struct proto_field {
    const char *name; /* NULL ends a list */
    enum proto_field_type type;
    uint32_t max; /* bytes, for STR and BYTES */
    size_t offset;
    size_t length_offset; /* BYTES: where its uint32_t length is */
};

#define BODY(name) struct proto_##name {
#define END(name)                                                                        \
    }                                                                                    \
    ;
#define STR(body, field, limit) char field[(limit) + 1];
#define UINT(body, field)       uint64_t field;
#define BYTES(body, field, limit)                                                        \
    uint8_t field[limit];                                                                \
    uint32_t field##_bytes;
#include "proto/bodies.tbl"

#define BODY(name) extern const struct proto_field proto_##name##_fields[];
#define END(name)
#define STR(body, field, limit)
#define UINT(body, field)
#define BYTES(body, field, limit)
#include "proto/bodies.tbl"

/*
 * Encode `body`, described by `fields`, leaving out what is zero or empty. Returns the
 * length; -ENOSPC when `capacity` is too small (PROTO_BODY_BYTES_MAX never is); -EINVAL
 * when a text has no NUL within its array or a length is over its bound.
 */
int proto_body_encode(const struct proto_field *fields, const void *body, uint8_t *out,
                      size_t capacity);

/*
 * Decode bytes from a peer into `body`, which is cleared first and on errors (its size is
 * known from the list's end marker: offset holds sizeof). 0, or -EPROTO: not one msgpack
 * map and nothing after it, a key that is no string, a known field of a wrong type, too
 * long or there twice, a negative number, a text with a NUL, nesting, more than
 * PROTO_BODY_BYTES_MAX. An empty frame is an empty map.
 *
 * A text comes out cleaned (text.h): it is UTF-8 of one line and steers no terminal.
 */
int proto_body_decode(const struct proto_field *fields, const void *bytes, size_t size,
                      void *body);

/* The fields of a verb's body, or NULL when it has none or is unknown. */
const struct proto_field *proto_verb_fields(unsigned verb);

#endif
