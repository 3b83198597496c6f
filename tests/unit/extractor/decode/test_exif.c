#include "extractor/decode/internal.h"
#include "tests/unit/extractor/decode/check.h"

static void both_byte_orders_and_all_values_are_read(void **state)
{
    (void)state;
    for (unsigned value = 0; value < 12; value++)
        for (int intel = 0; intel <= 1; intel++) {
            uint8_t block[EXIF_BYTES];
            exif_block(block, value, intel);
            unsigned want = value >= 1 && value <= 8 ? value : 1;
            assert_int_equal(decode_exif_orientation(block, sizeof block), want);
        }
}

static void broken_blocks_mean_upright(void **state)
{
    (void)state;
    uint8_t block[EXIF_BYTES];
    uint64_t seed = 3;
    for (size_t size = 0; size < EXIF_BYTES; size++) {
        exif_block(block, 6, 0);
        struct bytes cut = bytes_copy(block, size);
        unsigned value = decode_exif_orientation(cut.data, cut.size);
        assert_true(value == 1 || value == 6);
        free(cut.data);
    }
    for (int i = 0; i < 20000; i++) {
        exif_block(block, 6, i & 1);
        block[scene_rand(&seed) % EXIF_BYTES] = (uint8_t)scene_rand(&seed);
        block[scene_rand(&seed) % EXIF_BYTES] = (uint8_t)scene_rand(&seed);
        struct bytes bad = bytes_copy(block, sizeof block);
        unsigned value = decode_exif_orientation(bad.data, bad.size);
        assert_true(value >= 1 && value <= 8);
        free(bad.data);
    }
}

static void a_block_past_the_bound_is_not_looked_at(void **state)
{
    (void)state;
    uint8_t *large = calloc(1, DECODE_EXIF_MAX_BYTES + 1);
    exif_block(large, 6, 0);
    assert_int_equal(decode_exif_orientation(large, DECODE_EXIF_MAX_BYTES), 6);
    assert_int_equal(decode_exif_orientation(large, DECODE_EXIF_MAX_BYTES + 1), 1);
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_byte_orders_and_all_values_are_read),
        cmocka_unit_test(broken_blocks_mean_upright),
        cmocka_unit_test(a_block_past_the_bound_is_not_looked_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
