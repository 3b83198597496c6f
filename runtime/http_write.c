/*
 * http_write.c - answers.
 *
 * The head block is built in the connection's buffer, the pieces stay where they are; one
 * writev takes both. What the socket does not take at once is left to libuv. The rest of
 * an answer's life (on_end, the next request) is http_conn_resume()'s, because an owner
 * must not find its request gone when http_respond() returns.
 */
#include "runtime/http_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONTINUE_LINE "HTTP/1.1 100 Continue\r\n\r\n"
#define STATUS_BEGIN  "HTTP/1.1 " /* of every answer */
#define PROBES_MAX    ((uint32_t)sizeof STATUS_BEGIN - 1)
#define PROBE_MS      1000u
/* Status line, Server, Date, Content-Length and Connection, with room to spare. */
#define HEAD_FIXED_BYTES 256u

static const char *reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } reasons[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };

    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (reasons[i].status == status)
            return reasons[i].text;
    return ""; /* RFC 9112, 4: may be empty */
}

/* ---- the head block ------------------------------------------------------------- */

static char *put_number(char *out, uint64_t value)
{
    char digits[20];
    size_t count = 0;

    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    while (count > 0)
        *out++ = digits[--count];
    return out;
}

/* The Server and Date lines, formatted anew when the second changes. By hand: strftime's
 * names follow the locale. */
static char *put_date(struct http_server *server, char *out)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t now_s = time(NULL);

    if (now_s != server->date_s || server->date_size == 0) {
        struct tm tm;
        char clock[32];
        gmtime_r(&now_s, &tm);
        strftime(clock, sizeof clock, "%Y %H:%M:%S", &tm);
        char *p = stpcpy(server->date, "Server: siftmesh\r\nDate: ");
        p = mempcpy(p, days + 3 * tm.tm_wday, 3);
        p = stpcpy(p, tm.tm_mday < 10 ? ", 0" : ", ");
        p = put_number(p, (uint64_t)tm.tm_mday);
        *p++ = ' ';
        p = mempcpy(p, months + 3 * tm.tm_mon, 3);
        *p++ = ' ';
        p = stpcpy(stpcpy(p, clock), " GMT\r\n");
        server->date_s = now_s;
        server->date_size = (size_t)(p - server->date);
    }
    return mempcpy(out, server->date, server->date_size);
}

static char *put_connection(struct http_connection *conn, char *out)
{
    if (conn->answer.close)
        return stpcpy(out, "Connection: close\r\n");
    /* HTTP/1.1 goes on by itself; to 1.0 it is said, and harmless to say to both. */
    return conn->head.is_1_0 ? stpcpy(out, "Connection: keep-alive\r\n") : out;
}

static int reserve(struct http_answer *answer, size_t capacity)
{
    if (capacity <= answer->capacity)
        return 0;
    /* The old answer is not wanted, so not realloc(). */
    char *bytes = malloc(capacity);
    if (bytes == NULL)
        return -1;
    free(answer->bytes);
    answer->bytes = bytes;
    answer->capacity = capacity;
    return 0;
}

static bool has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

/* Build head and copied body. -1 without memory. */
static int build(struct http_connection *conn, int status, const char *headers,
                 size_t body_bytes, const void *copy, size_t copy_size)
{
    struct http_answer *answer = &conn->answer;
    const char *more = conn->request.active ? conn->request.headers : NULL;
    size_t headers_size = headers == NULL ? 0 : strlen(headers);
    size_t more_size = more == NULL ? 0 : strlen(more);

    if (reserve(answer, HEAD_FIXED_BYTES + headers_size + more_size + copy_size) < 0)
        return -1;
    char *out = stpcpy(answer->bytes, STATUS_BEGIN);
    out = put_number(out, (uint64_t)status);
    *out++ = ' ';
    out = stpcpy(stpcpy(out, reason(status)), "\r\n");
    out = put_date(conn->server, out);
    if (has_body(status)) {
        out = stpcpy(out, "Content-Length: ");
        out = stpcpy(put_number(out, body_bytes), "\r\n");
    }
    out = put_connection(conn, out);
    if (headers_size > 0)
        out = mempcpy(out, headers, headers_size);
    if (more_size > 0)
        out = mempcpy(out, more, more_size);
    out = stpcpy(out, "\r\n");
    if (copy_size > 0)
        out = mempcpy(out, copy, copy_size);
    answer->size = (size_t)(out - answer->bytes);
    return 0;
}

/* ---- sending -------------------------------------------------------------------- */

static void release(const struct http_piece *pieces, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (pieces[i].release != NULL)
            pieces[i].release(pieces[i].owner);
}

void http_write_release(struct http_connection *conn)
{
    size_t count = conn->answer.count;

    conn->answer.count = 0;
    release(conn->answer.pieces, count);
}

static void on_sent(struct http_connection *conn)
{
    struct http_answer *answer = &conn->answer;

    answer->sent = true;
    http_write_release(conn);
    if (answer->capacity > HTTP_ANSWER_KEEP_BYTES) {
        free(answer->bytes);
        answer->bytes = NULL;
        answer->capacity = 0;
    }
}

static void on_written(uv_write_t *write, int status)
{
    struct http_connection *conn = write->data;

    if (conn->state == HTTP_STATE_CLOSED)
        return; /* all was said and given back when it was closed */
    if (status < 0) {
        http_conn_close(conn);
        return;
    }
    conn->server->counters.bytes_out += conn->answer.late_bytes;
    on_sent(conn);
    http_conn_resume(conn);
}

