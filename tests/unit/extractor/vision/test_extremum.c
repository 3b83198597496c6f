#include "extractor/vision/extremum.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { SIDE = 9, PLANES = 5 };

static float samples[PLANES][SIDE][SIDE];

static const struct vision_dog dog = {&samples[0][0][0], SIDE, SIDE, PLANES};

/* peak - a (x - cx)^2 - b (y - cy)^2 - c (s - cs)^2, which a quadric fits exactly. */
static void hill(double peak, double cx, double cy, double cs, double a, double b,
                 double c)
{
    for (int s = 0; s < PLANES; s++)
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++)
                samples[s][y][x] =
                    (float)(peak - a * (x - cx) * (x - cx) - b * (y - cy) * (y - cy) -
                            c * (s - cs) * (s - cs));
}

static int extrema(double least)
{
    int count = 0;
    for (int s = 1; s < PLANES - 1; s++)
        for (int y = 1; y < SIDE - 1; y++)
            for (int x = 1; x < SIDE - 1; x++)
                count += vision_extremum_test(&dog, x, y, s, least);
    return count;
}

static void a_hill_and_a_hollow_have_one_extremum(void **state)
{
    (void)state;
    hill(10, 4, 3, 2, 1, 1, 1);
    assert_int_equal(extrema(1), 1);
    assert_true(vision_extremum_test(&dog, 4, 3, 2, 10));
    assert_false(vision_extremum_test(&dog, 4, 3, 2, 10.01));
    hill(-10, 4, 3, 2, -1, -1, -1);
    assert_int_equal(extrema(1), 1);
    assert_true(vision_extremum_test(&dog, 4, 3, 2, 1));
}

static void of_equal_neighbours_one_is_taken(void **state)
{
    (void)state;
    hill(10, 4.5, 3, 2, 1, 1, 1); /* 4 and 5 are equal */
    assert_int_equal(extrema(1), 1);
    hill(10, 4.5, 3.5, 1.5, 1, 1, 1); /* eight are equal */
    assert_int_equal(extrema(1), 1);
    assert_true(vision_extremum_test(&dog, 4, 3, 1, 1));
    hill(7, 4, 4, 2, 0, 0, 0); /* all are equal: the plain has no first one inside */
    assert_int_equal(extrema(0), 0);
    hill(0, 4, 4, 2, 0, 0, 0);
    assert_int_equal(extrema(0), 0);
}

static void any_one_better_neighbour_is_enough_to_lose(void **state)
{
    (void)state;
    for (int i = 0; i < 27; i++) {
        float *neighbour = &samples[1 + i / 9][2 + i / 3 % 3][3 + i % 3];
        hill(10, 4, 3, 2, 0.1, 0.1, 0.1);
        if (i == 13)
            continue;
        *neighbour = 10.5f;
        assert_false(vision_extremum_test(&dog, 4, 3, 2, 1));
    }
}

static void refining_finds_the_top_of_a_quadric(void **state)
{
    (void)state;
    struct vision_extremum e;
    hill(10, 4.3, 2.8, 2.25, 0.5, 0.7, 0.9);
    assert_true(vision_extremum_refine(&dog, 4, 3, 2, 1, 10, &e));
    assert_true(fabs(e.at_x - 4.3) < 1e-4 && fabs(e.at_y - 2.8) < 1e-4);
    assert_true(fabs(e.at_plane - 2.25) < 1e-4 && fabs(e.value - 10) < 1e-4);
    assert_int_equal(e.x, 4);
    assert_int_equal(e.y, 3);

    /* Begun two samples away it walks there. */
    assert_true(vision_extremum_refine(&dog, 6, 2, 2, 1, 10, &e));
    assert_true(fabs(e.at_x - 4.3) < 1e-4);
    assert_int_equal(e.x, 4);
}

static void weak_and_edge_like_and_runaway_ones_are_dropped(void **state)
{
    (void)state;
    struct vision_extremum e;
    hill(10, 4, 3, 2, 1, 1, 1);
    assert_true(vision_extremum_refine(&dog, 4, 3, 2, 9.99, 10, &e));
    assert_false(vision_extremum_refine(&dog, 4, 3, 2, 10.01, 10, &e));

    hill(10, 4, 3, 2, 1, 0.11, 1); /* curvatures 9.1 to 1 */
    assert_true(vision_extremum_refine(&dog, 4, 3, 2, 1, 10, &e));
    assert_false(vision_extremum_refine(&dog, 4, 3, 2, 1, 9, &e));
    hill(10, 4, 3, 2, 1, -0.5, 1); /* a saddle */
    assert_false(vision_extremum_refine(&dog, 4, 3, 2, 1, 10, &e));

    hill(10, 4, 3, 4.6, 1, 1, 0.1); /* two planes off */
    assert_false(vision_extremum_refine(&dog, 4, 3, 2, 1, 10, &e));
    hill(5, 4, 4, 2, 0, 0, 0); /* no solution */
    assert_false(vision_extremum_refine(&dog, 4, 3, 2, 1, 10, &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hill_and_a_hollow_have_one_extremum),
        cmocka_unit_test(of_equal_neighbours_one_is_taken),
        cmocka_unit_test(any_one_better_neighbour_is_enough_to_lose),
        cmocka_unit_test(refining_finds_the_top_of_a_quadric),
        cmocka_unit_test(weak_and_edge_like_and_runaway_ones_are_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
