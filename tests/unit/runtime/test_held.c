/* A queue of received messages holds the memory of its payloads, and no more. */
#include "runtime/endpoint.h"
#include "tests/harness/held.h"

static void a_payload_that_is_kept_pins_no_receive_buffer(void **state)
{
    struct held_wire wire;
    uint8_t *bytes = calloc(1, held_cases[HELD_CASES - 1].size);
    (void)state;

    held_open(&wire);
    for (size_t i = 0; i < HELD_CASES; i++) {
        size_t size = held_cases[i].size;
        unsigned count = held_cases[i].count;
        zmq_msg_t *kept = calloc(count, sizeof *kept);
        uint64_t before = held_rss_bytes();
        for (unsigned n = 0; n < count; n++) {
            struct mesh_msg msg = {.has_payload = true};
            held_pass(&wire, bytes, size, &msg.payload);
            mesh_payload_take(&msg, &kept[n]);
            assert_int_equal(zmq_msg_size(&kept[n]), size);
            zmq_msg_close(&msg.payload);
        }
        held_is_counted(before, count * (size + MESH_MESSAGE_BYTES + sizeof *kept), size);
        for (unsigned n = 0; n < count; n++)
            zmq_msg_close(&kept[n]);
        free(kept);
    }
    held_close(&wire);
    free(bytes);
}

/* A peer that reads nothing has a full queue of answers that came from another one. */
static void a_payload_on_its_way_pins_no_receive_buffer(void **state)
{
    struct held_wire wire;
    uint8_t bytes[4000] = {0};
    unsigned count = 5000;
    zmq_msg_t *sent = calloc(count, sizeof *sent), came;
    struct mesh_outbox *outbox = mesh_outbox_new(1u << 30);
    (void)state;

    held_open(&wire);
    uint64_t before = held_rss_bytes();
    for (unsigned n = 0; n < count; n++) {
        held_pass(&wire, bytes, sizeof bytes, &came);
        assert_int_equal(mesh_outbox_copy(outbox, &came, &sent[n]), 0);
        zmq_msg_close(&came);
    }
    held_is_counted(before, mesh_outbox_bytes(outbox), sizeof bytes);
    for (unsigned n = 0; n < count; n++)
        zmq_msg_close(&sent[n]);
    assert_int_equal(mesh_outbox_bytes(outbox), 0);
    free(sent);
    mesh_outbox_free(outbox);
    held_close(&wire);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_payload_that_is_kept_pins_no_receive_buffer),
        cmocka_unit_test(a_payload_on_its_way_pins_no_receive_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
