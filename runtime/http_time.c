/*
 * http_time.c - how long a connection may be in each of its states.
 *
 * Deadlines are totals: a client that sends a byte now and then gains nothing by it, but
 * for what its bytes earn at the slowest rate that is allowed.
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

/* Milliseconds that the connection may be in its state; 0: for ever. */
static uint64_t allowance_ms(const struct http_connection *conn)
{
    const struct http_limits *limits = &conn->server->limits;

    switch (conn->state) {
    case HTTP_STATE_HEAD:
        return conn->begun || conn->fresh ? limits->head_timeout_ms
                                          : limits->idle_timeout_ms;
    case HTTP_STATE_BODY:
        return with_rate(limits, limits->body_timeout_ms, conn->body.received);
    case HTTP_STATE_WRITE:
        return with_rate(limits, limits->write_timeout_ms, http_write_progress(conn));
    case HTTP_STATE_LINGER:
        return HTTP_LINGER_MS;
    default: /* waiting for the owner, who has a deadline of its own */
        return 0;
    }
}

void http_time_check(struct http_connection *conn, uint64_t now_ms)
{
    static const struct http_refusal late_head = {
        PROTO_STATUS_HEAD_TIMEOUT, "the head did not arrive in time", 0, 0};
    static const struct http_refusal late_body = {
        PROTO_STATUS_HEAD_TIMEOUT, "the body did not arrive in time", 0, 0};
    uint64_t allowed_ms = allowance_ms(conn);

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
