/*
 * http.h - a strict HTTP/1.1 server on libuv and llhttp (RFC 9110, RFC 9112).
 *
 * It parses, bounds, times and answers; it knows no route and no picture. Used by the
 * gateway and the monitor. One loop thread; nothing here may be called from another.
 *
 * Life of a request: on_head (head complete and valid, no body byte read yet) ->
 * on_body (each piece, in order) -> on_complete -> the owner calls http_respond() once,
 * at any time from on_head on, also later from another event -> on_end, exactly once,
 * after which the request must not be touched. on_end never comes from inside
 * http_respond(). When the client goes away first, on_gone is called (still owing
 * http_respond(), which then only leads to on_end).
 *
 * A client that has closed only its side (shutdown(SHUT_WR)) after a whole request gets
 * its answer. On the wire it looks like one that left, whose work must be cancelled: the
 * first bytes of the status line are sent to it early, one a second, and a reset tells
 * that it left. A client that closes its side in a head or a body is gone.
 *
 * An answer given before the body is complete (a refusal) is sent at once; the rest of
 * the body is read and thrown away for a bounded time and amount (lingering close), so
 * that the client sees the answer instead of a reset.
 *
 * The client of a request is the peer, or, where that is a trusted proxy, who it names:
 * by the PROXY protocol (versions 1 and 2) at the connection's beginning, by
 * X-Forwarded-For or by Forwarded (RFC 7239) in each request. Of a list the last address
 * counts that is no trusted proxy itself. Where both headers are there and differ,
 * neither is believed.
 *
 * Pipelined requests are answered in order; the next head is parsed only when the
 * answer before it is written, so a connection has one request in hand. Meanwhile the
 * connection is read on, to notice a client that leaves, until head_bytes_max bytes are
 * kept for later; a client that has sent more than that ahead is noticed only when its
 * answer is written.
 *
 * Refused without asking the owner (see docs/API.md, a problem document each, then the
 * connection closes): bare LF or CR, NUL or other controls in a head, obs-fold, space
 * before a colon, no Host or two (HTTP/1.1), two Content-Lengths, Content-Length beside
 * Transfer-Encoding, any Transfer-Encoding but exactly "chunked", an Expect other than
 * 100-continue, a version other than 1.0 and 1.1, a method that llhttp does not know, a
 * head or body over its bound, late heads and bodies, connections over the bound (503
 * with Retry-After).
 */
#ifndef RUNTIME_HTTP_H
#define RUNTIME_HTTP_H

#include "proto/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct http_server;
struct http_request;
struct http_client; /* an address that asks, for what is bounded for one of them */

/*
 * Deadlines are totals and are looked at ten times a second. Slow clients get what their
 * bytes earn at body_rate_min; 0 there extends nothing. An idle connection, or one that
 * never said anything, is closed without a word.
 */
struct http_limits {
    /* Addresses and blocks ("10.0.0.0/8") whose word on a client's address is believed,
     * joined by commas or blanks; NULL: none. Not kept after http_server_open(). */
    const char *trusted_proxies;
    uint32_t connections_max;      /* open at once, in all */
    uint32_t connections_per_peer; /* from one address (of IPv6, a /64), of a trusted
                                      proxy its requests for one; 0: no bound */
    uint32_t head_bytes_max;       /* request line and headers */
    uint32_t headers_max;          /* number of header lines */
    uint64_t body_bytes_max;       /* refused above this with 413 */
    uint32_t head_timeout_ms;      /* from the first byte (or accept) to the head's end */
    uint32_t body_timeout_ms;      /* total, extended by body_rate_min */
    uint32_t request_timeout_ms;   /* from the head's first byte to the body's last */
    uint32_t body_rate_min;        /* bytes/s that extend a deadline */
    uint32_t idle_timeout_ms;      /* keep-alive */
    uint32_t write_timeout_ms;     /* total for one answer, extended by body_rate_min */
    uint32_t answer_timeout_ms;    /* for one answer, whatever is read */
};
/* Defaults for a public service. */
void http_limits_init(struct http_limits *limits);

/* In each answer: a browser shows it as what it says it is, and as nothing else. */
#define HTTP_NO_SNIFF "X-Content-Type-Options: nosniff\r\n"

#define HTTP_TRUSTED_MAX        64 /* blocks */
#define HTTP_TRUSTED_TEXT_BYTES 64
/* 0, or -EINVAL with what is no address and no block, or one too many, in `wrong`. */
int http_trusted_check(const char *list, char wrong[HTTP_TRUSTED_TEXT_BYTES]);

/* Why the server refuses a request by itself; limit and actual: 0 where unused. */
struct http_refusal {
    enum proto_status status;
    const char *detail; /* static */
    uint64_t limit, actual;
};

#define HTTP_REFUSAL_HEADERS_BYTES 128

/* All but on_refuse are required. */
struct http_callbacks {
    /* Return to go on and read the body; or call http_respond() to refuse. */
    void (*on_head)(struct http_request *request, void *arg);
    void (*on_body)(struct http_request *request, const uint8_t *bytes, size_t size,
                    void *arg);
    void (*on_complete)(struct http_request *request, void *arg);
    void (*on_gone)(struct http_request *request, void *arg);
    void (*on_end)(struct http_request *request, void *arg);
    /*
     * A request the server refused by itself (malformed, late, too large): fill `buffer`
     * with a problem document, return its length; and `headers`, empty at first, with
     * lines of its own beside Content-Type and, for 503, Retry-After. Called before
     * on_head with `request` NULL, or after it for a late or broken body (then on_end
     * follows). NULL: a plain text line is sent.
     */
    size_t (*on_refuse)(const struct http_refusal *why, struct http_request *request,
                        char headers[HTTP_REFUSAL_HEADERS_BYTES], char *buffer,
                        size_t capacity, void *arg);
};

