#include "runtime/endpoint.h"
#include "tests/harness/harness.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEADLINE_MS 10000
#define MANY        5000 /* far more than one batch */

struct side {
    struct endpoint *endpoint;
    unsigned received, bad;
    int last_err;
    bool echo, close_in_callback, pause_in_callback;
    struct mesh_peer peer;
    struct proto_envelope last;
    struct proto_submit body;
    char payload[64];
};

struct pair {
    uv_loop_t loop;
    void *zmq;
    char dir[32], address[64];
    struct side router, dealer;
};

static void on_message(struct endpoint *endpoint, struct mesh_msg *msg, void *arg)
{
    struct side *side = arg;

    side->received++;
    side->last = msg->envelope;
    side->peer = msg->peer;
    side->payload[0] = '\0';
    if (msg->envelope.verb == PROTO_SUBMIT)
        assert_int_equal(proto_body_decode(proto_submit_fields, msg->body,
                                           msg->body_bytes, &side->body),
                         0);
    if (msg->has_payload)
        snprintf(side->payload, sizeof side->payload, "%.*s",
                 (int)zmq_msg_size(&msg->payload), (char *)zmq_msg_data(&msg->payload));
    if (side->echo) {
        struct proto_envelope answer = {.verb = PROTO_PONG, .priority = 1};
        assert_int_equal(endpoint_send(endpoint, &msg->peer, &answer, NULL, NULL), 0);
    }
    if (side->pause_in_callback)
        endpoint_pause(endpoint, true);
    if (side->close_in_callback) {
        endpoint_close(endpoint, 0);
        side->endpoint = NULL;
    }
}

static void on_bad(struct endpoint *endpoint, const struct mesh_peer *peer,
                   const struct proto_envelope *envelope, int err, void *arg)
{
    struct side *side = arg;
    (void)endpoint;
    side->bad++;
    side->peer = *peer;
    side->last = *envelope;
    side->last_err = err;
}

static const struct endpoint_callbacks callbacks = {on_message, on_bad};

/* Turns the loop until `*what` reaches `want`; no sleeping, a deadline. */
static void run_until(struct pair *pair, const unsigned *what, unsigned want)
{
    uint64_t end = uv_hrtime() / 1000000 + DEADLINE_MS;
    while (*what < want) {
        uv_run(&pair->loop, UV_RUN_NOWAIT);
        if (uv_hrtime() / 1000000 > end)
            fail_msg("%u of %u came within the deadline", *what, want);
    }
}

static int open_side(struct pair *pair, enum endpoint_kind kind, const char *address,
                     struct side *side)
{
    struct endpoint_options options = {
        .kind = kind, .address = address, .routing_id = "the-dealer", .hwm = 10000};
    return endpoint_open(&pair->loop, pair->zmq, &options, &callbacks, side,
                         &side->endpoint);
}

static int set_up(void **state)
{
    struct pair *pair = calloc(1, sizeof *pair);

    strcpy(pair->dir, "/tmp/endpoint-XXXXXX");
    assert_non_null(mkdtemp(pair->dir));
    snprintf(pair->address, sizeof pair->address, "ipc://%s/e.sock", pair->dir);
    uv_loop_init(&pair->loop);
    pair->zmq = zmq_ctx_new();
    assert_int_equal(open_side(pair, ENDPOINT_ROUTER, pair->address, &pair->router), 0);
    assert_int_equal(open_side(pair, ENDPOINT_DEALER, pair->address, &pair->dealer), 0);
    *state = pair;
    return 0;
}

static int tear_down(void **state)
{
    struct pair *pair = *state;
    char path[64];

    endpoint_close(pair->router.endpoint, 0);
    endpoint_close(pair->dealer.endpoint, 0);
    uv_run(&pair->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&pair->loop), 0);
    zmq_ctx_term(pair->zmq);
    snprintf(path, sizeof path, "%s/e.sock.lock", pair->dir);
    unlink(path);
    assert_int_equal(rmdir(pair->dir), 0);
    free(pair);
    return 0;
}

