/*
 * The life of requests: order, keep-alive, early and late answers, clients that leave or
 * dawdle, bounds on connections, drain and close.
 */
#include "test_http.h"

#define GET_A   "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
#define GET_END "GET /end HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"

static char big_bytes[8 << 20];

/* Four pieces of bytes that differ everywhere. */
static void use_big_answer(struct rig *rig)
{
    const size_t part = sizeof big_bytes / RIG_PIECES_MAX;

    for (size_t i = 0; i < sizeof big_bytes; i++)
        big_bytes[i] = (char)(i * 2654435761u >> 13);
    rig->piece_count = RIG_PIECES_MAX;
    for (size_t i = 0; i < RIG_PIECES_MAX; i++)
        rig->pieces[i] =
            (struct http_piece){big_bytes + i * part, part, rig_release, rig};
}

static void use_small_answer(struct rig *rig)
{
    rig->piece_count = 2;
    rig->pieces[0] = (struct http_piece){"hello ", 6, rig_release, rig};
    rig->pieces[1] = (struct http_piece){"world", 5, rig_release, rig};
}

static const char *body_of(const struct rig_text *text)
{
    const char *end = strstr(text->bytes, "\r\n\r\n");

    assert_non_null(end);
    return end + 4;
}

static uint64_t open_connections(const struct rig *rig)
{
    return http_server_counters(rig->server)->connections;
}

/* ---- answers -------------------------------------------------------------------- */

