#include "proto/params.h"
#include "tests/unit/proto/golden.h"

#include <errno.h>
#include <math.h>

static struct proto_params defaults(void)
{
    struct proto_params params;
    proto_params_init(&params);
    return params;
}

/* The values of tests/golden/params_other.hex, set as a query would. */
static struct proto_params other(void)
{
    static const char *const query[][2] = {{"orient", "stored"},
                                           {"denoise", "none"},
                                           {"h", "0.5"},
                                           {"template", "3"},
                                           {"search", "35"},
                                           {"first_octave", "4"},
                                           {"octave_layers", "10"},
                                           {"contrast", "-0.0"},
                                           {"edge", "1e3"},
                                           {"max_features", "1000000"},
                                           {"sigma", "0.60"},
                                           {"upright", "1"},
                                           {"norm", "root"},
                                           {"sift", "vlfeat"},
                                           {"spread", "1"}};
    struct proto_params params = defaults();
    struct proto_params_error error;

    for (size_t i = 0; i < sizeof query / sizeof query[0]; i++)
        assert_int_equal(proto_params_set(&params, query[i][0], query[i][1], &error), 0);
    return params;
}

static void the_defaults_are_those_of_the_api(void **state)
{
    struct proto_params p = defaults();
    struct proto_params_error error;
    char json[PROTO_PARAMS_JSON_BYTES_MAX + 1];

    (void)state;
    assert_int_equal(proto_params_check(&p, &error), 0);
    assert_true(proto_params_json(&p, json, sizeof json) > 0);
    assert_string_equal(json,
                        "{\"denoise\":\"nlm\",\"h\":10,\"template\":7,\"search\":21,"
                        "\"first_octave\":-1,\"octave_layers\":3,"
                        "\"contrast\":0.04,\"edge\":10,\"sigma\":1.6,"
                        "\"max_features\":0,\"upright\":0,\"norm\":\"l2\","
                        "\"orient\":\"exif\",\"sift\":\"native\",\"spread\":0}");
}

static void parameters_are_encoded_as_their_golden_vectors_and_back(void **state)
{
    const struct proto_params all[] = {defaults(), other()};
    const char *const names[] = {"params_default", "params_other"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        uint8_t golden[128], bytes[PROTO_PARAMS_BYTES];
        struct proto_params back;
        assert_int_equal(golden_load(names[i], golden, sizeof golden), sizeof bytes);
        proto_params_encode(&all[i], bytes);
        assert_memory_equal(bytes, golden, sizeof bytes);
        assert_int_equal(proto_params_decode(golden, sizeof bytes, &back), 0);
        assert_memory_equal(&back, &all[i], sizeof back);
    }
}

static void equal_meaning_has_equal_bytes(void **state)
{
    struct proto_params a = defaults(), b = defaults();
    struct proto_params_error error;
    uint8_t one[PROTO_PARAMS_BYTES], two[PROTO_PARAMS_BYTES];

    (void)state;
    assert_int_equal(proto_params_set(&a, "h", "12.50", &error), 0);
    assert_int_equal(proto_params_set(&a, "contrast", "0", &error), 0);
    assert_int_equal(proto_params_set(&b, "contrast", "-0.0", &error), 0);
    assert_int_equal(proto_params_set(&b, "h", "1.25e1", &error), 0);
    assert_int_equal(proto_params_set(&b, "template", "007", &error), 0);
    proto_params_encode(&a, one);
    proto_params_encode(&b, two);
    assert_memory_equal(one, two, sizeof one);
    b.contrast = -0.0; /* and when a program sets it */
    proto_params_encode(&b, two);
    assert_memory_equal(one, two, sizeof one);
}

static void assert_refused(const char *name, const char *text, int err,
                           const char *detail)
{
    struct proto_params params = defaults(), untouched = params;
    struct proto_params_error error;

    assert_int_equal(proto_params_set(&params, name, text, &error), err);
    assert_memory_equal(&params, &untouched, sizeof params);
    assert_string_equal(error.detail, detail);
}

