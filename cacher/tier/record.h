/*
 * record.h - a result with what the tiers behind memory must know of it, and its form as
 * bytes: what Redis holds under a key.
 *
 * Little-endian:
 *
 *    0  magic "SMRC"          4  version u16 (1), flags u16 (0)
 *    8  created, Unix time in seconds u64
 *   16  key, 32 bytes
 *   48  width, height u32; pixels of the picture
 *   56  time it took to compute u32; microseconds
 *   60  bytes of params u16, of tags u16
 *   64  bytes of payload u32
 *   68  CRC-32 (zlib's) of everything but these 4 bytes
 *   72  params, tags, payload
 *
 * Bytes of a tier are hostile: another program may have written them, a disk may have
 * changed them. What does not decode is a miss, counted as damaged. Pure, thread-safe,
 * nothing here allocates.
 */
#ifndef CACHER_TIER_RECORD_H
#define CACHER_TIER_RECORD_H

#include "proto/blob.h"
#include "proto/params.h"
#include "proto/tags.h"

#include <stddef.h>
#include <stdint.h>

#define CACHER_RECORD_HEAD_BYTES   72
#define CACHER_RECORD_PARAMS_BYTES 128 /* canonical parameters, at most */

struct cacher_record {
    uint8_t key[PROTO_DIGEST_BYTES];
    uint64_t created_s; /* Unix time */
    uint32_t width_px, height_px;
    uint32_t cost_us;      /* time that computing it took; 0: not known */
    const uint8_t *params; /* borrowed, canonical (proto/params.h); may be NULL with 0 */
    uint16_t params_bytes;
    const char *tags; /* borrowed, joined by commas, no NUL needed; NULL with 0 */
    uint16_t tags_bytes;
    const uint8_t *payload; /* borrowed: a feature blob or a PNG */
    uint32_t payload_bytes;
};

/* Bytes that the record has, encoded; a record has at most UINT32_MAX payload bytes. */
size_t cacher_record_bytes(const struct cacher_record *record);
/* Everything before the payload: head, params and tags. `out` has room for
 * CACHER_RECORD_PREFIX_BYTES_MAX. Returns the length. The payload follows as it is. */
#define CACHER_RECORD_PREFIX_BYTES_MAX                                                   \
    (CACHER_RECORD_HEAD_BYTES + CACHER_RECORD_PARAMS_BYTES + PROTO_TAGS_BYTES_MAX)
size_t cacher_record_encode_prefix(const struct cacher_record *record, uint8_t *out);
/* 0, the fields borrowed from `bytes`; or -EPROTO: cut, longer than it says, of another
 * version, a sum that does not match, lengths over their bounds, tags that
 * proto_tags_check() refuses. */
int cacher_record_decode(const uint8_t *bytes, size_t size, struct cacher_record *record);
/* When it was created, from its head alone; the sum is not looked at. 0 or -EPROTO. */
int cacher_record_created(const uint8_t *bytes, size_t size, uint64_t *created_s);

#endif