static void an_answer_has_its_headers_and_its_pieces_in_order(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    rig.headers = "Content-Type: text/plain\r\nETag: \"x\"\r\n";
    use_small_answer(&rig);
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, GET_END);
    rig_read_all(&rig, fd, &text);
    assert_int_equal(strncmp(text.bytes, "HTTP/1.1 200 OK\r\n", 17), 0);
    assert_non_null(strstr(text.bytes, "\r\nServer: siftmesh\r\n"));
    assert_non_null(strstr(text.bytes, "\r\nContent-Length: 11\r\n"));
    assert_non_null(strstr(text.bytes, "\r\nConnection: close\r\n"));
    assert_non_null(strstr(text.bytes, "\r\nETag: \"x\"\r\n"));
    char *date = strstr(text.bytes, "\r\nDate: ");
    struct tm tm;
    assert_non_null(date);
    const char *end = strptime(date + 8, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    assert_non_null(end);
    assert_int_equal(end - (date + 8), 29);
    assert_true(labs((long)(timegm(&tm) - time(NULL))) < 60);
    assert_string_equal(body_of(&text), "hello world");
    assert_int_equal(rig.released, 2);
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

static void head_has_the_length_but_not_the_body(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    use_small_answer(&rig);
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n" GET_END);
    rig_read_all(&rig, fd, &text);
    assert_non_null(strstr(text.bytes, "Content-Length: 11\r\n"));
    assert_int_equal(strncmp(body_of(&text), "HTTP/1.1 200", 12), 0);
    assert_int_equal(rig.released, 4);
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

static void statuses_without_a_body_have_none_and_no_length(void **state)
{
    (void)state;
    static const int statuses[] = {204, 304};

    for (size_t i = 0; i < 2; i++) {
        struct rig rig;
        struct rig_text text = {0};
        rig_init(&rig);
        rig.status = statuses[i];
        rig_open(&rig);
        int fd = rig_connect(&rig);
        rig_say(&rig, fd, GET_END);
        rig_read_all(&rig, fd, &text);
        assert_int_equal(rig_status(&text), statuses[i]);
        assert_null(strstr(text.bytes, "Content-Length"));
        assert_string_equal(body_of(&text), "");
        rig_text_free(&text);
        close(fd);
        rig_free(&rig);
    }
}

static void http_1_0_is_kept_alive_only_when_it_asks(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, "GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    rig_read_mark(&rig, fd, &text, "/1", 1);
    assert_non_null(strstr(text.bytes, "Connection: keep-alive\r\n"));
    rig_say(&rig, fd, "GET /2 HTTP/1.0\r\n\r\n");
    rig_read_all(&rig, fd, &text);
    assert_non_null(strstr(text.bytes, "Connection: close\r\n"));
    assert_int_equal(rig.ends, 2);
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

static void a_slow_reader_gets_every_byte_of_a_large_answer(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    use_big_answer(&rig);
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, GET_A);
    rig_until(&rig, rig.completes == 1);
    for (int i = 0; i < 50; i++)
        rig_turn(&rig);
    assert_int_equal(rig.released, 0); /* still on its way */
    assert_int_equal(rig.ends, 0);
    /* The next request waits for its turn behind the answer. */
    rig_say(&rig, fd, GET_END);
    size_t head = 0;
    while (head == 0) {
        rig_take(&rig, fd, &text);
        head = text.size > 0 && memmem(text.bytes, text.size, "\r\n\r\n", 4) != NULL
                   ? (size_t)(body_of(&text) - text.bytes)
                   : 0;
    }
    rig_read_all(&rig, fd, &text);
    assert_int_equal(memcmp(text.bytes + head, big_bytes, sizeof big_bytes), 0);
    const char *second = text.bytes + head + sizeof big_bytes;
    assert_int_equal(strncmp(second, "HTTP/1.1 200", 12), 0);
    assert_int_equal(rig.released, 8);
    assert_int_equal(http_server_counters(rig.server)->bytes_out, text.size);
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

/* ---- order ---------------------------------------------------------------------- */

static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    for (int held = 0; held < 2; held++) {
        struct rig rig;
        struct rig_text text = {0};
        rig_init(&rig);
        rig.mode = held ? RIG_HOLD : RIG_ON_COMPLETE;
        rig_open(&rig);
        int fd = rig_connect(&rig);
        for (int i = 0; i < 20; i++) {
            char request[128];
            snprintf(request, sizeof request,
                     "POST /n%02d HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
                     i);
            rig_say(&rig, fd, request);
        }
        for (int i = 0; held && i < 20; i++) {
            rig_until(&rig, rig.held != NULL);
            assert_int_equal(rig.heads, i + 1); /* one in hand */
            rig_answer(&rig, rig.held);
            assert_int_equal(rig.ends, i); /* not before http_respond() is back */
        }
        rig_read_mark(&rig, fd, &text, "HTTP/1.1 200", 20);
        const char *at = text.bytes;
        for (int i = 0; i < 20; i++) {
            char mark[8];
            snprintf(mark, sizeof mark, "/n%02d", i);
            at = strstr(at, mark);
            assert_non_null(at);
        }
        rig_until(&rig, rig.ends == 20);
        rig_text_free(&text);
        close(fd);
        rig_free(&rig);
    }
}

static void what_is_pipelined_is_bounded_and_not_lost(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};
    static char body[4 << 20];

    rig_init(&rig);
    rig.mode = RIG_HOLD;
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, GET_A);
    rig_until(&rig, rig.held != NULL);
    char head[128];
    snprintf(head, sizeof head,
             "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n", sizeof body);
    rig_say(&rig, fd, head);
    memset(body, 'b', sizeof body);
    size_t sent = 0;
    for (int i = 0; i < 200; i++) {
        ssize_t size = send(fd, body + sent, sizeof body - sent, MSG_NOSIGNAL);
        sent += size > 0 ? (size_t)size : 0;
        rig_turn(&rig);
    }
    /* It has stopped reading: kernel buffers aside, a head's worth and one read. */
    uint64_t in = http_server_counters(rig.server)->bytes_in;
    assert_true(in <= strlen(GET_A) + rig.limits.head_bytes_max + (64u << 10));
    rig_answer(&rig, rig.held);
    assert_true(rig_send(&rig, fd, body + sent, sizeof body - sent));
    rig_until(&rig, rig.held != NULL);
    assert_int_equal(rig.body_size, sizeof body);
    assert_memory_equal(rig.body, body, sizeof body);
    rig_answer(&rig, rig.held);
    rig_read_mark(&rig, fd, &text, "HTTP/1.1 200", 2);
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

static void an_answer_at_the_head_of_a_bodiless_request_keeps_the_connection(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    rig.mode = RIG_ON_HEAD;
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, GET_A GET_A GET_END);
    rig_read_all(&rig, fd, &text);
    assert_int_equal(rig.heads, 3);
    assert_int_equal(rig.completes, 0);
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

/* ---- bodies --------------------------------------------------------------------- */

#define EXPECT_POST                                                                      \
    "POST /e HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n"

static void continue_is_said_once_the_owner_has_not_refused(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, EXPECT_POST);
    rig_read_mark(&rig, fd, &text, "\r\n\r\n", 1);
    assert_string_equal(text.bytes, "HTTP/1.1 100 Continue\r\n\r\n");
    rig_say(&rig, fd, "hello");
    rig_read_mark(&rig, fd, &text, "/e", 1);
    assert_int_equal(rig.body_size, 5);
    rig_text_free(&text);
    /* A body that does not wait makes it useless. */
    rig_say(&rig, fd, EXPECT_POST "hello");
    rig_read_mark(&rig, fd, &text, "/e", 1);
    assert_int_equal(rig_status(&text), 200);
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

static void a_refusal_takes_the_place_of_continue(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    rig.mode = RIG_ON_HEAD;
    rig.status = 415;
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, EXPECT_POST);
    rig_read_all(&rig, fd, &text);
    assert_int_equal(rig_status(&text), 415);
    assert_null(strstr(text.bytes, "100 Continue"));
    assert_non_null(strstr(text.bytes, "Connection: close\r\n"));
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

/* A client that reads only after it has written all sees an early answer, no reset. */
static void check_early_answer(enum rig_mode mode, const char *coding)
{
    struct rig rig;
    struct rig_text text = {0};
    static char body[4 << 20];

    rig_init(&rig);
    rig.mode = mode;
    rig.status = 422;
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, "POST / HTTP/1.1\r\nHost: h\r\n");
    rig_say(&rig, fd, coding);
    assert_true(rig_send(&rig, fd, body, sizeof body));
    rig_read_all(&rig, fd, &text);
    assert_int_equal(rig_status(&text), 422);
    assert_false(text.reset);
    assert_int_equal(rig.completes + rig.gones, 0);
    assert_int_equal(rig.ends, 1);
    rig_text_free(&text);
    close(fd);
    rig_until(&rig, open_connections(&rig) == 0);
    rig_free(&rig);
}

