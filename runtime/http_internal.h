/*
 * http_internal.h - what the files of the HTTP server share. No one else includes it, but
 * its unit tests and its fuzz target.
 *
 *   http.c          the server: listening, limits on connections, the sweep, drain, close
 *   http_conn.c     the states of one connection, and who is told what when they change
 *   http_head.c     collects a head and judges its bytes as they come
 *   http_parse.c    understands a complete head or says what is wrong with it
 *   http_body.c     where a body ends: a length, or chunks
 *   http_time.c     how long each state may last
 *   http_client.c   clients by address, and what is counted for each
 *   http_forward.c  the client's address as a trusted proxy tells it
 *   http_write.c    answers: the head block, the pieces, and what the socket did not take
 *   http_request.c  the questions an owner may ask about a request
 */
#ifndef RUNTIME_HTTP_INTERNAL_H
#define RUNTIME_HTTP_INTERNAL_H

#include "runtime/drain.h"
#include "runtime/http.h"

#include <time.h>

/* One buffer for all reads of a server: what is read is used before the next read. */
#define HTTP_READ_BYTES   (64u << 10)
#define HTTP_PACE_UNKNOWN UINT64_MAX
#define HTTP_PACE_MS      1000u /* a pace is measured over */
/* Lingering close: what a refused client may still send before it is cut off. Wide enough
 * for the most usual case, a whole picture above the bound, sent by a client that reads
 * only after it has written everything. */
#define HTTP_LINGER_BYTES_MAX (64u << 20)
#define HTTP_LINGER_MS        5000u
/* Bytes of an answer that the kernel may hold unsent for one connection. Its own bound is
 * 4 MB: 900 slow readers then exhaust the memory of all TCP sockets of the machine, and a
 * deadline that bytes extend counts what nobody has read. */
#define HTTP_UNSENT_BYTES_MAX (256u << 10)
/* How often deadlines are looked at. One timer for all connections: 1000 of them cost
 * less to walk ten times a second than a timer each to move at every read. */
#define HTTP_SWEEP_MS 100u
/* A client that had just connected when the server began to drain has this time to begin
 * its request. */
#define HTTP_LATE_MS 1000u
/* Connections over a bound that are told so, with a lingering close, at once; they take
 * no place of the others'. */
#define HTTP_REFUSED_MAX 64u
#define HTTP_BACKLOG     1024
/* Bytes of a PROXY header, with what may follow its addresses. */
#define HTTP_PROXY_BYTES_MAX 4096u
#define HTTP_CLIENT_BUCKETS  4096u /* a power of two */
/* A refusal's own document, and a chunk's size line with its extensions. */
#define HTTP_REFUSAL_BYTES_MAX    2048u
#define HTTP_CHUNK_LINE_BYTES_MAX 256u
#define HTTP_TRAILER_BYTES_MAX    8192u
/* An answer's buffer above this is freed after use instead of kept for the next one. */
#define HTTP_ANSWER_KEEP_BYTES 4096u

/* ---- http_head.c ---------------------------------------------------------------- */

struct http_line {
    char *name, *value; /* lower case; trimmed. In the head's bytes, NUL-terminated */
    size_t name_size, value_size;
};

struct http_head {
    char *bytes;
    size_t size, capacity;
    unsigned scan;     /* state of the byte rules */
    size_t line_count; /* complete lines seen by them, the request line among them */
    struct http_line *lines;
    size_t count;
    char *joined; /* values of headers that came more than once; NULL at most times */

    /* After http_parse_head(): */
    const char *method, *path, *query;
    uint64_t length; /* bytes; 0 without Content-Length */
    bool is_head, is_1_0, keep_alive, has_length, chunked, expects_continue;
};

enum http_head_result { HTTP_HEAD_MORE, HTTP_HEAD_DONE, HTTP_HEAD_BROKEN };