static void a_complaint_teaches(void **state)
{
    (void)state;
    assert_refused("h", "999", -ERANGE,
                   "h is '999', must be a number from 0.1 to 255: "
                   "Strength of non-local means, in grey levels of 8 bits.");
    assert_refused("template", "7.5", -EINVAL,
                   "template is '7.5', must be a whole number from 1 to 21: "
                   "Side of the compared patch, odd, pixels.");
    assert_refused("norm", "l1", -EINVAL,
                   "norm is 'l1', must be l2 or root: "
                   "Descriptor norm: L2, or the square root of L1 (RootSIFT).");
    assert_refused("nlm", "1", -ENOENT,
                   "There is no parameter 'nlm'; there are denoise, h, template, search, "
                   "first_octave, octave_layers, contrast, edge, sigma, max_features, "
                   "upright, norm, orient, sift, spread.");
}

static void what_is_no_number_or_choice_is_refused(void **state)
{
    static const char *const cases[][2] = {
        {"h", ""},          {"h", "nan"},       {"h", "inf"},        {"h", "0x10"},
        {"h", "10 "},       {"h", " 10"},       {"h", "10,5"},       {"h", "+10"},
        {"template", ""},   {"template", "-"},  {"template", "1e1"}, {"template", "+7"},
        {"template", " 7"}, {"template", "7 "}, {"template", "0x7"}, {"template", "7\n"},
        {"denoise", ""},    {"denoise", "NLM"}, {"denoise", "nlm "}, {"upright", "2"},
        {"upright", "00"},  {"upright", "true"}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct proto_params params = defaults();
        struct proto_params_error error;
        assert_int_equal(proto_params_set(&params, cases[i][0], cases[i][1], &error),
                         -EINVAL);
        assert_string_equal(error.name, cases[i][0]);
    }
}

/* Set the parameter to a number written as text. */
static int set_number(const char *name, double value, struct proto_params *params)
{
    struct proto_params_error error;
    char text[64];

    snprintf(text, sizeof text, "%.17g", value);
    return proto_params_set(params, name, text, &error);
}

static void every_bound_is_inside_and_the_next_number_outside(void **state)
{
    (void)state;
    for (const struct proto_param_spec *spec = proto_param_specs; spec->name; spec++) {
        struct proto_params p = defaults();
        if (spec->type == PROTO_PARAM_CHOICE)
            continue;
        double step = spec->type == PROTO_PARAM_INT ? 1 : 1e-9;
        assert_int_equal(set_number(spec->name, spec->min, &p), 0);
        assert_true(proto_param_value(spec, &p) == spec->min);
        assert_int_equal(set_number(spec->name, spec->max, &p), 0);
        assert_true(proto_param_value(spec, &p) == spec->max);
        assert_int_equal(set_number(spec->name, spec->min - step, &p), -ERANGE);
        assert_int_equal(set_number(spec->name, spec->max + step, &p), -ERANGE);
    }
}

static void numbers_too_large_for_any_type_are_out_of_range(void **state)
{
    struct proto_params params = defaults();
    struct proto_params_error error;
    char nines[2000];

    (void)state;
    memset(nines, '9', sizeof nines - 1);
    nines[sizeof nines - 1] = '\0';
    assert_int_equal(proto_params_set(&params, "search", "4294967317", &error), -ERANGE);
    assert_int_equal(proto_params_set(&params, "search", "18446744073709551637", &error),
                     -ERANGE);
    assert_int_equal(proto_params_set(&params, "search", nines, &error), -ERANGE);
    assert_int_equal(proto_params_set(&params, "h", "1e400", &error), -ERANGE);
    assert_int_equal(proto_params_set(&params, "h", nines, &error), -EINVAL);
}

