/*
 * Whose a request is: lists of trusted proxies, X-Forwarded-For, Forwarded, the PROXY
 * protocol, and what is counted for each client.
 */
#include "runtime/http_internal.h"
#include "test_http.h"

/* ---- addresses and lists -------------------------------------------------------- */

static void parse(const char *text, uint8_t out[16])
{
    if (!http_parse_node(text, strlen(text), out))
        fail_msg("\"%s\" is an address", text);
}

static void an_address_is_read_with_or_without_a_port(void **state)
{
    (void)state;
    static const char *const same[][2] = {
        {"192.0.2.1", "192.0.2.1:80"},        {"192.0.2.1", "::ffff:192.0.2.1"},
        {"2001:db8::1", "[2001:db8::1]"},     {"2001:db8::1", "[2001:db8::1]:443"},
        {"2001:db8::1", "2001:DB8:0:0::0:1"},
    };
    static const char *const wrong[] = {
        "",
        "unknown",
        "_hidden",
        "192.0.2",
        "192.0.2.256",
        "192.0.2.1:",
        "192.0.2.1:x",
        "192.0.2.1:123456",
        "[192.0.2.1]",
        "[2001:db8::1",
        "[2001:db8::1]x",
        "[2001:db8::1]:",
        "fe80::1%eth0",
        " 192.0.2.1",
        "192.0.2.1/8",
        "01.2.3.4.5",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    uint8_t a[16], b[16];

    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        parse(same[i][0], a);
        parse(same[i][1], b);
        assert_memory_equal(a, b, 16);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (http_parse_node(wrong[i], strlen(wrong[i]), a))
            fail_msg("\"%s\" is no address", wrong[i]);
    assert_false(http_parse_node("192.0.2.1\0x", 11, a));
}

static bool trusts(const char *list, const char *address)
{
    struct http_trusted trusted;
    char wrong[HTTP_TRUSTED_TEXT_BYTES];
    uint8_t bytes[16];

    assert_int_equal(http_trusted_parse(list, &trusted, wrong), 0);
    parse(address, bytes);
    return http_is_trusted(&trusted, bytes);
}

static void a_list_has_addresses_and_blocks(void **state)
{
    (void)state;
    static const char list[] = "127.0.0.1, 10.0.0.0/8,\t192.168.4.0/22 2001:db8::/33";
    static const char *const in[] = {"127.0.0.1", "10.255.0.1", "192.168.7.255",
                                     "2001:db8:7fff::1"};
    static const char *const out[] = {"127.0.0.2", "11.0.0.1", "192.168.8.0",
                                      "2001:db8:8000::1", "::1"};

    for (size_t i = 0; i < sizeof in / sizeof in[0]; i++)
        assert_true(trusts(list, in[i]));
    for (size_t i = 0; i < sizeof out / sizeof out[0]; i++)
        assert_false(trusts(list, out[i]));
    assert_false(trusts("", "127.0.0.1"));
    assert_true(trusts("0.0.0.0/0", "9.9.9.9"));
    assert_false(trusts("0.0.0.0/0", "2001::1"));
    assert_true(trusts("::/0", "9.9.9.9"));
}

static void what_is_wrong_with_a_list_is_named(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {{"127.0.0.1,nginx", "nginx"},
                                           {"10.0.0.0/33", "10.0.0.0/33"},
                                           {"10.0.0.0/", "10.0.0.0/"},
                                           {"10.0.0.0/x", "10.0.0.0/x"},
                                           {"10.0.0.0/1234", "10.0.0.0/1234"},
                                           {"::1/129", "::1/129"},
                                           {"/8", "/8"}};
    char text[HTTP_TRUSTED_TEXT_BYTES], many[1024] = "";

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(http_trusted_check(wrong[i][0], text), -EINVAL);
        assert_string_equal(text, wrong[i][1]);
    }
    for (int i = 0; i < HTTP_TRUSTED_MAX; i++)
        strcat(many, "10.0.0.1,");
    assert_int_equal(http_trusted_check(many, text), 0);
    strcat(many, "10.0.0.9");
    assert_int_equal(http_trusted_check(many, text), -EINVAL);
    assert_string_equal(text, "10.0.0.9");
    memset(many, 'x', 200);
    assert_int_equal(http_trusted_check(many, text), -EINVAL);
    assert_int_equal(strlen(text), HTTP_TRUSTED_TEXT_BYTES - 1);
}

