/*
 * encode.h - files of all kinds, made for the decoders' tests: the encoders of the
 * libraries themselves, and helpers to damage what they wrote.
 */
#ifndef TESTS_ENCODE_H
#define TESTS_ENCODE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <png.h>

struct bytes {
    uint8_t *data; /* malloc'd, exactly `size` long, so that ASan sees a read past it */
    size_t size;
};

static inline struct bytes bytes_copy(const void *data, size_t size)
{
    struct bytes out = {malloc(size > 0 ? size : 1), size};
    memcpy(out.data, data, size);
    return out;
}

/* `insert` at `at`, in place. */
static inline void bytes_insert(struct bytes *b, size_t at, const void *insert,
                                size_t size)
{
    uint8_t *data = malloc(b->size + size);
    memcpy(data, b->data, at);
    memcpy(data + at, insert, size);
    memcpy(data + at + size, b->data + at, b->size - at);
    free(b->data);
    b->data = data;
    b->size += size;
}

static inline void put_be32(uint8_t *to, uint32_t v)
{
    to[0] = (uint8_t)(v >> 24);
    to[1] = (uint8_t)(v >> 16);
    to[2] = (uint8_t)(v >> 8);
    to[3] = (uint8_t)v;
}

/* PNG's checksum (ISO 3309), a bit at a time. */
static inline uint32_t crc_of(const uint8_t *data, size_t size)
{
    uint32_t crc = 0xFFFFFFFF;
    for (size_t i = 0; i < size * 8; i++) {
        crc ^= i % 8 == 0 ? data[i / 8] : 0;
        crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
    }
    return ~crc;
}

/* A TIFF block with one entry, the orientation; 26 bytes. Motorola or Intel order. */
#define EXIF_BYTES 26
static inline void exif_block(uint8_t out[EXIF_BYTES], unsigned orientation, int intel)
{
    static const uint8_t be[EXIF_BYTES] = {'M', 'M', 0,    42, 0, 0, 0, 8, 0,
                                           1,   1,   0x12, 0,  3, 0, 0, 0, 1};
    static const uint8_t le[EXIF_BYTES] = {'I', 'I',  42, 0, 8, 0, 0, 0, 1,
                                           0,   0x12, 1,  3, 0, 1, 0, 0, 0};
    memcpy(out, intel ? le : be, EXIF_BYTES);
    out[intel ? 18 : 19] = (uint8_t)orientation;
}

struct jpeg_wish {
    J_COLOR_SPACE in, stored;
    int quality, progressive, arithmetic;
    const uint8_t *exif; /* EXIF_BYTES, or NULL */
};

/* Rows of `channels` bytes a pixel; channels as `in` has. */
static inline struct bytes jpeg_bytes(const uint8_t *pixels, unsigned w, unsigned h,
                                      const struct jpeg_wish *wish)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    unsigned char *data = NULL;
    unsigned long size = 0;
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &data, &size);
    c.image_width = w;
    c.image_height = h;
    c.in_color_space = wish->in;
    c.input_components = wish->in == JCS_GRAYSCALE ? 1 : wish->in == JCS_CMYK ? 4 : 3;
    jpeg_set_defaults(&c);
    jpeg_set_colorspace(&c, wish->stored);
    jpeg_set_quality(&c, wish->quality, TRUE);
    c.arith_code = wish->arithmetic;
    if (wish->progressive)
        jpeg_simple_progression(&c);
    jpeg_start_compress(&c, TRUE);
    if (wish->exif != NULL) {
        uint8_t marker[6 + EXIF_BYTES] = "Exif";
        memcpy(marker + 6, wish->exif, EXIF_BYTES);
        jpeg_write_marker(&c, JPEG_APP0 + 1, marker, sizeof marker);
    }
    while (c.next_scanline < h) {
        JSAMPROW row =
            (JSAMPROW)pixels + (size_t)c.next_scanline * w * (unsigned)c.input_components;
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    struct bytes out = bytes_copy(data, size);
    free(data);
    return out;
}

static inline void png_take(png_structp png, png_bytep from, size_t count)
{
    bytes_insert(png_get_io_ptr(png), ((struct bytes *)png_get_io_ptr(png))->size, from,
                 count);
}

struct png_wish {
    int depth, type, interlaced;
    const png_color *palette;
    int colours;
};

/* Rows as PNG stores them: packed, big-endian. */
static inline struct bytes png_bytes(const uint8_t *rows, unsigned w, unsigned h,
                                     const struct png_wish *wish)
{
    struct bytes out = {malloc(1), 0};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(png, &out, png_take, NULL);
    png_set_IHDR(png, info, w, h, wish->depth, wish->type,
                 wish->interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, 0, 0);
    if (wish->palette != NULL)
        png_set_PLTE(png, info, wish->palette, wish->colours);
    png_write_info(png, info);
    int passes = png_set_interlace_handling(png);
    size_t stride = png_get_rowbytes(png, info);
    for (int pass = 0; pass < passes; pass++)
        for (unsigned y = 0; y < h; y++)
            png_write_row(png, rows + y * stride);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    return out;
}

#endif
