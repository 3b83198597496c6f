#include "proto/mask.h"

#include "proto/bytes.h"

#include <string.h>

static const char magic[8] = "SMMASK1";

void proto_mask_trailer(uint64_t mask_bytes, uint8_t out[PROTO_MASK_TRAILER_BYTES])
{
    memcpy(out, magic, sizeof magic);
    proto_put_u64(out + sizeof magic, mask_bytes);
}

bool proto_mask_split(const uint8_t *bytes, size_t size, size_t *picture_bytes,
                      size_t *mask_bytes)
{
    if (size < PROTO_MASK_TRAILER_BYTES ||
        memcmp(bytes + size - PROTO_MASK_TRAILER_BYTES, magic, sizeof magic) != 0)
        return false;
    uint64_t mask = proto_get_u64(bytes + size - sizeof(uint64_t));
    if (mask == 0 || mask >= size - PROTO_MASK_TRAILER_BYTES)
        return false;
    *mask_bytes = (size_t)mask;
    *picture_bytes = size - PROTO_MASK_TRAILER_BYTES - (size_t)mask;
    return true;
}