/* ---- headers -------------------------------------------------------------------- */

#define PEER "10.0.0.1"

static void check_client(const char *x_forwarded_for, const char *forwarded,
                         const char *client)
{
    struct http_trusted trusted;
    char wrong[HTTP_TRUSTED_TEXT_BYTES];
    uint8_t peer[16], found[16], wanted[16];

    assert_int_equal(http_trusted_parse("10.0.0.0/8", &trusted, wrong), 0);
    parse(PEER, peer);
    parse(client, wanted);
    http_forwarded_client(&trusted, x_forwarded_for, forwarded, peer, found);
    if (memcmp(found, wanted, 16) != 0)
        fail_msg("\"%s\" \"%s\" name %s", x_forwarded_for, forwarded, client);
}

static void the_last_address_that_is_no_trusted_proxy_is_the_client(void **state)
{
    (void)state;
    static const char *const lists[][2] = {
        {"192.0.2.7", "192.0.2.7"},
        {" 192.0.2.7 ", "192.0.2.7"},
        {"192.0.2.7:999", "192.0.2.7"},
        {"[2001:db8::7]:999", "2001:db8::7"},
        {"6.6.6.6, 192.0.2.7", "192.0.2.7"}, /* the client's own word is first */
        {"192.0.2.7, 10.1.1.1,10.2.2.2", "192.0.2.7"}, /* a chain of proxies */
        {"10.1.1.1, 10.2.2.2", "10.1.1.1"},            /* inside alone */
        {"6.6.6.6, unknown, 10.2.2.2", "10.2.2.2"},    /* a proxy that does not tell */
        {"6.6.6.6, nonsense", PEER},
        {"6.6.6.6,", PEER},
        {"", PEER},
        {",,,", PEER},
    };
    char many[400] = "6.6.6.6";

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        check_client(lists[i][0], NULL, lists[i][1]);
    check_client(NULL, NULL, PEER);
    for (int i = 0; i < 15; i++)
        strcat(many, ",10.9.9.9");
    check_client(many, NULL, "6.6.6.6");
    strcat(many, ",10.9.9.9"); /* one hop too many to follow */
    check_client(many, NULL, "10.9.9.9");
}

static void forwarded_is_read_as_rfc_7239_says(void **state)
{
    (void)state;
    static const char *const lists[][2] = {
        {"for=192.0.2.7", "192.0.2.7"},
        {"For=\"192.0.2.7:80\"", "192.0.2.7"},
        {"for=\"[2001:db8::7]:4711\"", "2001:db8::7"},
        {"for=192.0.2.7;proto=http;by=203.0.113.4", "192.0.2.7"},
        {"by=203.0.113.4; FOR=192.0.2.7 ;host=\"a,b;c\"", "192.0.2.7"},
        {"for=6.6.6.6, for=192.0.2.7;proto=https", "192.0.2.7"},
        {"for=192.0.2.7, for=10.1.1.1,by=x", PEER}, /* the nearest does not tell */
        {"for=192.0.2.7, for=10.1.1.1", "192.0.2.7"},
        {"for=6.6.6.6, for=unknown", PEER},
        {"for=6.6.6.6, for=_gazonk", PEER},
        {"proto=http", PEER},
        /* Malformed: nothing of it is believed. */
        {"", PEER},
        {"192.0.2.7", PEER},
        {"for=", PEER},
        {"for", PEER},
        {"for=192.0.2.7;", PEER},
        {"for=192.0.2.7,", PEER},
        {"for=192.0.2.7;for=6.6.6.6", PEER},
        {"for=\"192.0.2.7", PEER},
        {"for=\"192.0.2.7\\\"", PEER},
        {"for=\"192.0.2.7\"6.6.6.6", PEER},
        {"for=a, host=\"x, for=6.6.6.6", PEER},
        {"for =192.0.2.7", PEER},
    };

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        check_client(NULL, lists[i][0], lists[i][1]);
}

static void two_headers_that_differ_are_not_believed(void **state)
{
    (void)state;
    check_client("192.0.2.7", "for=192.0.2.7", "192.0.2.7");
    check_client("192.0.2.7", "for=6.6.6.6", PEER);
    check_client("192.0.2.7", "nonsense", PEER);
    check_client("6.6.6.6", "for=192.0.2.7", PEER);
}

/* ---- the PROXY protocol --------------------------------------------------------- */

#define V2 "\r\n\r\n\0\r\nQUIT\n"