static void an_early_answer_reaches_a_client_that_is_still_sending(void **state)
{
    (void)state;
    check_early_answer(RIG_ON_HEAD, "Content-Length: 4194304\r\n\r\n");
    check_early_answer(RIG_ON_BODY, "Content-Length: 4194304\r\n\r\n");
    check_early_answer(RIG_ON_BODY, "Transfer-Encoding: chunked\r\n\r\n400000\r\n");
}

static void a_body_over_its_bound_is_refused_with_limit_and_actual(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};
    static char body[2000];

    rig_init(&rig);
    rig.limits.body_bytes_max = 1000;
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n");
    rig_send(&rig, fd, body, sizeof body);
    rig_read_all(&rig, fd, &text);
    assert_int_equal(rig_status(&text), 413);
    assert_false(text.reset);
    assert_int_equal(rig.limit, 1000);
    assert_int_equal(rig.actual, 1001);
    assert_int_equal(rig.heads, 0);
    rig_text_free(&text);
    close(fd);

    fd = rig_connect(&rig);
    rig_say(&rig, fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n");
    rig_send(&rig, fd, body, 1000);
    rig_read_mark(&rig, fd, &text, "200 OK", 1);
    assert_int_equal(rig.body_size, 1000);
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

static void an_owner_can_tell_how_a_body_is_framed(void **state)
{
    (void)state;
    struct rig rig;

    rig_init(&rig);
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, "POST / HTTP/1.1\r\nHost: h\r\n\r\n");
    rig_until(&rig, rig.ends == 1);
    assert_false(rig.has_length || rig.is_chunked);
    assert_int_equal(rig.length, 0);
    rig_say(&rig, fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab");
    rig_until(&rig, rig.ends == 2);
    assert_true(rig.has_length && !rig.is_chunked);
    assert_int_equal(rig.length, 2);
    rig_say(&rig, fd,
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    rig_until(&rig, rig.ends == 3);
    assert_true(!rig.has_length && rig.is_chunked);
    assert_int_equal(rig.length, -1);
    close(fd);
    rig_free(&rig);
}

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
        use_small_answer(&rig);
        rig_open(&rig);
        int fd = rig_connect(&rig);
        rig_say(&rig, fd, requests[at_once]);
        rig_until(&rig, rig.held != NULL);
        close(fd);
        rig_until(&rig, rig.gones == 1);
        if (!at_once) {
            rig_until(&rig, open_connections(&rig) == 0);
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
    use_big_answer(&rig);
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, GET_A);
    rig_until(&rig, rig.completes == 1);
    /* Unread bytes make close() send a reset. */
    close(fd);
    rig_until(&rig, rig.ends == 1);
    assert_int_equal(rig.gones, 0); /* it was answered */
    assert_int_equal(rig.released, 4);
    rig_until(&rig, open_connections(&rig) == 0);
    rig_free(&rig);
}

static void a_client_that_closes_only_its_side_can_read_an_answer_on_its_way(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    use_big_answer(&rig);
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, GET_A);
    rig_until(&rig, rig.completes == 1);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    rig_read_all(&rig, fd, &text);
    assert_true(text.size > sizeof big_bytes);
    assert_false(text.reset);
    rig_text_free(&text);
    close(fd);
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
    rig_say(&rig, fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999\r\n\r\n");
    while (!text.eof) {
        rig_say(&rig, fd, "y");
        rig_take(&rig, fd, &text);
    }
    assert_int_equal(rig_status(&text), 408);
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

static void idle_and_silent_connections_are_closed_without_a_word(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    rig.limits.idle_timeout_ms = 50;
    rig.limits.head_timeout_ms = 50;
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, GET_A);
    rig_read_all(&rig, fd, &text); /* idle after its answer */
    assert_int_equal(rig_status(&text), 200);
    assert_int_equal(http_server_counters(rig.server)->timeouts, 0);
    rig_text_free(&text);
    close(fd);
    fd = rig_connect(&rig);
    rig_read_all(&rig, fd, &text); /* has never said anything */
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
    use_big_answer(&rig);
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, GET_A);
    rig_until(&rig, rig.ends == 1);
    assert_int_equal(rig.released, 4);
    assert_int_equal(http_server_counters(rig.server)->timeouts, 1);
    rig_until(&rig, open_connections(&rig) == 0);
    close(fd);
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
        rig_until(&rig, open_connections(&rig) == 2);
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
        close(third);
        close(second);
        rig_until(&rig, open_connections(&rig) == 1);
        /* There is room again. */
        int fourth = rig_connect(&rig);
        rig_say(&rig, fourth, GET_A);
        rig_read_mark(&rig, fourth, &text, "200 OK", 1);
        rig_text_free(&text);
        close(fourth);
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
        assert_true(open_connections(&rig) <= 1 + 64 + 1);
    }
    rig_until(&rig, http_server_counters(rig.server)->refused_connections == 199);
    for (size_t i = 0; i < 200; i++)
        close(fds[i]);
    rig_until(&rig, open_connections(&rig) == 0);
    rig_free(&rig);
}

