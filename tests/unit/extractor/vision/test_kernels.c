#include "extractor/vision/kernels.h"
#include "tests/harness/harness.h"

#include <errno.h>

static void a_level_includes_those_below_it(void **state)
{
    (void)state;
    unsigned cpu = 99;

    assert_int_equal(vision_cpu_parse("scalar", &cpu), 0);
    assert_int_equal(cpu, 0);
    assert_int_equal(vision_cpu_parse("avx2", &cpu), 0);
    assert_int_equal(cpu, VISION_CPU_AVX2);
    assert_int_equal(vision_cpu_parse("avx512", &cpu), 0);
    assert_int_equal(cpu, VISION_CPU_AVX2 | VISION_CPU_AVX512);
    assert_int_equal(vision_cpu_parse("neon", &cpu), 0);
    assert_int_equal(cpu, VISION_CPU_NEON);
    assert_int_equal(vision_cpu_parse("auto", &cpu), 0);
    assert_int_equal(cpu & vision_cpu_detect(), vision_cpu_detect());
}

static void an_unknown_level_is_refused_and_writes_nothing(void **state)
{
    (void)state;
    unsigned cpu = 99;

    assert_int_equal(vision_cpu_parse("sse2", &cpu), -EINVAL);
    assert_int_equal(vision_cpu_parse("", &cpu), -EINVAL);
    assert_int_equal(cpu, 99);
}

static void what_is_detected_is_of_one_architecture(void **state)
{
    (void)state;
    const unsigned cpu = vision_cpu_detect();

    assert_true((cpu & VISION_CPU_NEON) == 0 || cpu == VISION_CPU_NEON);
    assert_true((cpu & VISION_CPU_AVX512) == 0 || (cpu & VISION_CPU_AVX2) != 0);
}

static void a_level_is_chosen_only_where_it_is_there(void **state)
{
    (void)state;
    const unsigned has = vision_cpu_detect();
    unsigned cpu = 99;

    assert_int_equal(vision_cpu_choose("scalar", &cpu), 0);
    assert_int_equal(cpu, 0);
    assert_string_equal(vision_cpu_name(cpu), "scalar");
    assert_int_equal(vision_cpu_choose("auto", &cpu), 0);
    assert_int_equal(cpu, has);
    assert_int_equal(vision_cpu_choose(vision_cpu_name(has), &cpu), 0);
    assert_int_equal(cpu, has);
    cpu = 99;
    const char *const foreign = has & VISION_CPU_NEON ? "avx2" : "neon";
    assert_int_equal(vision_cpu_choose(foreign, &cpu), -ENOTSUP);
    assert_int_equal(vision_cpu_choose("", &cpu), -EINVAL);
    assert_int_equal(cpu, 99);
    assert_string_equal(vision_cpu_name(VISION_CPU_AVX2), "avx2");
    assert_string_equal(vision_cpu_name(VISION_CPU_AVX2 | VISION_CPU_AVX512), "avx512");
    assert_string_equal(vision_cpu_name(VISION_CPU_NEON), "neon");
}

static void masked_levels_are_not_chosen(void **state)
{
    (void)state;
    struct vision_kernels plain, masked, best;
    vision_kernels_init(&plain, 0);
    vision_kernels_init(&best, vision_cpu_detect());
    vision_kernels_init(&masked, vision_cpu_detect() & 0);

    assert_ptr_equal(plain.nlm_u8, vision_nlm_u8_c);
    assert_ptr_equal(masked.nlm_u8, plain.nlm_u8);
    if (vision_cpu_detect() != 0)
        assert_ptr_not_equal(best.nlm_u8, plain.nlm_u8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_level_includes_those_below_it),
        cmocka_unit_test(an_unknown_level_is_refused_and_writes_nothing),
        cmocka_unit_test(what_is_detected_is_of_one_architecture),
        cmocka_unit_test(a_level_is_chosen_only_where_it_is_there),
        cmocka_unit_test(masked_levels_are_not_chosen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
