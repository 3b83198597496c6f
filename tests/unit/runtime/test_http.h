/*
 * test_http.h - a server and its clients in one thread, for the tests of runtime/http.
 *
 * The loop turns only inside these functions, and each of them waits for something that
 * it can see, at most RIG_PATIENCE_MS: no test sleeps, none hangs.
 */
#ifndef TEST_HTTP_H
#define TEST_HTTP_H

#include "runtime/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#ifndef RIG_PATIENCE_MS
#define RIG_PATIENCE_MS 20000u
#endif
#define RIG_BYTES_MAX  (32u << 20)
#define RIG_PIECES_MAX 4

/* When the owner answers. */
enum rig_mode { RIG_ON_COMPLETE, RIG_ON_HEAD, RIG_ON_BODY, RIG_HOLD };

struct rig {
    uv_loop_t loop;
    uv_timer_t tick; /* so that UV_RUN_ONCE comes back */
    struct http_server *server;
    struct http_limits limits;
    enum rig_mode mode;
    int status;
    const char *headers;
    struct http_piece pieces[RIG_PIECES_MAX]; /* none: the path is sent back */
    size_t piece_count;
    bool answers_gone; /* answer inside on_gone */
    bool close_on_head, close_on_end;

    struct http_request *held;
    int heads, completes, gones, ends, released, drained;
    char path[256], query[256], host[256], method[16], joined[256], peer[64];
    bool has_length, is_chunked;
    int64_t length;
    uint8_t *body;
    size_t body_size;
    enum proto_status refused;
    uint64_t limit, actual;
    char detail[128];
};

static inline uint64_t rig_now_ms(void)
{
    return uv_hrtime() / 1000000;
}

static inline void rig_release(void *owner)
{
    ((struct rig *)owner)->released++;
}

static inline void rig_answer(struct rig *rig, struct http_request *request)
{
    rig->held = NULL;
    if (rig->piece_count > 0)
        http_respond(request, rig->status, rig->headers, rig->pieces, rig->piece_count);
    else
        http_respond_copy(request, rig->status, rig->headers, http_path(request),
                          strlen(http_path(request)));
}

static inline void rig_copy(char *out, size_t capacity, const char *text)
{
    snprintf(out, capacity, "%s", text == NULL ? "(none)" : text);
}

static inline void rig_on_head(struct http_request *request, void *arg)
{
    struct rig *rig = arg;

    rig->heads++;
    rig->body_size = 0;
    rig_copy(rig->path, sizeof rig->path, http_path(request));
    rig_copy(rig->query, sizeof rig->query, http_query(request));
    rig_copy(rig->method, sizeof rig->method, http_method(request));
    rig_copy(rig->host, sizeof rig->host, http_header(request, "host"));
    rig_copy(rig->joined, sizeof rig->joined, http_header(request, "x-list"));
    rig_copy(rig->peer, sizeof rig->peer, http_peer(request));
    rig->has_length = http_has_length(request);
    rig->is_chunked = http_is_chunked(request);
    rig->length = http_content_length(request);
    assert_null(http_data(request));
    http_set_data(request, rig);
    if (rig->close_on_head) {
        http_server_close(rig->server);
        rig->server = NULL;
    } else if (rig->mode == RIG_ON_HEAD) {
        rig_answer(rig, request);
    }
}

static inline void rig_on_body(struct http_request *request, const uint8_t *bytes,
                               size_t size, void *arg)
{
    struct rig *rig = arg;

    assert_true(size > 0 && rig->body_size + size <= RIG_BYTES_MAX);
    memcpy(rig->body + rig->body_size, bytes, size);
    rig->body_size += size;
    if (rig->mode == RIG_ON_BODY)
        rig_answer(rig, request);
}

static inline void rig_on_complete(struct http_request *request, void *arg)
{
    struct rig *rig = arg;

    rig->completes++;
    assert_true(http_received_us(request) >= http_started_us(request));
    if (rig->mode == RIG_HOLD)
        rig->held = request;
    else
        rig_answer(rig, request);
}

