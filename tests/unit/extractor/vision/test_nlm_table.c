#include "extractor/vision/nlm_table.h"
#include "tests/harness/harness.h"

#include <math.h>

static uint32_t weight[VISION_NLM_WEIGHTS_MAX + 1];

static struct vision_nlm_plan plan_of(double h, unsigned template_px, unsigned search_px)
{
    const struct vision_nlm_params params = {h, template_px, search_px};
    struct vision_nlm_plan plan;

    vision_nlm_plan_u8(&plan, &params, weight);
    return plan;
}

static uint32_t want(const struct vision_nlm_plan *plan, unsigned sum)
{
    const unsigned i = sum >> plan->shift;

    return plan->weight[i < plan->weight_last ? i : plan->weight_last];
}

/* As the kernels look it up, for every sum of 16 bits. */
static void words_are_exact(const struct vision_nlm_plan *plan)
{
    struct vision_nlm_words words;

    assert_true(vision_nlm_words_make(&words, plan));
    for (unsigned sum = 0; sum <= UINT16_MAX; sum++) {
        const unsigned i = sum >> plan->shift, row = i / 64;
        const unsigned got = ((unsigned)words.low[i % 64] * words.high[row % 32] >> 16) +
                             (row < 16 ? words.fix[i % 64] >> row & 1 : 0);
        assert_int_equal(sum < words.limit ? got : 0, want(plan, sum));
    }
}

static void floats_are_exact(const struct vision_nlm_plan *plan)
{
    struct vision_nlm_floats f;

    assert_true(vision_nlm_floats_make(&f, plan));
    for (unsigned sum = 0; sum <= UINT16_MAX; sum++) {
        const unsigned left = sum < f.from ? f.from - sum : 0, i = left >> plan->shift;
        assert_in_range(i / 64, 0, (unsigned)f.tops - 1);
        const struct vision_nlm_digits *d = &f.digits;
        const float product = d->factor[0][i % 8] * d->factor[1][i / 8 % 8];
        const double got = nearbyint((double)product * (double)d->factor[2][i / 64]);
        assert_int_equal(i == 0 ? 0 : (uint32_t)got, want(plan, sum));
    }
}

static void both_forms_are_exact_wherever_they_are_made(void **state)
{
    (void)state;
    for (unsigned template_px = 3; template_px <= 9; template_px += 2)
        for (double h = 0.05; h < 10; h += 0.37)
            for (unsigned search_px = 19; search_px <= 35; search_px += 8) {
                const struct vision_nlm_plan plan = plan_of(h, template_px, search_px);
                words_are_exact(&plan);
                floats_are_exact(&plan);
            }
}

static void the_default_has_both(void **state)
{
    (void)state;
    const struct vision_nlm_plan plan = plan_of(10, 7, 21);

    assert_int_equal(plan.weight_last, 528);
    words_are_exact(&plan);
    floats_are_exact(&plan);
}

static void both_reach_as_far_as_sums_of_16_bits_do(void **state)
{
    (void)state;
    struct vision_nlm_words words;
    struct vision_nlm_floats floats;
    struct vision_nlm_plan plan = plan_of(13.9, 7, 21);
    words_are_exact(&plan);
    floats_are_exact(&plan);
    plan = plan_of(13.6, 5, 21);
    floats_are_exact(&plan);
    plan = plan_of(10.4, 9, 29);
    floats_are_exact(&plan);

    plan = plan_of(14, 7, 21); /* a sum that saturates could have a weight */
    assert_false(vision_nlm_words_make(&words, &plan));
    assert_false(vision_nlm_floats_make(&floats, &plan));
}

static void digits_are_exact_up_to_their_last_weight(void **state)
{
    (void)state;
    unsigned made = 0, tried = 0;

    for (double h = 0.1; h < 27; h += 0.53)
        for (unsigned search_px = 3; search_px <= 35; search_px += 8, tried++) {
            const struct vision_nlm_plan plan = plan_of(h, 7, search_px);
            struct vision_nlm_digits d;
            if (!vision_nlm_digits_make(&d, &plan, 4, 3))
                continue;
            made++;
            for (unsigned i = 0; i < plan.weight_last; i++) {
                const float product =
                    d.factor[0][i % 8] * d.factor[1][i / 8 % 8] * d.factor[2][i / 64 % 8];
                const double last = d.factor[3][i / 512];
                assert_int_equal((uint32_t)nearbyint(product * last), plan.weight[i]);
            }
        }
    printf("# %u of %u tables made of digits\n", made, tried);
    assert_true(made * 4 > tried * 3);
}

static void weights_above_15_bits_have_neither(void **state)
{
    (void)state;
    struct vision_nlm_words words;
    struct vision_nlm_floats floats;
    const struct vision_nlm_plan plan = plan_of(10, 7, 15);

    assert_true(plan.one > INT16_MAX);
    assert_false(vision_nlm_words_make(&words, &plan));
    assert_false(vision_nlm_floats_make(&floats, &plan));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_forms_are_exact_wherever_they_are_made),
        cmocka_unit_test(the_default_has_both),
        cmocka_unit_test(both_reach_as_far_as_sums_of_16_bits_do),
        cmocka_unit_test(digits_are_exact_up_to_their_last_weight),
        cmocka_unit_test(weights_above_15_bits_have_neither),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
