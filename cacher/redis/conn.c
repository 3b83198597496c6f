#include "cacher/redis/state.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PAUSE_MS_MIN 50                /* before connecting again after a failure, */
#define PAUSE_MS_MAX 5000              /* twice as long each time, up to this */
#define LONG_LIFE_US UINT64_C(1000000) /* after such a life: again at once */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- its end ---- */

static void unready(struct redis_conn *conn, enum redis_conn_state state)
{
    if (conn->state == REDIS_CONN_READY)
        conn->node->ready--;
    conn->state = state;
}

void redis_conn_break(struct redis_conn *conn, bool final)
{
    if (conn->state == REDIS_CONN_OFF || conn->state == REDIS_CONN_GOING ||
        conn->state == REDIS_CONN_BROKEN)
        return;
    unready(conn, REDIS_CONN_BROKEN);
    conn->failed = true;
    conn->final = final;
    redis_node_wake(conn->node, 0);
}

void redis_conn_leave(struct redis_conn *conn)
{
    if (conn->state != REDIS_CONN_READY)
        return;
    unready(conn, REDIS_CONN_BROKEN);
    conn->left = true;
    redis_node_wake(conn->node, 0);
}

/* When to connect again. */
static void pause_before_next(struct redis_conn *conn)
{
    uint64_t now_us = redis_now_us();
    bool lived = conn->ready_us != 0 && now_us - conn->ready_us >= LONG_LIFE_US;

    if (lived)
        conn->pause_ms = 0;
    else if (conn->final)
        conn->pause_ms = PAUSE_MS_MAX;
    else if (conn->pause_ms < PAUSE_MS_MIN)
        conn->pause_ms = PAUSE_MS_MIN;
    conn->due_us = now_us + conn->pause_ms * UINT64_C(1000);
    conn->pause_ms = (unsigned)least(2 * conn->pause_ms, PAUSE_MS_MAX);
}

/* The connection is no more, and what waited for it knows. */
static void down(struct redis_conn *conn)
{
    struct redis_node *node = conn->node;
    bool failed = conn->failed || conn->ready_us == 0, final = conn->final;

    unready(conn, REDIS_CONN_OFF);
    conn->io = NULL;
    if (conn->ready_us == 0 && !final && conn->address + 1 < conn->addresses) {
        conn->address++; /* the name has another one: say nothing yet */
        conn->due_us = 0;
        redis_node_wake(node, 0);
        return;
    }
    if (conn->ready_us != 0)
        node->tier->counters.disconnects++;
    pause_before_next(conn);
    /* A name that has several addresses may have the right server at the next one. */
    conn->address =
        conn->left && conn->address + 1 < conn->addresses ? conn->address + 1 : 0;
    conn->ready_us = 0;
    conn->failed = conn->final = conn->left = false;
    redis_node_wake(node, conn->due_us);
    redis_node_conn_down(node, failed, final);
}

void redis_conn_drop(struct redis_conn *conn)
{
    struct redis_io *io = conn->io;

    if (conn->state == REDIS_CONN_OFF)
        return;
    unready(conn, REDIS_CONN_GOING);
    if (conn->resolve != NULL) {
        conn->resolve->conn = NULL;
        (void)uv_cancel((uv_req_t *)&conn->resolve->request);
        conn->resolve = NULL;
    }
    if (io != NULL && io->ac != NULL) {
        io->ac->data = NULL; /* on_disconnect has nothing to tell */
        redisAsyncFree(io->ac);
    }
    down(conn);
}

static void on_disconnect(const redisAsyncContext *ac, int status)
{
    struct redis_conn *conn = ac->data;

    if (conn == NULL)
        return;
    if (conn->io->refused != NULL)
        redis_say(conn->node->tier, conn->node, "it sent %s", conn->io->refused);
    else if (status != REDIS_OK || conn->state != REDIS_CONN_BROKEN)
        redis_say(conn->node->tier, conn->node, "%s",
                  ac->errstr != NULL && ac->errstr[0] != '\0' ? ac->errstr
                                                              : "the connection ended");
    if (conn->io->refused != NULL || ac->err == REDIS_ERR_PROTOCOL)
        conn->failed = true;
    down(conn);
}

