#include "cacher/tier/ttl.h"

#include "proto/bytes.h"

uint64_t cacher_ttl_us(const uint8_t key[PROTO_DIGEST_BYTES], uint64_t ttl_us,
                       unsigned jitter_percent)
{
    uint64_t span = ttl_us / 100 * jitter_percent; /* each way */
    uint64_t share = proto_get_u32(key);           /* of 2^32, over both ways */

    return ttl_us - span + ((2 * span >> 16) * (share >> 16));
}