/* IMMEDIATE refuses until the connection stands. */
static void send_when_connected(struct pair *pair, const struct proto_envelope *envelope,
                                const void *body, zmq_msg_t *payload)
{
    uint64_t end = uv_hrtime() / 1000000 + DEADLINE_MS;
    int err;
    do {
        err = endpoint_send(pair->dealer.endpoint, NULL, envelope, body, payload);
        uv_run(&pair->loop, UV_RUN_NOWAIT);
    } while (err == -EAGAIN && uv_hrtime() / 1000000 < end);
    assert_int_equal(err, 0);
}

static void a_message_arrives_whole_with_who_sent_it(void **state)
{
    struct pair *pair = *state;
    struct proto_envelope envelope = {
        .verb = PROTO_SUBMIT, .priority = 2, .budget_ms = 77};
    struct proto_submit body = {.service = "extract", .lease = 5};
    zmq_msg_t payload;

    assert_int_equal(mesh_payload_copy(&payload, "picture", 7), 0);
    send_when_connected(pair, &envelope, &body, &payload);
    assert_int_equal(zmq_msg_size(&payload), 7); /* stays the caller's */
    zmq_msg_close(&payload);
    run_until(pair, &pair->router.received, 1);
    assert_int_equal(pair->router.last.budget_ms, 77);
    assert_string_equal(pair->router.body.service, "extract");
    assert_int_equal(pair->router.body.lease, 5);
    assert_string_equal(pair->router.payload, "picture");
    assert_memory_equal(pair->router.peer.bytes, "the-dealer", 10);
}

static void every_message_of_a_burst_is_read_although_the_edge_comes_once(void **state)
{
    struct pair *pair = *state;
    struct proto_envelope ping = {.verb = PROTO_PING, .priority = 1};

    pair->router.echo = true;
    send_when_connected(pair, &ping, NULL, NULL);
    for (int i = 1; i < MANY; i++)
        assert_int_equal(endpoint_send(pair->dealer.endpoint, NULL, &ping, NULL, NULL),
                         0);
    run_until(pair, &pair->router.received, MANY);
    run_until(pair, &pair->dealer.received, MANY);
    assert_int_equal(endpoint_counters(pair->router.endpoint)->received, MANY);
    assert_int_equal(endpoint_counters(pair->router.endpoint)->sent, MANY);
}

static void a_paused_endpoint_keeps_its_messages_for_later(void **state)
{
    struct pair *pair = *state;
    struct proto_envelope ping = {.verb = PROTO_PING, .priority = 1};

    endpoint_pause(pair->router.endpoint, true);
    for (int i = 0; i < 10; i++)
        send_when_connected(pair, &ping, NULL, NULL);
    for (int i = 0; i < 100; i++)
        uv_run(&pair->loop, UV_RUN_NOWAIT);
    assert_int_equal(pair->router.received, 0);
    endpoint_pause(pair->router.endpoint, false);
    run_until(pair, &pair->router.received, 10);
}

static void a_pause_in_the_callback_holds_what_was_received_with_it(void **state)
{
    struct pair *pair = *state;
    struct proto_envelope ping = {.verb = PROTO_PING, .priority = 1};

    endpoint_pause(pair->router.endpoint, true);
    pair->router.pause_in_callback = true;
    for (int i = 0; i < 10; i++)
        send_when_connected(pair, &ping, NULL, NULL);
    for (unsigned i = 1; i <= 10; i++) {
        endpoint_pause(pair->router.endpoint, false);
        run_until(pair, &pair->router.received, i);
        for (int turn = 0; turn < 20; turn++)
            uv_run(&pair->loop, UV_RUN_NOWAIT);
        assert_int_equal(pair->router.received, i);
    }
}

static void an_endpoint_may_be_closed_in_its_own_callback(void **state)
{
    struct pair *pair = *state;
    struct proto_envelope ping = {.verb = PROTO_PING, .priority = 1};

    pair->router.close_in_callback = true;
    endpoint_pause(pair->router.endpoint, true);
    for (int i = 0; i < 10; i++) /* the others are dropped with it */
        send_when_connected(pair, &ping, NULL, NULL);
    endpoint_pause(pair->router.endpoint, false);
    run_until(pair, &pair->router.received, 1);
    assert_null(pair->router.endpoint);
}

