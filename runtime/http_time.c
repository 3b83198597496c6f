/*
 * http_time.c - how long a connection may be in each of its states, and which is slow.
 *
 * Deadlines are totals: a client that sends a byte now and then gains nothing by it, but
 * for what its bytes earn at the slowest rate that is allowed. What they earn ends with
 * the time of the whole request, or of the whole answer.
 *
 * Where memory is short the slowest gives way: neither a deadline nor a least rate that
 * suits a phone keeps a few clients from holding all memory for that long. Slow is who
 * would hold its memory longest from now on, so a fast start buys nothing.
 */
#include "runtime/http_internal.h"

/* A total, longer by what `bytes` earn at the slowest rate that is allowed. */
static uint64_t with_rate(const struct http_limits *limits, uint32_t base_ms,
                          uint64_t bytes)
{
    if (limits->body_rate_min == 0)
        return base_ms;
    return base_ms + bytes * 1000 / limits->body_rate_min;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The rest of the request's time when its head is complete. */
static uint64_t body_time_ms(const struct http_connection *conn)
{
    uint64_t total_ms = conn->server->limits.request_timeout_ms;

    return total_ms > conn->head_ms ? total_ms - conn->head_ms : 1;
}

/* Milliseconds that the connection may be in its state; 0: for ever. */
static uint64_t allowance_ms(const struct http_connection *conn)
{
    const struct http_limits *limits = &conn->server->limits;

    switch (conn->state) {
    case HTTP_STATE_PROXY:
        return conn->server->draining && conn->proxy_size == 0 ? HTTP_LATE_MS
                                                               : limits->head_timeout_ms;
    case HTTP_STATE_HEAD:
        if (conn->server->draining && !conn->begun)
            return HTTP_LATE_MS;
        return conn->begun || conn->fresh ? limits->head_timeout_ms
                                          : limits->idle_timeout_ms;
    case HTTP_STATE_BODY:
        return least(with_rate(limits, limits->body_timeout_ms, conn->body.received),
                     body_time_ms(conn));
    case HTTP_STATE_WRITE:
        return least(
            with_rate(limits, limits->write_timeout_ms, http_write_progress(conn)),
            limits->answer_timeout_ms);
    case HTTP_STATE_LINGER:
        return HTTP_LINGER_MS;
    default: /* waiting for the owner, who has a deadline of its own */
        return 0;
    }
}

/* ---- pace ----------------------------------------------------------------------- */

/* Bytes moved in this state. */
static uint64_t progress(const struct http_connection *conn)
{
    if (conn->state == HTTP_STATE_BODY)
        return conn->body.received;
    return conn->state == HTTP_STATE_WRITE ? http_write_progress(conn) : 0;
}

static void measure_pace(struct http_connection *conn, uint64_t now_ms)
{
    uint64_t passed_ms = now_ms - conn->pace_since_ms;

    if (passed_ms < HTTP_PACE_MS)
        return;
    uint64_t bytes = progress(conn);
    conn->pace = (bytes - conn->pace_from_bytes) * 1000 / passed_ms;
    conn->pace_from_bytes = bytes;
    conn->pace_since_ms = now_ms;
}

/* Bytes that are still to come, or to be read. */
static uint64_t left_bytes(const struct http_connection *conn)
{
    if (conn->state == HTTP_STATE_WRITE)
        return conn->answer.total_bytes - http_write_progress(conn);
    return conn->head.chunked ? conn->server->limits.body_bytes_max - conn->body.received
                              : conn->body.left;
}

/* Milliseconds that the connection will hold its memory. */
static uint64_t held_ms(const struct http_connection *conn)
{
    if (conn->pace == HTTP_PACE_UNKNOWN)
        return 0;
    return conn->pace == 0 ? UINT64_MAX : left_bytes(conn) * 1000 / conn->pace;
}

/* Of `client` alone, or with NULL of all. */
static struct http_connection *find_slowest(const struct http_server *server,
                                            enum http_state state,
                                            const struct http_connection *except,
                                            const struct http_client *client)
{
    struct http_connection *slowest = NULL;
    uint64_t longest_ms = 0, most_bytes = 0;

    for (struct http_connection *conn = server->connections; conn != NULL;
         conn = conn->next) {
        if (conn->state != state || conn == except ||
            (client != NULL && http_conn_asker(conn) != client))
            continue;
        uint64_t ms = held_ms(conn), bytes = progress(conn);
        if (ms <= HTTP_SLOW_MS || ms < longest_ms ||
            (ms == longest_ms && bytes <= most_bytes && slowest != NULL))
            continue;
        slowest = conn;
        longest_ms = ms;
        most_bytes = bytes;
    }
    return slowest;
}

bool http_end_slowest_body(struct http_server *server, const struct http_request *except)
{
    static const struct http_refusal why = {
        PROTO_STATUS_FULL, "memory for bodies is short, and this one comes in slowly", 0,
        0};
    struct http_connection *conn = find_slowest(
        server, HTTP_STATE_BODY, except != NULL ? except->connection : NULL, NULL);

    if (conn != NULL)
        http_conn_refuse(conn, &why);
    return conn != NULL;
}

bool http_end_slowest_answer(struct http_server *server, const struct http_client *client)
{
    struct http_connection *conn = find_slowest(server, HTTP_STATE_WRITE, NULL, client);

    if (conn == NULL)
        return false;
    server->counters.gave_way++;
    http_conn_close(conn);
    return true;
}

/* ---- deadlines ------------------------------------------------------------------ */

void http_time_check(struct http_connection *conn, uint64_t now_ms)
{
    static const struct http_refusal late_head = {
        PROTO_STATUS_HEAD_TIMEOUT, "the head did not arrive in time", 0, 0};
    static const struct http_refusal late_body = {
        PROTO_STATUS_HEAD_TIMEOUT, "the body did not arrive in time", 0, 0};
    uint64_t allowed_ms = allowance_ms(conn);

    measure_pace(conn, now_ms);
    if (conn->state == HTTP_STATE_WAIT && conn->eof)
        http_write_probe(conn, now_ms);
    if (allowed_ms == 0 || now_ms < conn->since_ms + allowed_ms)
        return;
    if (conn->state == HTTP_STATE_HEAD && conn->begun) {
        http_conn_refuse(conn, &late_head);
    } else if (conn->state == HTTP_STATE_BODY) {
        http_conn_refuse(conn, &late_body);
    } else {
        /* Idle, or too slow a reader: nothing that could be said would be read. */
        if (conn->state == HTTP_STATE_WRITE || conn->fresh)
            conn->server->counters.timeouts++;
        http_conn_close(conn);
    }
}
