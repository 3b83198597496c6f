#include "proto/body.h"

#include "proto/envelope.h"
#include "tests/unit/proto/golden.h"

#include <errno.h>
#include <msgpack.h>

union any_body {
#define BODY(name)
#define STR(body, field, limit)
#define UINT(body, field)
#define BYTES(body, field, limit)
#define END(name) struct proto_##name name;
#include "proto/bodies.tbl"
};

static const struct {
    const char *name;
    const struct proto_field *fields;
    size_t size;
} bodies[] = {
#define BODY(name)
#define STR(body, field, limit)
#define UINT(body, field)
#define BYTES(body, field, limit)
#define END(name) {#name, proto_##name##_fields, sizeof(struct proto_##name)},
#include "proto/bodies.tbl"
};

#define BODIES (sizeof bodies / sizeof bodies[0])

/* Fill a body by the rule of tests/golden/make.py. */
static void fill(const struct proto_field *fields, union any_body *body)
{
    memset(body, 0, sizeof *body);
    for (unsigned i = 0; fields[i].name != NULL; i++) {
        uint8_t *at = (uint8_t *)body + fields[i].offset;
        uint64_t number = UINT64_C(1) << (11 * i + 3) % 64 | 1;
        if (fields[i].type == PROTO_UINT) {
            memcpy(at, &number, sizeof number);
        } else if (fields[i].type == PROTO_STR) {
            strncpy((char *)at, fields[i].name, fields[i].max);
        } else {
            for (uint32_t k = 0; k < fields[i].max; k++)
                at[k] = (uint8_t)k;
            memcpy((uint8_t *)body + fields[i].length_offset, &fields[i].max,
                   sizeof fields[i].max);
        }
    }
}

static void every_body_is_encoded_as_its_golden_vector_and_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < BODIES; i++) {
        uint8_t golden[PROTO_BODY_BYTES_MAX], bytes[PROTO_BODY_BYTES_MAX];
        union any_body body, back;
        char name[64];
        snprintf(name, sizeof name, "body_%s", bodies[i].name);
        size_t size = golden_load(name, golden, sizeof golden);

        fill(bodies[i].fields, &body);
        memset(&back, 0, sizeof back);
        assert_int_equal(proto_body_encode(bodies[i].fields, &body, bytes, sizeof bytes),
                         size);
        assert_memory_equal(bytes, golden, size);
        assert_int_equal(proto_body_decode(bodies[i].fields, golden, size, &back), 0);
        assert_memory_equal(&body, &back, sizeof body);
    }
}

static void the_largest_body_fits_its_bound(void **state)
{
    (void)state;
    for (size_t i = 0; i < BODIES; i++) {
        uint8_t bytes[PROTO_BODY_BYTES_MAX];
        union any_body body;
        fill(bodies[i].fields, &body);
        for (const struct proto_field *f = bodies[i].fields; f->name != NULL; f++) {
            if (f->type == PROTO_STR)
                memset((uint8_t *)&body + f->offset, 'x', f->max);
            else if (f->type == PROTO_UINT)
                memset((uint8_t *)&body + f->offset, 0xff, sizeof(uint64_t));
        }
        assert_true(proto_body_encode(bodies[i].fields, &body, bytes, sizeof bytes) > 0);
    }
}

static void a_body_cut_or_continued_anywhere_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < BODIES; i++) {
        uint8_t bytes[PROTO_BODY_BYTES_MAX];
        union any_body body, zero = {0};
        memset(&zero, 0, sizeof zero);
        fill(bodies[i].fields, &body);
        int size = proto_body_encode(bodies[i].fields, &body, bytes, sizeof bytes - 1);
        bytes[size] = 0;
        for (size_t cut = 1; cut <= (size_t)size + 1; cut++) {
            if (cut == (size_t)size)
                continue;
            uint8_t *copy = golden_copy(bytes, cut);
            assert_int_equal(proto_body_decode(bodies[i].fields, copy, cut, &body),
                             -EPROTO);
            assert_memory_equal(&body, &zero, bodies[i].size);
            free(copy);
        }
    }
}

