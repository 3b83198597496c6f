/*
 * number.h - numbers as text, the same text on every machine and in every locale.
 *
 * Pure; thread-safe; nothing here allocates.
 */
#ifndef PROTO_NUMBER_H
#define PROTO_NUMBER_H

#include <stddef.h>

#define PROTO_NUMBER_BYTES 32 /* no number is longer, with its NUL */

/*
 * Write the shortest decimal text that reads back to the same value, such as "12.5",
 * "-0.003" or "1e-07", with a NUL. The value is finite. Returns the length.
 *
 * For a float outside 1e-12 to 1e15 the text reads back but may be a digit too long.
 */
size_t proto_number_float(float value, char out[PROTO_NUMBER_BYTES]);
size_t proto_number_double(double value, char out[PROTO_NUMBER_BYTES]);

/*
 * Read a decimal number: digits with an optional minus, point and exponent, nothing
 * before or after, at most PROTO_NUMBER_BYTES long. Returns 0; -EINVAL for anything else
 * (infinities, hexadecimal and a leading plus included); -ERANGE when it overflows.
 */
int proto_number_parse(const char *text, double *out);

#endif
