/*
 * exif.c - the orientation in an EXIF block, and nothing else of it.
 *
 * The block is TIFF: a byte order, then a directory of entries of 12 bytes (TIFF 6.0,
 * section 2). Only the first directory is looked at. A library that reads the whole block
 * would follow the notes of camera makers too, which have no common form.
 */
#include "extractor/decode/internal.h"

#include <stdbool.h>
#include <string.h>

enum {
    HEAD_BYTES = 8,
    ENTRY_BYTES = 12,
    TAG_ORIENTATION = 0x0112,
    TYPE_SHORT = 3,
    TIFF_MAGIC = 42
};

struct tiff {
    const uint8_t *bytes;
    size_t size;
    bool big_endian;
};

static uint32_t get16(const struct tiff *t, size_t at)
{
    const uint8_t *p = t->bytes + at;
    return t->big_endian ? decode_be16(p) : (uint32_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const struct tiff *t, size_t at)
{
    return t->big_endian ? decode_be32(t->bytes + at) : decode_le32(t->bytes + at);
}

/* 1 where this entry is no orientation. */
static unsigned entry_at(const struct tiff *t, size_t at)
{
    if (get16(t, at) != TAG_ORIENTATION || get16(t, at + 2) != TYPE_SHORT ||
        get32(t, at + 4) != 1)
        return 1;
    unsigned value = get16(t, at + 8);
    return value >= 1 && value <= 8 ? value : 1;
}

unsigned decode_exif_orientation(const uint8_t *tiff, size_t size)
{
    struct tiff t = {.bytes = tiff, .size = size};

    if (size < HEAD_BYTES || size > DECODE_EXIF_MAX_BYTES)
        return 1;
    t.big_endian = tiff[0] == 'M';
    if (tiff[0] != tiff[1] || (tiff[0] != 'M' && tiff[0] != 'I') ||
        get16(&t, 2) != TIFF_MAGIC)
        return 1;

    size_t at = get32(&t, 4);
    if (at > size - 2)
        return 1;
    unsigned left = get16(&t, at);
    for (at += 2; left > 0 && size - at >= ENTRY_BYTES; left--, at += ENTRY_BYTES)
        if (get16(&t, at) == TAG_ORIENTATION)
            return entry_at(&t, at);
    return 1;
}
