/*
 * bytes.h - little-endian numbers in byte arrays of any alignment.
 *
 * By shifts, so that the result is the same on every machine; compilers make one load
 * or store of it. No bounds are checked here: the caller has checked the array's size.
 */
#ifndef PROTO_BYTES_H
#define PROTO_BYTES_H

#include <stdint.h>
#include <string.h>

static inline void proto_put_u16(uint8_t *dst, uint16_t value)
{
    dst[0] = (uint8_t)value;
    dst[1] = (uint8_t)(value >> 8);
}

static inline void proto_put_u32(uint8_t *dst, uint32_t value)
{
    proto_put_u16(dst, (uint16_t)value);
    proto_put_u16(dst + 2, (uint16_t)(value >> 16));
}

static inline void proto_put_u64(uint8_t *dst, uint64_t value)
{
    proto_put_u32(dst, (uint32_t)value);
    proto_put_u32(dst + 4, (uint32_t)(value >> 32));
}

static inline uint16_t proto_get_u16(const uint8_t *src)
{
    return (uint16_t)(src[0] | src[1] << 8);
}

static inline uint32_t proto_get_u32(const uint8_t *src)
{
    return proto_get_u16(src) | (uint32_t)proto_get_u16(src + 2) << 16;
}

static inline uint64_t proto_get_u64(const uint8_t *src)
{
    return proto_get_u32(src) | (uint64_t)proto_get_u32(src + 4) << 32;
}

static inline void proto_put_f32(uint8_t *dst, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    proto_put_u32(dst, bits);
}

static inline float proto_get_f32(const uint8_t *src)
{
    uint32_t bits = proto_get_u32(src);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline void proto_put_f64(uint8_t *dst, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    proto_put_u64(dst, bits);
}

static inline double proto_get_f64(const uint8_t *src)
{
    uint64_t bits = proto_get_u64(src);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