/* Ready for `limits->headers_max` lines. 0 or -ENOMEM. */
int http_head_init(struct http_head *head, const struct http_limits *limits);
void http_head_free(struct http_head *head);
/* Forget the request; keep the memory for the next one. */
void http_head_reset(struct http_head *head);
/*
 * Take bytes up to the end of the head; `used` says how many. A wrong byte is refused
 * when it is seen, not when the head is complete. `why` is set with BROKEN.
 */
enum http_head_result http_head_feed(struct http_head *head,
                                     const struct http_limits *limits,
                                     const uint8_t *bytes, size_t size, size_t *used,
                                     struct http_refusal *why);
/* A header's value or NULL. */
const char *http_head_find(const struct http_head *head, const char *name);

/* A byte that may stand in a header line: no control but the tab. */
static inline bool http_is_text(uint8_t byte)
{
    return byte >= 0x20 ? byte != 0x7f : byte == '\t';
}

/* ---- http_parse.c --------------------------------------------------------------- */

/* Understand a complete head, once. 0, or -EINVAL with `why` set. */
int http_parse_head(struct http_head *head, const struct http_limits *limits,
                    struct http_refusal *why);

/* ---- http_body.c ---------------------------------------------------------------- */

struct http_body {
    unsigned state;
    uint64_t left;     /* bytes of this chunk, or of the body */
    uint64_t received; /* bytes of the body so far */
    uint32_t framing;  /* bytes of this size line, or of the trailers */
};

enum http_body_event {
    HTTP_BODY_MORE,  /* all bytes used, the body goes on */
    HTTP_BODY_PIECE, /* the used bytes end with a piece of the body */
    HTTP_BODY_DONE,  /* the used bytes end the body */
    HTTP_BODY_BROKEN
};

void http_body_begin(struct http_body *body, const struct http_head *head);
/*
 * The next thing in `bytes`; `used` says how many were taken, `piece` how many of the
 * last of them are body. A body above `bytes_max` is broken.
 */
enum http_body_event http_body_next(struct http_body *body, uint64_t bytes_max,
                                    const uint8_t *bytes, size_t size, size_t *used,
                                    size_t *piece, struct http_refusal *why);

/* ---- http_client.c -------------------------------------------------------------- */

struct http_clients;

struct http_client {
    struct http_clients *clients;
    struct http_client *chain;
    uint8_t key[16];
    uint32_t references;
    uint32_t connections; /* its own, and its requests in hand through proxies */
    uint64_t bytes;       /* the owner's count */
};

struct http_clients {
    uint64_t seed;
    size_t count;
    struct http_client *buckets[HTTP_CLIENT_BUCKETS];
};

/* A reference to the entry of an address, made where there is none; NULL: out of memory.
 */
struct http_client *http_client_get(struct http_clients *clients,
                                    const uint8_t address[16]);

/* ---- http_forward.c ------------------------------------------------------------- */

/* Addresses are IPv6, or IPv4 mapped into it. */
struct http_block {
    uint8_t address[16];
    unsigned bits;
};

struct http_trusted {
    size_t count;
    struct http_block blocks[HTTP_TRUSTED_MAX];
};

/* As http_trusted_check(). */
int http_trusted_parse(const char *list, struct http_trusted *out,
                       char wrong[HTTP_TRUSTED_TEXT_BYTES]);
bool http_is_trusted(const struct http_trusted *trusted, const uint8_t address[16]);
/* An address with or without a port, as the headers have it. */
bool http_parse_node(const char *text, size_t size, uint8_t out[16]);
/* The client that a trusted peer names; the peer itself where it names none. Either
 * header may be NULL. */
void http_forwarded_client(const struct http_trusted *trusted,
                           const char *x_forwarded_for, const char *forwarded,
                           const uint8_t peer[16], uint8_t out[16]);

struct http_proxy_header {
    size_t used; /* its bytes */
    bool has_address;
    uint8_t address[16];
};

enum http_proxy_result {
    HTTP_PROXY_NONE, /* the bytes begin otherwise */
    HTTP_PROXY_MORE, /* they begin so, and are not all */
    HTTP_PROXY_DONE,
    HTTP_PROXY_BROKEN
};

