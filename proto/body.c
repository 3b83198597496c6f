/*
 * Packing is msgpack-c's. Unpacking is not: msgpack_unpack_next() allocates what a
 * length field claims before it looks for the bytes, so that five bytes (an array of
 * 2^32 - 1) ask for 64 GiB. A body is one flat map of strings and numbers; the part of
 * the format that it may use is read here in place, and is checked against msgpack-c in
 * tests/unit/proto/test_body.c.
 */
#include "proto/body.h"
#include "proto/text.h"

#include "proto/bytes.h"
#include "proto/envelope.h"

#include <errno.h>
#include <msgpack/pack.h>
#include <stdbool.h>
#include <string.h>

#define BODY(name) const struct proto_field proto_##name##_fields[] = {
#define END(name)                                                                        \
    {                                                                                    \
        NULL, (enum proto_field_type)0, 0, sizeof(struct proto_##name), 0                \
    }                                                                                    \
    }                                                                                    \
    ;
#define STR(body, field, limit)                                                          \
    {#field, PROTO_STR, limit, offsetof(struct proto_##body, field), 0},
#define UINT(body, field)                                                                \
    {#field, PROTO_UINT, 0, offsetof(struct proto_##body, field), 0},
#define BYTES(body, field, limit)                                                        \
    {#field, PROTO_BYTES, limit, offsetof(struct proto_##body, field),                   \
     offsetof(struct proto_##body, field##_bytes)},
#include "proto/bodies.tbl"

const struct proto_field *proto_verb_fields(unsigned verb)
{
#define proto_none_fields NULL
    static const struct proto_field *const lists[PROTO_VERB_END] = {
#define VERB(name, number, body, sender, help) [number] = proto_##body##_fields,
#include "proto/verbs.tbl"
    };
    return verb < PROTO_VERB_END ? lists[verb] : NULL;
}

/* ---- encoding ---- */

struct writer {
    uint8_t *out;
    size_t length, capacity;
};

static int write_bytes(void *data, const char *bytes, size_t size)
{
    struct writer *writer = data;

    if (size > writer->capacity - writer->length)
        return -1;
    memcpy(writer->out + writer->length, bytes, size);
    writer->length += size;
    return 0;
}

static uint64_t uint_of(const struct proto_field *field, const void *body)
{
    uint64_t value;
    memcpy(&value, (const char *)body + field->offset, sizeof value);
    return value;
}

/* The length of a text or of bytes, as the body has it; not yet checked. */
static uint32_t length_of(const struct proto_field *field, const void *body)
{
    uint32_t length;

    if (field->type == PROTO_STR)
        return (uint32_t)strnlen((const char *)body + field->offset, field->max + 1u);
    memcpy(&length, (const char *)body + field->length_offset, sizeof length);
    return length;
}

static bool is_set(const struct proto_field *field, const void *body)
{
    return field->type == PROTO_UINT ? uint_of(field, body) != 0
                                     : length_of(field, body) != 0;
}

static int pack_field(msgpack_packer *packer, const struct proto_field *field,
                      const void *body)
{
    const char *value = (const char *)body + field->offset;
    size_t name_bytes = strlen(field->name), length;

    if (msgpack_pack_str(packer, name_bytes) < 0 ||
        msgpack_pack_str_body(packer, field->name, name_bytes) < 0)
        return -1;
    switch (field->type) {
    case PROTO_UINT:
        return msgpack_pack_uint64(packer, uint_of(field, body));
    case PROTO_STR:
        length = length_of(field, body);
        return msgpack_pack_str(packer, length) < 0
                   ? -1
                   : msgpack_pack_str_body(packer, value, length);
    case PROTO_BYTES:
        length = length_of(field, body);
        return msgpack_pack_bin(packer, length) < 0
                   ? -1
                   : msgpack_pack_bin_body(packer, value, length);
    }
    return -1;
}

int proto_body_encode(const struct proto_field *fields, const void *body, uint8_t *out,
                      size_t capacity)
{
    struct writer writer = {
        .out = out,
        .capacity = capacity < PROTO_BODY_BYTES_MAX ? capacity : PROTO_BODY_BYTES_MAX,
    };
    msgpack_packer packer;
    size_t count = 0;

    for (const struct proto_field *field = fields; field->name != NULL; field++) {
        if (field->type != PROTO_UINT && length_of(field, body) > field->max)
            return -EINVAL;
        count += is_set(field, body);
    }
    msgpack_packer_init(&packer, &writer, write_bytes);
    if (msgpack_pack_map(&packer, count) < 0)
        return -ENOSPC;
    for (const struct proto_field *field = fields; field->name != NULL; field++)
        if (is_set(field, body) && pack_field(&packer, field, body) < 0)
            return -ENOSPC;
    return (int)writer.length;
}

/* ---- decoding ---- */

struct reader {
    const uint8_t *at, *end;
};

enum kind { BAD, UINT_VALUE, STR_VALUE, BIN_VALUE, MAP_VALUE, ARRAY_VALUE, OTHER_VALUE };

struct value {
    enum kind kind;
    uint64_t number;      /* UINT; MAP: pairs */
    const uint8_t *bytes; /* STR and BIN */
    size_t length;
};

/* What follows the tags 0xc0 to 0xdf: a big-endian number of `width` bytes, which is the
 * value or the value's length, and `fixed` bytes more. */
struct tag {
    uint8_t kind, width, fixed;
    bool is_length, is_signed;
};

static const struct tag tags[32] = {
    /* nil, never used, false, true */
    {OTHER_VALUE, 0, 0, false, false},
    {BAD, 0, 0, false, false},
    {OTHER_VALUE, 0, 0, false, false},
    {OTHER_VALUE, 0, 0, false, false},
    /* bin 8, 16, 32; ext 8, 16, 32, which have a type byte more */
    {BIN_VALUE, 1, 0, true, false},
    {BIN_VALUE, 2, 0, true, false},
    {BIN_VALUE, 4, 0, true, false},
    {OTHER_VALUE, 1, 1, true, false},
    {OTHER_VALUE, 2, 1, true, false},
    {OTHER_VALUE, 4, 1, true, false},
    /* float 32, 64 */
    {OTHER_VALUE, 0, 4, false, false},
    {OTHER_VALUE, 0, 8, false, false},
    /* uint and int 8, 16, 32, 64 */
    {UINT_VALUE, 1, 0, false, false},
    {UINT_VALUE, 2, 0, false, false},
    {UINT_VALUE, 4, 0, false, false},
    {UINT_VALUE, 8, 0, false, false},
    {UINT_VALUE, 1, 0, false, true},
    {UINT_VALUE, 2, 0, false, true},
    {UINT_VALUE, 4, 0, false, true},
    {UINT_VALUE, 8, 0, false, true},
    /* fixext 1, 2, 4, 8, 16, with their type byte */
    {OTHER_VALUE, 0, 2, false, false},
    {OTHER_VALUE, 0, 3, false, false},
    {OTHER_VALUE, 0, 5, false, false},
    {OTHER_VALUE, 0, 9, false, false},
    {OTHER_VALUE, 0, 17, false, false},
    /* str 8, 16, 32; array 16, 32; map 16, 32 */
    {STR_VALUE, 1, 0, true, false},
    {STR_VALUE, 2, 0, true, false},
    {STR_VALUE, 4, 0, true, false},
    {ARRAY_VALUE, 2, 0, false, false},
    {ARRAY_VALUE, 4, 0, false, false},
    {MAP_VALUE, 2, 0, false, false},
    {MAP_VALUE, 4, 0, false, false},
};

/* The next `size` bytes, or NULL when there are fewer. */
static const uint8_t *take(struct reader *reader, size_t size)
{
    const uint8_t *at = reader->at;

    if (size > (size_t)(reader->end - at))
        return NULL;
    reader->at += size;
    return at;
}

static uint64_t big_endian(const uint8_t *bytes, size_t width)
{
    uint64_t number = 0;

    for (size_t i = 0; i < width; i++)
        number = number << 8 | bytes[i];
    return number;
}

/* A value with a tag of 0xc0 to 0xdf, the tag taken already. */
static struct value read_tagged(struct reader *reader, const struct tag *tag)
{
    const struct value bad = {.kind = BAD};
    struct value value = {.kind = (enum kind)tag->kind};
    const uint8_t *number = take(reader, tag->width);

    if (number == NULL)
        return bad;
    value.number = big_endian(number, tag->width);
    /* A signed number may be a count all the same; a negative one never is. */
    if (tag->is_signed && tag->width > 0 && (number[0] & 0x80))
        value.kind = OTHER_VALUE;
    value.length = tag->fixed + (tag->is_length ? (size_t)value.number : 0);
    value.bytes = take(reader, value.length);
    return value.bytes != NULL ? value : bad;
}

/* The next value; of a map or an array only its head. */
static struct value read_value(struct reader *reader)
{
    struct value value = {.kind = BAD};
    const uint8_t *tag = take(reader, 1);

    if (tag == NULL)
        return value;
    if (*tag >= 0xc0 && *tag <= 0xdf)
        return read_tagged(reader, &tags[*tag - 0xc0]);
    if (*tag < 0x80)
        return (struct value){.kind = UINT_VALUE, .number = *tag};
    if (*tag < 0x90)
        return (struct value){.kind = MAP_VALUE, .number = *tag & 15u};
    if (*tag < 0xa0)
        return (struct value){.kind = ARRAY_VALUE, .number = *tag & 15u};
    if (*tag >= 0xe0) /* -32 to -1 */
        return (struct value){.kind = OTHER_VALUE};
    value.length = *tag & 31u;
    value.bytes = take(reader, value.length);
    value.kind = value.bytes != NULL ? STR_VALUE : BAD;
    return value;
}

/* The index in `fields`, or that of the end marker for an unknown name. */
static size_t find_field(const struct proto_field *fields, const struct value *name)
{
    size_t i = 0;

    while (fields[i].name != NULL && (strlen(fields[i].name) != name->length ||
                                      memcmp(fields[i].name, name->bytes, name->length)))
        i++;
    return i;
}

static int store(const struct proto_field *field, const struct value *value, void *body)
{
    char *at = (char *)body + field->offset;
    uint32_t length = (uint32_t)value->length;

    if (field->type == PROTO_UINT) {
        if (value->kind != UINT_VALUE)
            return -EPROTO;
        memcpy(at, &value->number, sizeof value->number);
        return 0;
    }
    if (value->kind != (field->type == PROTO_STR ? STR_VALUE : BIN_VALUE) ||
        value->length > field->max)
        return -EPROTO;
    if (field->type == PROTO_BYTES)
        memcpy((char *)body + field->length_offset, &length, sizeof length);
    else if (memchr(value->bytes, '\0', value->length) != NULL)
        return -EPROTO; /* in C the rest of the text would be lost */
    memcpy(at, value->bytes, value->length);
    if (field->type == PROTO_STR)
        proto_text_clean(at); /* which the cleared body ends */
    return 0;
}

static int read_pair(const struct proto_field *fields, struct reader *reader,
                     uint64_t *seen, void *body)
{
    struct value name = read_value(reader);
    if (name.kind != STR_VALUE)
        return -EPROTO;

    struct value value = read_value(reader);
    if (value.kind == BAD || value.kind == MAP_VALUE || value.kind == ARRAY_VALUE)
        return -EPROTO;

    size_t i = find_field(fields, &name);
    if (fields[i].name == NULL)
        return 0;
    if (*seen >> i & 1)
        return -EPROTO;
    *seen |= UINT64_C(1) << i;
    return store(&fields[i], &value, body);
}

/* At most size / 2 turns, whatever the map's head claims: every pair takes 2 bytes. */
static int read_map(const struct proto_field *fields, struct reader *reader, void *body)
{
    struct value map = read_value(reader);
    uint64_t seen = 0; /* bit i: field i; no list is longer than 64 */

    if (map.kind != MAP_VALUE)
        return -EPROTO;
    for (uint64_t i = 0; i < map.number; i++)
        if (read_pair(fields, reader, &seen, body) < 0)
            return -EPROTO;
    return reader->at == reader->end ? 0 : -EPROTO;
}

static size_t body_bytes(const struct proto_field *fields)
{
    while (fields->name != NULL)
        fields++;
    return fields->offset;
}

int proto_body_decode(const struct proto_field *fields, const void *bytes, size_t size,
                      void *body)
{
    const size_t clear = body_bytes(fields);

    memset(body, 0, clear);
    if (size == 0)
        return 0;
    if (size > PROTO_BODY_BYTES_MAX)
        return -EPROTO;

    struct reader reader = {bytes, (const uint8_t *)bytes + size};
    int err = read_map(fields, &reader, body);
    if (err < 0)
        memset(body, 0, clear);
    return err;
}
