/*
 * Requests and their answers: pieces, order, keep-alive, bodies, early refusals.
 */
#include "test_http.h"

/* ---- answers -------------------------------------------------------------------- */

static void an_answer_has_its_headers_and_its_pieces_in_order(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    rig.headers = "Content-Type: text/plain\r\nETag: \"x\"\r\n";
    rig_use_small_answer(&rig);
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
    assert_string_equal(rig_body_of(&text), "hello world");
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
    rig_use_small_answer(&rig);
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n" GET_END);
    rig_read_all(&rig, fd, &text);
    assert_non_null(strstr(text.bytes, "Content-Length: 11\r\n"));
    assert_int_equal(strncmp(rig_body_of(&text), "HTTP/1.1 200", 12), 0);
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
        assert_string_equal(rig_body_of(&text), "");
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
    rig_use_big_answer(&rig);
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
                   ? (size_t)(rig_body_of(&text) - text.bytes)
                   : 0;
    }
    rig_read_all(&rig, fd, &text);
    assert_int_equal(memcmp(text.bytes + head, rig_big, sizeof rig_big), 0);
    const char *second = text.bytes + head + sizeof rig_big;
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
    rig_until(&rig, rig_open_connections(&rig) == 0);
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

static void chunks_over_the_bound_together_are_refused(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};
    char body[600];

    rig_init(&rig);
    rig.limits.body_bytes_max = 1000;
    rig_open(&rig);
    int fd = rig_connect(&rig);
    memset(body, 'x', sizeof body);
    rig_say(&rig, fd, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    rig_say(&rig, fd, "258\r\n");
    rig_send(&rig, fd, body, sizeof body);
    rig_say(&rig, fd, "\r\n258\r\n");
    rig_read_all(&rig, fd, &text);
    assert_int_equal(rig_status(&text), 413);
    assert_int_equal(rig.limit, 1000);
    assert_int_equal(rig.actual, 1200);
    assert_int_equal(rig.body_size, 600);
    assert_int_equal(rig.ends, 1);
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
        cmocka_unit_test(chunks_over_the_bound_together_are_refused),
        cmocka_unit_test(an_owner_can_tell_how_a_body_is_framed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