/* A connection's first bytes. */
enum http_proxy_result http_proxy_parse(const uint8_t *bytes, size_t size,
                                        struct http_proxy_header *out);

/* ---- the connection ------------------------------------------------------------- */

/*
 * HEAD -> BODY -> WAIT -> WRITE -> HEAD ... is a connection's life, which begins with
 * PROXY where the peer is a trusted proxy. A request without a body skips BODY; an early
 * answer skips WAIT; a refusal goes from anywhere to WRITE. After the last answer comes
 * LINGER or CLOSED; CLOSED comes from anywhere.
 */
enum http_state {
    HTTP_STATE_PROXY,  /* its first bytes may be a PROXY header */
    HTTP_STATE_HEAD,   /* idle, or in a head: then `begun` */
    HTTP_STATE_BODY,   /* the owner knows of the request; the body is coming in */
    HTTP_STATE_WAIT,   /* all is here; the owner owes an answer */
    HTTP_STATE_WRITE,  /* there is an answer, or a refusal, on its way out */
    HTTP_STATE_LINGER, /* answered for the last time; the rest is thrown away */
    HTTP_STATE_CLOSED  /* uv_close() called; kept until the owner has answered too */
};

struct http_request {
    struct http_connection *connection;
    bool active;   /* between on_head and on_end */
    bool answered; /* http_respond() was called */
    bool complete; /* the last byte of the body is here */
    uint64_t started_us, received_us;
    void *data;
    char *headers; /* of http_add_headers(), or NULL */
};

struct http_answer {
    char *bytes; /* status line and headers; a copied body too */
    size_t size, capacity;
    struct http_piece pieces[HTTP_PIECES_MAX];
    size_t count;
    size_t total_bytes, late_bytes; /* in all; left to libuv */
    uv_write_t write;
    bool sent;  /* the kernel has it all */
    bool close; /* nothing is read after it */
};

struct http_connection {
    uv_tcp_t tcp;
    uv_shutdown_t shutdown;
    struct http_server *server;
    struct http_connection *previous, *next, *ready_next;

    enum http_state state;
    uint64_t since_ms; /* of this state; of the first byte in a head */
    uint64_t pace_since_ms, pace_from_bytes; /* where this second of it began */
    uint64_t pace;    /* bytes/s of the second before; HTTP_PACE_UNKNOWN: none yet */
    uint64_t head_ms; /* that the head of this request took */
    bool begun;       /* a byte of this head has come */
    bool fresh;       /* no request yet */
    bool turned_away; /* too many: it was never one of the server's */
    bool eof;         /* the client has closed its side */
    uint32_t probed;  /* bytes of the status line that are sent already */
    bool paused;      /* not reading: too much is kept */
    bool busy;        /* inside http_conn_resume() or a read: no need to be queued */
    bool queued;      /* on the server's ready list */
    bool handle_closed;

    struct http_head head;
    struct http_body body;
    struct http_request request;
    struct http_answer answer;

    /* Pipelined bytes that came before their turn. Reading stops at head_bytes_max of
     * them, so there are never more than that and one read. */
    uint8_t *kept;
    size_t kept_size, kept_capacity;
    uint64_t lingered_bytes;

    uint8_t address[16]; /* IPv6, or IPv4 mapped into it */
    char peer[64];
    bool trusted;                /* a proxy that may name another one */
    bool counted, asker_counted; /* in `connections` of client, of asker */
    struct http_client *client;  /* of `address` */
    struct http_client *asker;   /* whom the proxy named in this request; or NULL */
    uint8_t asker_address[16];
    char asker_name[64];
    uint8_t *proxy; /* a PROXY header that has not all come */
    size_t proxy_size;
};