/* Leave out what the socket has taken; the number of buffers that remain. */
static unsigned advance(uv_buf_t *buffers, unsigned count, size_t taken)
{
    unsigned first = 0;

    while (first < count && taken >= buffers[first].len)
        taken -= buffers[first++].len;
    for (unsigned i = first; i < count; i++)
        buffers[i - first] = buffers[i];
    if (first < count) {
        buffers[0].base += taken;
        buffers[0].len -= taken;
    }
    return count - first;
}

static void send_answer(struct http_connection *conn, bool with_pieces)
{
    struct http_answer *answer = &conn->answer;
    uv_stream_t *stream = (uv_stream_t *)&conn->tcp;
    uv_buf_t buffers[1 + HTTP_PIECES_MAX];
    unsigned count = 0;

    buffers[count++] = uv_buf_init(answer->bytes + conn->probed,
                                   (unsigned)(answer->size - conn->probed));
    conn->probed = 0;
    for (size_t i = 0; with_pieces && i < answer->count; i++)
        buffers[count++] = (uv_buf_t){.base = (char *)(uintptr_t)answer->pieces[i].bytes,
                                      .len = answer->pieces[i].size};
    answer->total_bytes = answer->late_bytes = 0;
    for (unsigned i = 0; i < count; i++)
        answer->total_bytes += buffers[i].len;

    int taken = uv_try_write(stream, buffers, count);
    if (taken < 0 && taken != UV_EAGAIN) {
        http_conn_close(conn);
        return;
    }
    if (taken > 0) {
        conn->server->counters.bytes_out += (uint64_t)taken;
        count = advance(buffers, count, (size_t)taken);
    }
    if (count == 0) {
        on_sent(conn);
        http_server_queue(conn->server, conn);
        return;
    }
    answer->late_bytes = answer->total_bytes - (taken > 0 ? (size_t)taken : 0);
    answer->write.data = conn;
    if (uv_write(&answer->write, stream, buffers, count, on_written) < 0)
        http_conn_close(conn);
}

size_t http_write_progress(const struct http_connection *conn)
{
    size_t waiting = uv_stream_get_write_queue_size((const uv_stream_t *)&conn->tcp);

    return waiting < conn->answer.total_bytes ? conn->answer.total_bytes - waiting : 0;
}

void http_write_answer(struct http_connection *conn, int status, const char *headers,
                       const struct http_piece *pieces, size_t count, const void *copy,
                       size_t copy_size)
{
    struct http_answer *answer = &conn->answer;
    size_t body_bytes = copy_size;
    bool sends_body = has_body(status) && !conn->head.is_head;

    http_conn_enter(conn, HTTP_STATE_WRITE);
    for (size_t i = 0; i < count; i++) {
        answer->pieces[i] = pieces[i];
        body_bytes += pieces[i].size;
    }
    answer->count = count;
    answer->sent = false;
    answer->close = !conn->head.keep_alive || !conn->request.complete ||
                    (conn->eof && conn->kept_size == 0) || conn->server->draining ||
                    conn->server->leaving;
    if (build(conn, status, headers, body_bytes, copy, sends_body ? copy_size : 0) < 0)
        http_conn_close(conn);
    else
        send_answer(conn, sends_body);
}

void http_write_continue(struct http_connection *conn)
{
    uv_buf_t line =
        uv_buf_init((char *)(uintptr_t)CONTINUE_LINE, sizeof CONTINUE_LINE - 1);
    int taken = uv_try_write((uv_stream_t *)&conn->tcp, &line, 1);

    /* Every answer before this one is with the kernel, so the socket takes 25 bytes but
     * from a client that reads nothing. That one does without; half a line breaks. */
    if (taken > 0)
        conn->server->counters.bytes_out += (uint64_t)taken;
    if (taken != UV_EAGAIN && taken != (int)line.len)
        http_conn_close(conn);
}

static bool was_reset(const struct http_connection *conn)
{
    int error = 0;
    socklen_t size = sizeof error;
    uv_os_fd_t fd;

    return uv_fileno((const uv_handle_t *)&conn->tcp, &fd) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error != 0;
}

void http_write_probe(struct http_connection *conn, uint64_t now_ms)
{
    if (was_reset(conn)) {
        http_conn_close(conn);
        return;
    }
    if (conn->probed == PROBES_MAX || now_ms < conn->since_ms + conn->probed * PROBE_MS)
        return;
    uv_buf_t byte = uv_buf_init((char *)(uintptr_t)STATUS_BEGIN + conn->probed, 1);
    int taken = uv_try_write((uv_stream_t *)&conn->tcp, &byte, 1);

    if (taken > 0) {
        conn->server->counters.bytes_out++;
        conn->probed++;
    } else if (taken != UV_EAGAIN) {
        http_conn_close(conn);
    }
}

/* ---- for the owner -------------------------------------------------------------- */

static void respond(struct http_request *request, int status, const char *headers,
                    const struct http_piece *pieces, size_t count, const void *copy,
                    size_t copy_size)
{
    struct http_connection *conn = request->connection;

    assert(request->active && !request->answered && count <= HTTP_PIECES_MAX);
    request->answered = true;
    if (conn->state == HTTP_STATE_CLOSED) {
        release(pieces, count);
        http_server_queue(conn->server, conn);
        return;
    }
    http_write_answer(conn, status, headers, pieces, count, copy, copy_size);
}

void http_respond(struct http_request *request, int status, const char *headers,
                  const struct http_piece *pieces, size_t count)
{
    respond(request, status, headers, pieces, count, NULL, 0);
}

void http_respond_copy(struct http_request *request, int status, const char *headers,
                       const void *bytes, size_t size)
{
    respond(request, status, headers, NULL, 0, bytes, size);
}

void http_add_headers(struct http_request *request, const char *headers)
{
    free(request->headers);
    request->headers = strdup(headers);
}
