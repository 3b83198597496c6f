/*
 * http_conn.c - the life of one connection.
 *
 * http_conn_enter() is the only place that moves a connection to another state,
 * http_conn_close() the only one that ends it, end_request() the only one that ends a
 * request.
 *
 * Calls to the owner may come back: http_respond() for this request or another,
 * http_server_drain(), http_server_close(). So after each of them the state is looked at
 * again, a connection is freed only by http_conn_resume() or by libuv's close callback,
 * and what follows an answer is done by http_conn_resume(), never by http_respond().
 */
#include "runtime/http_internal.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void http_conn_enter(struct http_connection *conn, enum http_state state)
{
    conn->state = state;
    conn->since_ms = conn->pace_since_ms = uv_now(conn->server->loop);
    conn->pace_from_bytes = 0;
    conn->pace = HTTP_PACE_UNKNOWN;
}

bool http_conn_is_idle(const struct http_connection *conn)
{
    return (conn->state == HTTP_STATE_HEAD && !conn->begun) ||
           conn->state == HTTP_STATE_PROXY;
}

/* ---- beginning and end ---------------------------------------------------------- */

static void free_conn(struct http_connection *conn)
{
    http_head_free(&conn->head);
    free(conn->answer.bytes);
    free(conn->request.headers);
    free(conn->kept);
    free(conn->proxy);
    http_client_unref(conn->client);
    http_client_unref(conn->asker);
    free(conn);
}

struct http_connection *http_conn_new(struct http_server *server)
{
    struct http_connection *conn = calloc(1, sizeof *conn);

    if (conn == NULL)
        return NULL;
    if (http_head_init(&conn->head, &server->limits) < 0 ||
        uv_tcp_init(server->loop, &conn->tcp) < 0) {
        free_conn(conn);
        return NULL;
    }
    conn->tcp.data = conn;
    conn->server = server;
    conn->request.connection = conn;
    conn->fresh = true;
    server->handles++;
    server->counters.connections++;
    conn->next = server->connections;
    if (conn->next != NULL)
        conn->next->previous = conn;
    server->connections = conn;
    http_conn_enter(conn, HTTP_STATE_HEAD);
    return conn;
}

/* Free a connection that neither libuv nor an owner holds any more. */
static void free_if_done(struct http_connection *conn)
{
    if (conn->state != HTTP_STATE_CLOSED || !conn->handle_closed ||
        conn->request.active || conn->busy || conn->queued)
        return;
    http_server_forget(conn->server, conn);
    free_conn(conn);
}

static void on_closed(uv_handle_t *handle)
{
    struct http_connection *conn = handle->data;
    struct http_server *server = conn->server;

    conn->handle_closed = true;
    free_if_done(conn);
    http_server_forget_handle(server);
}

static void end_request(struct http_connection *conn)
{
    struct http_server *server = conn->server;

    if (!conn->request.active)
        return;
    conn->request.active = false;
    if (conn->asker_counted)
        conn->asker->connections--;
    conn->asker_counted = false;
    server->counters.requests--;
    server->callbacks.on_end(&conn->request, server->arg);
    free(conn->request.headers);
    conn->request.headers = NULL;
}

void http_conn_close(struct http_connection *conn)
{
    struct http_server *server = conn->server;

    if (conn->state == HTTP_STATE_CLOSED)
        return;
    http_conn_enter(conn, HTTP_STATE_CLOSED);
    server->counters.connections--;
    if (conn->turned_away)
        server->turned_away--;
    else
        drain_note(&server->left, uv_now(server->loop) * 1000);
    if (conn->counted)
        conn->client->connections--;
    conn->counted = false;
    uv_close((uv_handle_t *)&conn->tcp, on_closed);
    /* libuv does not look at the bytes of a write that it cancels. */
    http_write_release(conn);
    if (!conn->request.active)
        return;
    if (conn->request.answered)
        http_server_queue(server, conn);
    else
        server->callbacks.on_gone(&conn->request, server->arg);
}

void http_conn_abandon(struct http_connection *conn)
{
    http_write_release(conn);
    conn->queued = false;
    end_request(conn);
    free_if_done(conn); /* its handle may be closed already */
}

/* ---- refusals ------------------------------------------------------------------- */