static void a_hostile_name_or_value_is_quoted_harmlessly(void **state)
{
    struct proto_params params = defaults();
    struct proto_params_error error;
    char hostile[5000];

    (void)state;
    for (size_t i = 0; i < sizeof hostile - 1; i++)
        hostile[i] = (char)(1 + i % 255);
    hostile[sizeof hostile - 1] = '\0';
    for (int named = 0; named < 2; named++) {
        assert_true(proto_params_set(&params, named ? hostile : "h",
                                     named ? "1" : hostile, &error) < 0);
        assert_true(strlen(error.detail) < sizeof error.detail - 1); /* nothing was cut */
        assert_true(strlen(error.name) < sizeof error.name);
        for (const char *at = error.detail; *at != '\0'; at++)
            assert_true(*at >= ' ' && *at <= '~' && *at != '"' && *at != '\\');
        for (const char *at = error.name; *at != '\0'; at++)
            assert_true(*at >= ' ' && *at <= '~' && *at != '"' && *at != '\\');
    }
}

static void no_complaint_is_ever_cut(void **state)
{
    (void)state;
    for (const struct proto_param_spec *spec = proto_param_specs; spec->name; spec++) {
        struct proto_params params = defaults();
        struct proto_params_error error;
        assert_int_equal(proto_params_set(&params, spec->name,
                                          "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                                          &error),
                         -EINVAL);
        assert_string_equal(error.detail + strlen(error.detail) - strlen(spec->help),
                            spec->help);
    }
}

static void windows_must_be_odd(void **state)
{
    struct proto_params params = defaults();
    struct proto_params_error error;

    (void)state;
    params.template = 8;
    assert_int_equal(proto_params_check(&params, &error), -EINVAL);
    assert_string_equal(error.name, "template");
    assert_string_equal(error.detail,
                        "template is '8', must be a whole number from 1 to 21 and odd: "
                        "Side of the compared patch, odd, pixels.");
    params.template = 9;
    assert_int_equal(proto_params_check(&params, &error), 0);
    params.search = 20;
    assert_int_equal(proto_params_check(&params, &error), -EINVAL);
    assert_string_equal(error.name, "search");
}

static int decode_with(size_t at, const void *bytes, size_t size)
{
    struct proto_params params = defaults();
    uint8_t canonical[PROTO_PARAMS_BYTES];

    proto_params_encode(&params, canonical);
    memcpy(canonical + at, bytes, size);
    return proto_params_decode(canonical, sizeof canonical, &params);
}

static void bytes_out_of_bounds_or_not_canonical_are_refused(void **state)
{
    const double nan = NAN, infinite = INFINITY, minus_zero = -0.0, large = 256, fine = 1;
    enum {
        AT_DENOISE = 1,
        AT_H = 2,
        AT_TEMPLATE = 10,
        AT_CONTRAST = 26,
        AT_UPRIGHT = 54
    };

    (void)state;
    assert_int_equal(decode_with(0, "\2", 1), -EPROTO);
    assert_int_equal(decode_with(AT_DENOISE, "\2", 1), -EPROTO);
    assert_int_equal(decode_with(AT_UPRIGHT, "\xff", 1), -EPROTO);
    assert_int_equal(decode_with(AT_TEMPLATE, "\x17\0\0\0", 4), -EPROTO);
    assert_int_equal(decode_with(AT_TEMPLATE, "\7\0\0\x80", 4), -EPROTO);
    assert_int_equal(decode_with(AT_TEMPLATE, "\6\0\0\0", 4), -EPROTO); /* even */
    assert_int_equal(decode_with(AT_TEMPLATE, "\5\0\0\0", 4), 0);
    assert_int_equal(decode_with(AT_H, &nan, 8), -EPROTO);
    assert_int_equal(decode_with(AT_H, &infinite, 8), -EPROTO);
    assert_int_equal(decode_with(AT_H, &large, 8), -EPROTO);
    assert_int_equal(decode_with(AT_H, &fine, 8), 0);
    assert_int_equal(decode_with(AT_CONTRAST, &minus_zero, 8), -EPROTO);
}

static void only_the_exact_size_decodes(void **state)
{
    struct proto_params params = defaults();
    uint8_t bytes[PROTO_PARAMS_BYTES + 1] = {0};

    (void)state;
    proto_params_encode(&params, bytes);
    for (size_t size = 0; size <= sizeof bytes; size++) {
        uint8_t *copy = golden_copy(bytes, size);
        assert_int_equal(proto_params_decode(copy, size, &params),
                         size == PROTO_PARAMS_BYTES ? 0 : -EPROTO);
        free(copy);
    }
}

static void noise_is_refused_or_comes_back_as_it_was(void **state)
{
    uint64_t seed = 7;
    unsigned good = 0;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        struct proto_params params = defaults();
        uint8_t bytes[PROTO_PARAMS_BYTES], again[PROTO_PARAMS_BYTES];
        proto_params_encode(&params, bytes);
        for (uint64_t k = golden_random(&seed) % 3 + 1; k > 0; k--)
            bytes[golden_random(&seed) % sizeof bytes] = (uint8_t)golden_random(&seed);
        if (proto_params_decode(bytes, sizeof bytes, &params) < 0)
            continue;
        good++;
        proto_params_encode(&params, again);
        assert_memory_equal(bytes, again, sizeof bytes);
    }
    assert_in_range(good, 100, 199900);
}

