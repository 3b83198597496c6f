/*
 * http.c - the server: who may connect, when deadlines are looked at, how it ends.
 */
#include "runtime/http_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void http_limits_init(struct http_limits *limits)
{
    *limits = (struct http_limits){
        .connections_max = 1000,
        .head_bytes_max = 16u << 10,
        .headers_max = 64,
        .body_bytes_max = 32u << 20,
        .head_timeout_ms = 10000,
        .body_timeout_ms = 30000,
        .request_timeout_ms = 60000,
        .body_rate_min = 16u << 10,
        .idle_timeout_ms = 75000,
        .write_timeout_ms = 30000,
        .answer_timeout_ms = 300000,
    };
}

/* ---- connections come ----------------------------------------------------------- */

/* The peer's address; all zeros where it has none. */
static void read_peer(const struct http_connection *conn, uint8_t address[16])
{
    struct sockaddr_storage peer;
    int size = (int)sizeof peer;

    memset(address, 0, 16);
    if (uv_tcp_getpeername(&conn->tcp, (struct sockaddr *)&peer, &size) < 0)
        return;
    if (peer.ss_family == AF_INET6) {
        memcpy(address, &((const struct sockaddr_in6 *)&peer)->sin6_addr, 16);
    } else if (peer.ss_family == AF_INET) {
        address[10] = address[11] = 0xff;
        memcpy(address + 12, &((const struct sockaddr_in *)&peer)->sin_addr, 4);
    }
}

/* Over a bound: it takes no place of the others'. */
static void turn_away(struct http_server *server, struct http_connection *conn,
                      const struct http_refusal *why)
{
    conn->turned_away = true;
    server->turned_away++;
    http_conn_refuse(conn, why);
    if (server->turned_away > HTTP_REFUSED_MAX)
        http_conn_close(conn);
}

bool http_server_place(struct http_server *server, struct http_connection *conn)
{
    uint32_t limit = server->limits.connections_per_peer;

    if (conn->trusted)
        return true; /* its connections are many clients' */
    if (limit > 0 && conn->client->connections >= limit) {
        struct http_refusal why = {PROTO_STATUS_FULL,
                                   "too many connections from this address", limit,
                                   (uint64_t)conn->client->connections + 1};
        turn_away(server, conn, &why);
        return false;
    }
    conn->counted = true;
    conn->client->connections++;
    return true;
}

/* False: the server has too many, and it was told so. */
static bool has_room(struct http_server *server, struct http_connection *conn)
{
    uint64_t open = server->counters.connections - server->turned_away;
    struct http_refusal why = {PROTO_STATUS_FULL, "too many connections",
                               server->limits.connections_max, open};

    if (open <= server->limits.connections_max)
        return true;
    turn_away(server, conn, &why);
    return false;
}

/* Best effort: without it only memory is less bounded. */
static void bound_unsent(const struct http_connection *conn)
{
    int bytes = HTTP_UNSENT_BYTES_MAX;
    uv_os_fd_t fd;

    if (uv_fileno((const uv_handle_t *)&conn->tcp, &fd) == 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes);
}

static void admit(struct http_server *server, struct http_connection *conn)
{
    uint8_t address[16];

    read_peer(conn, address);
    bound_unsent(conn);
    if (http_conn_identify(conn, address) < 0) {
        http_conn_close(conn);
        return;
    }
    if (conn->trusted)
        http_conn_enter(conn, HTTP_STATE_PROXY);
    http_conn_start(conn);
    if (conn->state != HTTP_STATE_CLOSED && has_room(server, conn) &&
        http_server_place(server, conn))
        server->counters.accepted++;
}

static void on_sweep(uv_timer_t *timer);

/* NULL: out of memory. */
static struct http_connection *begin_connection(struct http_server *server)
{
    struct http_connection *conn = http_conn_new(server);

    if (conn != NULL && !uv_is_active((uv_handle_t *)&server->sweep))
        uv_timer_start(&server->sweep, on_sweep, HTTP_SWEEP_MS, HTTP_SWEEP_MS);
    return conn;
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct http_server *server = listener->data;

    if (status < 0)
        return; /* out of descriptors: libuv has closed it and tries the next one */
    struct http_connection *conn = begin_connection(server);
    if (conn == NULL)
        return;
    if (uv_accept(listener, (uv_stream_t *)&conn->tcp) < 0)
        http_conn_close(conn);
    else
        admit(server, conn);
}

/* ---- time ----------------------------------------------------------------------- */

static void on_sweep(uv_timer_t *timer)
{
    struct http_server *server = timer->data;
    uint64_t now_ms = uv_now(server->loop);

    if (server->connections == NULL)
        uv_timer_stop(timer); /* a process with no client does not wake up */
    /* Nothing is freed here: closing takes effect later in the loop. */
    for (struct http_connection *conn = server->connections; conn != NULL;
         conn = conn->next)
        http_time_check(conn, now_ms);
}

static void finish_drain(struct http_server *server)
{
    void (*done)(void *arg) = server->drained;

    if (!server->draining || server->connections != NULL || done == NULL)
        return;
    server->drained = NULL;
    done(server->drained_arg);
}

/* Connections that were answered from somewhere else than their own read. */
static void on_soon(uv_idle_t *idle)
{
    struct http_server *server = idle->data;
    struct http_connection *conn = server->ready;

    uv_idle_stop(idle);
    server->ready = NULL;
    server->ready_end = &server->ready;
    while (conn != NULL) {
        struct http_connection *next = conn->ready_next;
        conn->queued = false;
        http_conn_resume(conn);
        conn = next;
    }
    finish_drain(server);
}

