/*
 * pnm.c - PBM, PGM and PPM, plain and raw. A comment runs from '#' to the end of its
 * line, in the header and, as Netpbm itself reads it, among plain samples.
 */
#include "extractor/decode/internal.h"

#include <string.h>

#define MAXVAL_MAX 65535u

struct reader {
    const uint8_t *at, *end;
};

struct head {
    unsigned type;     /* 1 to 6, as in "P5" */
    unsigned channels; /* 1 or 3 */
    uint32_t maxval;   /* 1 for bitmaps */
    uint32_t width_px, height_px;
};

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void skip_space(struct reader *r)
{
    while (r->at < r->end && (is_space(*r->at) || *r->at == '#')) {
        if (*r->at++ == '#')
            while (r->at < r->end && *r->at != '\n' && *r->at != '\r')
                r->at++;
    }
}

/* A decimal number up to `max`, after white space. False: none there, or too large. */
static bool read_number(struct reader *r, uint32_t max, uint32_t *out)
{
    uint64_t value = 0;
    skip_space(r);
    if (r->at == r->end || *r->at < '0' || *r->at > '9')
        return false;
    for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++) {
        value = 10 * value + (*r->at - '0');
        if (value > max)
            return false;
    }
    *out = (uint32_t)value;
    return true;
}

/* A plain bit may touch the next one. */
static bool read_bit(struct reader *r, uint32_t *out)
{
    skip_space(r);
    if (r->at == r->end || (*r->at != '0' && *r->at != '1'))
        return false;
    *out = *r->at++ - '0';
    return true;
}

static bool matches(const uint8_t *bytes, size_t size)
{
    return size >= 3 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6' &&
           (is_space(bytes[2]) || bytes[2] == '#');
}

/* Leaves `r` at the first sample. */
static int read_head(struct reader *r, struct head *out, struct decode_error *error)
{
    struct head head = {.type = r->at[1] - '0', .maxval = 1};
    r->at += 2;
    head.channels = head.type % 3 == 0 ? 3 : 1;

    if (!read_number(r, UINT32_MAX, &head.width_px) ||
        !read_number(r, UINT32_MAX, &head.height_px) || head.width_px == 0 ||
        head.height_px == 0)
        return decode_fail(error, DECODE_UNDECODABLE,
                           "The PNM header has no valid width and height.");
    if (head.type % 3 != 1 &&
        (!read_number(r, MAXVAL_MAX, &head.maxval) || head.maxval == 0))
        return decode_fail(error, DECODE_UNDECODABLE,
                           "The PNM header has no maximum value of 1 to %u.", MAXVAL_MAX);
    if (r->at == r->end || !is_space(*r->at))
        return decode_fail(error, DECODE_UNDECODABLE,
                           "The PNM header is not followed by white space.");
    r->at++;
    *out = head;
    return 0;
}

static int probe(const uint8_t *bytes, size_t size, struct decode_info *out,
                 struct decode_error *error)
{
    struct reader r = {bytes, bytes + size};
    struct head head;
    if (read_head(&r, &head, error) < 0)
        return -1;
    out->width_px = head.width_px;
    out->height_px = head.height_px;
    out->channels = head.channels;
    out->depth_bits = head.maxval > 255 ? 16 : 8;
    return 0;
}

static size_t raw_row_bytes(const struct head *head)
{
    if (head->type == 4)
        return ((size_t)head->width_px + 7) / 8;
    return (size_t)head->width_px * head->channels * (head->maxval > 255 ? 2 : 1);
}

/* Sample `i` of a raw row. */
static uint32_t raw_sample(const struct head *head, const uint8_t *row, size_t i)
{
    if (head->type == 4)
        return row[i / 8] >> (7 - i % 8) & 1;
    return head->maxval > 255 ? decode_be16(row + 2 * i) : row[i];
}

static bool next_sample(struct reader *r, const struct head *head, const uint8_t *row,
                        size_t i, uint32_t *out)
{
    if (head->type == 1)
        return read_bit(r, out);
    if (head->type < 4)
        return read_number(r, head->maxval, out);
    *out = raw_sample(head, row, i);
    return *out <= head->maxval;
}

static uint32_t full_range(const struct head *head, uint32_t sample)
{
    const uint32_t full = head->maxval > 255 ? 65535 : 255;
    if (head->type % 3 == 1)
        sample = 1 - sample;                                  /* in a bitmap 1 is ink */
    return (sample * full + head->maxval / 2) / head->maxval; /* 65535^2 + ... < 2^32 */
}

static bool decode_pixels(struct reader *r, const struct head *head, const uint8_t *raw,
                          const struct vision_image *out, size_t y)
{
    uint8_t *to8 = decode_row(out, y);
    uint16_t *to16 = decode_row(out, y);
    for (size_t x = 0; x < head->width_px; x++) {
        uint32_t v[3] = {0};
        for (unsigned c = 0; c < head->channels; c++) {
            if (!next_sample(r, head, raw, x * head->channels + c, &v[c]))
                return false;
            v[c] = full_range(head, v[c]);
        }
        uint32_t grey = head->channels == 3 ? decode_luma(v[0], v[1], v[2]) : v[0];
        if (out->depth_bits == 16)
            to16[x] = (uint16_t)grey;
        else
            to8[x] = (uint8_t)grey;
    }
    return true;
}

static int decode(const uint8_t *bytes, size_t size, const struct decode_info *info,
                  struct vision_control *control, const struct vision_image *out,
                  struct decode_error *error)
{
    struct reader r = {bytes, bytes + size};
    struct head head;
    if (read_head(&r, &head, error) < 0)
        return -1;

    const bool raw = head.type >= 4;
    const size_t row_bytes = raw ? raw_row_bytes(&head) : 0;
    for (size_t y = 0; y < info->height_px; y++) {
        if (decode_row_step(control, y))
            return decode_fail_cancelled(error);
        if (row_bytes > (size_t)(r.end - r.at))
            return decode_fail(error, DECODE_UNDECODABLE,
                               "The PNM file ends in row %zu of %u.", y, info->height_px);
        if (!decode_pixels(&r, &head, r.at, out, y))
            return decode_fail(error, DECODE_UNDECODABLE,
                               "Row %zu of the PNM file has no valid sample of 0 to %u.",
                               y, head.maxval);
        r.at += row_bytes;
    }
    return 0;
}

const struct decode_codec decode_codec_pnm = {"pnm", matches, probe, decode};
