/*
 * The life of connections: clients that leave or dawdle, deadlines, how many there may
 * be.
 */
#include "runtime/http_internal.h"
#include "test_http.h"

/* ---- clients that leave --------------------------------------------------------- */

static void a_client_that_leaves_is_noticed_while_its_answer_is_awaited(void **state)
{
    (void)state;
    /* Bytes of a next request must not hide the end. */
    static const char *const requests[] = {GET_A, GET_A GET_A "GET /b"};

    for (int at_once = 0; at_once < 2; at_once++) {
        struct rig rig;
        rig_init(&rig);
        rig.mode = RIG_HOLD;
        rig.answers_gone = at_once;
        rig_use_small_answer(&rig);
        rig_open(&rig);
        int fd = rig_connect(&rig);
        rig_say(&rig, fd, requests[at_once]);
        rig_until(&rig, rig.held != NULL);
        close(fd);
        rig_until(&rig, rig.gones == 1);
        if (!at_once) {
            rig_until(&rig, rig_open_connections(&rig) == 0);
            assert_int_equal(rig.ends, 0); /* the owner still owes its answer */
            assert_string_equal(http_path(rig.held), "/a");
            rig_answer(&rig, rig.held);
            assert_int_equal(rig.ends, 0);
        }
        rig_until(&rig, rig.ends == 1);
        assert_int_equal(rig.gones, 1);
        assert_int_equal(rig.released, 2);
        assert_int_equal(http_server_counters(rig.server)->requests, 0);
        rig_free(&rig);
    }
}

static void a_client_that_leaves_in_its_body_is_noticed(void **state)
{
    (void)state;
    struct rig rig;

    rig_init(&rig);
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc");
    rig_until(&rig, rig.body_size == 3);
    close(fd);
    rig_until(&rig, rig.gones == 1);
    assert_int_equal(rig.completes, 0);
    rig_answer(&rig, rig.held);
    rig_until(&rig, rig.ends == 1);
    rig_free(&rig);
}

static void a_client_that_leaves_in_its_answer_costs_nothing(void **state)
{
    (void)state;
    struct rig rig;

    rig_init(&rig);
    rig_use_big_answer(&rig);
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, GET_A);
    rig_until(&rig, rig.completes == 1);
    /* Unread bytes make close() send a reset. */
    close(fd);
    rig_until(&rig, rig.ends == 1);
    assert_int_equal(rig.gones, 0); /* it was answered */
    assert_int_equal(rig.released, 4);
    rig_until(&rig, rig_open_connections(&rig) == 0);
    rig_free(&rig);
}

static void a_client_that_closes_only_its_side_can_read_an_answer_on_its_way(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    rig_use_big_answer(&rig);
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, GET_A);
    rig_until(&rig, rig.completes == 1);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    rig_read_all(&rig, fd, &text);
    assert_true(text.size > sizeof rig_big);
    assert_false(text.reset);
    /* Nothing more can come: no lingering. */
    rig_until(&rig, rig.ends == 1);
    assert_int_equal(rig_open_connections(&rig), 0);
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

static void a_client_that_closes_only_its_side_is_answered(void **state)
{
    (void)state;
    static const char *const requests[] = {
        GET_A, "GET /a HTTP/1.0\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", GET_A GET_A,
        GET_A GET_A "GET /cut-off"};
    static const int answers[] = {1, 1, 1, 2, 2};

    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        struct rig rig;
        struct rig_text text = {0};
        rig_init(&rig);
        rig.mode = RIG_HOLD;
        rig_open(&rig);
        int fd = rig_connect(&rig);
        rig_say(&rig, fd, requests[i]);
        rig_until(&rig, rig.held != NULL);
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        /* The first byte of the answer asks whether the client is still there. */
        rig_read_size(&rig, fd, &text, 1);
        assert_string_equal(text.bytes, "H");
        while (!text.eof) {
            if (rig.held != NULL)
                rig_answer(&rig, rig.held);
            rig_take(&rig, fd, &text);
        }
        rig_until(&rig, rig_open_connections(&rig) == 0);
        assert_int_equal(rig.gones, 0);
        assert_int_equal(rig.ends, answers[i]);
        assert_false(text.reset);
        const char *at = text.bytes;
        for (int k = 0; k < answers[i]; k++) {
            at = strstr(at, "HTTP/1.1 200 OK\r\n");
            assert_non_null(at++);
        }
        assert_null(strstr(at, "HTTP/1.1"));
        assert_string_equal(text.bytes + text.size - 2, "/a");
        rig_text_free(&text);
        close(fd);
        rig_free(&rig);
    }
}