static inline void rig_on_gone(struct http_request *request, void *arg)
{
    struct rig *rig = arg;

    rig->gones++;
    if (rig->answers_gone)
        rig_answer(rig, request);
    else
        rig->held = request;
}

static inline void rig_on_end(struct http_request *request, void *arg)
{
    struct rig *rig = arg;

    assert_ptr_equal(http_data(request), rig);
    rig->ends++;
    if (rig->close_on_end) {
        http_server_close(rig->server);
        rig->server = NULL;
    }
}

static inline size_t rig_on_refuse(const struct http_refusal *why,
                                   struct http_request *request,
                                   char headers[HTTP_REFUSAL_HEADERS_BYTES], char *buffer,
                                   size_t capacity, void *arg)
{
    struct rig *rig = arg;

    rig->refused = why->status;
    rig->limit = why->limit;
    rig->actual = why->actual;
    rig_copy(rig->detail, sizeof rig->detail, why->detail);
    snprintf(headers, HTTP_REFUSAL_HEADERS_BYTES, "X-Refused: %s\r\n",
             request == NULL ? "-" : http_path(request));
    return (size_t)snprintf(buffer, capacity, "{\"code\":\"%s\"}",
                            proto_status_code(why->status));
}

static inline void rig_on_drained(void *arg)
{
    ((struct rig *)arg)->drained++;
}

static inline void rig_on_tick(uv_timer_t *timer)
{
    (void)timer;
}

/* Change `rig->limits` between init and open. */
static inline void rig_init(struct rig *rig)
{
    memset(rig, 0, sizeof *rig);
    http_limits_init(&rig->limits);
    rig->status = 200;
    rig->headers = "Content-Type: text/plain\r\n";
    rig->body = malloc(RIG_BYTES_MAX);
    assert_non_null(rig->body);
    assert_int_equal(uv_loop_init(&rig->loop), 0);
    uv_timer_init(&rig->loop, &rig->tick);
    uv_timer_start(&rig->tick, rig_on_tick, 1, 1);
}

static inline void rig_open(struct rig *rig)
{
    static const struct http_callbacks callbacks = {
        .on_head = rig_on_head,
        .on_body = rig_on_body,
        .on_complete = rig_on_complete,
        .on_gone = rig_on_gone,
        .on_end = rig_on_end,
        .on_refuse = rig_on_refuse,
    };

    assert_int_equal(http_server_open(&rig->loop, "127.0.0.1", 0, &rig->limits,
                                      &callbacks, rig, &rig->server),
                     0);
}

/* Ends the server; fails where a handle or a request is left over. */
static inline void rig_free(struct rig *rig)
{
    http_server_close(rig->server);
    uv_close((uv_handle_t *)&rig->tick, NULL);
    uv_run(&rig->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&rig->loop), 0);
    assert_int_equal(rig->heads, rig->ends);
    free(rig->body);
}

static inline void rig_turn(struct rig *rig)
{
    uv_run(&rig->loop, UV_RUN_ONCE);
}

/* Turn the loop until `condition`; fails the test when it takes too long. */
#define rig_until(rig, condition)                                                        \
    do {                                                                                 \
        uint64_t end_ms_ = rig_now_ms() + RIG_PATIENCE_MS;                               \
        while (!(condition)) {                                                           \
            assert_true(rig_now_ms() < end_ms_);                                         \
            rig_turn(rig);                                                               \
        }                                                                                \
    } while (0)

