/*
 * The heads and chunked bodies that a strict server refuses, each with its status, whole
 * and one byte at a time; and those that it must not refuse.
 */
#include "test_http.h"

#define GET   "GET / HTTP/1.1\r\n"
#define POST  "POST / HTTP/1.1\r\nHost: a\r\n"
#define CHUNK POST "Transfer-Encoding: chunked\r\n\r\n"
/* A string with its own length: some hold NUL. */
#define BYTES(text) text, sizeof text - 1

struct row {
    const char *name, *bytes;
    size_t size;
    int status;
};

static const struct row refused[] = {
    /* line ends and bytes */
    {"bare LF everywhere", BYTES("GET / HTTP/1.1\nHost: a\n\n"), 400},
    {"bare LF after the request line", BYTES("GET / HTTP/1.1\nHost: a\r\n\r\n"), 400},
    {"bare LF after a header", BYTES(GET "Host: a\nX: b\r\n\r\n"), 400},
    {"bare LF for the last line", BYTES(GET "Host: a\r\n\n"), 400},
    {"bare LF before the request", BYTES("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
    {"bare CR in the request line", BYTES("GET /\r HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
    {"bare CR in a value", BYTES(GET "Host: a\r\nX: b\rc\r\n\r\n"), 400},
    {"bare CR before the request", BYTES("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
    {"CR CR LF", BYTES(GET "Host: a\r\r\n\r\n"), 400},
    {"two empty lines first", BYTES("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
    {"NUL in a value", BYTES(GET "Host: a\r\nX: b\0c\r\n\r\n"), 400},
    {"NUL in a name", BYTES(GET "Host: a\r\nX\0Y: b\r\n\r\n"), 400},
    {"NUL in the target", BYTES("GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
    {"a control in a value",
     BYTES(GET "Host: a\r\nX: b\x01"
               "c\r\n\r\n"),
     400},
    {"DEL in a value", BYTES(GET "Host: a\r\nX: b\x7f\r\n\r\n"), 400},
    {"the start of TLS", BYTES("\x16\x03\x01\x02\x00\x01\x00"), 400},
    {"folding with a space", BYTES(GET "Host: a\r\nX: b\r\n c\r\n\r\n"), 400},
    {"folding with a tab", BYTES(GET "Host: a\r\nX: b\r\n\tc\r\n\r\n"), 400},
    {"a space before the first header", BYTES(GET " Host: a\r\n\r\n"), 400},
    /* header lines */
    {"a space before the colon", BYTES(GET "Host : a\r\n\r\n"), 400},
    {"a tab before the colon", BYTES(GET "Host: a\r\nX\t: b\r\n\r\n"), 400},
    {"no colon", BYTES(GET "Host: a\r\nX\r\n\r\n"), 400},
    {"no name", BYTES(GET "Host: a\r\n: b\r\n\r\n"), 400},
    {"a space in a name", BYTES(GET "Host: a\r\nX Y: b\r\n\r\n"), 400},
    {"a name beyond ASCII", BYTES(GET "Host: a\r\nX\xc3\xa9: b\r\n\r\n"), 400},
    {"a bracket in a name", BYTES(GET "Host: a\r\nX[: b\r\n\r\n"), 400},
    /* the request line */
    {"no target", BYTES("GET HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
    {"two spaces before the target", BYTES("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
    {"two spaces after the target", BYTES("GET /  HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
    {"a space in the target", BYTES("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
    {"a tab for a space", BYTES("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
    {"a space after the version", BYTES("GET / HTTP/1.1 \r\nHost: a\r\n\r\n"), 400},
    {"a space before the method", BYTES(" GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
    {"a target without a slash", BYTES("GET a HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
    {"a target beyond ASCII", BYTES("GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
    {"a fragment", BYTES("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
    {"HTTP/0.9", BYTES("GET /\r\n\r\n"), 400},
    {"another protocol", BYTES("DESCRIBE rtsp://a/ RTSP/1.0\r\nHost: a\r\n\r\n"), 400},
    {"a lower-case protocol", BYTES("GET / http/1.1\r\nHost: a\r\n\r\n"), 400},
    {"a method that is no token", BYTES("G(T / HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
    {"a method beyond ASCII", BYTES("G\xc3T / HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
    {"an unknown method", BYTES("BREW / HTTP/1.1\r\nHost: a\r\n\r\n"), 501},
    {"a lower-case method", BYTES("get / HTTP/1.1\r\nHost: a\r\n\r\n"), 501},
    {"version 1.2", BYTES("GET / HTTP/1.2\r\nHost: a\r\n\r\n"), 505},
    {"version 2.0", BYTES("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505},
    {"version 1.10", BYTES("GET / HTTP/1.10\r\nHost: a\r\n\r\n"), 400},
    {"the preface of HTTP/2", BYTES("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505},
    /* Host */
    {"no Host", BYTES(GET "X: b\r\n\r\n"), 400},
    {"no header at all", BYTES(GET "\r\n"), 400},
    {"two Hosts", BYTES(GET "Host: a\r\nHost: a\r\n\r\n"), 400},
    {"two Hosts in HTTP/1.0", BYTES("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n"), 400},
    {"a path in Host", BYTES(GET "Host: a/b\r\n\r\n"), 400},
    {"a list in Host", BYTES(GET "Host: a, b\r\n\r\n"), 400},
    {"a user in Host", BYTES(GET "Host: u@a\r\n\r\n"), 400},
    /* where the body ends */
    {"two lengths", BYTES(POST "Content-Length: 1\r\nContent-Length: 2\r\n\r\nx"), 400},
    {"one length twice", BYTES(POST "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
     400},
    {"a list of lengths", BYTES(POST "Content-Length: 1, 1\r\n\r\nx"), 400},
    {"a length with a sign", BYTES(POST "Content-Length: +1\r\n\r\nx"), 400},
    {"a negative length", BYTES(POST "Content-Length: -1\r\n\r\nx"), 400},
    {"a hexadecimal length", BYTES(POST "Content-Length: 0x1\r\n\r\nx"), 400},
    {"a length with a space", BYTES(POST "Content-Length: 1 1\r\n\r\nx"), 400},
    {"an empty length", BYTES(POST "Content-Length:\r\n\r\nx"), 400},
    {"a length beyond 64 bits",
     BYTES(POST "Content-Length: 18446744073709551617\r\n\r\n"), 400},
    {"a length beyond 63 bits", BYTES(POST "Content-Length: 9223372036854775808\r\n\r\n"),
     400},
    {"a length beyond the bound", BYTES(POST "Content-Length: 99999999\r\n\r\n"), 413},
    {"length, then chunked",
     BYTES(POST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), 400},
    {"chunked, then length",
     BYTES(POST "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"), 400},
    {"another coding", BYTES(POST "Transfer-Encoding: gzip\r\n\r\n"), 501},
    {"gzip, chunked", BYTES(POST "Transfer-Encoding: gzip, chunked\r\n\r\n"), 501},
    {"xchunked", BYTES(POST "Transfer-Encoding: xchunked\r\n\r\n"), 501},
    {"identity", BYTES(POST "Transfer-Encoding: identity\r\n\r\n"), 501},
    {"chunked with a parameter", BYTES(POST "Transfer-Encoding: chunked;q=1\r\n\r\n"),
     501},
    {"chunked, identity", BYTES(POST "Transfer-Encoding: chunked, identity\r\n\r\n"),
     400},
    {"chunked twice",
     BYTES(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), 400},
    {"an empty coding", BYTES(POST "Transfer-Encoding:\r\n\r\n"), 501},
    {"chunked in HTTP/1.0",
     BYTES("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400},
    {"another expectation", BYTES(POST "Expect: 200-ok\r\nContent-Length: 1\r\n\r\n"),
     417},
};

/* These are known to the owner before they break. */
static const struct row broken_bodies[] = {
    {"no chunk size", BYTES(CHUNK "\r\nhello\r\n0\r\n\r\n"), 400},
    {"a chunk size with 0x", BYTES(CHUNK "0x5\r\nhello\r\n0\r\n\r\n"), 400},
    {"a chunk size with a sign", BYTES(CHUNK "+5\r\nhello\r\n0\r\n\r\n"), 400},
    {"a space before a chunk size", BYTES(CHUNK " 5\r\nhello\r\n0\r\n\r\n"), 400},
    {"a space after a chunk size", BYTES(CHUNK "5 \r\nhello\r\n0\r\n\r\n"), 400},
    {"a chunk size beyond 64 bits",
     BYTES(CHUNK "10000000000000005\r\nhello\r\n0\r\n\r\n"), 400},
    {"bare LF after a chunk size", BYTES(CHUNK "5\nhello\r\n0\r\n\r\n"), 400},
    {"CR CR after a chunk size", BYTES(CHUNK "5\r\rhello\r\n0\r\n\r\n"), 400},
    {"bare LF in an extension", BYTES(CHUNK "5;a\nhello\r\n0\r\n\r\n"), 400},
    {"NUL in an extension", BYTES(CHUNK "5;a\0\r\nhello\r\n0\r\n\r\n"), 400},
    {"bare LF after a chunk", BYTES(CHUNK "5\r\nhello\n0\r\n\r\n"), 400},
    {"no line end after a chunk", BYTES(CHUNK "5\r\nhelloXX0\r\n\r\n"), 400},
    {"a chunk longer than its size", BYTES(CHUNK "4\r\nhello\r\n0\r\n\r\n"), 400},
    {"bare LF at the end", BYTES(CHUNK "5\r\nhello\r\n0\r\n\n"), 400},
    {"bare CR at the end", BYTES(CHUNK "5\r\nhello\r\n0\r\n\rX"), 400},
    {"bare LF in a trailer", BYTES(CHUNK "0\r\nA: b\n\r\n"), 400},
    {"a folded trailer", BYTES(CHUNK "0\r\nA: b\r\n c\r\n\r\n"), 400},
    {"a chunk beyond the bound", BYTES(CHUNK "5\r\nhello\r\n7000000\r\n"), 413},
};

/* Send a row, whole or byte by byte, and check everything about its refusal. */
static void check_refusal(const struct row *row, bool dripping, int heads)
{
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    rig_open(&rig);
    int fd = rig_connect(&rig);
    for (size_t i = 0; dripping && i < row->size; i++)
        rig_send(&rig, fd, row->bytes + i, 1);
    if (!dripping)
        rig_send(&rig, fd, row->bytes, row->size);
    /* Lingering: the server has closed its side, and waits for ours. */
    rig_read_all(&rig, fd, &text);
    if (rig_status(&text) != row->status)
        fail_msg("%s: %d instead of %d\n%s", row->name, rig_status(&text), row->status,
                 text.bytes);
    assert_false(text.reset);
    assert_int_equal(proto_status_http(rig.refused), row->status);
    assert_non_null(strstr(text.bytes, "Connection: close\r\n"));
    assert_non_null(strstr(text.bytes, "Content-Type: application/problem+json\r\n"));
    assert_non_null(strstr(text.bytes, proto_status_code(rig.refused)));
    assert_int_equal(rig.heads, heads);
    assert_int_equal(rig.ends, heads);
    assert_int_equal(rig.completes + rig.gones, 0);
    assert_int_equal(http_server_counters(rig.server)->malformed, 1);
    rig_text_free(&text);
    close(fd);
    rig_until(&rig, http_server_counters(rig.server)->connections == 0);
    rig_free(&rig);
}

static void each_malformed_head_gets_its_status(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        check_refusal(&refused[i], false, 0);
        check_refusal(&refused[i], true, 0);
    }
}

static void each_malformed_body_gets_its_status_and_ends_its_request(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof broken_bodies / sizeof broken_bodies[0]; i++) {
        check_refusal(&broken_bodies[i], false, 1);
        check_refusal(&broken_bodies[i], true, 1);
    }
}

struct good_row {
    const char *name, *bytes;
    const char *path, *query, *host, *body;
};

static const struct good_row accepted[] = {
    {"plain", GET "Host: a\r\n\r\n", "/", "", "a", ""},
    {"one empty line first", "\r\n" GET "Host: a\r\n\r\n", "/", "", "a", ""},
    {"no space after the colon", GET "Host:a\r\n\r\n", "/", "", "a", ""},
    {"blanks round a value", GET "Host: \t a \t \r\n\r\n", "/", "", "a", ""},
    {"an empty Host", GET "Host:\r\n\r\n", "/", "", "", ""},
    {"an empty value", GET "X:\r\nHost: a\r\n\r\n", "/", "", "a", ""},
    {"a value of blanks", GET "X: \t \r\nHost: a\r\n\r\n", "/", "", "a", ""},
    {"an IPv6 host", GET "Host: [::1]:80\r\n\r\n", "/", "", "[::1]:80", ""},
    {"names in any case", GET "hOsT: a\r\n\r\n", "/", "", "a", ""},
    {"obs-text in a value", GET "Host: a\r\nX: \xe9\r\n\r\n", "/", "", "a", ""},
    {"no Host in HTTP/1.0", "GET /x HTTP/1.0\r\n\r\n", "/x", "", "(none)", ""},
    {"a query", "GET /a%20b?c=d&e=?f HTTP/1.1\r\nHost: a\r\n\r\n", "/a%20b", "c=d&e=?f",
     "a", ""},
    {"an absolute target", "GET http://h:1/p?q HTTP/1.1\r\nHost: a\r\n\r\n", "/p", "q",
     "a", ""},
    {"an absolute target without a path", "GET HTTP://h HTTP/1.1\r\nHost: a\r\n\r\n", "/",
     "", "a", ""},
    {"an absolute target with only a query", "GET http://h?q HTTP/1.1\r\nHost: a\r\n\r\n",
     "/", "q", "a", ""},
    {"the asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "*", "", "a", ""},
    {"CONNECT is for the owner to refuse", "CONNECT h:1 HTTP/1.1\r\nHost: a\r\n\r\n",
     "h:1", "", "a", ""},
    {"an upgrade is ignored",
     GET "Host: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "/", "", "a", ""},
    {"an empty body", POST "Content-Length: 0\r\n\r\n", "/", "", "a", ""},
    {"zeros before a length", POST "Content-Length: 005\r\n\r\nhello", "/", "", "a",
     "hello"},
    {"a POST without a length", POST "\r\n", "/", "", "a", ""},
    {"chunks", CHUNK "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "/", "", "a",
     "hello world"},
    {"Chunked in any case",
     POST "Transfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "/", "", "a",
     "hello"},
    {"chunk extensions", CHUNK "5;a=\"b;c\"\r\nhello\r\n0;d\r\n\r\n", "/", "", "a",
     "hello"},
    {"trailers", CHUNK "005\r\nhello\r\n000\r\nA: b\r\nHost: evil\r\n\r\n", "/", "", "a",
     "hello"},
    {"a body with GET", GET "Host: a\r\nContent-Length: 5\r\n\r\nhello", "/", "", "a",
     "hello"},
};

/* `step` bytes a time; a second request after it proves where the first one ended. */
static void check_accepted(const struct good_row *row, size_t step)
{
    struct rig rig;
    struct rig_text text = {0};
    char bytes[1024];

    rig_init(&rig);
    rig_open(&rig);
    int fd = rig_connect(&rig);
    bool is_1_0 = strstr(row->bytes, "HTTP/1.0\r\n") != NULL;
    snprintf(bytes, sizeof bytes, "%s", row->bytes);
    for (size_t i = 0, size = strlen(bytes); i < size; i += step)
        assert_true(rig_send(&rig, fd, bytes + i, i + step < size ? step : size - i));
    rig_until(&rig, rig.completes == 1);
    assert_string_equal(rig.path, row->path);
    assert_string_equal(rig.query, row->query);
    assert_string_equal(rig.host, row->host);
    assert_int_equal(rig.body_size, strlen(row->body));
    assert_memory_equal(rig.body, row->body, rig.body_size);
    if (!is_1_0) {
        rig_say(&rig, fd, "GET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        rig_until(&rig, rig.completes == 2);
        assert_string_equal(rig.path, "/second");
    }
    rig_read_all(&rig, fd, &text);
    if (rig_status(&text) != 200)
        fail_msg("%s: %s", row->name, text.bytes);
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

static void what_is_well_formed_is_accepted_in_pieces_of_any_size(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof accepted / sizeof accepted[0]; i++) {
        check_accepted(&accepted[i], 1);
        check_accepted(&accepted[i], 3);
        check_accepted(&accepted[i], 1000);
    }
}

static void a_head_over_its_bound_is_refused_with_limit_and_actual(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};
    char filler[3000];

    rig_init(&rig);
    rig.limits.head_bytes_max = 2048;
    rig_open(&rig);
    int fd = rig_connect(&rig);
    memset(filler, 'x', sizeof filler);
    rig_say(&rig, fd, GET "Host: a\r\nX: ");
    rig_send(&rig, fd, filler, sizeof filler);
    rig_read_all(&rig, fd, &text);
    assert_int_equal(rig_status(&text), 431);
    assert_int_equal(rig.limit, 2048);
    assert_true(rig.actual > 2048);
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

/* One server, one request with `lines` header lines in all: the status it gets. */
static int status_with_lines(int lines)
{
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    rig.limits.headers_max = 10;
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, GET "Host: a\r\nConnection: close\r\n");
    for (int i = 2; i < lines; i++)
        rig_say(&rig, fd, "X: y\r\n");
    rig_say(&rig, fd, "\r\n");
    rig_read_all(&rig, fd, &text);
    int status = rig_status(&text);
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
    return status;
}

static void header_lines_are_counted(void **state)
{
    (void)state;
    assert_int_equal(status_with_lines(10), 200);
    assert_int_equal(status_with_lines(11), 431);
}

static void lines_of_one_name_are_joined(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    rig_open(&rig);
    int fd = rig_connect(&rig);
    rig_say(&rig, fd,
            GET "X-List: one\r\nHost: a\r\nX-LIST:\r\nx-list: two, three\r\nAccept: b\r\n"
                "accept: c\r\nConnection: close\r\n\r\n");
    rig_read_all(&rig, fd, &text);
    assert_int_equal(rig_status(&text), 200);
    assert_string_equal(rig.joined, "one, , two, three");
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

static void the_framing_of_chunks_is_bounded(void **state)
{
    (void)state;
    static const char *const starts[] = {CHUNK "5;", CHUNK "0\r\nA: "};
    char filler[10000];

    memset(filler, 'x', sizeof filler);
    for (size_t i = 0; i < 2; i++) {
        struct rig rig;
        struct rig_text text = {0};
        rig_init(&rig);
        rig_open(&rig);
        int fd = rig_connect(&rig);
        rig_say(&rig, fd, starts[i]);
        rig_send(&rig, fd, filler, sizeof filler);
        rig_read_all(&rig, fd, &text);
        assert_int_equal(rig_status(&text), 400);
        rig_text_free(&text);
        close(fd);
        rig_free(&rig);
    }
}

static void a_query_component_is_unescaped_or_refused(void **state)
{
    (void)state;
    char good[] = "a%20b+c%2B%c3%A9", empty[] = "", plain[] = "xyz";
    char nul[] = "a%00b", cut[] = "a%2", cut_more[] = "a%", letters[] = "%zz";

    assert_int_equal(http_unescape(good), 8);
    assert_string_equal(good, "a b c+\xc3\xa9");
    assert_int_equal(http_unescape(empty), 0);
    assert_int_equal(http_unescape(plain), 3);
    assert_int_equal(http_unescape(nul), -EINVAL);
    assert_int_equal(http_unescape(cut), -EINVAL);
    assert_int_equal(http_unescape(cut_more), -EINVAL);
    assert_int_equal(http_unescape(letters), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_malformed_head_gets_its_status),
        cmocka_unit_test(each_malformed_body_gets_its_status_and_ends_its_request),
        cmocka_unit_test(what_is_well_formed_is_accepted_in_pieces_of_any_size),
        cmocka_unit_test(a_head_over_its_bound_is_refused_with_limit_and_actual),
        cmocka_unit_test(header_lines_are_counted),
        cmocka_unit_test(lines_of_one_name_are_joined),
        cmocka_unit_test(the_framing_of_chunks_is_bounded),
        cmocka_unit_test(a_query_component_is_unescaped_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