/* No call to hiredis from here: what is asked first was queued before. */
static void on_connect(const redisAsyncContext *ac, int status)
{
    struct redis_conn *conn = ac->data;

    if (status == REDIS_OK || conn == NULL)
        return;
    redis_say(conn->node->tier, conn->node, "cannot connect: %s", ac->c.errstr);
    unready(conn, REDIS_CONN_GOING);
    down(conn);
}

/* ---- its beginning ---- */

static void connect_to(struct redis_conn *conn, const char *host)
{
    conn->state = REDIS_CONN_GREETING;
    conn->io = redis_io_new(conn, host, on_connect, on_disconnect);
    if (conn->io == NULL)
        down(conn);
    else
        redis_conn_greet(conn);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct redis_resolve *resolve = request->data;
    struct redis_conn *conn = resolve->conn;
    char host[INET6_ADDRSTRLEN + 1 + 16] = "";
    const struct addrinfo *one = found;

    free(resolve);
    if (conn != NULL) {
        conn->resolve = NULL;
        conn->addresses = 0;
        for (const struct addrinfo *i = found; i != NULL; i = i->ai_next)
            conn->addresses++;
        for (unsigned i = 0; one != NULL && i < conn->address; i++)
            one = one->ai_next;
        if (status == 0 && one != NULL &&
            getnameinfo(one->ai_addr, one->ai_addrlen, host, sizeof host, NULL, 0,
                        NI_NUMERICHOST) == 0) {
            connect_to(conn, host);
        } else {
            redis_say(conn->node->tier, conn->node, "its name cannot be resolved: %s",
                      status < 0 ? uv_strerror(status) : "no address");
            down(conn);
        }
    }
    uv_freeaddrinfo(found);
}

static void resolve_name(struct redis_conn *conn)
{
    static const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct redis_resolve *resolve = calloc(1, sizeof *resolve);
    int err = -ENOMEM;

    conn->state = REDIS_CONN_RESOLVING;
    if (resolve != NULL) {
        resolve->conn = conn;
        resolve->request.data = resolve;
        err = uv_getaddrinfo(conn->node->tier->loop, &resolve->request, on_resolved,
                             conn->node->host, NULL, &hints);
    }
    if (err < 0) {
        free(resolve);
        redis_say(conn->node->tier, conn->node, "its name cannot be resolved: %s",
                  uv_strerror(err));
        down(conn);
        return;
    }
    conn->resolve = resolve;
}

static void begin(struct redis_conn *conn, uint64_t now_us)
{
    const struct redis_tier *tier = conn->node->tier;
    const char *host = conn->node->host;
    struct in6_addr any;
    bool local = tier->url.local && conn->node == tier->nodes[0];

    conn->due_us = now_us + tier->options.connect_timeout_ms * UINT64_C(1000);
    conn->ready_us = 0;
    conn->failed = conn->final = false;
    /* hiredis would resolve a name too, and block the loop for it. */
    if (local || inet_pton(AF_INET, host, &any) == 1 || strchr(host, ':') != NULL)
        connect_to(conn, host);
    else
        resolve_name(conn);
}

/* ---- what goes over it ---- */

static void forget(struct redis_conn *conn, struct redis_sent *sent)
{
    struct redis_sent **at = &conn->sent;

    while (*at != sent) /* the first one, but for replies that come as NULL */
        at = &(*at)->next;
    *at = sent->next;
    if (sent->next == NULL)
        conn->sent_tail = at;
    conn->sent_count--;
    conn->sent_bytes -= sent->bytes;
    conn->put_bytes -= sent->put_bytes;
    free(sent);
}