/* ---- the end -------------------------------------------------------------------- */

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
    rig_until(&rig, rig.held != NULL && open_connections(&rig) == 2);
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
    rig_until(&rig, open_connections(&rig) == 0);
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
    use_big_answer(&rig);
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
        cmocka_unit_test(an_answer_has_its_headers_and_its_pieces_in_order),
        cmocka_unit_test(head_has_the_length_but_not_the_body),
        cmocka_unit_test(statuses_without_a_body_have_none_and_no_length),
        cmocka_unit_test(http_1_0_is_kept_alive_only_when_it_asks),
        cmocka_unit_test(a_slow_reader_gets_every_byte_of_a_large_answer),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(what_is_pipelined_is_bounded_and_not_lost),
        cmocka_unit_test(
            an_answer_at_the_head_of_a_bodiless_request_keeps_the_connection),
        cmocka_unit_test(continue_is_said_once_the_owner_has_not_refused),
        cmocka_unit_test(a_refusal_takes_the_place_of_continue),
        cmocka_unit_test(an_early_answer_reaches_a_client_that_is_still_sending),
        cmocka_unit_test(a_body_over_its_bound_is_refused_with_limit_and_actual),
        cmocka_unit_test(an_owner_can_tell_how_a_body_is_framed),
        cmocka_unit_test(a_client_that_leaves_is_noticed_while_its_answer_is_awaited),
        cmocka_unit_test(a_client_that_leaves_in_its_body_is_noticed),
        cmocka_unit_test(a_client_that_leaves_in_its_answer_costs_nothing),
        cmocka_unit_test(
            a_client_that_closes_only_its_side_can_read_an_answer_on_its_way),
        cmocka_unit_test(a_head_that_drips_is_refused_at_its_total_deadline),
        cmocka_unit_test(a_body_that_drips_is_refused_and_its_request_ended),
        cmocka_unit_test(bytes_at_the_least_rate_extend_a_body_s_deadline),
        cmocka_unit_test(idle_and_silent_connections_are_closed_without_a_word),
        cmocka_unit_test(a_client_that_does_not_read_is_cut_off),
        cmocka_unit_test(an_owner_may_take_longer_than_any_deadline),
        cmocka_unit_test(connections_over_the_bound_are_told_so),
        cmocka_unit_test(a_flood_of_connections_does_not_pile_up),
        cmocka_unit_test(a_drain_closes_the_idle_and_lets_the_rest_finish),
        cmocka_unit_test(a_drain_in_a_hurry_waits_only_for_owners),
        cmocka_unit_test(a_server_with_no_connection_is_drained_at_once),
        cmocka_unit_test(closing_ends_every_request_before_it_returns),
        cmocka_unit_test(a_server_can_be_closed_from_its_own_callbacks),
        cmocka_unit_test(a_server_that_cannot_listen_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
