/*
 * sift_known.c - a ring of bit rows: was this sample of this layer an extremum already?
 *
 * Called by sift_points.c for each refined extremum. It never allocates: its bits are a
 * piece of the stream's arena.
 */
#include "extractor/vision/sift_known.h"

#include <string.h>

_Static_assert(SIFT_KNOWN_ROWS >= 2 * SIFT_REACH_ROWS, "no row is used for two");

static size_t words_of(const struct sift_octave *o)
{
    return (o->width + 63) / 64;
}

size_t vision_sift_known_bytes(const struct sift_octave *o, size_t layers)
{
    return o->searched ? SIFT_KNOWN_ROWS * layers * words_of(o) * sizeof(uint64_t) : 0;
}

void vision_sift_known_init(struct sift_known *known, const struct sift_octave *o,
                            size_t layers, uint64_t *bits)
{
    *known = (struct sift_known){.bits = bits, .layers = layers, .words = words_of(o)};
}

static uint64_t *row_of(const struct sift_known *known, size_t y)
{
    return known->bits + y % SIFT_KNOWN_ROWS * known->layers * known->words;
}

void vision_sift_known_advance(struct sift_known *known, size_t y)
{
    const size_t end = y + SIFT_REACH_ROWS;
    const size_t bytes = known->layers * known->words * sizeof known->bits[0];

    if (end > known->end + SIFT_KNOWN_ROWS)
        known->end = end - SIFT_KNOWN_ROWS;
    for (; known->end < end; known->end++)
        memset(row_of(known, known->end), 0, bytes);
}

bool vision_sift_known_add(struct sift_known *known, size_t layer, size_t x, size_t y)
{
    uint64_t *word = row_of(known, y) + (layer - 1) * known->words + x / 64;
    const uint64_t bit = (uint64_t)1 << x % 64;
    const bool is_new = (*word & bit) == 0;

    *word |= bit;
    return is_new;
}
