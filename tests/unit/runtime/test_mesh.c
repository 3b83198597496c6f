#include "runtime/endpoint.h"
#include "tests/harness/harness.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A payload of `size` bytes, all 'x'. */
static void make(zmq_msg_t *msg, size_t size)
{
    char *bytes = malloc(size);

    memset(bytes, 'x', size);
    assert_int_equal(mesh_payload_copy(msg, bytes, size), 0);
    free(bytes);
}

static void what_is_on_its_way_is_bounded_in_bytes(void **state)
{
    struct mesh_outbox *outbox = mesh_outbox_new(5000);
    zmq_msg_t payload, first, second;
    (void)state;

    make(&payload, 3000);
    assert_int_equal(mesh_outbox_copy(outbox, &payload, &first), 0);
    assert_int_equal(mesh_outbox_bytes(outbox), 3000);
    assert_int_equal(mesh_outbox_copy(outbox, &payload, &second), -EAGAIN);
    assert_int_equal(mesh_outbox_bytes(outbox), 3000);
    zmq_msg_close(&first);
    assert_int_equal(mesh_outbox_bytes(outbox), 0);
    assert_int_equal(mesh_outbox_copy(outbox, &payload, &second), 0);
    /* The copy has the bytes although the original is gone. */
    zmq_msg_close(&payload);
    assert_int_equal(zmq_msg_size(&second), 3000);
    assert_int_equal(((char *)zmq_msg_data(&second))[2999], 'x');
    zmq_msg_close(&second);
    mesh_outbox_free(outbox);
}

static void one_larger_than_the_bound_goes_when_nothing_else_does(void **state)
{
    struct mesh_outbox *outbox = mesh_outbox_new(5000);
    zmq_msg_t payload, small, first, second;
    (void)state;

    make(&payload, 9000);
    make(&small, 100);
    assert_int_equal(mesh_outbox_copy(outbox, &payload, &first), 0);
    assert_int_equal(mesh_outbox_copy(outbox, &payload, &second), -EAGAIN);
    assert_int_equal(mesh_outbox_copy(outbox, &small, &second), 0); /* not counted */
    assert_int_equal(mesh_outbox_bytes(outbox), 9000);
    zmq_msg_close(&first);
    zmq_msg_close(&second);
    zmq_msg_close(&small);
    zmq_msg_close(&payload);
    mesh_outbox_free(outbox);
}

static void a_message_outlives_its_outboxs_owner(void **state)
{
    struct mesh_outbox *outbox = mesh_outbox_new(5000);
    zmq_msg_t payload, copy;
    (void)state;

    make(&payload, 2000);
    assert_int_equal(mesh_outbox_copy(outbox, &payload, &copy), 0);
    mesh_outbox_free(outbox);
    mesh_outbox_free(NULL);
    zmq_msg_close(&payload);
    assert_int_equal(((char *)zmq_msg_data(&copy))[0], 'x');
    zmq_msg_close(&copy);
    make(&payload, 2000);
    assert_int_equal(mesh_outbox_copy(NULL, &payload, &copy), 0); /* nothing bounds it */
    zmq_msg_close(&copy);
    zmq_msg_close(&payload);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_on_its_way_is_bounded_in_bytes),
        cmocka_unit_test(one_larger_than_the_bound_goes_when_nothing_else_does),
        cmocka_unit_test(a_message_outlives_its_outboxs_owner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
