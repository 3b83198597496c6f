/*
 * Any bytes, in any pieces, against the HTTP server: no crash, every request that begins
 * ends once, every piece of an answer is given back once, and a body that llhttp accepts
 * too is the same body.
 *
 * Input: one byte of how (how large the pieces are, when the owner answers, whether the
 * peer is a trusted proxy), then what the client sends. Each piece is copied to memory of
 * its own size, so that ASan sees a read past its end.
 */
#include "runtime/http_internal.h"

#include <llhttp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BODY_BYTES_MAX 4096u

enum { ON_COMPLETE, ON_HEAD, ON_BODY, HOLD };

static struct fuzz {
    uv_loop_t loop;
    struct http_server *server;
    unsigned mode;
    struct http_request *held;
    uint64_t heads, completes, gones, ends, pieces, released;
    uint64_t body_size, first_size; /* of this request; of the first complete one */
    uint8_t body[BODY_BYTES_MAX], first[BODY_BYTES_MAX];
} fuzz;

static void require(int condition)
{
    if (!condition)
        abort();
}

static void on_release(void *owner)
{
    (void)owner;
    fuzz.released++;
}

static void answer(struct http_request *request)
{
    const struct http_piece pieces[2] = {{"hello ", 6, on_release, NULL},
                                         {"world", 5, on_release, NULL}};

    fuzz.held = NULL;
    fuzz.pieces += 2;
    http_respond(request, 200, "Content-Type: text/plain\r\n", pieces, 2);
}

static void on_head(struct http_request *request, void *arg)
{
    (void)arg;
    fuzz.heads++;
    fuzz.body_size = 0;
    require(http_method(request)[0] != '\0' && http_path(request)[0] != '\0');
    require(http_query(request) != NULL && http_data(request) == NULL);
    require(http_content_length(request) <= (int64_t)BODY_BYTES_MAX);
    require(http_peer(request)[0] != '\0');
    char query[512];
    if (strlen(http_query(request)) < sizeof query)
        http_unescape(strcpy(query, http_query(request)));
    if (fuzz.mode == ON_HEAD)
        answer(request);
}

static void on_body(struct http_request *request, const uint8_t *bytes, size_t size,
                    void *arg)
{
    (void)arg;
    require(size > 0 && fuzz.body_size + size <= BODY_BYTES_MAX);
    memcpy(fuzz.body + fuzz.body_size, bytes, size);
    fuzz.body_size += size;
    if (fuzz.mode == ON_BODY)
        answer(request);
}

static void on_complete(struct http_request *request, void *arg)
{
    (void)arg;
    if (!http_is_chunked(request))
        require(fuzz.body_size == (uint64_t)http_content_length(request));
    if (fuzz.completes++ == 0) {
        fuzz.first_size = fuzz.body_size;
        memcpy(fuzz.first, fuzz.body, fuzz.body_size);
    }
    if (fuzz.mode == HOLD)
        fuzz.held = request;
    else
        answer(request);
}

static void on_gone(struct http_request *request, void *arg)
{
    (void)arg;
    fuzz.gones++;
    answer(request);
}

static void on_end(struct http_request *request, void *arg)
{
    (void)request;
    (void)arg;
    fuzz.ends++;
}

static void start(void)
{
    static const struct http_callbacks callbacks = {.on_head = on_head,
                                                    .on_body = on_body,
                                                    .on_complete = on_complete,
                                                    .on_gone = on_gone,
                                                    .on_end = on_end};
    struct http_limits limits;

    http_limits_init(&limits);
    limits.body_bytes_max = BODY_BYTES_MAX;
    limits.head_bytes_max = 2048;
    limits.headers_max = 16;
    limits.trusted_proxies = "10.0.0.0/8, 2001:db8::/32";
    limits.connections_per_peer = 1;
    require(uv_loop_init(&fuzz.loop) == 0);
    require(http_server_open(&fuzz.loop, "127.0.0.1", 0, &limits, &callbacks, NULL,
                             &fuzz.server) == 0);
}

