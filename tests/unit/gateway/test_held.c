/* The hot cache counts what it holds: results that came as messages, of any size. */
#include "tests/unit/gateway/flight_fixture.h"

#include "tests/harness/held.h"

static struct hotcache *hot;
static uint64_t hot_key;

static void keep_hot(struct gateway_waiter *waiter, struct gateway_result *result,
                     enum gateway_source source)
{
    (void)waiter;
    (void)source;
    assert_non_null(result->value);
    hot_key++;
    assert_int_equal(
        hotcache_put(hot, &hot_key, sizeof hot_key, result->value, UINT64_MAX, 0), 0);
}

/* A hit of the cache: one look-up, answered by a blob of `size` bytes or a little more.
 */
static void hit(struct bench *bench, struct held_wire *wire, const void *bytes,
                size_t size)
{
    struct asker asker;
    uint8_t body[PROTO_BODY_BYTES_MAX];
    struct mesh_msg msg = {.body = body, .has_payload = true};
    struct proto_outcome outcome = {.cache = "hit"};

    bench->fake.count = 0;
    join(bench, &asker, key_a);
    asker.waiter.done = keep_hot;
    msg.envelope.verb = PROTO_FINAL;
    msg.envelope.request = bench->fake.sent[0].envelope.request;
    msg.body_bytes =
        (size_t)proto_body_encode(proto_outcome_fields, &outcome, body, sizeof body);
    held_pass(wire, bytes, size, &msg.payload);
    gateway_mesh_on_message(bench->fake.mesh, &msg, bench->now_us);
    zmq_msg_close(&msg.payload);
}

static void the_hot_cache_counts_what_it_holds(void **state)
{
    struct bench bench;
    struct held_wire wire;
    (void)state;

    held_open(&wire);
    open_bench(&bench, true);
    for (size_t i = 0; i < HELD_CASES; i++) {
        struct proto_blob blob = {.width_px = 640, .height_px = 480};
        blob.count = (uint32_t)((held_cases[i].size - proto_blob_bytes(0)) / 148);
        size_t size = proto_blob_bytes(blob.count);
        uint8_t *bytes = calloc(1, size);
        memcpy(blob.key, key_a, sizeof blob.key);
        memcpy(blob.image_sha256, image_a, sizeof blob.image_sha256);
        proto_params_init(&blob.params);
        proto_blob_encode_header(&blob, bytes);
        hot = hotcache_new(1u << 30);
        uint64_t before = held_rss_bytes();
        for (unsigned n = 0; n < held_cases[i].count; n++)
            hit(&bench, &wire, bytes, size);
        assert_int_equal(hotcache_counters(hot)->entries, held_cases[i].count);
        held_is_counted(before, hotcache_counters(hot)->bytes, size);
        hotcache_free(hot);
        free(bytes);
    }
    close_bench(&bench);
    held_close(&wire);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hot_cache_counts_what_it_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
