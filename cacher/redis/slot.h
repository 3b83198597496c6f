/*
 * slot.h - which part of a Redis Cluster a key is in: CRC-16/XMODEM modulo 16384, of what
 * stands between the first { and the } after it where that is not empty (Redis Cluster
 * specification, "Key distribution model" and "Hash tags"). Pure.
 */
#ifndef CACHER_REDIS_SLOT_H
#define CACHER_REDIS_SLOT_H

#include <stddef.h>
#include <stdint.h>

#define REDIS_SLOTS 16384

uint16_t redis_slot_crc16(const void *bytes, size_t size);
unsigned redis_slot(const char *key, size_t bytes);

#endif