void http_server_queue(struct http_server *server, struct http_connection *conn)
{
    if (conn->busy || conn->queued || server->closing)
        return;
    conn->queued = true;
    conn->ready_next = NULL;
    *server->ready_end = conn;
    server->ready_end = &conn->ready_next;
    uv_idle_start(&server->soon, on_soon);
}

void http_server_forget(struct http_server *server, struct http_connection *conn)
{
    if (conn->next != NULL)
        conn->next->previous = conn->previous;
    if (conn->previous != NULL)
        conn->previous->next = conn->next;
    else
        server->connections = conn->next;
    if (server->connections == NULL && server->draining && !server->closing)
        uv_idle_start(&server->soon, on_soon);
}

/* ---- opening and closing -------------------------------------------------------- */

void http_server_forget_handle(struct http_server *server)
{
    if (--server->handles == 0)
        free(server);
}

static void on_handle_closed(uv_handle_t *handle)
{
    http_server_forget_handle(handle->data);
}

static void close_handle(uv_handle_t *handle)
{
    if (!uv_is_closing(handle))
        uv_close(handle, on_handle_closed);
}

static int parse_address(const char *host, uint16_t port, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    if (uv_ip4_addr(host, port, (struct sockaddr_in *)out) == 0 ||
        uv_ip6_addr(host, port, (struct sockaddr_in6 *)out) == 0)
        return 0;
    return -EINVAL;
}

static uint16_t port_of(const uv_tcp_t *listener)
{
    struct sockaddr_storage address;
    int size = (int)sizeof address;

    if (uv_tcp_getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        return 0;
    return ntohs(address.ss_family == AF_INET6
                     ? ((struct sockaddr_in6 *)&address)->sin6_port
                     : ((struct sockaddr_in *)&address)->sin_port);
}

static int listen_at(struct http_server *server, const struct sockaddr_storage *address)
{
    /* libuv's errors are -errno here. */
    int err = uv_tcp_bind(&server->listener, (const struct sockaddr *)address, 0);
    if (err == 0)
        err = uv_listen((uv_stream_t *)&server->listener, HTTP_BACKLOG, on_connection);
    server->port = port_of(&server->listener);
    return err;
}

int http_server_open(uv_loop_t *loop, const char *host, uint16_t port,
                     const struct http_limits *limits,
                     const struct http_callbacks *callbacks, void *arg,
                     struct http_server **out)
{
    struct sockaddr_storage address;
    char wrong[HTTP_TRUSTED_TEXT_BYTES];
    int err = parse_address(host, port, &address);
    if (err < 0)
        return err;
    struct http_server *server = calloc(1, sizeof *server);
    if (server == NULL)
        return -ENOMEM;
    if (limits->trusted_proxies != NULL &&
        http_trusted_parse(limits->trusted_proxies, &server->trusted, wrong) < 0) {
        free(server);
        return -EINVAL;
    }

    server->loop = loop;
    server->limits = *limits;
    server->limits.trusted_proxies = NULL;
    server->callbacks = *callbacks;
    server->arg = arg;
    server->ready_end = &server->ready;
    /* Without it only the order of a table's buckets can be foretold. */
    (void)uv_random(NULL, NULL, &server->clients.seed, sizeof server->clients.seed, 0,
                    NULL);
    /* These cannot fail: no descriptor is made before the bind. */
    uv_tcp_init(loop, &server->listener);
    uv_timer_init(loop, &server->sweep);
    uv_idle_init(loop, &server->soon);
    server->listener.data = server->sweep.data = server->soon.data = server;
    server->handles = 3;
    err = listen_at(server, &address);
    if (err < 0) {
        http_server_close(server);
        return err;
    }
    *out = server;
    return 0;
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->port;
}

const struct http_counters *http_server_counters(const struct http_server *server)
{
    return &server->counters;
}

void http_server_leave(struct http_server *server)
{
    server->leaving = true;
}

/* Closing a listener resets the clients that the kernel has accepted and we have not. */
static void accept_waiting(struct http_server *server)
{
    uv_os_fd_t fd;

    if (uv_fileno((const uv_handle_t *)&server->listener, &fd) < 0)
        return;
    for (int i = 0; i < HTTP_BACKLOG; i++) {
        int peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct http_connection *conn = peer < 0 ? NULL : begin_connection(server);
        if (conn == NULL || uv_tcp_open(&conn->tcp, peer) < 0) {
            if (conn != NULL)
                http_conn_close(conn);
            if (peer >= 0)
                close(peer);
            return;
        }
        admit(server, conn);
    }
}

void http_server_drain(struct http_server *server, bool hurry, void (*done)(void *arg),
                       void *arg)
{
    server->drained = done;
    server->drained_arg = arg;
    if (!server->draining && !hurry)
        accept_waiting(server);
    server->draining = true;
    close_handle((uv_handle_t *)&server->listener);
    for (struct http_connection *conn = server->connections; conn != NULL;
         conn = conn->next)
        if (hurry || (http_conn_is_idle(conn) && !conn->fresh))
            http_conn_close(conn);
    if (server->connections == NULL)
        uv_idle_start(&server->soon, on_soon);
}

void http_server_close(struct http_server *server)
{
    if (server == NULL || server->closing)
        return;
    server->closing = true;
    server->drained = NULL;
    server->ready = NULL;
    server->ready_end = &server->ready;
    for (struct http_connection *conn = server->connections, *next; conn != NULL;
         conn = next) {
        next = conn->next;
        http_conn_close(conn);
        http_conn_abandon(conn);
    }
    close_handle((uv_handle_t *)&server->listener);
    close_handle((uv_handle_t *)&server->sweep);
    close_handle((uv_handle_t *)&server->soon);
}
