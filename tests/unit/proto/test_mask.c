#include "proto/mask.h"
#include "tests/harness/harness.h"

#include <string.h>

/* "picture" and "mask" put together; its size. */
static size_t put_together(uint8_t *out)
{
    memcpy(out, "picturemask", 11);
    proto_mask_trailer(4, out + 11);
    return 11 + PROTO_MASK_TRAILER_BYTES;
}

static void a_picture_and_its_mask_come_apart_again(void **state)
{
    uint8_t bytes[64];
    size_t picture = 0, mask = 0, size = put_together(bytes);
    (void)state;

    assert_true(proto_mask_split(bytes, size, &picture, &mask));
    assert_int_equal(picture, 7);
    assert_int_equal(mask, 4);
    assert_memory_equal(bytes + size - PROTO_MASK_TRAILER_BYTES,
                        "SMMASK1\0\4\0\0\0\0\0\0\0", PROTO_MASK_TRAILER_BYTES);
}

static void whatever_has_no_valid_trailer_is_just_a_picture(void **state)
{
    uint8_t bytes[64];
    size_t picture = 99, mask = 99, size = put_together(bytes);
    (void)state;

    for (size_t cut = 0; cut < size; cut++)
        assert_false(proto_mask_split(bytes, cut, &picture, &mask));
    static const uint64_t bad[] = {0, 11, 12, UINT64_MAX, UINT64_MAX - 15};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        proto_mask_trailer(bad[i], bytes + 11);
        assert_false(proto_mask_split(bytes, size, &picture, &mask));
    }
    assert_int_equal(picture, 99);
    assert_int_equal(mask, 99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_picture_and_its_mask_come_apart_again),
        cmocka_unit_test(whatever_has_no_valid_trailer_is_just_a_picture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