struct http_server {
    uv_loop_t *loop;
    uv_tcp_t listener;
    uv_timer_t sweep;
    uv_idle_t soon; /* runs while the ready list is not empty */
    unsigned handles;
    bool closing, draining;
    bool leaving; /* answers end their connections */
    uint16_t port;
    struct http_limits limits;
    struct http_callbacks callbacks;
    void *arg;
    struct http_counters counters;

    struct http_trusted trusted;
    struct http_clients clients;
    uint32_t turned_away; /* connections open that are over a bound */
    struct drain left;    /* connections that have gone */
    struct http_connection *connections;
    struct http_connection *ready, **ready_end;
    void (*drained)(void *arg);
    void *drained_arg;

    time_t date_s; /* second that `date` was written for */
    size_t date_size;
    char date[64]; /* the Server and Date lines */
    uint8_t read_buffer[HTTP_READ_BYTES];
};

/* ---- http_conn.c ---------------------------------------------------------------- */

/* The text of an address. */
void http_address_name(const uint8_t address[16], char *out, size_t capacity);
/* The connection is `address`'s from here on. 0 or -ENOMEM. */
int http_conn_identify(struct http_connection *conn, const uint8_t address[16]);
/* The client of the request in hand. */
struct http_client *http_conn_asker(const struct http_connection *conn);
/* A connection with its handle initialised, not yet reading; NULL without memory. */
struct http_connection *http_conn_new(struct http_server *server);
/* Begin to read; `tcp` is connected. */
void http_conn_start(struct http_connection *conn);
/* Refuse what is coming in and close after. Ends a request in hand. */
void http_conn_refuse(struct http_connection *conn, const struct http_refusal *why);
/* Close now. A request without an answer is told that its client is gone. */
void http_conn_close(struct http_connection *conn);
/* End the request in hand whether it was answered or not; the server is closing. May free
 * the connection. */
void http_conn_abandon(struct http_connection *conn);
/* The answer may be written: end its request, go on with what was kept. May free it. */
void http_conn_resume(struct http_connection *conn);
/* Move to another state, now. */
void http_conn_enter(struct http_connection *conn, enum http_state state);
/* What the socket gave. Its own function for the fuzz target. */
void http_conn_feed(struct http_connection *conn, const uint8_t *bytes, size_t size);
/* Neither in a head nor in a request. */
bool http_conn_is_idle(const struct http_connection *conn);

/* ---- http_time.c ---------------------------------------------------------------- */

/* Look at the deadline of the connection's state; refuse or close when it is over. */
void http_time_check(struct http_connection *conn, uint64_t now_ms);

/* ---- http.c --------------------------------------------------------------------- */

/* Count the connection for its address. False: that has too many, and it was told so. */
bool http_server_place(struct http_server *server, struct http_connection *conn);
/* Have http_conn_resume() called soon, from the loop; not where it is running already. */
void http_server_queue(struct http_server *server, struct http_connection *conn);
/* A handle of the server's is closed; the last one frees it. */
void http_server_forget_handle(struct http_server *server);
/* The connection is off the list. */
void http_server_forget(struct http_server *server, struct http_connection *conn);

/* ---- http_write.c --------------------------------------------------------------- */

/*
 * Send an answer; the pieces are taken over. `copy` is a body that is copied instead.
 * Sets answer.close where the connection cannot go on.
 */
void http_write_answer(struct http_connection *conn, int status, const char *headers,
                       const struct http_piece *pieces, size_t count, const void *copy,
                       size_t copy_size);
/* Send "100 Continue", if the socket takes it at once. */
void http_write_continue(struct http_connection *conn);
/* A client that has closed its side may still read, or may have left: both look the same
 * until it is sent something. Send the next byte of the status line, whose beginning
 * every answer shares; a client that has left answers with a reset, which closes here. */
void http_write_probe(struct http_connection *conn, uint64_t now_ms);
/* Give the pieces back to their owners. */
void http_write_release(struct http_connection *conn);
/* Bytes of the answer that the kernel has taken. */
size_t http_write_progress(const struct http_connection *conn);

#endif