static void on_reply(redisAsyncContext *ac, void *answer, void *arg)
{
    struct redis_sent *sent = arg;
    struct redis_conn *conn = sent->conn;
    struct redis_op *op = sent->op;
    bool last = --sent->left == 0;

    if (answer == NULL) {
        if (ac->c.errstr[0] != '\0')
            redis_say(conn->node->tier, conn->node, "%s", ac->c.errstr);
        unready(conn, conn->state == REDIS_CONN_READY ? REDIS_CONN_GOING : conn->state);
    }
    conn->moved_us = redis_now_us();
    if (!last)
        return;
    forget(conn, sent);
    if (op != NULL && answer != NULL)
        redis_op_answered(op, answer);
    else if (op != NULL)
        redis_op_lost(op, false);
    if (answer != NULL)
        redis_node_pump(conn->node);
}

static struct redis_sent *remember(struct redis_conn *conn, struct redis_op *op)
{
    struct redis_sent *sent = calloc(1, sizeof *sent);

    if (sent == NULL)
        return NULL;
    sent->conn = conn;
    sent->op = op;
    sent->bytes = op != NULL ? op->bytes : 0;
    sent->put_bytes = op != NULL && op->put ? op->bytes : 0;
    sent->at_us = redis_now_us();
    if (conn->sent == NULL) {
        conn->sent_tail = &conn->sent;
        conn->moved_us = sent->at_us;
    }
    *conn->sent_tail = sent;
    conn->sent_tail = &sent->next;
    conn->sent_count++;
    conn->sent_bytes += sent->bytes;
    conn->put_bytes += sent->put_bytes;
    return sent;
}

/* The payload goes from its own memory to hiredis' buffer: that appends whatever it is
 * given, and who waits for the reply is known by the command's beginning. */
static int send_payload(struct redis_conn *conn, const struct redis_op *op)
{
    redisContext *c = &conn->io->ac->c;
    const char *bytes = (const char *)op->payload->bytes;

    if (redisAppendFormattedCommand(c, bytes, op->payload->size) != REDIS_OK ||
        redisAppendFormattedCommand(c, "\r\n", 2) != REDIS_OK)
        return REDIS_ERR;
    return REDIS_OK;
}

int redis_conn_send(struct redis_conn *conn, struct redis_op *op)
{
    redisAsyncContext *ac = conn->io->ac;
    struct redis_sent *sent = remember(conn, op);
    int err = sent == NULL ? REDIS_ERR : REDIS_OK;

    for (unsigned i = 0; i < op->commands && err == REDIS_OK; i++) {
        if (op->ask) /* holds for one command */
            err = redisAsyncCommand(ac, NULL, NULL, "ASKING");
        if (err == REDIS_OK)
            err = redisAsyncFormattedCommand(ac, on_reply, sent, op->command[i],
                                             op->command_bytes[i]);
        sent->left += err == REDIS_OK ? 1 : 0;
    }
    if (err == REDIS_OK && op->payload != NULL)
        err = send_payload(conn, op);
    conn->unwritten = redis_io_unwritten(conn->io);
    if (err == REDIS_OK)
        return 0;
    if (sent != NULL) {
        sent->op = NULL;
        if (sent->left == 0)
            forget(conn, sent);
    }
    redis_say(conn->node->tier, conn->node, "a command cannot be sent: out of memory");
    redis_conn_break(conn, false);
    return -ENOMEM;
}

void redis_conn_end_ops(struct redis_conn *conn, bool puts)
{
    for (struct redis_sent *sent = conn->sent; sent != NULL; sent = sent->next) {
        struct redis_op *op = sent->op;
        if (op != NULL && (puts || !op->put)) {
            sent->op = NULL;
            redis_op_end(op, NULL);
        }
    }
}

/* ---- its time ---- */