static void count_refusal(const struct http_connection *conn, enum proto_status status)
{
    struct http_server *server = conn->server;

    if (status == PROTO_STATUS_HEAD_TIMEOUT)
        server->counters.timeouts++;
    else if (status == PROTO_STATUS_FULL && conn->request.active)
        server->counters.gave_way++;
    else if (status == PROTO_STATUS_FULL)
        server->counters.refused_connections++;
    else
        server->counters.malformed++;
}

struct refusal_text {
    char headers[160 + HTTP_REFUSAL_HEADERS_BYTES], body[HTTP_REFUSAL_BYTES_MAX];
    size_t size; /* of the body */
};

/* So many connections too many have to go first. */
static uint64_t retry_after_s(const struct http_server *server,
                              const struct http_refusal *why)
{
    uint64_t needed = why->actual > why->limit ? why->actual - why->limit : 1;

    return (drain_ms(&server->left, needed, uv_now(server->loop) * 1000) + 999) / 1000;
}

static void describe(struct http_connection *conn, const struct http_refusal *why,
                     struct refusal_text *out)
{
    struct http_server *server = conn->server;
    bool asks = server->callbacks.on_refuse != NULL;
    char own[HTTP_REFUSAL_HEADERS_BYTES] = "", retry[48] = "";

    if (asks)
        out->size =
            server->callbacks.on_refuse(why, conn->request.active ? &conn->request : NULL,
                                        own, out->body, sizeof out->body, server->arg);
    else
        out->size =
            (size_t)snprintf(out->body, sizeof out->body, "%.256s\n", why->detail);
    if (out->size > sizeof out->body)
        out->size = sizeof out->body;
    if (proto_status_http(why->status) == 503)
        snprintf(retry, sizeof retry, "Retry-After: %" PRIu64 "\r\n",
                 retry_after_s(server, why));
    snprintf(out->headers, sizeof out->headers,
             "Content-Type: %s\r\n" HTTP_NO_SNIFF "%s%s",
             asks ? "application/problem+json" : "text/plain", retry, own);
}

void http_conn_refuse(struct http_connection *conn, const struct http_refusal *why)
{
    struct refusal_text text;

    count_refusal(conn, why->status);
    describe(conn, why, &text);
    end_request(conn);
    if (conn->state == HTTP_STATE_CLOSED)
        return;
    conn->request.complete = false; /* what follows cannot be told from a body */
    http_write_answer(conn, proto_status_http(why->status), text.headers, NULL, 0,
                      text.body, text.size);
}

/* ---- the client ----------------------------------------------------------------- */

void http_address_name(const uint8_t address[16], char *out, size_t capacity)
{
    static const uint8_t none[16], mapped[12] = {[10] = 0xff, [11] = 0xff};

    if (memcmp(address, none, sizeof none) == 0)
        snprintf(out, capacity, "unknown");
    else if (memcmp(address, mapped, sizeof mapped) == 0)
        uv_inet_ntop(AF_INET, address + 12, out, capacity);
    else
        uv_inet_ntop(AF_INET6, address, out, capacity);
}

int http_conn_identify(struct http_connection *conn, const uint8_t address[16])
{
    struct http_client *client = http_client_get(&conn->server->clients, address);

    if (client == NULL)
        return -ENOMEM;
    http_client_unref(conn->client);
    conn->client = client;
    memcpy(conn->address, address, sizeof conn->address);
    http_address_name(address, conn->peer, sizeof conn->peer);
    conn->trusted = http_is_trusted(&conn->server->trusted, address);
    return 0;
}

struct http_client *http_conn_asker(const struct http_connection *conn)
{
    return conn->asker != NULL ? conn->asker : conn->client;
}

static void forget_asker(struct http_connection *conn)
{
    http_client_unref(conn->asker);
    conn->asker = NULL;
}

/* A proxy passes requests of many clients on: whose this one is. -1 and `why`: it has too
 * many in hand, or there is no memory. */
