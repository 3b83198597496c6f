#include "cacher/redis/slot.h"

#include <string.h>

/* Polynomial 0x1021, from 0, not reflected. A key has some 77 bytes and costs less than
 * the reply's parsing, so there is no table. */
uint16_t redis_slot_crc16(const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    unsigned crc = 0;

    for (size_t i = 0; i < size; i++) {
        crc ^= (unsigned)at[i] << 8;
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1;
    }
    return (uint16_t)crc;
}

unsigned redis_slot(const char *key, size_t bytes)
{
    const char *open = memchr(key, '{', bytes);
    const char *end = key + bytes;
    const char *close = open != NULL ? memchr(open, '}', (size_t)(end - open)) : NULL;

    if (close != NULL && close > open + 1) {
        key = open + 1;
        bytes = (size_t)(close - key);
    }
    return redis_slot_crc16(key, bytes) % REDIS_SLOTS;
}
