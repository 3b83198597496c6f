/*
 * NumPy's .npz: a zip of .npy files, stored without compression (descriptors hardly
 * shrink, and readers can map them). .npy format 1.0: magic, length, a Python literal
 * padded to a multiple of 64, data. Zip: PKWARE's APPNOTE 6.3.3, no zip64: a blob in
 * bounds stays under 4 GiB.
 */
#include "proto/bytes.h"
#include "proto/key.h"
#include "proto/render_parts.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

enum { MEMBERS = 3, LOCAL_BYTES = 30, CENTRAL_BYTES = 46, END_BYTES = 22 };
enum { OTHER_BYTES = 1024 }; /* all headers and the key take less */
enum { ZIP_VERSION = 20, DOS_DATE_1980_01_01 = 0x0021 };

_Static_assert((uint64_t)PROTO_BLOB_FEATURES_MAX *(PROTO_KEYPOINT_FLOATS * 4 +
                                                   PROTO_DESCRIPTOR_BYTES) <
                   UINT64_C(0xf0000000),
               "offsets of a zip without zip64 have 32 bits");

struct member {
    const char *name;
    char header[128]; /* the .npy's */
    size_t header_bytes;
    const uint8_t *data;
    size_t data_bytes;
    uint32_t offset; /* of its local header */
    uint32_t crc;
};

static void npy_header(struct member *member, const char *descr, const char *shape)
{
    static const char magic[8] = {'\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0};
    const size_t size = sizeof member->header;

    memset(member->header, ' ', size);
    memcpy(member->header, magic, sizeof magic);
    proto_put_u16((uint8_t *)member->header + 8, (uint16_t)(size - 10));
    int length =
        snprintf(member->header + 10, size - 10,
                 "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, shape);
    member->header[10 + length] = ' ';
    member->header[size - 1] = '\n';
    member->header_bytes = size;
}

/* The 26 bytes that a local and a central header share, from "version needed" on. */
static void common_header(const struct member *member, uint8_t *at)
{
    uint32_t size = (uint32_t)(member->header_bytes + member->data_bytes);

    proto_put_u16(at, ZIP_VERSION);
    proto_put_u16(at + 2, 0); /* flags */
    proto_put_u16(at + 4, 0); /* stored */
    proto_put_u16(at + 6, 0); /* midnight */
    proto_put_u16(at + 8, DOS_DATE_1980_01_01);
    proto_put_u32(at + 10, member->crc);
    proto_put_u32(at + 14, size); /* compressed */
    proto_put_u32(at + 18, size);
    proto_put_u16(at + 22, (uint16_t)strlen(member->name));
    proto_put_u16(at + 24, 0); /* extra field */
}

static void put_member(struct member *member, struct proto_output *out)
{
    uint8_t local[LOCAL_BYTES] = {'P', 'K', 3, 4};
    uLong crc = crc32(0, (const uint8_t *)member->header, (uInt)member->header_bytes);

    member->crc = (uint32_t)crc32(crc, member->data, (uInt)member->data_bytes);
    member->offset = (uint32_t)out->size;
    common_header(member, local + 4);
    proto_output_put(out, local, sizeof local);
    proto_output_text(out, member->name);
    proto_output_put(out, member->header, member->header_bytes);
    proto_output_put(out, member->data, member->data_bytes);
}

static void put_central(const struct member *member, struct proto_output *out)
{
    uint8_t central[CENTRAL_BYTES] = {'P', 'K', 1, 2, ZIP_VERSION};

    common_header(member, central + 6);
    proto_put_u32(central + 42, member->offset);
    proto_output_put(out, central, sizeof central);
    proto_output_text(out, member->name);
}

static void put_end(size_t central, struct proto_output *out)
{
    uint8_t end[END_BYTES] = {'P', 'K', 5, 6};

    proto_put_u16(end + 8, MEMBERS);
    proto_put_u16(end + 10, MEMBERS);
    proto_put_u32(end + 12, (uint32_t)(out->size - central));
    proto_put_u32(end + 16, (uint32_t)central);
    proto_output_put(out, end, sizeof end);
}

void proto_render_npz(const struct proto_blob *blob, struct proto_output *out)
{
    uint8_t key[4 * 2 * PROTO_DIGEST_BYTES]; /* NumPy's text has 4 bytes a character */
    char hex[PROTO_HEX_BYTES], shape[32];
    struct member members[MEMBERS] = {
        {.name = "keypoints.npy",
         .data = blob->keypoints,
         .data_bytes = (size_t)blob->count * PROTO_KEYPOINT_FLOATS * 4},
        {.name = "descriptors.npy",
         .data = blob->descriptors,
         .data_bytes = (size_t)blob->count * PROTO_DESCRIPTOR_BYTES},
        {.name = "key.npy", .data = key, .data_bytes = sizeof key},
    };

    proto_hex(blob->key, hex);
    for (size_t i = 0; i < 2 * PROTO_DIGEST_BYTES; i++)
        proto_put_u32(key + 4 * i, (uint8_t)hex[i]);
    snprintf(shape, sizeof shape, "(%u, %d)", blob->count, PROTO_KEYPOINT_FLOATS);
    npy_header(&members[0], "<f4", shape);
    snprintf(shape, sizeof shape, "(%u, %d)", blob->count, PROTO_DESCRIPTOR_BYTES);
    npy_header(&members[1], "|u1", shape);
    npy_header(&members[2], "<U64", "()");

    proto_output_reserve(out, proto_blob_bytes(blob->count) + OTHER_BYTES);
    for (size_t i = 0; i < MEMBERS; i++)
        put_member(&members[i], out);
    size_t central = out->size;
    for (size_t i = 0; i < MEMBERS; i++)
        put_central(&members[i], out);
    put_end(central, out);
}