static int identify_asker(struct http_connection *conn, struct http_refusal *why)
{
    const char *x_forwarded_for = http_head_find(&conn->head, "x-forwarded-for");
    const char *forwarded = http_head_find(&conn->head, "forwarded");
    uint32_t limit = conn->server->limits.connections_per_peer;
    uint8_t address[16];

    http_forwarded_client(&conn->server->trusted, x_forwarded_for, forwarded,
                          conn->address, address);
    if (memcmp(address, conn->address, sizeof address) == 0) {
        forget_asker(conn);
        return 0;
    }
    if (conn->asker == NULL || memcmp(address, conn->asker_address, 16) != 0) {
        forget_asker(conn);
        conn->asker = http_client_get(&conn->server->clients, address);
        memcpy(conn->asker_address, address, sizeof address);
        http_address_name(address, conn->asker_name, sizeof conn->asker_name);
    }
    *why = (struct http_refusal){PROTO_STATUS_FULL, "out of memory", 0, 0};
    if (conn->asker == NULL)
        return -1;
    *why = (struct http_refusal){PROTO_STATUS_FULL, "too many requests from this address",
                                 limit, (uint64_t)conn->asker->connections + 1};
    if (limit > 0 && conn->asker->connections >= limit)
        return -1;
    conn->asker->connections++;
    conn->asker_counted = true;
    return 0;
}

/* ---- from bytes to requests ----------------------------------------------------- */

static void complete_request(struct http_connection *conn)
{
    struct http_server *server = conn->server;

    conn->request.complete = true;
    conn->request.received_us = uv_hrtime() / 1000;
    http_conn_enter(conn, HTTP_STATE_WAIT);
    server->callbacks.on_complete(&conn->request, server->arg);
}

/* The owner has neither answered nor closed the server. */
static bool is_going_on(const struct http_connection *conn)
{
    return conn->state != HTTP_STATE_CLOSED && !conn->request.answered;
}

/* `more`: bytes after the head are in hand, so that 100 Continue would come too late. */
static void begin_request(struct http_connection *conn, bool more)
{
    struct http_server *server = conn->server;
    struct http_head *head = &conn->head;
    struct http_refusal why;

    if (http_parse_head(head, &server->limits, &why) < 0) {
        http_conn_refuse(conn, &why);
        return;
    }
    if (head->length > server->limits.body_bytes_max) {
        why = (struct http_refusal){PROTO_STATUS_TOO_LARGE, "the body is too large",
                                    server->limits.body_bytes_max, head->length};
        http_conn_refuse(conn, &why);
        return;
    }
    if (conn->trusted && identify_asker(conn, &why) < 0) {
        http_conn_refuse(conn, &why);
        return;
    }
    http_body_begin(&conn->body, head);
    conn->request.active = true;
    conn->request.answered = false;
    conn->request.data = NULL;
    conn->request.complete = !head->chunked && head->length == 0;
    conn->request.received_us = conn->request.started_us;
    server->counters.requests++;
    conn->head_ms = uv_now(server->loop) - conn->since_ms;
    http_conn_enter(conn, conn->request.complete ? HTTP_STATE_WAIT : HTTP_STATE_BODY);
    server->callbacks.on_head(&conn->request, server->arg);
    if (!is_going_on(conn))
        return;
    if (conn->request.complete)
        complete_request(conn);
    else if (head->expects_continue && !more)
        http_write_continue(conn);
}

static size_t read_head(struct http_connection *conn, const uint8_t *bytes, size_t size)
{
    struct http_refusal why;
    size_t used = 0;

    if (!conn->begun) {
        conn->begun = true;
        conn->since_ms = uv_now(conn->server->loop);
        conn->request.started_us = uv_hrtime() / 1000;
    }
    switch (
        http_head_feed(&conn->head, &conn->server->limits, bytes, size, &used, &why)) {
    case HTTP_HEAD_MORE:
        break;
    case HTTP_HEAD_BROKEN:
        http_conn_refuse(conn, &why);
        return size;
    case HTTP_HEAD_DONE:
        begin_request(conn, used < size);
        break;
    }
    return used;
}

/* Keep the beginning of a PROXY header. */
static int keep_proxy(struct http_connection *conn, const uint8_t *bytes, size_t size)
{
    uint8_t *grown = realloc(conn->proxy, conn->proxy_size + size);

    if (grown == NULL)
        return -1;
    memcpy(grown + conn->proxy_size, bytes, size);
    conn->proxy = grown;
    conn->proxy_size += size;
    return 0;
}

static void drop_proxy(struct http_connection *conn)
{
    free(conn->proxy);
    conn->proxy = NULL;
    conn->proxy_size = 0;
}