struct proxy_case {
    const char *bytes;
    size_t size;
    enum http_proxy_result result;
    size_t used;
    const char *address; /* NULL: none */
};

#define CASE(text, ...)                                                                  \
    {                                                                                    \
        text, sizeof text - 1, __VA_ARGS__                                               \
    }

static const struct proxy_case proxy_cases[] = {
    CASE("PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\nGET", HTTP_PROXY_DONE, 41,
         "192.0.2.7"),
    CASE("PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n", HTTP_PROXY_DONE, 46,
         "2001:db8::7"),
    CASE("PROXY UNKNOWN\r\n", HTTP_PROXY_DONE, 15, NULL),
    CASE("PROXY UNKNOWN ff:ff 1 2\r\n", HTTP_PROXY_DONE, 25, NULL),
    CASE(V2 "\x21\x11\0\x0c\xc0\0\2\7\x0a\0\0\1\xdc\4\1\xbb"
            "GET",
         HTTP_PROXY_DONE, 28, "192.0.2.7"),
    CASE(V2 "\x21\x21\0\x24\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\7"
            "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\0\1\0\2",
         HTTP_PROXY_DONE, 52, "2001:db8::7"),
    /* With something behind the addresses; LOCAL; not TCP. */
    CASE(V2 "\x21\x11\0\x10\xc0\0\2\7\x0a\0\0\1\xdc\4\1\xbb\4\0\1\0", HTTP_PROXY_DONE, 32,
         "192.0.2.7"),
    CASE(V2 "\x20\x11\0\x0c\xc0\0\2\7\x0a\0\0\1\xdc\4\1\xbb", HTTP_PROXY_DONE, 28, NULL),
    CASE(V2 "\x20\0\0\0", HTTP_PROXY_DONE, 16, NULL),
    CASE(V2 "\x21\x31\0\0", HTTP_PROXY_DONE, 16, NULL),
    /* Something else. */
    CASE("GET / HTTP/1.1\r\n", HTTP_PROXY_NONE, 0, NULL),
    CASE("PROPFIND / HTTP/1.1\r\n", HTTP_PROXY_NONE, 0, NULL),
    CASE("\r\nGET / HTTP/1.1\r\n", HTTP_PROXY_NONE, 0, NULL),
    CASE("\r\n\r\nGET", HTTP_PROXY_NONE, 0, NULL),
    /* Malformed. */
    CASE("PROXY \r\n", HTTP_PROXY_BROKEN, 0, NULL),
    CASE("PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\n", HTTP_PROXY_BROKEN, 0, NULL),
    CASE("PROXY TCP4 192.0.2.7 10.0.0.1 56324\r\n", HTTP_PROXY_BROKEN, 0, NULL),
    CASE("PROXY TCP4 192.0.2.7 10.0.0.1 56324 443 5\r\n", HTTP_PROXY_BROKEN, 0, NULL),
    CASE("PROXY TCP4 192.0.2.7  10.0.0.1 56324 443\r\n", HTTP_PROXY_BROKEN, 0, NULL),
    CASE("PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n", HTTP_PROXY_BROKEN, 0, NULL),
    CASE("PROXY TCP5 192.0.2.7 10.0.0.1 1 2\r\n", HTTP_PROXY_BROKEN, 0, NULL),
    CASE("PROXY TCP4 192.0.2.7 10.0.0.1 x 443\r\n", HTTP_PROXY_BROKEN, 0, NULL),
    CASE("PROXY UNKNOWNx\r\n", HTTP_PROXY_BROKEN, 0, NULL),
    CASE("PROXY UNKNOWN "
         "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
         "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n",
         HTTP_PROXY_BROKEN, 0, NULL),
    CASE(V2 "\x11\x11\0\x0c\xc0\0\2\7\x0a\0\0\1\xdc\4\1\xbb", HTTP_PROXY_BROKEN, 0, NULL),
    CASE(V2 "\x22\x11\0\x0c\xc0\0\2\7\x0a\0\0\1\xdc\4\1\xbb", HTTP_PROXY_BROKEN, 0, NULL),
    CASE(V2 "\x21\x11\0\x0b\xc0\0\2\7\x0a\0\0\1\xdc\4\1\xbb", HTTP_PROXY_BROKEN, 0, NULL),
    CASE(V2 "\x21\x11\xff\xff", HTTP_PROXY_BROKEN, 0, NULL),
};