static void a_client_that_leaves_after_closing_its_side_is_noticed(void **state)
{
    (void)state;
    struct rig rig;

    rig_init(&rig);
    rig.mode = RIG_HOLD;
    rig_open(&rig);
    int fd = rig_connect(&rig);
    struct rig_text text = {0};
    rig_say(&rig, fd, GET_A);
    rig_until(&rig, rig.held != NULL);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    rig_read_size(&rig, fd, &text, 1);
    close(fd);
    rig_until(&rig, rig.gones == 1);
    rig_answer(&rig, rig.held);
    rig_until(&rig, rig.ends == 1);
    rig_text_free(&text);
    rig_free(&rig);
}

/* ---- time ----------------------------------------------------------------------- */

static void a_head_that_drips_is_refused_at_its_total_deadline(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    rig.limits.head_timeout_ms = 50;
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, "GET / HTTP/1.1\r\nHost: h\r\nX: ");
    /* Always one byte more: no silence to go by. */
    while (!text.eof) {
        rig_say(&rig, fd, "y");
        rig_take(&rig, fd, &text);
        assert_true(text.size < 10000);
    }
    assert_int_equal(rig_status(&text), 408);
    assert_int_equal(rig.refused, PROTO_STATUS_HEAD_TIMEOUT);
    assert_non_null(strstr(text.bytes, "\r\nX-Refused: -\r\n"));
    assert_int_equal(http_server_counters(rig.server)->timeouts, 1);
    assert_int_equal(http_server_counters(rig.server)->malformed, 0);
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

static void a_body_that_drips_is_refused_and_its_request_ended(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    rig.limits.body_timeout_ms = 50;
    rig.limits.body_rate_min = 1000000;
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, "POST /here HTTP/1.1\r\nHost: h\r\nContent-Length: 99999\r\n\r\n");
    while (!text.eof) {
        rig_say(&rig, fd, "y");
        rig_take(&rig, fd, &text);
    }
    assert_int_equal(rig_status(&text), 408);
    assert_non_null(strstr(text.bytes, "\r\nX-Refused: /here\r\n"));
    assert_true(rig.body_size > 0);
    assert_int_equal(rig.ends, 1);
    assert_int_equal(rig.gones + rig.completes, 0);
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