static void a_buffer_too_small_is_never_overrun(void **state)
{
    struct proto_ready ready = {.credit = 7, .slots = 300};
    uint8_t bytes[64];

    (void)state;
    int size = proto_body_encode(proto_ready_fields, &ready, bytes, sizeof bytes);
    assert_true(size > 0);
    for (int capacity = 0; capacity < size; capacity++) {
        uint8_t *out = golden_copy(bytes, (size_t)capacity);
        assert_int_equal(
            proto_body_encode(proto_ready_fields, &ready, out, (size_t)capacity),
            -ENOSPC);
        free(out);
    }
    assert_int_equal(proto_body_encode(proto_ready_fields, &ready, bytes, (size_t)size),
                     size);
}

static void an_empty_body_is_an_empty_map_and_an_empty_frame_too(void **state)
{
    struct proto_ready ready = {0};
    uint8_t bytes[4];

    (void)state;
    assert_int_equal(proto_body_encode(proto_ready_fields, &ready, bytes, sizeof bytes),
                     1);
    assert_int_equal(bytes[0], 0x80);
    ready.credit = 9;
    assert_int_equal(proto_body_decode(proto_ready_fields, bytes, 1, &ready), 0);
    assert_true(ready.credit == 0);
    ready.credit = 9;
    assert_int_equal(proto_body_decode(proto_ready_fields, NULL, 0, &ready), 0);
    assert_true(ready.credit == 0);
}

static void our_own_overlong_values_are_refused(void **state)
{
    struct proto_purge purge = {.key_bytes = 33};
    struct proto_event event;
    uint8_t bytes[PROTO_BODY_BYTES_MAX];

    (void)state;
    memset(&event, 'x', sizeof event); /* no NUL anywhere */
    assert_int_equal(proto_body_encode(proto_purge_fields, &purge, bytes, sizeof bytes),
                     -EINVAL);
    assert_int_equal(proto_body_encode(proto_event_fields, &event, bytes, sizeof bytes),
                     -EINVAL);
}

/* Decode a literal as a body `drain` (UINT slot) or `purge` (BYTES key, 32). */
#define DRAIN(literal) decode_literal(proto_drain_fields, literal, sizeof(literal) - 1)
#define PURGE(literal) decode_literal(proto_purge_fields, literal, sizeof(literal) - 1)
#define HELLO(literal) decode_literal(proto_hello_fields, literal, sizeof(literal) - 1)

static union any_body decoded;

static int decode_literal(const struct proto_field *fields, const char *text, size_t size)
{
    uint8_t *copy = golden_copy((const uint8_t *)text, size);
    int err = proto_body_decode(fields, copy, size, &decoded);
    free(copy);
    return err;
}