/* In memory of its own, so that a sanitizer sees a read past the end. */
static enum http_proxy_result parse_part(const struct proxy_case *row, size_t size,
                                         struct http_proxy_header *header)
{
    uint8_t *copy = malloc(size);

    assert_non_null(copy);
    memcpy(copy, row->bytes, size);
    enum http_proxy_result result = http_proxy_parse(copy, size, header);
    free(copy);
    return result;
}

static void a_proxy_header_of_either_version_is_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof proxy_cases / sizeof proxy_cases[0]; i++) {
        const struct proxy_case *row = &proxy_cases[i];
        struct http_proxy_header header;
        uint8_t wanted[16];
        if (parse_part(row, row->size, &header) != row->result)
            fail_msg("case %zu", i);
        if (row->result != HTTP_PROXY_DONE)
            continue;
        assert_int_equal(header.used, row->used);
        assert_int_equal(header.has_address, row->address != NULL);
        if (row->address != NULL) {
            parse(row->address, wanted);
            assert_memory_equal(header.address, wanted, 16);
        }
        for (size_t size = 1; size < row->used; size++)
            assert_int_equal(parse_part(row, size, &header), HTTP_PROXY_MORE);
    }
}

/* ---- in the server -------------------------------------------------------------- */

static void open_trusting(struct rig *rig, const char *list)
{
    rig_init(rig);
    rig->limits.trusted_proxies = list;
    rig_open(rig);
}

static const char *peer_of(struct rig *rig, int fd, const char *request)
{
    struct rig_text text = {0};

    rig_say(rig, fd, request);
    rig_read_mark(rig, fd, &text, "\r\n\r\n/a", 1);
    rig_text_free(&text);
    return rig->peer;
}

#define GET_FOR(address)                                                                 \
    "GET /a HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: " address "\r\n\r\n"

static void only_a_trusted_peer_is_believed(void **state)
{
    (void)state;
    static const char *const lists[] = {NULL, "", "10.0.0.0/8", "127.0.0.0/8"};

    for (int i = 0; i < 4; i++) {
        bool trusted = i == 3;
        struct rig rig;
        open_trusting(&rig, lists[i]);
        int fd = rig_connect(&rig);
        assert_string_equal(peer_of(&rig, fd, GET_FOR("192.0.2.7")),
                            trusted ? "192.0.2.7" : "127.0.0.1");
        /* Each request of a connection has its own client. */
        assert_string_equal(peer_of(&rig, fd, GET_FOR("2001:db8::7")),
                            trusted ? "2001:db8::7" : "127.0.0.1");
        assert_string_equal(peer_of(&rig, fd, GET_A), "127.0.0.1");
        assert_int_equal(rig.server->clients.count, 1);
        close(fd);
        fd = rig_connect(&rig);
        struct rig_text text = {0};
        rig_say(&rig, fd, "PROXY TCP4 192.0.2.9 10.0.0.1 1 2\r\n" GET_END);
        rig_read_all(&rig, fd, &text);
        assert_int_equal(rig_status(&text), trusted ? 200 : 400);
        if (trusted)
            assert_string_equal(rig.peer, "192.0.2.9");
        rig_text_free(&text);
        close(fd);
        rig_until(&rig, rig.server->connections == NULL);
        assert_int_equal(rig.server->clients.count, 0);
        rig_free(&rig);
    }
    struct rig rig;
    rig_init(&rig);
    rig.limits.trusted_proxies = "nonsense";
    assert_int_equal(http_server_open(&rig.loop, "127.0.0.1", 0, &rig.limits,
                                      &(struct http_callbacks){0}, NULL, &rig.server),
                     -EINVAL);
    rig_free(&rig);
}

static void a_proxy_header_may_come_in_pieces(void **state)
{
    (void)state;
    static const char v1[] = "PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n" GET_A;
    static const char v2[] = V2 "\x21\x11\0\x0c\xc0\0\2\7\x0a\0\0\1\xdc\4\1\xbb" GET_A;
    static const char none[] = "\r\n" GET_A;
    static const struct {
        const char *bytes;
        size_t size;
        const char *peer;
    } rows[] = {{v1, sizeof v1 - 1, "192.0.2.7"},
                {v2, sizeof v2 - 1, "192.0.2.7"},
                {none, sizeof none - 1, "127.0.0.1"}};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (size_t step = 1; step < 30; step += 7) {
            struct rig rig;
            struct rig_text text = {0};
            open_trusting(&rig, "127.0.0.1");
            int fd = rig_connect(&rig);
            for (size_t at = 0; at < rows[i].size; at += step) {
                size_t left = rows[i].size - at;
                rig_send(&rig, fd, rows[i].bytes + at, left < step ? left : step);
                uint64_t seen = at + (left < step ? left : step);
                rig_until(&rig, http_server_counters(rig.server)->bytes_in == seen);
            }
            rig_read_mark(&rig, fd, &text, "\r\n\r\n/a", 1);
            assert_string_equal(rig.peer, rows[i].peer);
            rig_text_free(&text);
            close(fd);
            rig_free(&rig);
        }
}

