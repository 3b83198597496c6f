/* The memory tier counts what it holds: results that came as messages, of any size. */
#include "cacher/memory.h"

#include "tests/harness/held.h"

#define SECOND UINT64_C(1000000)

static void put(struct cacher_memory *memory, unsigned number, zmq_msg_t *payload)
{
    struct cacher_record record = {.payload = zmq_msg_data(payload),
                                   .payload_bytes = (uint32_t)zmq_msg_size(payload),
                                   .tags = "a-tag",
                                   .tags_bytes = 5};
    uint8_t key[PROTO_DIGEST_BYTES] = {0};
    struct hotcache_value *value = cacher_result_new(&record);

    memcpy(key, &number, sizeof number);
    assert_non_null(value);
    assert_int_equal(cacher_memory_put(memory, key, value, 0, 0), 0);
    hotcache_value_unref(value);
}

static void memory_counts_what_it_holds(void **state)
{
    struct held_wire wire;
    uint8_t *bytes = calloc(1, held_cases[HELD_CASES - 1].size);
    (void)state;

    held_open(&wire);
    for (size_t i = 0; i < HELD_CASES; i++) {
        struct cacher_memory_limits limits = {
            .bytes_max = 1u << 30, .refusals_bytes_max = 100000, .ttl_us = 100 * SECOND};
        struct cacher_memory memory = {0};
        assert_int_equal(cacher_memory_open(&memory, &limits), 0);
        uint64_t before = held_rss_bytes();
        for (unsigned n = 0; n < held_cases[i].count; n++) {
            zmq_msg_t payload;
            held_pass(&wire, bytes, held_cases[i].size, &payload);
            put(&memory, n, &payload);
            zmq_msg_close(&payload);
        }
        held_is_counted(before, hotcache_counters(memory.results)->bytes,
                        held_cases[i].size);
        cacher_memory_close(&memory);
    }
    held_close(&wire);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_counts_what_it_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