static void every_encoding_of_a_count_is_read(void **state)
{
    (void)state;
    assert_int_equal(DRAIN("\x81\xa4slot\x05"), 0);
    assert_true(decoded.drain.slot == 5);
    assert_int_equal(DRAIN("\x81\xa4slot\xcc\xff"), 0);
    assert_true(decoded.drain.slot == 255);
    assert_int_equal(DRAIN("\x81\xa4slot\xcd\x01\x02"), 0);
    assert_true(decoded.drain.slot == 258);
    assert_int_equal(DRAIN("\x81\xa4slot\xce\x01\x02\x03\x04"), 0);
    assert_true(decoded.drain.slot == 0x01020304);
    assert_int_equal(DRAIN("\x81\xa4slot\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), 0);
    assert_true(decoded.drain.slot == UINT64_MAX);
    assert_int_equal(DRAIN("\x81\xa4slot\xd0\x7f"), 0); /* signed, but a count */
    assert_true(decoded.drain.slot == 127);
    assert_int_equal(DRAIN("\xde\x00\x01\xd9\x04slot\x05"), 0); /* longer than need be */
    assert_true(decoded.drain.slot == 5);
}

static void a_wrong_type_or_a_negative_number_is_refused(void **state)
{
    (void)state;
    assert_int_equal(DRAIN("\x81\xa4slot\xff"), -EPROTO);
    assert_int_equal(DRAIN("\x81\xa4slot\xd0\x80"), -EPROTO);
    assert_int_equal(DRAIN("\x81\xa4slot\xd3\xff\xff\xff\xff\xff\xff\xff\xff"), -EPROTO);
    assert_int_equal(DRAIN("\x81\xa4slot\xa1"
                           "5"),
                     -EPROTO);
    assert_int_equal(DRAIN("\x81\xa4slot\xc0"), -EPROTO);
    assert_int_equal(DRAIN("\x81\xa4slot\xc3"), -EPROTO);
    assert_int_equal(DRAIN("\x81\xa4slot\xca\x40\x00\x00\x00"), -EPROTO);
    assert_int_equal(PURGE("\x81\xa3key\xa1k"), -EPROTO);
    assert_int_equal(HELLO("\x81\xa4role\xc4\x01r"), -EPROTO);
}

static void what_is_not_one_flat_map_is_refused(void **state)
{
    (void)state;
    assert_int_equal(DRAIN("\x05"), -EPROTO);
    assert_int_equal(DRAIN("\xc0"), -EPROTO);
    assert_int_equal(DRAIN("\x90"), -EPROTO);
    assert_int_equal(DRAIN("\xc1"), -EPROTO);
    assert_int_equal(DRAIN("\x80\x80"), -EPROTO);
    assert_int_equal(DRAIN("\x81\x01\x01"), -EPROTO);  /* key no string */
    assert_int_equal(DRAIN("\x81\xa1x\xc1"), -EPROTO); /* 0xc1: never used */
    assert_int_equal(DRAIN("\x81\xa1x\x80"), -EPROTO); /* nested, though unknown */
    assert_int_equal(DRAIN("\x81\xa1x\x90"), -EPROTO);
    assert_int_equal(DRAIN("\x81\xa1x\xdc\x00\x00"), -EPROTO);
}

static void a_field_given_twice_is_refused_but_zero_is_a_value(void **state)
{
    (void)state;
    assert_int_equal(DRAIN("\x82\xa4slot\x01\xa4slot\x01"), -EPROTO);
    assert_int_equal(DRAIN("\x82\xa4slot\x00\xa4slot\x01"), -EPROTO);
    assert_int_equal(DRAIN("\x81\xa4slot\x00"), 0);
}

static void unknown_fields_of_every_flat_type_are_skipped(void **state)
{
    static const char *const others[] = {"\xc0",    "\xc2",      "\xc3",
                                         "\xe0",    "\x7f",      "\xa1s",
                                         "\xc4\1b", "\xc7\1\5e", "\xd9\1s"};
    (void)state;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        char text[64];
        int size = snprintf(text, sizeof text, "\x82\xa1x%s\xa4slot\x05", others[i]);
        assert_int_equal(decode_literal(proto_drain_fields, text, (size_t)size), 0);
        assert_true(decoded.drain.slot == 5);
    }
    assert_int_equal(DRAIN("\x82\xa1x\xcb\0\0\0\0\0\0\0\0\xa4slot\x05"), 0);
    assert_int_equal(DRAIN("\x82\xa1x\xd8\1abcdefghijklmnop\xa4slot\x05"), 0);
    assert_int_equal(DRAIN("\x81\xa5slots\x05"), 0); /* a longer name is another name */
    assert_true(decoded.drain.slot == 0);
    assert_int_equal(DRAIN("\x81\xa3slo\x05"), 0);
    assert_true(decoded.drain.slot == 0);
}

static void a_text_keeps_to_its_bound_and_has_no_nul(void **state)
{
    (void)state;
    assert_int_equal(HELLO("\x81\xa4role\xaf"
                           "123456789012345"),
                     0);
    assert_string_equal(decoded.hello.role, "123456789012345");
    assert_int_equal(HELLO("\x81\xa4role\xb0"
                           "1234567890123456"),
                     -EPROTO);
    assert_int_equal(HELLO("\x81\xa4role\xa3"
                           "a\0b"),
                     -EPROTO);
}

static void bytes_keep_to_their_bound_and_may_have_nuls(void **state)
{
    (void)state;
    assert_int_equal(PURGE("\x81\xa3key\xc4\x02\0\0"), 0);
    assert_int_equal(decoded.purge.key_bytes, 2);
    assert_int_equal(PURGE("\x81\xa3key\xc4\x21"
                           "012345678901234567890123456789012"),
                     -EPROTO);
}

static void a_length_that_nobody_could_send_costs_nothing(void **state)
{
    (void)state;
    assert_int_equal(DRAIN("\xdf\xff\xff\xff\xff"), -EPROTO);
    assert_int_equal(DRAIN("\xdd\xff\xff\xff\xff"), -EPROTO);
    assert_int_equal(DRAIN("\x81\xdb\xff\xff\xff\xff"), -EPROTO);
    assert_int_equal(DRAIN("\x81\xa1x\xc6\xff\xff\xff\xff"), -EPROTO);
    assert_int_equal(DRAIN("\x81\xa1x\xc9\xff\xff\xff\xff\x01"), -EPROTO);
}

static void a_body_over_the_bound_is_refused_unread(void **state)
{
    uint8_t *bytes = calloc(1, PROTO_BODY_BYTES_MAX + 1);
    size_t at = 0;

    (void)state;
    /* An unknown field of the size that makes the whole one byte too long. */
    memcpy(bytes, "\x81\xa1x\xc5", 4);
    at = 4 + 2;
    bytes[4] = (uint8_t)((PROTO_BODY_BYTES_MAX - at) >> 8);
    bytes[5] = (uint8_t)(PROTO_BODY_BYTES_MAX - at);
    assert_int_equal(
        proto_body_decode(proto_drain_fields, bytes, PROTO_BODY_BYTES_MAX, &decoded), 0);
    bytes[4] = (uint8_t)((PROTO_BODY_BYTES_MAX + 1 - at) >> 8);
    bytes[5] = (uint8_t)(PROTO_BODY_BYTES_MAX + 1 - at);
    assert_int_equal(
        proto_body_decode(proto_drain_fields, bytes, PROTO_BODY_BYTES_MAX + 1, &decoded),
        -EPROTO);
    free(bytes);
}

/* Whether msgpack-c takes the bytes for one map without nesting, text keys and nothing
 * after it. Only for bytes whose lengths are small: see the top of body.c. */
static bool msgpack_takes(const uint8_t *bytes, size_t size)
{
    msgpack_unpacked unpacked;
    size_t used = 0;

    msgpack_unpacked_init(&unpacked);
    bool good = msgpack_unpack_next(&unpacked, (const char *)bytes, size, &used) ==
                    MSGPACK_UNPACK_SUCCESS &&
                used == size && unpacked.data.type == MSGPACK_OBJECT_MAP;
    for (uint32_t i = 0; good && i < unpacked.data.via.map.size; i++) {
        const msgpack_object_kv *pair = &unpacked.data.via.map.ptr[i];
        good = pair->key.type == MSGPACK_OBJECT_STR &&
               pair->val.type != MSGPACK_OBJECT_MAP &&
               pair->val.type != MSGPACK_OBJECT_ARRAY;
    }
    msgpack_unpacked_destroy(&unpacked);
    return good;
}

static void noise_is_judged_as_msgpack_c_judges_it(void **state)
{
    static const struct proto_field no_fields[] = {{.name = NULL}};
    uint64_t seed = 2;
    unsigned good = 0;

    (void)state;
    for (int i = 0; i < 300000; i++) {
        uint8_t bytes[24], none;
        size_t size = 1 + golden_random(&seed) % sizeof bytes;
        golden_noise(&seed, bytes, size);
        bytes[0] = (uint8_t)(0x80 + golden_random(&seed) % 4); /* mostly a small map */
        for (size_t k = 1; k < size; k++) {
            if (golden_random(&seed) % 2)
                bytes[k] = (uint8_t)(0xa0 + bytes[k] % 4); /* short texts */
            else if (bytes[k] >= 0xdc && bytes[k] <= 0xdf)
                bytes[k] = 0xc0; /* no arrays and maps of 16 and 32 bits */
        }
        uint8_t *copy = golden_copy(bytes, size);
        bool taken = proto_body_decode(no_fields, copy, size, &none) == 0;
        assert_int_equal(taken, msgpack_takes(copy, size));
        good += taken;
        free(copy);
    }
    assert_in_range(good, 1000, 299000);
}

static void noise_in_a_valid_body_is_refused_or_decodes(void **state)
{
    uint64_t seed = 3;
    unsigned good = 0;

    (void)state;
    for (int i = 0; i < 100000; i++) {
        uint8_t bytes[PROTO_BODY_BYTES_MAX], again[PROTO_BODY_BYTES_MAX];
        union any_body body;
        size_t which = golden_random(&seed) % BODIES;
        fill(bodies[which].fields, &body);
        int size = proto_body_encode(bodies[which].fields, &body, bytes, sizeof bytes);
        bytes[golden_random(&seed) % (size_t)size] = (uint8_t)golden_random(&seed);
        uint8_t *copy = golden_copy(bytes, (size_t)size);
        if (proto_body_decode(bodies[which].fields, copy, (size_t)size, &body) == 0) {
            good++;
            assert_true(
                proto_body_encode(bodies[which].fields, &body, again, sizeof again) > 0);
        }
        free(copy);
    }
    assert_in_range(good, 1, 99999);
}

static void a_verb_knows_its_body(void **state)
{
    (void)state;
    assert_ptr_equal(proto_verb_fields(PROTO_SUBMIT), proto_submit_fields);
    assert_ptr_equal(proto_verb_fields(PROTO_JOB), proto_submit_fields);
    assert_ptr_equal(proto_verb_fields(PROTO_FINAL), proto_outcome_fields);
    assert_null(proto_verb_fields(PROTO_PING));
    assert_null(proto_verb_fields(0));
    assert_null(proto_verb_fields(PROTO_VERB_END));
    assert_null(proto_verb_fields(0xffffffffu));
}

static void no_list_has_more_fields_than_the_decoder_marks(void **state)
{
    (void)state;
    for (size_t i = 0; i < BODIES; i++) {
        size_t count = 0;
        while (bodies[i].fields[count].name != NULL)
            count++;
        assert_in_range(count, 1, 64);
        assert_int_equal(bodies[i].fields[count].offset, bodies[i].size);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_body_is_encoded_as_its_golden_vector_and_back),
        cmocka_unit_test(the_largest_body_fits_its_bound),
        cmocka_unit_test(a_body_cut_or_continued_anywhere_is_refused),
        cmocka_unit_test(a_buffer_too_small_is_never_overrun),
        cmocka_unit_test(an_empty_body_is_an_empty_map_and_an_empty_frame_too),
        cmocka_unit_test(our_own_overlong_values_are_refused),
        cmocka_unit_test(every_encoding_of_a_count_is_read),
        cmocka_unit_test(a_wrong_type_or_a_negative_number_is_refused),
        cmocka_unit_test(what_is_not_one_flat_map_is_refused),
        cmocka_unit_test(a_field_given_twice_is_refused_but_zero_is_a_value),
        cmocka_unit_test(unknown_fields_of_every_flat_type_are_skipped),
        cmocka_unit_test(a_text_keeps_to_its_bound_and_has_no_nul),
        cmocka_unit_test(bytes_keep_to_their_bound_and_may_have_nuls),
        cmocka_unit_test(a_length_that_nobody_could_send_costs_nothing),
        cmocka_unit_test(a_body_over_the_bound_is_refused_unread),
        cmocka_unit_test(noise_is_judged_as_msgpack_c_judges_it),
        cmocka_unit_test(noise_in_a_valid_body_is_refused_or_decodes),
        cmocka_unit_test(a_verb_knows_its_body),
        cmocka_unit_test(no_list_has_more_fields_than_the_decoder_marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
