#include "cacher/tier/record.h"

#include "proto/bytes.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <zlib.h>

#define VERSION 1
#define AT_SUM  68

static const uint8_t magic[4] = {'S', 'M', 'R', 'C'};

size_t cacher_record_bytes(const struct cacher_record *record)
{
    return (size_t)CACHER_RECORD_HEAD_BYTES + record->params_bytes + record->tags_bytes +
           record->payload_bytes;
}

static uint32_t sum(const uint8_t *prefix, size_t prefix_bytes, const uint8_t *payload,
                    size_t payload_bytes)
{
    uLong crc = crc32_z(0, prefix, AT_SUM);

    crc = crc32_z(crc, prefix + AT_SUM + 4, prefix_bytes - AT_SUM - 4);
    if (payload_bytes > 0) /* crc32_z(_, NULL, _) is the initial value, not a no-op */
        crc = crc32_z(crc, payload, payload_bytes);
    return (uint32_t)crc;
}

size_t cacher_record_encode_prefix(const struct cacher_record *record, uint8_t *out)
{
    uint8_t *at = out + CACHER_RECORD_HEAD_BYTES;

    memcpy(out, magic, sizeof magic);
    proto_put_u16(out + 4, VERSION);
    proto_put_u16(out + 6, 0);
    proto_put_u64(out + 8, record->created_s);
    memcpy(out + 16, record->key, PROTO_DIGEST_BYTES);
    proto_put_u32(out + 48, record->width_px);
    proto_put_u32(out + 52, record->height_px);
    proto_put_u32(out + 56, record->cost_us);
    proto_put_u16(out + 60, record->params_bytes);
    proto_put_u16(out + 62, record->tags_bytes);
    proto_put_u32(out + 64, record->payload_bytes);
    if (record->params_bytes > 0)
        memcpy(at, record->params, record->params_bytes);
    at += record->params_bytes;
    if (record->tags_bytes > 0)
        memcpy(at, record->tags, record->tags_bytes);
    at += record->tags_bytes;
    proto_put_u32(out + AT_SUM,
                  sum(out, (size_t)(at - out), record->payload, record->payload_bytes));
    return (size_t)(at - out);
}

static bool has_head(const uint8_t *bytes, size_t size)
{
    return size >= CACHER_RECORD_HEAD_BYTES && memcmp(bytes, magic, sizeof magic) == 0 &&
           proto_get_u16(bytes + 4) == VERSION && proto_get_u16(bytes + 6) == 0;
}

int cacher_record_created(const uint8_t *bytes, size_t size, uint64_t *created_s)
{
    if (!has_head(bytes, size))
        return -EPROTO;
    *created_s = proto_get_u64(bytes + 8);
    return 0;
}

int cacher_record_decode(const uint8_t *bytes, size_t size, struct cacher_record *record)
{
    if (!has_head(bytes, size))
        return -EPROTO;
    *record = (struct cacher_record){.created_s = proto_get_u64(bytes + 8),
                                     .width_px = proto_get_u32(bytes + 48),
                                     .height_px = proto_get_u32(bytes + 52),
                                     .cost_us = proto_get_u32(bytes + 56),
                                     .params_bytes = proto_get_u16(bytes + 60),
                                     .tags_bytes = proto_get_u16(bytes + 62),
                                     .payload_bytes = proto_get_u32(bytes + 64)};
    memcpy(record->key, bytes + 16, PROTO_DIGEST_BYTES);
    if (record->params_bytes > CACHER_RECORD_PARAMS_BYTES ||
        record->tags_bytes > PROTO_TAGS_BYTES_MAX || cacher_record_bytes(record) != size)
        return -EPROTO;
    record->params = bytes + CACHER_RECORD_HEAD_BYTES;
    record->tags = (const char *)record->params + record->params_bytes;
    record->payload = (const uint8_t *)record->tags + record->tags_bytes;
    if (sum(bytes, (size_t)(record->payload - bytes), record->payload,
            record->payload_bytes) != proto_get_u32(bytes + AT_SUM) ||
        proto_tags_check(record->tags, record->tags_bytes) != NULL)
        return -EPROTO;
    return 0;
}
