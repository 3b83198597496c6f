#include "cacher/tier/record.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

static struct cacher_record example(void)
{
    struct cacher_record record = {.created_s = 1700000000,
                                   .width_px = 640,
                                   .height_px = 480,
                                   .cost_us = 61234,
                                   .params = (const uint8_t *)"\x01parameters",
                                   .params_bytes = 11,
                                   .tags = "album:7,new",
                                   .tags_bytes = 11,
                                   .payload = (const uint8_t *)"SMFB and so on",
                                   .payload_bytes = 14};
    for (uint8_t i = 0; i < PROTO_DIGEST_BYTES; i++)
        record.key[i] = i;
    return record;
}

/* Exactly as long as it is, on the heap, so that a sanitizer sees a read past the end. */
static uint8_t *encode(const struct cacher_record *record, size_t *size)
{
    uint8_t prefix[CACHER_RECORD_PREFIX_BYTES_MAX];
    size_t bytes = cacher_record_encode_prefix(record, prefix);
    uint8_t *all = malloc(bytes + record->payload_bytes);

    assert_non_null(all);
    memcpy(all, prefix, bytes);
    if (record->payload_bytes > 0)
        memcpy(all + bytes, record->payload, record->payload_bytes);
    *size = bytes + record->payload_bytes;
    assert_int_equal(*size, cacher_record_bytes(record));
    return all;
}

static void put_sum(uint8_t *bytes, size_t size)
{
    uLong crc = crc32(0, bytes, 68);
    crc = crc32(crc, bytes + 72, (uInt)(size - 72));
    for (unsigned i = 0; i < 4; i++)
        bytes[68 + i] = (uint8_t)(crc >> 8 * i);
}

static void what_is_encoded_is_decoded(void **state)
{
    (void)state;
    struct cacher_record in = example(), out;
    size_t size;
    uint8_t *bytes = encode(&in, &size);

    assert_int_equal(cacher_record_decode(bytes, size, &out), 0);
    assert_memory_equal(out.key, in.key, sizeof in.key);
    assert_int_equal(out.created_s, in.created_s);
    assert_int_equal(out.width_px, 640);
    assert_int_equal(out.height_px, 480);
    assert_int_equal(out.cost_us, 61234);
    assert_int_equal(out.params_bytes, 11);
    assert_memory_equal(out.params, in.params, 11);
    assert_int_equal(out.tags_bytes, 11);
    assert_memory_equal(out.tags, in.tags, 11);
    assert_int_equal(out.payload_bytes, 14);
    assert_memory_equal(out.payload, in.payload, 14);
    free(bytes);
}

static void a_record_of_nothing_but_a_key_is_one(void **state)
{
    (void)state;
    struct cacher_record in = {.created_s = 5}, out;
    size_t size;
    uint8_t *bytes = encode(&in, &size);

    assert_int_equal(size, CACHER_RECORD_HEAD_BYTES);
    assert_int_equal(cacher_record_decode(bytes, size, &out), 0);
    assert_int_equal(out.params_bytes + out.tags_bytes + out.payload_bytes, 0);
    free(bytes);
}

static void the_bytes_are_those_of_the_table(void **state)
{
    (void)state;
    struct cacher_record in = example();
    size_t size;
    uint8_t *bytes = encode(&in, &size);
    static const uint8_t head[] = {'S', 'M', 'R',  'C',  1,    0,
                                   0,   0,   0x00, 0xf1, 0x53, 0x65};
    static const uint8_t tail[] = {0x80, 0x02, 0,  0, 0xe0, 0x01, 0,  0, 0x32, 0xef,
                                   0,    0,    11, 0, 11,   0,    14, 0, 0,    0};

    assert_memory_equal(bytes, head, sizeof head);
    assert_memory_equal(bytes + 16, in.key, 32);
    assert_memory_equal(bytes + 48, tail, sizeof tail);
    assert_memory_equal(bytes + 72, "\x01parametersalbum:7,newSMFB and so on", 36);
    free(bytes);
}

static void every_flipped_bit_is_noticed(void **state)
{
    (void)state;
    struct cacher_record in = example(), out;
    size_t size;
    uint8_t *bytes = encode(&in, &size);

    for (size_t i = 0; i < 8 * size; i++) {
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_int_equal(cacher_record_decode(bytes, size, &out), -EPROTO);
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    assert_int_equal(cacher_record_decode(bytes, size, &out), 0);
    free(bytes);
}

static void cut_or_longer_than_it_says_is_no_record(void **state)
{
    (void)state;
    struct cacher_record in = example(), out;
    size_t size;
    uint8_t *bytes = encode(&in, &size);

    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *part = malloc(cut > 0 ? cut : 1);
        memcpy(part, bytes, cut);
        assert_int_equal(cacher_record_decode(part, cut, &out), -EPROTO);
        free(part);
    }
    uint8_t *longer = calloc(1, size + 1);
    memcpy(longer, bytes, size);
    assert_int_equal(cacher_record_decode(longer, size + 1, &out), -EPROTO);
    free(longer);
    free(bytes);
}

static void a_right_sum_over_wrong_lengths_or_tags_does_not_help(void **state)
{
    (void)state;
    struct cacher_record in = example(), out;
    uint8_t big[CACHER_RECORD_PARAMS_BYTES + 1] = {1};
    size_t size;

    in.params = big;
    in.params_bytes = sizeof big;
    uint8_t *bytes = encode(&in, &size);
    assert_int_equal(cacher_record_decode(bytes, size, &out), -EPROTO);
    free(bytes);

    in = example();
    in.tags = "two,,commas";
    bytes = encode(&in, &size);
    assert_int_equal(cacher_record_decode(bytes, size, &out), -EPROTO);
    free(bytes);

    in = example();
    bytes = encode(&in, &size);
    memset(bytes + 64, 0xff, 4); /* a payload of 4 GiB */
    put_sum(bytes, size);
    assert_int_equal(cacher_record_decode(bytes, size, &out), -EPROTO);
    memset(bytes + 64, 0, 4);
    bytes[64] = 14;
    bytes[4] = 2; /* a later version */
    put_sum(bytes, size);
    assert_int_equal(cacher_record_decode(bytes, size, &out), -EPROTO);
    bytes[4] = 1;
    put_sum(bytes, size);
    assert_int_equal(cacher_record_decode(bytes, size, &out), 0);
    free(bytes);
}

static void its_age_is_read_from_its_head_alone(void **state)
{
    (void)state;
    struct cacher_record in = example();
    uint64_t created_s = 1;
    size_t size;
    uint8_t *bytes = encode(&in, &size);

    assert_int_equal(cacher_record_created(bytes, CACHER_RECORD_HEAD_BYTES, &created_s),
                     0);
    assert_int_equal(created_s, 1700000000);
    assert_int_equal(
        cacher_record_created(bytes, CACHER_RECORD_HEAD_BYTES - 1, &created_s), -EPROTO);
    for (unsigned i = 0; i < 8; i++) { /* magic, version, flags */
        bytes[i] ^= 1;
        assert_int_equal(cacher_record_created(bytes, size, &created_s), -EPROTO);
        bytes[i] ^= 1;
    }
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_encoded_is_decoded),
        cmocka_unit_test(a_record_of_nothing_but_a_key_is_one),
        cmocka_unit_test(the_bytes_are_those_of_the_table),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(cut_or_longer_than_it_says_is_no_record),
        cmocka_unit_test(its_age_is_read_from_its_head_alone),
        cmocka_unit_test(a_right_sum_over_wrong_lengths_or_tags_does_not_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