/* The header is complete: who is behind the connection. */
static void end_proxy(struct http_connection *conn,
                      const struct http_proxy_header *header)
{
    static const struct http_refusal full = {PROTO_STATUS_FULL, "out of memory", 0, 0};

    drop_proxy(conn);
    http_conn_enter(conn, HTTP_STATE_HEAD);
    if (!header->has_address)
        return;
    if (http_conn_identify(conn, header->address) < 0)
        http_conn_refuse(conn, &full);
    else
        (void)http_server_place(conn->server, conn);
}

/* A PROXY header or, where the bytes turn out to be none, a head. */
static size_t read_proxy(struct http_connection *conn, const uint8_t *bytes, size_t size)
{
    static const struct http_refusal broken = {PROTO_STATUS_BAD_REQUEST,
                                               "the PROXY header is malformed", 0, 0};
    struct http_proxy_header header;
    size_t kept = conn->proxy_size;
    size_t room = HTTP_PROXY_BYTES_MAX - kept, take = size < room ? size : room;

    if (kept > 0 && keep_proxy(conn, bytes, take) < 0) {
        http_conn_close(conn);
        return size;
    }
    switch (http_proxy_parse(kept > 0 ? conn->proxy : bytes, kept + take, &header)) {
    case HTTP_PROXY_MORE:
        if (kept == 0 && keep_proxy(conn, bytes, take) < 0)
            http_conn_close(conn);
        return take;
    case HTTP_PROXY_DONE:
        end_proxy(conn, &header);
        return header.used - kept;
    case HTTP_PROXY_NONE:
        http_conn_enter(conn, HTTP_STATE_HEAD);
        if (kept > 0) /* less than a signature, so less than a head */
            (void)read_head(conn, conn->proxy, kept);
        drop_proxy(conn);
        return 0;
    default:
        http_conn_refuse(conn, &broken);
        return size;
    }
}

static size_t read_body(struct http_connection *conn, const uint8_t *bytes, size_t size)
{
    struct http_server *server = conn->server;
    struct http_refusal why;
    size_t used = 0, piece;

    switch (http_body_next(&conn->body, server->limits.body_bytes_max, bytes, size, &used,
                           &piece, &why)) {
    case HTTP_BODY_MORE:
        break;
    case HTTP_BODY_PIECE:
        server->callbacks.on_body(&conn->request, bytes + used - piece, piece,
                                  server->arg);
        /* A body with a length ends with its last piece. */
        if (is_going_on(conn) && conn->body.left == 0 && !conn->head.chunked)
            complete_request(conn);
        break;
    case HTTP_BODY_DONE:
        complete_request(conn);
        break;
    case HTTP_BODY_BROKEN:
        http_conn_refuse(conn, &why);
        return size;
    }
    return used;
}

static size_t discard(struct http_connection *conn, size_t size)
{
    conn->lingered_bytes += size;
    if (conn->lingered_bytes > HTTP_LINGER_BYTES_MAX)
        http_conn_close(conn);
    return size;
}

static void linger(struct http_connection *conn)
{
    http_conn_enter(conn, HTTP_STATE_LINGER);
    if (uv_shutdown(&conn->shutdown, (uv_stream_t *)&conn->tcp, NULL) < 0)
        http_conn_close(conn);
}

/* The answer is with the kernel: end the request and decide how the connection goes on.
 */
static void finish_answer(struct http_connection *conn)
{
    bool was_asked = !conn->head.keep_alive && conn->request.complete;

    conn->answer.sent = false;
    end_request(conn);
    if (conn->state == HTTP_STATE_CLOSED)
        return;
    bool was_last = conn->eof && conn->kept_size == 0;

    if (!conn->answer.close && !was_last && !conn->server->draining) {
        http_head_reset(&conn->head);
        conn->begun = conn->fresh = false;
        http_conn_enter(conn, HTTP_STATE_HEAD);
    } else if (was_last || (was_asked && conn->kept_size == 0)) {
        http_conn_close(conn); /* a client that asked for it sends nothing more */
    } else {
        linger(conn);
    }
}

/* Give bytes to the state that the connection is in; the number that were used. */
static size_t dispatch(struct http_connection *conn, const uint8_t *bytes, size_t size)
{
    switch (conn->state) {
    case HTTP_STATE_PROXY:
        return read_proxy(conn, bytes, size);
    case HTTP_STATE_HEAD:
        return read_head(conn, bytes, size);
    case HTTP_STATE_BODY:
        return read_body(conn, bytes, size);
    case HTTP_STATE_WRITE:
        return conn->answer.close ? discard(conn, size) : 0;
    case HTTP_STATE_LINGER:
        return discard(conn, size);
    case HTTP_STATE_CLOSED:
        return size;
    default: /* HTTP_STATE_WAIT */
        return 0;
    }
}