/*
 * Counters the owner may read at any time; all only grow, except `connections`,
 * `requests` which are gauges.
 */
struct http_counters {
    uint64_t connections, requests;
    uint64_t accepted, refused_connections, malformed, timeouts, gave_way, bytes_in,
        bytes_out;
};

/*
 * Listen on `host`:`port`; port 0 picks a free one, see http_server_port(). Copies
 * `limits` and `callbacks`. 0 or -errno: -EADDRINUSE, -EINVAL for a host that is no
 * address, -ENOMEM.
 */
int http_server_open(uv_loop_t *loop, const char *host, uint16_t port,
                     const struct http_limits *limits,
                     const struct http_callbacks *callbacks, void *arg,
                     struct http_server **out);
uint16_t http_server_port(const struct http_server *server);
const struct http_counters *http_server_counters(const struct http_server *server);

/* From now on each answer ends its connection; the server goes on accepting. Before a
 * drain, so that clients which keep connections are gone when it comes. */
void http_server_leave(struct http_server *server);
/*
 * Stop accepting, close idle connections, answer the rest with Connection: close. Who had
 * connected but asked nothing yet may still do so for a moment. `done` is called, from
 * the loop, when no connection is left; the server is then still to be closed. Calling it
 * again with `hurry` closes what is left at once.
 */
void http_server_drain(struct http_server *server, bool hurry, void (*done)(void *arg),
                       void *arg);
/*
 * Close everything at once and free when libuv is done with it, which needs a turn of the
 * loop. Each request in hand gets on_gone, unless it was answered, and on_end before this
 * returns: no http_respond() is owed any more, and no callback comes later. May be called
 * from a callback. Accepts NULL.
 */
void http_server_close(struct http_server *server);

/*
 * Memory is short: end the body (by a 503) or the answer (by closing) that at the pace of
 * its last second would hold its memory longest, if that is longer than HTTP_SLOW_MS.
 * What began less than a second ago is left alone, and so is `except`, which may be NULL.
 * False: none is that slow. A walk over the connections.
 */
#define HTTP_SLOW_MS 10000u
bool http_end_slowest_body(struct http_server *server, const struct http_request *except);
/* Of one client, or with NULL of all. */
bool http_end_slowest_answer(struct http_server *server,
                             const struct http_client *client);

/* What was asked. Strings are NUL-terminated, borrowed, valid until on_end. */
const char *http_method(const struct http_request *request);
const char *http_path(const struct http_request *request);  /* before '?', not decoded */
const char *http_query(const struct http_request *request); /* after '?', or "" */
const char *http_peer(const struct http_request *request);  /* the client's address */
/* The client; borrowed until on_end. */
struct http_client *http_client_of(const struct http_request *request);
/* References, to be dropped before http_server_close() returns at the latest. */
struct http_client *http_client_ref(struct http_client *client);
void http_client_unref(struct http_client *client); /* NULL is fine */
/* A count that the owner keeps for a client; 0 at first. */
uint64_t *http_client_bytes(struct http_client *client);
/* A header by lower-case name, or NULL; several lines of one name joined by ", ". */
const char *http_header(const struct http_request *request, const char *name);
/* The body's declared length; -1 when chunked; 0 when there is none. */
int64_t http_content_length(const struct http_request *request);
bool http_has_length(const struct http_request *request); /* Content-Length was present */
bool http_is_chunked(const struct http_request *request);
bool http_is_head(const struct http_request *request); /* HEAD: the body is not sent */
/* Microseconds on uv_hrtime()'s clock: first byte of the head; last byte of the body. */
uint64_t http_started_us(const struct http_request *request);
uint64_t http_received_us(const struct http_request *request);

/* The owner's pointer for this request; NULL at first. */
void http_set_data(struct http_request *request, void *data);
void *http_data(const struct http_request *request);

/* A piece of an answer's body, kept alive until `release` is called, exactly once. */
struct http_piece {
    const void *bytes;
    size_t size;
    void (*release)(void *owner); /* NULL: static */
    void *owner;
};

#define HTTP_PIECES_MAX 4

/*
 * Answer. `headers` is a ready block of "Name: value\r\n" lines without Content-Length,
 * Date, Connection and Server, which are added here; copied. The pieces are sent one
 * after the other without copying and released after (also when the client is gone, or
 * for HEAD, whose Content-Length is still that of the pieces). To be called once for
 * each request; `headers` may be NULL. 204 and 304 are sent without body and length.
 */
void http_respond(struct http_request *request, int status, const char *headers,
                  const struct http_piece *pieces, size_t count);
/* The same for a small body that is copied. */
void http_respond_copy(struct http_request *request, int status, const char *headers,
                       const void *bytes, size_t size);
/* Lines for the answer of this request, whoever gives it, behind its own. Replaces those
 * of an earlier call; left out where there is no memory. */
void http_add_headers(struct http_request *request, const char *headers);

/*
 * Decode %XX and '+' in a query component in place. The new length, or -EINVAL for a
 * broken escape or an encoded NUL.
 */
long http_unescape(char *text);

#endif