/* Let the loop finish what is due, and read what the server says. */
static void turn(int fd)
{
    char sink[8192];

    uv_run(&fuzz.loop, UV_RUN_NOWAIT);
    while (recv(fd, sink, sizeof sink, MSG_DONTWAIT) > 0)
        ;
    if (fuzz.held != NULL)
        answer(fuzz.held);
    uv_run(&fuzz.loop, UV_RUN_NOWAIT);
}

static bool is_open(const struct http_connection *conn)
{
    return fuzz.server->connections == conn && conn->state != HTTP_STATE_CLOSED;
}

static void feed(struct http_connection *conn, int fd, const uint8_t *data, size_t size,
                 size_t step)
{
    while (size > 0 && is_open(conn)) {
        size_t part = size < step ? size : step;
        uint8_t *copy = malloc(part);
        require(copy != NULL);
        memcpy(copy, data, part);
        http_conn_feed(conn, copy, part);
        free(copy);
        turn(fd);
        data += part;
        size -= part;
    }
}

/* ---- the same bytes through llhttp alone ---------------------------------------- */

static struct {
    uint8_t body[1u << 16];
    size_t size;
    bool complete, overflow;
} alone;

static int alone_on_body(llhttp_t *parser, const char *at, size_t size)
{
    (void)parser;
    if (size > sizeof alone.body - alone.size) {
        alone.overflow = true;
        return -1;
    }
    memcpy(alone.body + alone.size, at, size);
    alone.size += size;
    return 0;
}

static int alone_on_headers(llhttp_t *parser)
{
    parser->upgrade = 0;
    return 0;
}

static int alone_on_message(llhttp_t *parser)
{
    (void)parser;
    alone.complete = true;
    return HPE_PAUSED;
}

static void compare_with_llhttp(const uint8_t *data, size_t size)
{
    static const llhttp_settings_t settings = {.on_body = alone_on_body,
                                               .on_headers_complete = alone_on_headers,
                                               .on_message_complete = alone_on_message};
    llhttp_t parser;

    alone.size = 0;
    alone.complete = alone.overflow = false;
    llhttp_init(&parser, HTTP_REQUEST, &settings);
    llhttp_execute(&parser, (const char *)data, size);
    if (!alone.complete || alone.overflow)
        return;
    require(alone.size == fuzz.first_size);
    require(memcmp(alone.body, fuzz.first, alone.size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t steps[4] = {1, 7, 100, SIZE_MAX};
    int fds[2];

    if (size == 0)
        return 0;
    if (fuzz.server == NULL)
        start();
    fuzz.mode = data[0] & 3;
    fuzz.completes = 0;
    fuzz.held = NULL;
    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    struct http_connection *conn = http_conn_new(fuzz.server);
    require(conn != NULL && uv_tcp_open(&conn->tcp, fds[0]) == 0);
    const uint8_t address[16] = {0};
    bool trusted = (data[0] & 0x10) != 0;
    require(http_conn_identify(conn, address) == 0);
    if (trusted) {
        conn->trusted = true;
        http_conn_enter(conn, HTTP_STATE_PROXY);
    }
    http_conn_start(conn);

    feed(conn, fds[1], data + 1, size - 1, steps[(data[0] >> 2) & 3]);
    close(fds[1]);
    while (fuzz.server->connections != NULL)
        uv_run(&fuzz.loop, UV_RUN_NOWAIT);
    require(fuzz.heads == fuzz.ends && fuzz.pieces == fuzz.released);
    require(fuzz.server->counters.connections == 0 &&
            fuzz.server->counters.requests == 0);
    require(fuzz.server->clients.count == 0);
    if (fuzz.completes > 0 && !trusted && (fuzz.mode == ON_COMPLETE || fuzz.mode == HOLD))
        compare_with_llhttp(data + 1, size - 1);
    return 0;
}
