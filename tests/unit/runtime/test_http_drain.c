/*
 * How a server ends: it leaves, drains, closes; who is still answered then.
 */
#include "runtime/http_internal.h"
#include "test_http.h"

static void a_drain_closes_the_idle_and_lets_the_rest_finish(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0}, idle_text = {0};

    rig_init(&rig);
    rig.mode = RIG_HOLD;
    rig_open(&rig);
    int idle = rig_connect(&rig), busy = rig_connect(&rig);
    rig_say(&rig, busy, GET_A);
    rig_until(&rig, rig.held != NULL && rig_open_connections(&rig) == 2);
    http_server_drain(rig.server, false, rig_on_drained, &rig);
    assert_int_equal(rig.drained, 0);
    rig_read_all(&rig, idle, &idle_text);
    assert_int_equal(idle_text.size, 0);
    rig_answer(&rig, rig.held);
    rig_read_all(&rig, busy, &text);
    assert_int_equal(rig_status(&text), 200);
    assert_non_null(strstr(text.bytes, "Connection: close\r\n"));
    close(idle);
    close(busy);
    rig_until(&rig, rig.drained == 1);
    rig_text_free(&text);
    rig_text_free(&idle_text);
    rig_free(&rig);
    assert_int_equal(rig.drained, 1);
}

static void a_server_that_leaves_accepts_and_ends_each_connection(void **state)
{
    (void)state;
    struct rig rig;

    rig_init(&rig);
    rig_open(&rig);
    int kept = rig_connect(&rig);
    rig_until(&rig, rig_open_connections(&rig) == 1);
    http_server_leave(rig.server);
    int fds[] = {kept, rig_connect(&rig)};
    for (int i = 0; i < 2; i++) {
        struct rig_text text = {0};
        rig_say(&rig, fds[i], GET_A);
        rig_read_all(&rig, fds[i], &text);
        assert_int_equal(rig_status(&text), 200);
        assert_non_null(strstr(text.bytes, "Connection: close\r\n"));
        rig_text_free(&text);
        close(fds[i]);
    }
    rig_free(&rig);
}

static void who_had_just_connected_when_a_drain_began_is_answered(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text accepted_text = {0}, waiting_text = {0};

    rig_init(&rig);
    rig_open(&rig);
    int accepted = rig_connect(&rig);
    rig_until(&rig, rig_open_connections(&rig) == 1);
    int waiting = rig_connect(&rig); /* the loop does not turn: the kernel has it */
    http_server_drain(rig.server, false, rig_on_drained, &rig);
    rig_say(&rig, accepted, GET_A);
    rig_say(&rig, waiting, GET_A);
    rig_read_all(&rig, accepted, &accepted_text);
    rig_read_all(&rig, waiting, &waiting_text);
    assert_int_equal(rig_status(&accepted_text), 200);
    assert_int_equal(rig_status(&waiting_text), 200);
    close(accepted);
    close(waiting);
    rig_until(&rig, rig.drained == 1);
    rig_text_free(&accepted_text);
    rig_text_free(&waiting_text);
    rig_free(&rig);
}

static void a_proxy_that_says_nothing_holds_up_no_drain(void **state)
{
    (void)state;
    struct rig rig;

    rig_init(&rig);
    rig.limits.trusted_proxies = "127.0.0.1";
    rig.limits.head_timeout_ms = 10 * RIG_PATIENCE_MS;
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_until(&rig, rig_open_connections(&rig) == 1);
    http_server_drain(rig.server, false, rig_on_drained, &rig);
    rig_until(&rig, rig.drained == 1);
    close(fd);
    rig_free(&rig);
}

