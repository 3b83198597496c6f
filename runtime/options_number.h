/*
 * options_number.h - the numbers of options.h as text, both ways. For options*.c alone.
 */
#ifndef RUNTIME_OPTIONS_NUMBER_H
#define RUNTIME_OPTIONS_NUMBER_H

#include "runtime/options.h"

struct options_number {
    char text[24];
};

/* Shortest exact form: where the unit is bytes, multiples of 1024 get a suffix. */
struct options_number options_number_text(const struct option_spec *spec, uint64_t value);

struct options_range {
    char text[96];
};

/* "1 to 65536 jobs"; a unit of NULL or "" is left out. */
struct options_range options_number_range(const struct option_spec *spec);

/* Decimal digits alone, and one of k, M, G (1024) where the unit is bytes. 0, -EINVAL
 * for anything else, -ERANGE for a number too large for 64 bits. */
int options_number_parse(const struct option_spec *spec, const char *text, uint64_t *out);

#endif