static void a_peer_that_is_not_there_is_told_to_the_sender(void **state)
{
    struct pair *pair = *state;
    struct proto_envelope pong = {.verb = PROTO_PONG, .priority = 1};
    struct mesh_peer nobody = {.bytes = "nobody", .size = 6};

    assert_int_equal(endpoint_send(pair->router.endpoint, &nobody, &pong, NULL, NULL),
                     -EHOSTUNREACH);
    assert_int_equal(endpoint_counters(pair->router.endpoint)->dropped, 1);
}

static void what_is_no_message_is_counted_and_the_next_one_arrives(void **state)
{
    static const struct {
        const char *frames[5];
        size_t sizes[5];
        int count;
    } rubbish[] = {
        {{""}, {0}, 1},
        {{"x", ""}, {1, 0}, 2},
        {{"SMP1................................................................", ""},
         {64, 0},
         2},
        {{"a", "b", "c", "d", "e"}, {1, 1, 1, 1, 1}, 5},
    };
    struct pair *pair = *state;
    void *socket = zmq_socket(pair->zmq, ZMQ_DEALER);
    int count = sizeof rubbish / sizeof rubbish[0], linger = 0;
    uint8_t good[PROTO_ENVELOPE_BYTES], large[PROTO_BODY_BYTES_MAX + 1] = {0};

    assert_int_equal(zmq_connect(socket, pair->address), 0);
    for (int i = 0; i < count; i++)
        for (int f = 0; f < rubbish[i].count; f++)
            assert_true(zmq_send(socket, rubbish[i].frames[f], rubbish[i].sizes[f],
                                 f + 1 < rubbish[i].count ? ZMQ_SNDMORE : 0) >= 0);
    proto_envelope_encode(&(struct proto_envelope){.verb = PROTO_PING, .priority = 1},
                          good);
    zmq_send(socket, good, sizeof good, ZMQ_SNDMORE); /* a body above its bound */
    zmq_send(socket, large, sizeof large, 0);
    zmq_send(socket, good, sizeof good, ZMQ_SNDMORE);
    zmq_send(socket, "", 0, 0);
    run_until(pair, &pair->router.received, 1);
    assert_int_equal(pair->router.bad, count + 1);
    assert_int_equal(endpoint_counters(pair->router.endpoint)->bad, count + 1);
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_close(socket);
}

static void an_ipc_path_in_use_is_not_stolen(void **state)
{
    struct pair *pair = *state;
    struct side second = {0};

    assert_int_equal(open_side(pair, ENDPOINT_ROUTER, pair->address, &second),
                     -EADDRINUSE);
    assert_null(second.endpoint);
}

static void tcp_beyond_loopback_is_not_used_without_curve(void **state)
{
    static const char *const refused[] = {
        "tcp://0.0.0.0:0",
        "tcp://*:0",
        "tcp://192.0.2.1:5555",
        "tcp://broker.example:5555",
        "tcp://[::]:0",
        "tcp://127.0.0.1.example:5555",
        "tcp://127.0.0.1:0;192.0.2.1:5555",
    };
    struct pair *pair = *state;
    struct side side = {0};

    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_int_equal(open_side(pair, ENDPOINT_ROUTER, refused[i], &side), -EACCES);
        assert_int_equal(open_side(pair, ENDPOINT_DEALER, refused[i], &side), -EACCES);
    }
    assert_int_equal(open_side(pair, ENDPOINT_ROUTER, "tcp://127.0.0.1:*", &side), 0);
    endpoint_close(side.endpoint, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_message_arrives_whole_with_who_sent_it, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            every_message_of_a_burst_is_read_although_the_edge_comes_once, set_up,
            tear_down),
        cmocka_unit_test_setup_teardown(a_paused_endpoint_keeps_its_messages_for_later,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_pause_in_the_callback_holds_what_was_received_with_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_endpoint_may_be_closed_in_its_own_callback,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_peer_that_is_not_there_is_told_to_the_sender,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            what_is_no_message_is_counted_and_the_next_one_arrives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_ipc_path_in_use_is_not_stolen, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(tcp_beyond_loopback_is_not_used_without_curve,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
