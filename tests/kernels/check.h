/*
 * check.h - each fast kernel beside its scalar twin.
 *
 * A check gets two kernel tables and fails where their bytes differ. Every random number
 * comes from the case's seed, which a failure prints; `check_kernels NAME SEED` runs that
 * case alone.
 */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include "extractor/vision/kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct check {
    const char *name, *level;
    uint64_t seed;   /* of this case */
    uint64_t state;  /* of check_rand() */
    char about[200]; /* the case in words; checks fill it before they run a kernel */
    unsigned failed; /* cases */
};

uint64_t check_rand(struct check *c);

/* 0 to n - 1. */
size_t check_below(struct check *c, size_t n);

/* `bytes` of memory that begin after and end before a page which may not be touched: an
 * access past the end ends the program. Filled with noise. Aligned to 64 where `bytes` is
 * a multiple of 64, else not at all. Bounded at 64 MB; exits when out of memory. */
void *check_guarded(struct check *c, size_t bytes);
void check_release(void *memory, size_t bytes);

/* Counts and prints a difference between `want` and `got`; false when there is one. */
bool check_same(struct check *c, const void *want, const void *got, size_t bytes,
                const char *what);

/* One case each. */
typedef void check_fn(struct check *c, const struct vision_kernels *plain,
                      const struct vision_kernels *fast);
check_fn check_nlm_u8;
check_fn check_nlm_u16;
check_fn check_sift_lines;
check_fn check_sift_extrema;
check_fn check_sift_keypoint;

#endif