/* Work through `bytes` until they are used up or an answer has to be waited for. */
static size_t work(struct http_connection *conn, const uint8_t *bytes, size_t size)
{
    size_t used = 0;

    for (;;) {
        if (conn->state == HTTP_STATE_WRITE && conn->answer.sent)
            finish_answer(conn);
        if (used == size)
            return used;
        enum http_state before = conn->state;
        size_t step = dispatch(conn, bytes + used, size - used);
        if (step == 0 && conn->state == before)
            return used;
        used += step;
    }
}

/* ---- reading -------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct http_connection *conn = handle->data;

    (void)suggested;
    *buffer = uv_buf_init((char *)conn->server->read_buffer, HTTP_READ_BYTES);
}

/* Keep pipelined bytes for after the answer. */
static void keep(struct http_connection *conn, const uint8_t *bytes, size_t size)
{
    if (conn->state == HTTP_STATE_CLOSED)
        return;
    if (conn->kept_size + size > conn->kept_capacity) {
        size_t capacity = conn->kept_size + size;
        uint8_t *grown = realloc(conn->kept, capacity);
        if (grown == NULL) {
            http_conn_close(conn);
            return;
        }
        conn->kept = grown;
        conn->kept_capacity = capacity;
    }
    memcpy(conn->kept + conn->kept_size, bytes, size);
    conn->kept_size += size;
    if (conn->kept_size >= conn->server->limits.head_bytes_max && !conn->paused) {
        conn->paused = true;
        uv_read_stop((uv_stream_t *)&conn->tcp);
    }
}

/* Leave a stretch of work: what was put off while it went on. */
static void leave(struct http_connection *conn)
{
    conn->busy = false;
    if (conn->state == HTTP_STATE_CLOSED && conn->request.answered)
        end_request(conn);
    free_if_done(conn);
}

static void on_eof(struct http_connection *conn)
{
    conn->eof = true;
    /* An answer can still be read by a client that closed only its side. */
    if (conn->state == HTTP_STATE_WAIT)
        http_write_probe(conn, uv_now(conn->server->loop));
    else if (conn->state != HTTP_STATE_WRITE)
        http_conn_close(conn);
}

void http_conn_feed(struct http_connection *conn, const uint8_t *bytes, size_t size)
{
    size_t used = 0;

    conn->busy = true;
    conn->server->counters.bytes_in += size;
    if (conn->kept_size == 0)
        used = work(conn, bytes, size);
    if (used < size)
        keep(conn, bytes + used, size - used);
    leave(conn);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct http_connection *conn = stream->data;

    if (conn->state == HTTP_STATE_CLOSED)
        return;
    if (size > 0)
        http_conn_feed(conn, (const uint8_t *)buffer->base, (size_t)size);
    else if (size == UV_EOF)
        on_eof(conn);
    else if (size < 0)
        http_conn_close(conn);
}

void http_conn_start(struct http_connection *conn)
{
    uv_tcp_nodelay(&conn->tcp, 1);
    if (uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read) < 0)
        http_conn_close(conn);
}

/* Drop the first `used` kept bytes; an empty buffer is freed, so that memory is flat. */
static void drop_kept(struct http_connection *conn, size_t used)
{
    conn->kept_size -= used;
    memmove(conn->kept, conn->kept + used, conn->kept_size);
    if (conn->kept_size > 0)
        return;
    free(conn->kept);
    conn->kept = NULL;
    conn->kept_capacity = 0;
}

void http_conn_resume(struct http_connection *conn)
{
    conn->busy = true;
    size_t used = work(conn, conn->kept, conn->kept_size);
    if (used > 0)
        drop_kept(conn, used);
    /* Nothing follows the last kept byte of a client that has closed its side. */
    if (conn->eof && (conn->state == HTTP_STATE_HEAD || conn->state == HTTP_STATE_BODY))
        http_conn_close(conn);
    if (conn->paused && conn->state != HTTP_STATE_CLOSED &&
        conn->kept_size < conn->server->limits.head_bytes_max) {
        conn->paused = false;
        http_conn_start(conn);
    }
    leave(conn);
}
