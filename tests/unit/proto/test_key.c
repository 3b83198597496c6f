#include "proto/key.h"
#include "tests/unit/proto/golden.h"

#include <errno.h>

static void sha256_is_that_of_fips_180(void **state)
{
    uint8_t digest[PROTO_DIGEST_BYTES];
    char hex[PROTO_HEX_BYTES];

    (void)state;
    assert_int_equal(proto_sha256("abc", 3, digest), 0);
    proto_hex(digest, hex);
    assert_string_equal(
        hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(proto_sha256("", 0, digest), 0);
    proto_hex(digest, hex);
    assert_string_equal(
        hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void a_key_is_the_golden_one_of_its_kind(void **state)
{
    uint8_t image[PROTO_DIGEST_BYTES], key[PROTO_DIGEST_BYTES], golden[64];
    struct proto_params params;

    (void)state;
    proto_params_init(&params);
    assert_int_equal(proto_sha256("picture", 7, image), 0);
    assert_int_equal(golden_load("key_features", golden, sizeof golden), sizeof key);
    assert_int_equal(proto_key(image, PROTO_KIND_FEATURES, &params, key), 0);
    assert_memory_equal(key, golden, sizeof key);
    assert_int_equal(golden_load("key_denoise", golden, sizeof golden), sizeof key);
    assert_int_equal(proto_key(image, PROTO_KIND_DENOISE, &params, key), 0);
    assert_memory_equal(key, golden, sizeof key);
}

static void every_parameter_and_the_picture_change_the_key(void **state)
{
    uint8_t image[PROTO_DIGEST_BYTES] = {0}, seen[32][PROTO_DIGEST_BYTES];
    struct proto_params_error error;
    size_t count = 0;

    (void)state;
    for (const struct proto_param_spec *spec = proto_param_specs; spec->name; spec++) {
        struct proto_params params;
        char text[32];
        proto_params_init(&params);
        if (spec->type == PROTO_PARAM_CHOICE)
            snprintf(text, sizeof text, "%s", spec->choices[1]);
        else
            snprintf(text, sizeof text, "%g", spec->def == 1 ? 2 : spec->def + 1);
        if (spec->def + 1 > spec->max) /* contrast */
            snprintf(text, sizeof text, "%g", spec->max);
        assert_int_equal(proto_params_set(&params, spec->name, text, &error), 0);
        assert_int_equal(proto_key(image, PROTO_KIND_FEATURES, &params, seen[count++]),
                         0);
    }
    struct proto_params params;
    proto_params_init(&params);
    proto_key(image, PROTO_KIND_FEATURES, &params, seen[count++]);
    image[31] = 1;
    proto_key(image, PROTO_KIND_FEATURES, &params, seen[count++]);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < i; k++)
            assert_memory_not_equal(seen[i], seen[k], PROTO_DIGEST_BYTES);
}

static void hex_digits_go_and_come_back_in_either_case(void **state)
{
    uint8_t digest[PROTO_DIGEST_BYTES], back[PROTO_DIGEST_BYTES];
    char hex[PROTO_HEX_BYTES];
    uint64_t seed = 8;

    (void)state;
    golden_noise(&seed, digest, sizeof digest);
    proto_hex(digest, hex);
    assert_int_equal(strlen(hex), 64);
    assert_int_equal(proto_unhex(hex, 64, back), 0);
    assert_memory_equal(back, digest, sizeof back);
    for (char *at = hex; *at != '\0'; at++)
        if (*at >= 'a')
            *at = (char)(*at - 'a' + 'A');
    memset(back, 0, sizeof back);
    assert_int_equal(proto_unhex(hex, 64, back), 0);
    assert_memory_equal(back, digest, sizeof back);
}

static void anything_but_64_digits_is_refused(void **state)
{
    static const char bad[] = "/:@G`g xX-+.\n\t\x80\xff";
    char hex[PROTO_HEX_BYTES + 1];
    uint8_t out[PROTO_DIGEST_BYTES] = {7}, untouched[PROTO_DIGEST_BYTES] = {7};

    (void)state;
    memset(hex, 'a', sizeof hex);
    for (size_t length = 0; length <= sizeof hex; length++)
        if (length != 64)
            assert_int_equal(proto_unhex(hex, length, out), -EINVAL);
    for (size_t at = 0; at < 64; at++) {
        for (size_t i = 0; i < sizeof bad; i++) { /* the NUL at its end too */
            hex[at] = bad[i];
            assert_int_equal(proto_unhex(hex, 64, out), -EINVAL);
        }
        hex[at] = 'a';
    }
    assert_memory_equal(out, untouched, sizeof out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_is_that_of_fips_180),
        cmocka_unit_test(a_key_is_the_golden_one_of_its_kind),
        cmocka_unit_test(every_parameter_and_the_picture_change_the_key),
        cmocka_unit_test(hex_digits_go_and_come_back_in_either_case),
        cmocka_unit_test(anything_but_64_digits_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
