#include "proto/envelope.h"
#include "tests/unit/proto/golden.h"

#include <errno.h>

/* The values of tests/golden/envelope.hex. */
static struct proto_envelope example(void)
{
    struct proto_envelope envelope = {
        .verb = PROTO_DONE,
        .priority = PROTO_PRIORITY_BATCH,
        .attempt = 3,
        .flags = 0x8001,
        .status = PROTO_STATUS_UNDECODABLE,
        .budget_ms = 0x11223344,
        .cost_bytes = UINT64_C(0x0102030405060708),
        .epoch = UINT64_C(0xf1f2f3f4f5f6f7f8),
    };
    for (unsigned i = 0; i < PROTO_ID_BYTES; i++) {
        envelope.request.bytes[i] = (uint8_t)(0x10 + i);
        envelope.trace.bytes[i] = (uint8_t)(0xa0 + i);
    }
    return envelope;
}

static void assert_same(const struct proto_envelope *a, const struct proto_envelope *b)
{
    assert_int_equal(a->verb, b->verb);
    assert_int_equal(a->priority, b->priority);
    assert_int_equal(a->attempt, b->attempt);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->status, b->status);
    assert_int_equal(a->budget_ms, b->budget_ms);
    assert_true(a->cost_bytes == b->cost_bytes);
    assert_true(a->epoch == b->epoch);
    assert_memory_equal(&a->request, &b->request, sizeof a->request);
    assert_memory_equal(&a->trace, &b->trace, sizeof a->trace);
}

static void an_envelope_is_encoded_as_the_golden_vector_and_back(void **state)
{
    struct proto_envelope envelope = example(), back;
    uint8_t golden[128], bytes[PROTO_ENVELOPE_BYTES];

    (void)state;
    assert_int_equal(golden_load("envelope", golden, sizeof golden), sizeof bytes);
    proto_envelope_encode(&envelope, bytes);
    assert_memory_equal(bytes, golden, sizeof bytes);
    assert_int_equal(proto_envelope_decode(golden, sizeof bytes, &back), 0);
    assert_same(&envelope, &back);
}

static void only_the_exact_size_is_an_envelope(void **state)
{
    struct proto_envelope envelope = example(), untouched = envelope;
    uint8_t bytes[PROTO_ENVELOPE_BYTES + 1] = {0};

    (void)state;
    proto_envelope_encode(&envelope, bytes);
    for (size_t size = 0; size <= sizeof bytes; size++) {
        if (size == PROTO_ENVELOPE_BYTES)
            continue;
        uint8_t *copy = golden_copy(bytes, size);
        assert_int_equal(proto_envelope_decode(copy, size, &envelope), -EPROTO);
        free(copy);
    }
    assert_same(&envelope, &untouched);
}

static int decode_with(size_t at, uint8_t byte)
{
    struct proto_envelope envelope = example(), out;
    uint8_t bytes[PROTO_ENVELOPE_BYTES];

    proto_envelope_encode(&envelope, bytes);
    bytes[at] = byte;
    return proto_envelope_decode(bytes, sizeof bytes, &out);
}

static void a_wrong_magic_verb_status_or_priority_is_refused(void **state)
{
    (void)state;
    assert_int_equal(decode_with(0, 's'), -EPROTO);
    assert_int_equal(decode_with(3, '2'), -EPROTO);
    assert_int_equal(decode_with(5, 0), -EPROTO);
    assert_int_equal(decode_with(5, PROTO_VERB_END), -EPROTO);
    assert_int_equal(decode_with(5, 255), -EPROTO);
    assert_int_equal(decode_with(8, PROTO_STATUS_COUNT), -EPROTO);
    assert_int_equal(decode_with(9, 1), -EPROTO);
    assert_int_equal(decode_with(10, PROTO_PRIORITIES), -EPROTO);
    assert_int_equal(decode_with(10, PROTO_PRIORITY_HIGH), 0);
}

static void unknown_flags_are_ignored(void **state)
{
    (void)state;
    assert_int_equal(decode_with(6, 0xff), 0);
    assert_int_equal(decode_with(7, 0xff), 0);
}

static void another_version_leaves_what_an_answer_needs(void **state)
{
    struct proto_envelope envelope = example(), out = example();
    uint8_t bytes[PROTO_ENVELOPE_BYTES];

    (void)state;
    proto_envelope_encode(&envelope, bytes);
    bytes[4] = PROTO_VERSION + 1;
    bytes[10] = 200; /* what another version may mean by a byte is not judged */
    assert_int_equal(proto_envelope_decode(bytes, sizeof bytes, &out), -EPROTONOSUPPORT);
    assert_int_equal(out.verb, PROTO_DONE);
    assert_memory_equal(&out.request, &envelope.request, sizeof out.request);
    assert_int_equal(out.budget_ms, 0);
    assert_true(out.epoch == 0);
}

static void noise_is_refused_or_comes_back_as_it_was(void **state)
{
    uint64_t seed = 1;
    unsigned decoded = 0;

    (void)state;
    for (int i = 0; i < 100000; i++) {
        uint8_t bytes[PROTO_ENVELOPE_BYTES], again[PROTO_ENVELOPE_BYTES];
        struct proto_envelope out;
        golden_noise(&seed, bytes, sizeof bytes);
        memcpy(bytes, "SMP1\1", 5); /* else nothing would get past the magic */
        bytes[9] = 0;
        if (proto_envelope_decode(bytes, sizeof bytes, &out) < 0)
            continue;
        decoded++;
        proto_envelope_encode(&out, again);
        assert_memory_equal(bytes, again, sizeof bytes);
    }
    assert_in_range(decoded, 1, 99999);
}

static void verbs_have_names_and_ids_have_digits(void **state)
{
    struct proto_envelope envelope = example();
    char hex[2 * PROTO_ID_BYTES + 1];

    (void)state;
    assert_string_equal(proto_verb_name(PROTO_SUBMIT), "SUBMIT");
    assert_string_equal(proto_verb_name(0), "?");
    assert_string_equal(proto_verb_name(PROTO_VERB_END), "?");
    assert_string_equal(proto_verb_name(0xffffffffu), "?");
    proto_id_hex(&envelope.request, hex);
    assert_string_equal(hex, "101112131415161718191a1b1c1d1e1f");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_envelope_is_encoded_as_the_golden_vector_and_back),
        cmocka_unit_test(only_the_exact_size_is_an_envelope),
        cmocka_unit_test(a_wrong_magic_verb_status_or_priority_is_refused),
        cmocka_unit_test(unknown_flags_are_ignored),
        cmocka_unit_test(another_version_leaves_what_an_answer_needs),
        cmocka_unit_test(noise_is_refused_or_comes_back_as_it_was),
        cmocka_unit_test(verbs_have_names_and_ids_have_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
