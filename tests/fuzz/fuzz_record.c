/*
 * Any bytes as a record of Redis or of the store: no crash, and what is accepted is
 * encoded to the same bytes again. The first byte says whether the checksum is mended
 * first, so that what lies behind it is reached.
 */
#include "cacher/tier/record.h"
#include "proto/bytes.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define AT_SUM 68

static void require(int condition)
{
    if (!condition)
        abort();
}

static void mend(uint8_t *bytes, size_t size)
{
    uLong sum = crc32_z(0, bytes, AT_SUM);

    sum = crc32_z(sum, bytes + AT_SUM + 4, size - AT_SUM - 4);
    proto_put_u32(bytes + AT_SUM, (uint32_t)sum);
}

static void check_tags(const struct cacher_record *record)
{
    const char *tags = record->tags, *tag;
    size_t left = record->tags_bytes, length, count = 0, total = 0;
    char name[PROTO_TAG_BYTES_MAX + 1];

    while ((tag = proto_tags_next(&tags, &left, &length)) != NULL) {
        require(length >= 1 && length <= PROTO_TAG_BYTES_MAX);
        memcpy(name, tag, length);
        name[length] = '\0';
        require(proto_tags_have(record->tags, record->tags_bytes, name));
        total += length + (count++ > 0);
    }
    require(count <= PROTO_TAGS_MAX && total == record->tags_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t prefix[CACHER_RECORD_PREFIX_BYTES_MAX];
    struct cacher_record record;

    if (size == 0)
        return 0;
    size_t bytes = size - 1;
    uint8_t *copy = malloc(bytes); /* of its own size, for ASan */
    if (bytes > 0)
        memcpy(copy, data + 1, bytes);
    if ((data[0] & 1) != 0 && bytes >= CACHER_RECORD_HEAD_BYTES)
        mend(copy, bytes);
    if (cacher_record_decode(copy, bytes, &record) == 0) {
        require(cacher_record_bytes(&record) == bytes);
        size_t head = cacher_record_encode_prefix(&record, prefix);
        require(head + record.payload_bytes == bytes);
        require(memcmp(prefix, copy, head) == 0);
        check_tags(&record);
    }
    free(copy);
    return 0;
}