/* Operations whose time is over wait no longer; their replies still have to come. */
static uint64_t expire(struct redis_conn *conn, uint64_t now_us)
{
    uint64_t next_us = UINT64_MAX;

    for (struct redis_sent *sent = conn->sent; sent != NULL; sent = sent->next) {
        struct redis_op *op = sent->op;
        if (op == NULL)
            continue;
        if (op->deadline_us > now_us) {
            next_us = least(next_us, op->deadline_us);
            continue;
        }
        sent->op = NULL;
        redis_say(conn->node->tier, conn->node, "it does not answer in time");
        redis_op_lost(op, true);
    }
    return next_us;
}

/* A time-out alone is no reason to give a connection up: a large reply may be on its way.
 * Nothing at all in that time is, and so is a reply that comes too slowly. */
static bool stalled(struct redis_conn *conn, uint64_t now_us)
{
    uint64_t timeout_us = conn->node->tier->options.timeout_ms * UINT64_C(1000);
    uint64_t slow_us = REDIS_STALL_TIMEOUTS * timeout_us +
                       conn->sent->bytes / REDIS_BYTES_PER_MS * UINT64_C(1000);
    size_t unwritten = redis_io_unwritten(conn->io);

    if (unwritten > 0 && unwritten < conn->unwritten)
        conn->moved_us = now_us;
    conn->unwritten = unwritten;
    if (conn->io->moved_us > conn->moved_us)
        conn->moved_us = conn->io->moved_us;
    /* Both may be later than now_us, which is as old as the timer's wake-up. */
    return conn->moved_us + timeout_us <= now_us || conn->sent->at_us + slow_us <= now_us;
}

static void ping(struct redis_conn *conn)
{
    struct redis_sent *sent = remember(conn, NULL);

    if (sent == NULL)
        return;
    sent->left = 1;
    if (redisAsyncCommand(conn->io->ac, on_reply, sent, "PING") != REDIS_OK)
        forget(conn, sent);
}

static uint64_t watch(struct redis_conn *conn, uint64_t now_us)
{
    const struct cacher_redis_options *options = &conn->node->tier->options;
    uint64_t next_us;

    if (now_us >= conn->due_us) {
        conn->due_us = now_us + options->ping_ms * UINT64_C(1000);
        if (conn->sent == NULL)
            ping(conn);
    }
    if (conn->sent == NULL)
        return conn->due_us;
    next_us = expire(conn, now_us);
    if (conn->state != REDIS_CONN_READY || conn->sent == NULL)
        return conn->due_us;
    if (stalled(conn, now_us)) {
        redis_say(conn->node->tier, conn->node, "it does not answer in time");
        redis_conn_break(conn, false);
        return now_us;
    }
    next_us = least(next_us, conn->moved_us + options->timeout_ms * UINT64_C(1000));
    return least(next_us, conn->due_us);
}

uint64_t redis_conn_run(struct redis_conn *conn, uint64_t now_us)
{
    bool wanted = (unsigned)(conn - conn->node->conns) < redis_node_wanted(conn->node);

    if (!wanted && conn->sent == NULL && conn->state == REDIS_CONN_READY)
        redis_conn_drop(conn);
    switch (conn->state) {
    case REDIS_CONN_OFF:
        if (!wanted)
            return UINT64_MAX;
        if (now_us >= conn->due_us)
            begin(conn, now_us);
        return conn->due_us;
    case REDIS_CONN_RESOLVING:
    case REDIS_CONN_GREETING:
        if (now_us < conn->due_us)
            return conn->due_us;
        redis_say(conn->node->tier, conn->node, "it does not answer in time");
        redis_conn_drop(conn);
        return conn->due_us;
    case REDIS_CONN_READY:
        return watch(conn, now_us);
    case REDIS_CONN_BROKEN:
        redis_conn_drop(conn);
        return conn->due_us;
    case REDIS_CONN_GOING:
        break;
    }
    return UINT64_MAX;
}
