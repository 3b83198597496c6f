#include "extractor/vision/sift_select.h"
#include "tests/harness/harness.h"

#include <stdlib.h>
#include <string.h>

enum { W = 100, H = 80, MANY = 1000 };

/* `count` features, strongest first: nine of ten crowd in the upper left corner. */
static struct vision_features crowd(size_t count)
{
    struct vision_features f = {calloc(count, sizeof *f.items), count};
    uint32_t seed = 1;

    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        unsigned x = seed >> 8 & 1023, y = seed >> 20 & 1023;
        float part = i % 10 == 9 ? 1.0f : 0.2f;
        f.items[i].x = (float)x * (W - 1) / 1023 * part;
        f.items[i].y = (float)y * (H - 1) / 1023 * part;
        f.items[i].response = (float)(count - i);
    }
    return f;
}

static bool in_order(const struct vision_features *f)
{
    for (size_t i = 1; i < f->count; i++)
        if (f->items[i].response >= f->items[i - 1].response)
            return false;
    return true;
}

/* Of 5 x 4 equal parts of the picture, how many have a feature. */
static unsigned parts_reached(const struct vision_features *f)
{
    bool reached[20] = {false};
    unsigned count = 0;

    for (size_t i = 0; i < f->count; i++)
        reached[(int)(f->items[i].y * 4 / H) * 5 + (int)(f->items[i].x * 5 / W)] = true;
    for (int i = 0; i < 20; i++)
        count += reached[i];
    return count;
}

static void the_cap_is_hard_and_keeps_the_strongest(void **state)
{
    struct vision_features f = crowd(MANY);
    (void)state;
    assert_int_equal(
        vision_sift_select(&f, W, H, &(struct vision_sift_choice){.max_features = 17}),
        0);
    assert_int_equal(f.count, 17);
    assert_true(f.items[16].response == MANY - 16);
    vision_features_free(&f);
}

static void spread_features_reach_the_whole_picture_in_the_same_order(void **state)
{
    (void)state;
    for (uint32_t wanted = 1; wanted < MANY; wanted += wanted < 40 ? 1 : 93) {
        struct vision_features f = crowd(MANY), plain = crowd(MANY);
        const struct vision_sift_choice spread = {.max_features = wanted, .spread = true};
        const struct vision_sift_choice strongest = {.max_features = wanted};
        assert_int_equal(vision_sift_select(&f, W, H, &spread), 0);
        assert_int_equal(vision_sift_select(&plain, W, H, &strongest), 0);
        assert_int_equal(f.count, wanted);
        assert_true(in_order(&f));
        assert_true(f.items[0].response ==
                    MANY); /* the strongest is the best of its cell */
        assert_true(parts_reached(&f) >= parts_reached(&plain));
        if (wanted >= 100) /* then cells are smaller than the parts */
            assert_int_equal(parts_reached(&f), 20);
        vision_features_free(&f);
        vision_features_free(&plain);
    }
}

static void fewer_than_the_cap_all_stay(void **state)
{
    struct vision_features f = crowd(10);
    (void)state;
    assert_int_equal(
        vision_sift_select(
            &f, W, H, &(struct vision_sift_choice){.max_features = 10, .spread = true}),
        0);
    assert_int_equal(f.count, 10);
    vision_features_free(&f);
}

static void a_mask_of_either_depth_is_looked_up_at_the_nearest_pixel(void **state)
{
    uint8_t narrow[W * H] = {0};
    uint16_t wide[W * H] = {0};
    (void)state;
    narrow[3 * W + 5] = 1;
    wide[3 * W + 5] = 0x0100; /* its low byte is 0 */
    const struct vision_image masks[] = {{narrow, W, H, W, 8}, {wide, W, H, 2 * W, 16}};

    for (int m = 0; m < 2; m++) {
        struct vision_features f = crowd(5);
        const float at[5][2] = {
            {5, 3}, {5.4f, 2.6f}, {5.6f, 3}, {-0.4f, -0.4f}, {99.4f, 79.4f}};
        for (int i = 0; i < 5; i++) {
            f.items[i].x = at[i][0];
            f.items[i].y = at[i][1];
        }
        const struct vision_sift_choice choice = {.mask = &masks[m]};
        assert_int_equal(vision_sift_select(&f, W, H, &choice), 0);
        assert_int_equal(f.count, 2);
        assert_true(f.items[1].x == 5.4f);
        vision_features_free(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cap_is_hard_and_keeps_the_strongest),
        cmocka_unit_test(spread_features_reach_the_whole_picture_in_the_same_order),
        cmocka_unit_test(fewer_than_the_cap_all_stay),
        cmocka_unit_test(a_mask_of_either_depth_is_looked_up_at_the_nearest_pixel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