static void a_drain_in_a_hurry_waits_only_for_owners(void **state)
{
    (void)state;
    struct rig rig;

    rig_init(&rig);
    rig.mode = RIG_HOLD;
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, GET_A);
    rig_until(&rig, rig.held != NULL);
    http_server_drain(rig.server, false, rig_on_drained, &rig);
    http_server_drain(rig.server, true, rig_on_drained, &rig);
    assert_int_equal(rig.gones, 1);
    rig_until(&rig, rig_open_connections(&rig) == 0);
    assert_int_equal(rig.drained, 0);
    rig_answer(&rig, rig.held);
    rig_until(&rig, rig.drained == 1);
    close(fd);
    rig_free(&rig);
}

static void a_server_with_no_connection_is_drained_at_once(void **state)
{
    (void)state;
    struct rig rig;

    rig_init(&rig);
    rig_open(&rig);
    http_server_drain(rig.server, false, rig_on_drained, &rig);
    assert_int_equal(rig.drained, 0); /* from the loop */
    rig_until(&rig, rig.drained == 1);
    rig_free(&rig);
}

static void closing_ends_every_request_before_it_returns(void **state)
{
    (void)state;
    struct rig rig;

    rig_init(&rig);
    rig_open(&rig);
    int writing = rig_connect(&rig), held = rig_connect(&rig),
        sending = rig_connect(&rig);
    rig_use_big_answer(&rig);
    rig_say(&rig, writing, GET_A);
    rig_until(&rig, rig.completes == 1);
    rig.mode = RIG_HOLD;
    rig_say(&rig, held, GET_A);
    rig_say(&rig, sending, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc");
    rig_until(&rig, rig.heads == 3);
    assert_int_equal(rig.ends, 0);
    http_server_close(rig.server);
    rig.server = NULL;
    assert_int_equal(rig.ends, 3);
    assert_int_equal(rig.gones, 2); /* the first one was answered */
    assert_int_equal(rig.released, 4);
    close(writing);
    close(held);
    close(sending);
    rig_free(&rig);
}

static void a_server_can_be_closed_from_its_own_callbacks(void **state)
{
    (void)state;
    for (int at_end = 0; at_end < 2; at_end++) {
        struct rig rig;
        struct rig_text text = {0};
        rig_init(&rig);
        rig.close_on_head = !at_end;
        rig.close_on_end = at_end;
        rig.answers_gone = true;
        rig_open(&rig);
        int fd = rig_connect(&rig);
        rig_say(&rig, fd, GET_A GET_A);
        rig_read_all(&rig, fd, &text);
        assert_int_equal(rig.heads, 1);
        assert_int_equal(rig.ends, 1);
        rig_text_free(&text);
        close(fd);
        rig_free(&rig);
    }
}

static void a_server_that_cannot_listen_says_why(void **state)
{
    (void)state;
    struct rig rig;
    struct http_server *other = NULL;
    struct http_callbacks none = {0};

    rig_init(&rig);
    rig_open(&rig);
    assert_int_equal(http_server_open(&rig.loop, "127.0.0.1",
                                      http_server_port(rig.server), &rig.limits, &none,
                                      NULL, &other),
                     -EADDRINUSE);
    assert_int_equal(http_server_open(&rig.loop, "not an address", 0, &rig.limits, &none,
                                      NULL, &other),
                     -EINVAL);
    assert_null(other);
    http_server_close(NULL);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drain_closes_the_idle_and_lets_the_rest_finish),
        cmocka_unit_test(a_server_that_leaves_accepts_and_ends_each_connection),
        cmocka_unit_test(who_had_just_connected_when_a_drain_began_is_answered),
        cmocka_unit_test(a_proxy_that_says_nothing_holds_up_no_drain),
        cmocka_unit_test(a_drain_in_a_hurry_waits_only_for_owners),
        cmocka_unit_test(a_server_with_no_connection_is_drained_at_once),
        cmocka_unit_test(closing_ends_every_request_before_it_returns),
        cmocka_unit_test(a_server_can_be_closed_from_its_own_callbacks),
        cmocka_unit_test(a_server_that_cannot_listen_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
