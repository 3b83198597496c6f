/*
 * ttl.h - each key's own time to live, so that results made together do not end together.
 * Pure, thread-safe.
 */
#ifndef CACHER_TIER_TTL_H
#define CACHER_TIER_TTL_H

#include "proto/blob.h"

#include <stdint.h>

/*
 * Time to live of `key`: ttl_us plus or minus at most jitter_percent (0 to 100) of it.
 * It depends on the key alone, so that it needs no random source and every cacher
 * agrees; keys are digests, so they spread evenly.
 */
uint64_t cacher_ttl_us(const uint8_t key[PROTO_DIGEST_BYTES], uint64_t ttl_us,
                       unsigned jitter_percent);

#endif
