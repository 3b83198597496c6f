/*
 * A session against a broker that the test plays, both on the loop of a real service.
 */
#include "runtime/session.h"
#include "tests/harness/harness.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEADLINE_MS 10000

/* What the broker of a scenario does with each HELLO and PING, and when it is enough. */
struct scenario {
    struct endpoint *broker;
    struct session *session;
    struct service *service;
    uv_timer_t deadline;
    uint64_t epoch, heartbeat_ms;
    bool as_worker, fresh;
    unsigned ignore_hellos, hellos, pings, ups, downs, messages;
    bool last_fresh, bye_on_ping, silent, new_epoch_on_ping, timed_out;
    unsigned stop_at_ups;
    char stats[512], role[16], service_name[16];
    struct mesh_peer peer;
};

static struct scenario *now_playing;

static void answer(struct scenario *s, const struct mesh_peer *peer, int verb)
{
    struct proto_envelope e = {.verb = (uint8_t)verb, .priority = 1, .epoch = s->epoch};
    struct proto_welcome welcome = {
        .heartbeat_ms = s->heartbeat_ms, .credit_jobs = 7, .fresh = s->fresh};
    (void)endpoint_send(s->broker, peer, &e, verb == PROTO_WELCOME ? &welcome : NULL,
                        NULL);
}

static void on_hello(struct scenario *s, struct mesh_msg *msg)
{
    struct proto_hello hello;
    struct proto_enlist enlist;

    s->hellos++;
    s->peer = msg->peer;
    if (msg->envelope.verb == PROTO_HELLO) {
        assert_int_equal(
            proto_body_decode(proto_hello_fields, msg->body, msg->body_bytes, &hello), 0);
        strcpy(s->role, hello.role);
    } else {
        assert_int_equal(
            proto_body_decode(proto_enlist_fields, msg->body, msg->body_bytes, &enlist),
            0);
        strcpy(s->service_name, enlist.service);
        assert_int_equal(enlist.pid, getpid());
    }
    if (s->hellos > s->ignore_hellos)
        answer(s, &msg->peer, PROTO_WELCOME);
}

static void broker_message(struct endpoint *endpoint, struct mesh_msg *msg, void *arg)
{
    struct scenario *s = arg;
    (void)endpoint;

    if (msg->envelope.verb == PROTO_HELLO || msg->envelope.verb == PROTO_REGISTER) {
        on_hello(s, msg);
    } else if (msg->envelope.verb == PROTO_PING && !s->silent) {
        s->pings++;
        snprintf(s->stats, sizeof s->stats, "%.*s", (int)zmq_msg_size(&msg->payload),
                 (char *)zmq_msg_data(&msg->payload));
        if (s->new_epoch_on_ping && s->ups == 1)
            s->epoch = 2;
        answer(s, &msg->peer, s->bye_on_ping && s->ups == 1 ? PROTO_BYE : PROTO_PONG);
    }
}

static void on_up(struct session *session, const struct proto_welcome *welcome,
                  bool fresh, void *arg)
{
    struct scenario *s = arg;

    assert_true(session_is_up(session));
    assert_int_equal(welcome->credit_jobs, 7);
    s->last_fresh = fresh;
    if (++s->ups == s->stop_at_ups)
        service_stop(s->service, 0);
}

static void on_down(struct session *session, void *arg)
{
    struct scenario *s = arg;
    struct proto_envelope e = {.verb = PROTO_SUBMIT, .priority = 1};

    s->downs++;
    s->silent = false;
    assert_false(session_is_up(session));
    assert_int_equal(session_send(session, &e, NULL, NULL), -ENOTCONN);
}

static json_t *stats(void *arg)
{
    (void)arg;
    return json_pack("{s:i}", "answer", 42);
}

static void on_deadline(uv_timer_t *timer)
{
    struct scenario *s = timer->data;
    s->timed_out = true;
    service_stop(s->service, 0);
}

