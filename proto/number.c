#include "proto/number.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Powers of ten that a double holds exactly. */
static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                              1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                              1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* The C library's static object for the C locale: nothing is allocated or freed. */
static locale_t c_locale(void)
{
    return newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

/* printf's and strtod's own way: right for every value, and slow (microseconds). */
static size_t print_slowly(double value, bool single, char out[PROTO_NUMBER_BYTES])
{
    /* So many digits survive being stored; up to so many are needed. */
    const int first = single ? 6 : 15, last = single ? 9 : 17;
    locale_t c = c_locale(), before = uselocale(c);
    int length = 0;

    for (int digits = first; digits <= last; digits++) {
        length = snprintf(out, PROTO_NUMBER_BYTES, "%.*g", digits, value);
        if (single ? strtof(out, NULL) == (float)value : strtod(out, NULL) == value)
            break;
    }
    uselocale(before);
    return (size_t)length;
}

size_t proto_number_double(double value, char out[PROTO_NUMBER_BYTES])
{
    return print_slowly(value, false, out);
}

/* A decimal number: digits * 10^-places. */
struct decimal {
    uint64_t digits;
    int places;
};

/*
 * Whether `decimal` reads back as `value`. digits and the power of ten are exact in a
 * double and so the quotient is rounded once; rounding it again to float gives the right
 * float unless the quotient is just half way between two. Then: no, unless it is exact,
 * and another digit is tried. (Half way between floats with a fraction lie decimals that
 * are longer than the floats themselves, so nothing is lost by that.)
 */
static bool reads_back(struct decimal decimal, float value)
{
    const uint64_t below_float = (UINT64_C(1) << 29) - 1, half = UINT64_C(1) << 28;
    double near = decimal.places >= 0 ? (double)decimal.digits / tens[decimal.places]
                                      : (double)decimal.digits * tens[-decimal.places];
    bool exact = decimal.places <= 0 && near < 0x1p53;
    uint64_t bits;

    memcpy(&bits, &near, sizeof bits);
    return (exact || (bits & below_float) != half) && (float)near == value;
}

/* Find the shortest decimal of a value from 1e-12 to 1e15. False: not found here. */
static bool shortest(float value, struct decimal *out)
{
    double exact = (double)value;
    int exponent = 0; /* 10^exponent <= value < 10^(exponent + 1) */

    while (exact >= tens[exponent + 1])
        exponent++;
    while (exponent <= 0 && exact * tens[-exponent] < 1)
        exponent--;

    for (int digits = 6; digits <= 9; digits++) {
        int places = digits - 1 - exponent;
        double scaled = places >= 0 ? exact * tens[places] : exact / tens[-places];
        uint64_t low = (uint64_t)scaled;
        bool up = scaled - (double)low > 0.5;

        /* The farther one too: below a power of two floats lie closer, so there the
         * nearer decimal may read back as another float and the farther one may not. */
        *out = (struct decimal){low + up, places};
        if (reads_back(*out, value))
            return true;
        *out = (struct decimal){low + !up, places};
        if (reads_back(*out, value))
            return true;
    }
    return false;
}

static size_t put_zeros(char *out, int count)
{
    for (int i = 0; i < count; i++)
        out[i] = '0';
    return count > 0 ? (size_t)count : 0;
}

static size_t put(char *out, const char *bytes, int count)
{
    memcpy(out, bytes, (size_t)count);
    return (size_t)count;
}

/* Lay out `count` digits, the decimal point after `point` of them, as printf's %g does
 * but with a plain notation for 1e-05 <= value < 1e+15. */
static size_t lay_out(const char *digits, int count, int point, char *out)
{
    size_t n = 0;

    if (point > 15 || point < -4) {
        int exponent = point - 1, size = abs(exponent);
        out[n++] = digits[0];
        if (count > 1) {
            out[n++] = '.';
            n += put(out + n, digits + 1, count - 1);
        }
        out[n++] = 'e';
        out[n++] = exponent < 0 ? '-' : '+';
        out[n++] = (char)('0' + size / 10);
        out[n++] = (char)('0' + size % 10);
    } else if (point <= 0) {
        n += put(out, "0.", 2);
        n += put_zeros(out + n, -point);
        n += put(out + n, digits, count);
    } else if (count <= point) {
        n += put(out, digits, count);
        n += put_zeros(out + n, point - count);
    } else {
        n += put(out, digits, point);
        out[n++] = '.';
        n += put(out + n, digits + point, count - point);
    }
    out[n] = '\0';
    return n;
}

static size_t print_decimal(struct decimal decimal, char *out)
{
    char digits[20];
    int count = 0, at = (int)sizeof digits;

    while (decimal.digits % 10 == 0) {
        decimal.digits /= 10;
        decimal.places--;
    }
    for (; decimal.digits > 0; decimal.digits /= 10, count++)
        digits[--at] = (char)('0' + decimal.digits % 10);
    return lay_out(digits + at, count, count - decimal.places, out);
}

size_t proto_number_float(float value, char out[PROTO_NUMBER_BYTES])
{
    struct decimal decimal;
    float size = fabsf(value);
    size_t sign = signbit(value) != 0;

    out[0] = '-';
    if (size == 0) {
        memcpy(out + sign, "0", 2);
        return sign + 1;
    }
    if (size < 1e-12f || size > 1e15f || !shortest(size, &decimal))
        return print_slowly((double)value, true, out);
    return sign + print_decimal(decimal, out + sign);
}

static const char *skip_digits(const char *text)
{
    while (*text >= '0' && *text <= '9')
        text++;
    return text;
}

/* The grammar of proto_number_parse(); strtod alone also takes "nan", "0x1p3", " 1". */
static bool is_decimal(const char *text)
{
    const char *start = text + (*text == '-'), *at = skip_digits(start);
    size_t digits = (size_t)(at - start);

    if (*at == '.') {
        start = at + 1;
        at = skip_digits(start);
        digits += (size_t)(at - start);
    }
    if (digits > 0 && (*at == 'e' || *at == 'E')) {
        start = at + 1 + (at[1] == '-' || at[1] == '+');
        at = skip_digits(start);
        if (at == start)
            return false;
    }
    return digits > 0 && *at == '\0';
}

int proto_number_parse(const char *text, double *out)
{
    char *end;

    if (strnlen(text, PROTO_NUMBER_BYTES + 1) > PROTO_NUMBER_BYTES || !is_decimal(text))
        return -EINVAL;

    double value = strtod_l(text, &end, c_locale());
    if (*end != '\0')
        return -EINVAL;
    if (isinf(value))
        return -ERANGE;
    *out = value;
    return 0;
}