static void a_malformed_proxy_header_is_refused(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    open_trusting(&rig, "127.0.0.1");
    int fd = rig_connect(&rig);
    rig_say(&rig, fd, "PROXY TCP4 nonsense\r\n" GET_A);
    rig_read_all(&rig, fd, &text);
    assert_int_equal(rig_status(&text), 400);
    assert_string_equal(rig.detail, "the PROXY header is malformed");
    rig_text_free(&text);
    close(fd);
    rig_free(&rig);
}

static void the_bound_of_one_address_is_its_client_s_behind_a_proxy(void **state)
{
    (void)state;
    struct rig rig;
    struct rig_text text = {0};

    rig_init(&rig);
    rig.limits.trusted_proxies = "127.0.0.1";
    rig.limits.connections_per_peer = 1;
    rig.mode = RIG_HOLD;
    rig_open(&rig);
    int first = rig_connect(&rig), second = rig_connect(&rig), third = rig_connect(&rig);
    rig_say(&rig, first, GET_FOR("2001:db8::1"));
    rig_until(&rig, rig.held != NULL);
    struct http_request *held = rig.held;
    /* Another address of the same /64 is the same client; another client is served. */
    rig_say(&rig, second, GET_FOR("2001:db8::2"));
    rig_read_all(&rig, second, &text);
    assert_int_equal(rig_status(&text), 503);
    assert_string_equal(rig.detail, "too many requests from this address");
    assert_int_equal(rig.limit, 1);
    assert_int_equal(rig.actual, 2);
    rig.held = NULL;
    rig_say(&rig, third, GET_FOR("2001:db8:0:1::1"));
    rig_until(&rig, rig.held != NULL);
    rig_answer(&rig, rig.held);
    rig_answer(&rig, held);
    rig_until(&rig, rig.ends == 2);
    /* It has room again. */
    rig.mode = RIG_ON_COMPLETE;
    rig_say(&rig, third, GET_FOR("2001:db8::2"));
    rig_until(&rig, rig.ends == 3);

    /* A client that comes by the PROXY protocol is counted by connection. */
    rig_text_free(&text);
    int fourth = rig_connect(&rig), fifth = rig_connect(&rig);
    static const char proxy[] = "PROXY TCP4 192.0.2.9 10.0.0.1 1 2\r\n" GET_A;
    rig_say(&rig, fourth, proxy);
    rig_until(&rig, rig.ends == 4);
    rig_say(&rig, fifth, proxy);
    rig_read_all(&rig, fifth, &text);
    assert_int_equal(rig_status(&text), 503);
    assert_string_equal(rig.detail, "too many connections from this address");
    rig_text_free(&text);
    int all[] = {first, second, third, fourth, fifth};
    for (size_t i = 0; i < 5; i++)
        close(all[i]);
    rig_until(&rig, rig.server->connections == NULL);
    assert_int_equal(rig.server->clients.count, 0);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_is_read_with_or_without_a_port),
        cmocka_unit_test(a_list_has_addresses_and_blocks),
        cmocka_unit_test(what_is_wrong_with_a_list_is_named),
        cmocka_unit_test(the_last_address_that_is_no_trusted_proxy_is_the_client),
        cmocka_unit_test(forwarded_is_read_as_rfc_7239_says),
        cmocka_unit_test(two_headers_that_differ_are_not_believed),
        cmocka_unit_test(a_proxy_header_of_either_version_is_read),
        cmocka_unit_test(only_a_trusted_peer_is_believed),
        cmocka_unit_test(a_proxy_header_may_come_in_pieces),
        cmocka_unit_test(a_malformed_proxy_header_is_refused),
        cmocka_unit_test(the_bound_of_one_address_is_its_client_s_behind_a_proxy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