static inline int rig_connect(struct rig *rig)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(http_server_port(rig->server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

/* False when the server has cut the connection off. */
static inline bool rig_send(struct rig *rig, int fd, const void *bytes, size_t size)
{
    uint64_t end_ms = rig_now_ms() + RIG_PATIENCE_MS;
    const char *p = bytes;

    while (size > 0) {
        ssize_t sent = send(fd, p, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            return false;
        if (sent > 0) {
            p += sent;
            size -= (size_t)sent;
        }
        assert_true(rig_now_ms() < end_ms);
        uv_run(&rig->loop, UV_RUN_NOWAIT);
    }
    return true;
}

static inline bool rig_say(struct rig *rig, int fd, const char *text)
{
    return rig_send(rig, fd, text, strlen(text));
}

struct rig_text {
    char *bytes; /* NUL after size */
    size_t size, capacity;
    bool eof, reset;
};

/* Read once what is there. */
static inline void rig_take(struct rig *rig, int fd, struct rig_text *text)
{
    uv_run(&rig->loop, UV_RUN_NOWAIT);
    if (text->capacity - text->size < (1u << 16)) {
        text->capacity = 2 * text->capacity + (1u << 17);
        text->bytes = realloc(text->bytes, text->capacity);
        assert_non_null(text->bytes);
    }
    ssize_t size = recv(fd, text->bytes + text->size, text->capacity - text->size - 1, 0);
    if (size > 0)
        text->size += (size_t)size;
    else if (size == 0)
        text->eof = true;
    else if (errno != EAGAIN)
        text->eof = text->reset = true;
    else
        rig_turn(rig);
    text->bytes[text->size] = '\0';
}

/* Read until the server closes. */
static inline void rig_read_all(struct rig *rig, int fd, struct rig_text *text)
{
    uint64_t end_ms = rig_now_ms() + RIG_PATIENCE_MS;

    while (!text->eof) {
        assert_true(rig_now_ms() < end_ms);
        rig_take(rig, fd, text);
    }
}

/* Read until `text` holds `size` bytes or the server closes. */
static inline void rig_read_size(struct rig *rig, int fd, struct rig_text *text,
                                 size_t size)
{
    uint64_t end_ms = rig_now_ms() + RIG_PATIENCE_MS;

    while (!text->eof && text->size < size) {
        assert_true(rig_now_ms() < end_ms);
        rig_take(rig, fd, text);
    }
}

/* Read until `mark` has been read `times` times; fails when the server closes before. */
static inline void rig_read_mark(struct rig *rig, int fd, struct rig_text *text,
                                 const char *mark, int times)
{
    uint64_t end_ms = rig_now_ms() + RIG_PATIENCE_MS;

    for (;;) {
        int seen = 0;
        for (const char *p = text->size > 0 ? text->bytes : "";
             (p = strstr(p, mark)) != NULL; p++)
            seen++;
        if (seen >= times)
            return;
        assert_true(rig_now_ms() < end_ms);
        assert_false(text->eof);
        rig_take(rig, fd, text);
    }
}

static inline int rig_status(const struct rig_text *text)
{
    int status = -1;

    if (text->size > 0)
        sscanf(text->bytes, "HTTP/1.1 %d", &status);
    return status;
}

static inline void rig_text_free(struct rig_text *text)
{
    free(text->bytes);
    *text = (struct rig_text){0};
}

/* ---- what several tests say and answer --------------------------------------------- */

#define GET_A   "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
#define GET_END "GET /end HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"

static char rig_big[8 << 20];

/* Four pieces of bytes that differ everywhere. */
static inline void rig_use_big_answer(struct rig *rig)
{
    const size_t part = sizeof rig_big / RIG_PIECES_MAX;

    for (size_t i = 0; i < sizeof rig_big; i++)
        rig_big[i] = (char)(i * 2654435761u >> 13);
    rig->piece_count = RIG_PIECES_MAX;
    for (size_t i = 0; i < RIG_PIECES_MAX; i++)
        rig->pieces[i] = (struct http_piece){rig_big + i * part, part, rig_release, rig};
}

static inline void rig_use_small_answer(struct rig *rig)
{
    rig->piece_count = 2;
    rig->pieces[0] = (struct http_piece){"hello ", 6, rig_release, rig};
    rig->pieces[1] = (struct http_piece){"world", 5, rig_release, rig};
}

static inline const char *rig_body_of(const struct rig_text *text)
{
    const char *end = strstr(text->bytes, "\r\n\r\n");

    assert_non_null(end);
    return end + 4;
}

static inline uint64_t rig_open_connections(const struct rig *rig)
{
    return http_server_counters(rig->server)->connections;
}

#endif