static void json_keeps_to_its_buffer(void **state)
{
    struct proto_params params = other();
    char json[PROTO_PARAMS_JSON_BYTES_MAX + 1], exact[PROTO_PARAMS_JSON_BYTES_MAX + 1];

    (void)state;
    params.h = 0.1 + 0.2;
    params.contrast = 1.0 / 3;
    params.edge = 1000.0 / 3;
    params.sigma = 2.0 / 3;
    int length = proto_params_json(&params, json, sizeof json);
    assert_in_range(length, 1, PROTO_PARAMS_JSON_BYTES_MAX);
    assert_int_equal(json[length - 1], '}');
    assert_int_equal(proto_params_json(&params, exact, (size_t)length), -ENOSPC);
    assert_int_equal(proto_params_json(&params, exact, (size_t)length + 1), length);
    assert_string_equal(exact, json);
}

static void the_list_tells_all_that_help_needs(void **state)
{
    struct proto_params params = defaults();
    size_t count = 0;

    (void)state;
    for (const struct proto_param_spec *spec = proto_param_specs; spec->name; spec++) {
        count++;
        assert_true(spec->def >= spec->min && spec->def <= spec->max);
        assert_true(proto_param_value(spec, &params) == spec->def);
        assert_true(strlen(spec->help) > 0);
        if (spec->type != PROTO_PARAM_CHOICE) {
            assert_null(spec->choices);
            continue;
        }
        size_t choices = 0;
        while (spec->choices[choices] != NULL)
            choices++;
        assert_true((double)choices == spec->max + 1);
    }
    assert_int_equal(count, 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_defaults_are_those_of_the_api),
        cmocka_unit_test(parameters_are_encoded_as_their_golden_vectors_and_back),
        cmocka_unit_test(equal_meaning_has_equal_bytes),
        cmocka_unit_test(a_complaint_teaches),
        cmocka_unit_test(what_is_no_number_or_choice_is_refused),
        cmocka_unit_test(every_bound_is_inside_and_the_next_number_outside),
        cmocka_unit_test(numbers_too_large_for_any_type_are_out_of_range),
        cmocka_unit_test(a_hostile_name_or_value_is_quoted_harmlessly),
        cmocka_unit_test(no_complaint_is_ever_cut),
        cmocka_unit_test(windows_must_be_odd),
        cmocka_unit_test(bytes_out_of_bounds_or_not_canonical_are_refused),
        cmocka_unit_test(only_the_exact_size_decodes),
        cmocka_unit_test(noise_is_refused_or_comes_back_as_it_was),
        cmocka_unit_test(json_keeps_to_its_buffer),
        cmocka_unit_test(the_list_tells_all_that_help_needs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