static void bytes_at_the_least_rate_extend_a_body_s_deadline(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    rig.limits.body_timeout_ms = 1;
    rig.limits.body_rate_min = 1; /* a byte buys a second */
    rig_open(&rig);
    int fd = rig_connect(&rig);
    uint64_t begin_ms = rig_now_ms();
    rig_say(&rig, fd,
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n0123456789");
    rig_until(&rig, rig_now_ms() > begin_ms + 300); /* three sweeps */
    rig_say(&rig, fd, "0123456789");
    rig_read_mark(&rig, fd, &text, "200 OK", 1);
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

static void a_body_s_time_ends_with_its_request_s(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    rig.limits.body_timeout_ms = 60000;
    rig.limits.request_timeout_ms = 300;
    rig.limits.body_rate_min = 1;
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n");
    uint64_t begun_ms = rig_now_ms();
    while (!text.eof) {
        send(fd, "x", 1, MSG_NOSIGNAL);
        rig_take(&rig, fd, &text);
        assert_true(rig_now_ms() < begun_ms + RIG_PATIENCE_MS);
    }
    assert_int_equal(rig_status(&text), 408);
    assert_true(rig_now_ms() >= begun_ms + 300);
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

static void an_answer_s_time_ends_whatever_is_read(void **state)
{
    (void)state;
    struct rig rig;
    char sink[10];

    rig_init(&rig);
    rig_use_big_answer(&rig);
    rig.limits.body_rate_min = 1;
    rig.limits.answer_timeout_ms = 500;
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, GET_A);
    uint64_t begun_ms = rig_now_ms();
    rig_until(&rig, rig.ends == 1 || recv(fd, sink, sizeof sink, 0) == 0);
    assert_true(rig_now_ms() >= begun_ms + 500);
    rig_until(&rig, rig_open_connections(&rig) == 0);
    assert_int_equal(rig.released, 4);
    assert_int_equal(http_server_counters(rig.server)->timeouts, 1);
    close(fd);
    rig_free(&rig);
}

/* ---- giving way ----------------------------------------------------------------- */

/* Pretend that all states begin now: no clock of this machine decides. */
static void begin_anew(struct rig *rig)
{
    for (struct http_connection *conn = rig->server->connections; conn != NULL;
         conn = conn->next)
        http_conn_enter(conn, conn->state);
}

/* Pretend that the bytes so far took a second. */
static void let_a_second_pass(struct rig *rig)
{
    for (struct http_connection *conn = rig->server->connections; conn != NULL;
         conn = conn->next)
        http_time_check(conn, conn->pace_since_ms + HTTP_PACE_MS);
}

static void the_slowest_body_gives_way_to_others(void **state)
{
    (void)state;
    static const char head[] =
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n";
    /* Slow; fast; slower; a burst that is as good as over. */
    static const size_t sent[4] = {1000, 300000, 10, 999000};
    static char bytes[999000];
    struct rig rig;
    struct rig_text text[4] = {0};
    int fd[4];

    rig_init(&rig);
    rig_open(&rig);
    for (int i = 0; i < 4; i++) {
        fd[i] = rig_connect(&rig);
        rig_say(&rig, fd[i], head);
        rig_until(&rig, rig.heads == i + 1);
        rig_send(&rig, fd[i], bytes, sent[i]);
        rig_until(&rig, rig.body_size == sent[i]);
    }
    begin_anew(&rig);
    assert_false(http_end_slowest_body(rig.server, NULL)); /* too early to tell */
    let_a_second_pass(&rig);
    /* The newest connection is the first of the list. */
    const struct http_connection *slower = rig.server->connections->next;
    assert_true(http_end_slowest_body(rig.server, &slower->request));
    assert_true(http_end_slowest_body(rig.server, NULL));
    assert_false(http_end_slowest_body(rig.server, NULL));
    assert_int_equal(rig.ends, 2);
    assert_int_equal(rig.refused, PROTO_STATUS_FULL);
    assert_int_equal(http_server_counters(rig.server)->gave_way, 2);
    assert_int_equal(http_server_counters(rig.server)->refused_connections, 0);
    for (int i = 0; i < 4; i += 2) {
        rig_read_all(&rig, fd[i], &text[i]);
        assert_int_equal(rig_status(&text[i]), 503);
        assert_non_null(strstr(text[i].bytes, "Retry-After: "));
    }
    for (int i = 0; i < 4; i++) {
        rig_text_free(&text[i]);
        close(fd[i]);
    }
    rig_free(&rig);
}

static void the_slowest_reader_gives_way_to_others(void **state)
{
    (void)state;
    struct rig rig;
    int fd[2];

    rig_init(&rig);
    rig_use_big_answer(&rig);
    rig_open(&rig);
    for (int i = 0; i < 2; i++) {
        fd[i] = rig_connect(&rig);
        rig_say(&rig, fd[i], GET_A);
        rig_until(&rig, rig.completes == i + 1);
    }
    assert_int_equal(rig.released, 0);
    begin_anew(&rig);
    assert_false(http_end_slowest_answer(rig.server, NULL));
    let_a_second_pass(&rig);
    /* One second more, in which the first reads nothing. */
    let_a_second_pass(&rig);
    assert_true(http_end_slowest_answer(rig.server, NULL));
    assert_int_equal(rig.released, 4);
    rig_until(&rig, rig.ends == 1);
    assert_int_equal(http_server_counters(rig.server)->gave_way, 1);
    for (int i = 0; i < 2; i++)
        close(fd[i]);
    rig_free(&rig);
}

/* ---- connections that say nothing ------------------------------------------------ */

static void an_idle_connection_is_closed_without_a_word(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    rig.limits.idle_timeout_ms = 50;
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, GET_A);
    rig_read_all(&rig, fd, &text);
    assert_int_equal(rig_status(&text), 200);
    assert_string_equal(rig_body_of(&text), "/a");
    assert_int_equal(http_server_counters(rig.server)->timeouts, 0);
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

static void a_connection_that_never_speaks_is_closed_and_counted(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    rig.limits.head_timeout_ms = 50;
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_read_all(&rig, fd, &text);
    assert_int_equal(text.size, 0);
    assert_int_equal(http_server_counters(rig.server)->timeouts, 1);
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

static void a_client_that_does_not_read_is_cut_off(void **state)
{
    (void)state;
    struct rig rig;

    rig_init(&rig);
    rig.limits.write_timeout_ms = 50;
    rig.limits.body_rate_min = 1u << 30;
    rig_use_big_answer(&rig);
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, GET_A);
    rig_until(&rig, rig.ends == 1);
    assert_int_equal(rig.released, 4);
    assert_int_equal(http_server_counters(rig.server)->timeouts, 1);
    rig_until(&rig, rig_open_connections(&rig) == 0);
    close(fd);
    rig_free(&rig);
}

static void what_nobody_reads_is_not_given_to_the_kernel(void **state)
{
    (void)state;
    struct rig rig;

    rig_init(&rig);
    rig_use_big_answer(&rig);
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, GET_A);
    rig_until(&rig, rig.completes == 1);
    for (int i = 0; i < 100; i++)
        rig_turn(&rig);
    const struct http_connection *conn = rig.server->connections;
    size_t taken = http_write_progress(conn);
    assert_true(conn->answer.total_bytes > 4 * HTTP_UNSENT_BYTES_MAX);
    /* What the client's own buffer took, and a segment, beside the bound. */
    assert_in_range(taken, 1, 3 * HTTP_UNSENT_BYTES_MAX);
    close(fd);
    rig_until(&rig, rig_open_connections(&rig) == 0);
    rig_free(&rig);
}

static void an_owner_may_take_longer_than_any_deadline(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    rig.mode = RIG_HOLD;
    rig.limits.head_timeout_ms = rig.limits.idle_timeout_ms = 20;
    rig.limits.body_timeout_ms = rig.limits.write_timeout_ms = 20;
    rig_open(&rig);
    int fd = rig_connect(&rig);
    uint64_t begin_ms = rig_now_ms();
    rig_say(&rig, fd, GET_END);
    rig_until(&rig, rig.held != NULL && rig_now_ms() > begin_ms + 300);
    rig_answer(&rig, rig.held);
    rig_read_all(&rig, fd, &text);
    assert_int_equal(rig_status(&text), 200);
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

/* A server that has refused a request and waits for its client to close. */
static int refuse_and_linger(struct rig *rig)
{
    struct rig_text text = {0};

    rig_init(rig);
    rig_open(rig);
    int fd = rig_connect(rig);
    rig_say(rig, fd, "nonsense\r\n\r\n");
    rig_read_all(rig, fd, &text);
    assert_int_equal(rig_status(&text), 400);
    assert_int_equal(rig_open_connections(rig), 1);
    assert_int_equal(rig->server->connections->state, HTTP_STATE_LINGER);
    rig_text_free(&text);
    return fd;
}

static void lingering_is_bounded_in_time_and_bytes(void **state)
{
    (void)state;
    struct rig rig;

    int fd = refuse_and_linger(&rig);
    rig.server->connections->since_ms -= HTTP_LINGER_MS;
    rig_until(&rig, rig_open_connections(&rig) == 0);
    close(fd);
    rig_free(&rig);

    fd = refuse_and_linger(&rig);
    rig.server->connections->lingered_bytes = HTTP_LINGER_BYTES_MAX - 1;
    rig_say(&rig, fd, "1");
    rig_turn(&rig);
    assert_int_equal(rig_open_connections(&rig), 1);
    rig_say(&rig, fd, "2");
    rig_until(&rig, rig_open_connections(&rig) == 0);
    close(fd);
    rig_free(&rig);
}

/* ---- how many ------------------------------------------------------------------- */

static void connections_over_the_bound_are_told_so(void **state)
{
    (void)state;
    for (int by_peer = 0; by_peer < 2; by_peer++) {
        struct rig rig;
        struct rig_text text = {0};
        rig_init(&rig);
        if (by_peer)
            rig.limits.connections_per_peer = 2;
        else
            rig.limits.connections_max = 2;
        rig_open(&rig);
        int first = rig_connect(&rig), second = rig_connect(&rig);
        rig_until(&rig, rig_open_connections(&rig) == 2);
        int third = rig_connect(&rig);
        rig_say(&rig, third, GET_A);
        rig_read_all(&rig, third, &text);
        assert_int_equal(rig_status(&text), 503);
        assert_non_null(strstr(text.bytes, "Retry-After: "));
        assert_int_equal(rig.limit, 2);
        assert_int_equal(rig.actual, 3);
        assert_int_equal(http_server_counters(rig.server)->refused_connections, 1);
        assert_int_equal(http_server_counters(rig.server)->accepted, 2);
        rig_text_free(&text);
        close(second);
        rig_until(&rig, rig_open_connections(&rig) == 2);
        /* There is room again; the one turned away, which is still there, takes none. */
        int fourth = rig_connect(&rig);
        rig_say(&rig, fourth, GET_A);
        rig_read_mark(&rig, fourth, &text, "200 OK", 1);
        rig_text_free(&text);
        close(fourth);
        close(third);
        close(first);
        rig_free(&rig);
    }
}

static void a_flood_of_connections_does_not_pile_up(void **state)
{
    (void)state;
    struct rig rig;
    int fds[200];

    rig_init(&rig);
    rig.limits.connections_max = 1;
    rig_open(&rig);
    for (size_t i = 0; i < 200; i++) {
        fds[i] = rig_connect(&rig);
        rig_turn(&rig);
        assert_true(rig_open_connections(&rig) <= 1 + 64 + 1);
    }
    rig_until(&rig, http_server_counters(rig.server)->refused_connections == 199);
    for (size_t i = 0; i < 200; i++)
        close(fds[i]);
    rig_until(&rig, rig_open_connections(&rig) == 0);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_that_leaves_is_noticed_while_its_answer_is_awaited),
        cmocka_unit_test(a_client_that_leaves_in_its_body_is_noticed),
        cmocka_unit_test(a_client_that_leaves_in_its_answer_costs_nothing),
        cmocka_unit_test(
            a_client_that_closes_only_its_side_can_read_an_answer_on_its_way),
        cmocka_unit_test(a_client_that_closes_only_its_side_is_answered),
        cmocka_unit_test(a_client_that_leaves_after_closing_its_side_is_noticed),
        cmocka_unit_test(a_head_that_drips_is_refused_at_its_total_deadline),
        cmocka_unit_test(a_body_that_drips_is_refused_and_its_request_ended),
        cmocka_unit_test(bytes_at_the_least_rate_extend_a_body_s_deadline),
        cmocka_unit_test(a_body_s_time_ends_with_its_request_s),
        cmocka_unit_test(an_answer_s_time_ends_whatever_is_read),
        cmocka_unit_test(the_slowest_body_gives_way_to_others),
        cmocka_unit_test(the_slowest_reader_gives_way_to_others),
        cmocka_unit_test(an_idle_connection_is_closed_without_a_word),
        cmocka_unit_test(a_connection_that_never_speaks_is_closed_and_counted),
        cmocka_unit_test(a_client_that_does_not_read_is_cut_off),
        cmocka_unit_test(what_nobody_reads_is_not_given_to_the_kernel),
        cmocka_unit_test(an_owner_may_take_longer_than_any_deadline),
        cmocka_unit_test(lingering_is_bounded_in_time_and_bytes),
        cmocka_unit_test(connections_over_the_bound_are_told_so),
        cmocka_unit_test(a_flood_of_connections_does_not_pile_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
