#include "proto/number.h"
#include "tests/unit/proto/golden.h"

#include <errno.h>
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdbool.h>

static void assert_float(float value, const char *want)
{
    char text[PROTO_NUMBER_BYTES];

    assert_int_equal(proto_number_float(value, text), strlen(want));
    assert_string_equal(text, want);
}

static void a_float_is_written_as_people_would(void **state)
{
    (void)state;
    assert_float(0.0f, "0");
    assert_float(-0.0f, "-0");
    assert_float(1.0f, "1");
    assert_float(-12.5f, "-12.5");
    assert_float(0.1f, "0.1");
    assert_float(0.3f, "0.3");
    assert_float(100.0f, "100");
    assert_float(16777216.0f, "16777216");
    assert_float(0.0001f, "0.0001");
    assert_float(0.00001f, "0.00001");
    assert_float(0.000001f, "1e-06");
    assert_float(-1.25e-9f, "-1.25e-09");
    assert_float(1e15f, "1e+15");
    assert_float(3.4028235e38f, "3.4028235e+38");
    assert_float(1e-45f, "1.4013e-45"); /* outside what is promised to be shortest */
}

static void every_binary_exponent_reads_back(void **state)
{
    char text[PROTO_NUMBER_BYTES];

    (void)state;
    for (int exponent = -149; exponent <= 127; exponent++) {
        for (int step = -1; step <= 1; step++) {
            float value = ldexpf(1.0f, exponent);
            uint32_t bits;
            memcpy(&bits, &value, sizeof bits);
            bits += (uint32_t)step; /* the float before, itself, the one after */
            memcpy(&value, &bits, sizeof value);
            assert_true(proto_number_float(value, text) < PROTO_NUMBER_BYTES);
            assert_true(strtof(text, NULL) == value);
        }
    }
}

/* Digits of a decimal text without the zeros at its ends, as printf would need. */
static int digits_needed(float value)
{
    for (int digits = 1; digits < 9; digits++) {
        char text[64];
        snprintf(text, sizeof text, "%.*e", digits - 1, (double)value);
        if (strtof(text, NULL) == value)
            return digits;
    }
    return 9;
}

static int digits_used(const char *text)
{
    int count = 0, zeros = 0;

    for (; *text != '\0' && *text != 'e'; text++) {
        if (*text == '0') {
            zeros++;
        } else if (*text >= '1' && *text <= '9') {
            count += (count > 0 ? zeros : 0) + 1;
            zeros = 0;
        }
    }
    return count;
}

static void random_floats_read_back_and_are_no_longer_than_printf_needs(void **state)
{
    uint64_t seed = 5;
    char text[PROTO_NUMBER_BYTES];

    (void)state;
    for (int i = 0; i < 200000; i++) {
        uint32_t bits = (uint32_t)(golden_random(&seed) >> 32);
        float value;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value))
            continue;
        if (i % 2) /* half of them where features have their values */
            value = ldexpf(1.0f + (float)(bits >> 9) / 8388608.0f, (int)(bits % 24) - 10);
        size_t length = proto_number_float(value, text);
        assert_int_equal(length, strlen(text));
        assert_true(length < PROTO_NUMBER_BYTES);
        assert_true(strtof(text, NULL) == value);
        if (fabsf(value) >= 1e-12f && fabsf(value) <= 1e15f)
            assert_true(digits_used(text) <= digits_needed(value));
    }
}

static void a_double_reads_back(void **state)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {10, "10"},           {0.04, "0.04"}, {1.6, "1.6"},
        {1000000, "1000000"}, {-1, "-1"},     {0.1 + 0.2, "0.30000000000000004"},
        {1e300, "1e+300"},
    };
    uint64_t seed = 6;
    char text[PROTO_NUMBER_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(proto_number_double(cases[i].value, text),
                         strlen(cases[i].text));
        assert_string_equal(text, cases[i].text);
    }
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = golden_random(&seed);
        double value;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value))
            continue;
        assert_true(proto_number_double(value, text) < PROTO_NUMBER_BYTES);
        assert_true(strtod(text, NULL) == value);
    }
}

static void only_plain_decimal_numbers_are_read(void **state)
{
    static const char *const bad[] = {"",
                                      " ",
                                      " 1",
                                      "1 ",
                                      "+1",
                                      "--1",
                                      "1,5",
                                      "nan",
                                      "inf",
                                      "-inf",
                                      "0x10",
                                      "1e",
                                      "1e+",
                                      "e5",
                                      ".",
                                      "-",
                                      "-.",
                                      "1.2.3",
                                      "1f",
                                      "1_0",
                                      "\t1",
                                      "1\n",
                                      "infinity",
                                      "NAN",
                                      "1e5.0",
                                      "0x1p3",
                                      "1-",
                                      "１",
                                      "111111111111111111111111111111111"};
    double out = 42;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (proto_number_parse(bad[i], &out) != -EINVAL)
            fail_msg("'%s' was taken for a number", bad[i]);
    assert_int_equal(proto_number_parse("1e999", &out), -ERANGE);
    assert_true(out == 42);
}

static void decimal_numbers_are_read_to_the_nearest_double(void **state)
{
    static const struct {
        const char *text;
        double value;
    } cases[] = {
        {"12.5", 12.5}, {"0", 0},       {"-3", -3},     {".5", 0.5},  {"5.", 5},
        {"1e3", 1000},  {"1E-2", 0.01}, {"1e+2", 100},  {"0.1", 0.1}, {"007", 7},
        {"1e-999", 0},  {"0.04", 0.04}, {"255.0", 255}, {"-0", -0.0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double out = 42;
        assert_int_equal(proto_number_parse(cases[i].text, &out), 0);
        assert_true(out == cases[i].value);
    }
}

/* A decimal comma is what breaks programs that print numbers with printf. */
static void a_locale_with_a_decimal_comma_changes_nothing(void **state)
{
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8",
                                        "de_DE", "pt_BR.UTF-8"};
    char text[PROTO_NUMBER_BYTES];
    bool found = false;
    double value;

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !found; i++)
        found = setlocale(LC_ALL, names[i]) != NULL;
    if (!found) {
        print_message("skipped: no locale with a decimal comma is installed\n");
        skip();
    }
    int err = proto_number_parse("12.5", &value);
    proto_number_double(12.5, text);
    setlocale(LC_ALL, "C");
    assert_int_equal(err, 0);
    assert_true(value == 12.5);
    assert_string_equal(text, "12.5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_float_is_written_as_people_would),
        cmocka_unit_test(every_binary_exponent_reads_back),
        cmocka_unit_test(random_floats_read_back_and_are_no_longer_than_printf_needs),
        cmocka_unit_test(a_double_reads_back),
        cmocka_unit_test(only_plain_decimal_numbers_are_read),
        cmocka_unit_test(decimal_numbers_are_read_to_the_nearest_double),
        cmocka_unit_test(a_locale_with_a_decimal_comma_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
