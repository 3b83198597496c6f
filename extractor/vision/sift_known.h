/*
 * sift_known.h - the samples of an octave where an extremum has been found already.
 *
 * Two extrema may be refined to the same one. It is one bit for each sample of a layer,
 * in a ring of the few rows that refining may reach from the row that is searched: so to
 * ask takes the same time in a row of any width. For sift_points.c alone.
 */
#ifndef VISION_SIFT_KNOWN_H
#define VISION_SIFT_KNOWN_H

#include "extractor/vision/sift_stream.h"

#define SIFT_KNOWN_ROWS 16 /* at least 2 * SIFT_REACH_ROWS */

struct sift_known {
    uint64_t *bits; /* borrowed: SIFT_KNOWN_ROWS x layers x words */
    size_t layers, words;
    size_t end; /* rows before this one are there */
};

/* Bytes that `bits` of an octave needs. */
size_t vision_sift_known_bytes(const struct sift_octave *o, size_t layers);

void vision_sift_known_init(struct sift_known *known, const struct sift_octave *o,
                            size_t layers, uint64_t *bits);

/* Row `y` is searched from now on; never less than the one before. */
void vision_sift_known_advance(struct sift_known *known, size_t y);

/* Note a sample less than SIFT_REACH_ROWS from the row that is searched, layer 1 or more;
 * false where it was noted before. */
bool vision_sift_known_add(struct sift_known *known, size_t layer, size_t x, size_t y);

#endif