static int start(struct service *service)
{
    static const struct endpoint_callbacks broker = {broker_message, NULL};
    static const struct session_callbacks session = {on_up, on_down, NULL, stats};
    static const struct proto_enlist enlist = {.service = "extract", .slots = 3};
    struct scenario *s = now_playing;

    s->service = service;
    uv_timer_init(service_loop(service), &s->deadline);
    s->deadline.data = s;
    uv_timer_start(&s->deadline, on_deadline, DEADLINE_MS, 0);
    struct endpoint_options options = {
        .kind = ENDPOINT_ROUTER,
        .address = service_endpoint(service, s->as_worker ? "back" : "front"),
        .hwm = 100};
    int err = endpoint_open(service_loop(service), service_zmq(service), &options,
                            &broker, s, &s->broker);
    return err < 0 ? err
                   : session_open(service, "monitor", s->as_worker ? &enlist : NULL,
                                  &session, s, &s->session);
}

static void drain(struct service *service, bool hurry)
{
    (void)hurry;
    service_stop(service, 0);
}

static void stop(struct service *service)
{
    (void)service;
    session_close(now_playing->session);
    endpoint_close(now_playing->broker, 0);
    uv_close((uv_handle_t *)&now_playing->deadline, NULL);
}

static void play(struct scenario *s)
{
    static const struct option_spec no_options[] = {{0}};
    static const struct service_spec spec = {.name = "played",
                                             .summary = "A test.",
                                             .options = no_options,
                                             .options_bytes = 1,
                                             .start = start,
                                             .drain = drain,
                                             .stop = stop};
    char dir[] = "/tmp/session-XXXXXX", path[64];
    const char *argv[] = {"played", "--runtime-dir", dir, "--log-level", "error", NULL};

    assert_non_null(mkdtemp(dir));
    s->epoch = s->epoch ? s->epoch : 1;
    s->heartbeat_ms = 20;
    s->stop_at_ups = s->stop_at_ups ? s->stop_at_ups : 1;
    now_playing = s;
    assert_int_equal(service_main(&spec, 5, (char **)argv), 0);
    assert_false(s->timed_out);
    snprintf(path, sizeof path, "%s/%s.sock.lock", dir, s->as_worker ? "back" : "front");
    unlink(path);
    assert_int_equal(rmdir(dir), 0);
}

static void a_client_says_hello_until_it_is_welcomed(void **state)
{
    (void)state;
    struct scenario s = {.ignore_hellos = 3};
    play(&s);
    assert_int_equal(s.hellos, 4);
    assert_string_equal(s.role, "monitor");
    assert_true(s.last_fresh); /* another epoch than none */
}

static void a_worker_registers_its_service(void **state)
{
    (void)state;
    struct scenario s = {.as_worker = true};
    play(&s);
    assert_string_equal(s.service_name, "extract");
}

static void a_session_ended_by_the_broker_is_opened_again(void **state)
{
    (void)state;
    struct scenario s = {.bye_on_ping = true, .stop_at_ups = 2};
    play(&s);
    assert_int_equal(s.downs, 1);
    assert_false(s.last_fresh); /* same epoch, and the broker did not say fresh */
}

static void a_fresh_session_of_the_same_broker_is_told_so(void **state)
{
    (void)state;
    struct scenario s = {.bye_on_ping = true, .fresh = true, .stop_at_ups = 2};
    play(&s);
    assert_true(s.last_fresh);
}

static void another_epoch_ends_the_session_and_begins_a_fresh_one(void **state)
{
    (void)state;
    struct scenario s = {.new_epoch_on_ping = true, .stop_at_ups = 2};
    play(&s);
    assert_int_equal(s.downs, 1);
    assert_true(s.last_fresh);
    assert_int_equal(s.epoch, 2);
}

static void three_silent_heartbeats_end_the_session(void **state)
{
    (void)state;
    struct scenario s = {.silent = true, .stop_at_ups = 2};
    play(&s);
    assert_int_equal(s.downs, 1);
}

static void pings_carry_statistics(void **state)
{
    (void)state;
    struct scenario s = {.bye_on_ping = true, .stop_at_ups = 2};
    play(&s);
    assert_true(s.pings >= 1);
    assert_string_equal(s.stats, "{\"answer\":42}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_says_hello_until_it_is_welcomed),
        cmocka_unit_test(a_worker_registers_its_service),
        cmocka_unit_test(a_session_ended_by_the_broker_is_opened_again),
        cmocka_unit_test(a_fresh_session_of_the_same_broker_is_told_so),
        cmocka_unit_test(another_epoch_ends_the_session_and_begins_a_fresh_one),
        cmocka_unit_test(three_silent_heartbeats_end_the_session),
        cmocka_unit_test(pings_carry_statistics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
