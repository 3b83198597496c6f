/*
 * extremum.h - is this sample of a difference-of-Gaussians octave a keypoint, and where
 * exactly does it lie?
 *
 * The rules are those of VLFeat's vl_sift_detect but for ties. VLFeat asks an extremum to
 * beat all of its 26 neighbours; in a drawing - a disc, a square - the highest two
 * samples are often equal to the last bit, and neither was found. Here it must beat the
 * 13 before it and be no worse than the 13 after it, so of equal neighbours the first is
 * taken.
 */
#ifndef VISION_EXTREMUM_H
#define VISION_EXTREMUM_H

#include <stdbool.h>
#include <stddef.h>

/* The planes of one octave, one behind the other, rows without padding. */
struct vision_dog {
    const float *samples;
    int width_px, height_px;
    int planes;
};

struct vision_extremum {
    int x, y, plane;             /* the sample nearest to it; may not be where it began */
    double at_x, at_y, at_plane; /* refined */
    double value;                /* interpolated there */
};

/* True at a local maximum above `least`, or minimum below -`least`, that is not 0. The
 * sample has neighbours on all sides: 1 <= x <= width - 2, and so for y and plane. */
bool vision_extremum_test(const struct vision_dog *dog, int x, int y, int plane,
                          double least);

/*
 * Fit a quadric, moving to the next sample up to four times where the extremum lies
 * nearer to that. False when it runs off by more than 1.5 samples, when |value| is below
 * `contrast`, or when the ratio of the curvatures is above `edge`.
 */
bool vision_extremum_refine(const struct vision_dog *dog, int x, int y, int plane,
                            double contrast, double edge, struct vision_extremum *out);

#endif
