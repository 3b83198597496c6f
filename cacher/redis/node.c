#include "cacher/redis/state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAILURES    3 /* in a row: time-outs, and connections that cannot be made */
#define OPEN_US     UINT64_C(1000000)
#define OPEN_US_MAX UINT64_C(30000000)
/* A server is left so often at most: while it is still the one that the name means, it is
 * read from. */
#define LEAVE_US UINT64_C(2000000)
/* A command weighs as much as so many bytes when the idlest connection is looked for. */
#define COMMAND_BYTES 16384

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- the breaker, and the log ---- */

static void well_again(struct redis_node *node)
{
    uint64_t now_us = redis_now_us();

    if (node->breaker.state != BREAKER_CLOSED || node->breaker.failed > 0)
        breaker_ok(&node->breaker);
    if (!node->said)
        return;
    node->said = false;
    log_limited(LOG_NOTICE, &node->said_well, now_us, "redis answers again",
                "server=%s after_s=%" PRIu64, node->address,
                (now_us - node->said_us) / 1000000);
}

void redis_node_ok(struct redis_node *node)
{
    /* Open, this was asked before it opened: a server that answers now and then would
     * close it at once, time after time. */
    if (node->breaker.state != BREAKER_OPEN)
        well_again(node);
}

void redis_node_failed(struct redis_node *node, bool final)
{
    struct redis_tier *tier = node->tier;
    uint64_t opened = node->breaker.opened, now_us = redis_now_us();
    bool was_closed = breaker_failed(&node->breaker, now_us);

    while (final && node->breaker.state == BREAKER_CLOSED)
        was_closed = breaker_failed(&node->breaker, now_us);
    tier->counters.breaker_opened += node->breaker.opened - opened;
    if (node->breaker.state != BREAKER_OPEN)
        return;
    if (was_closed && !node->said && !tier->closing) {
        node->said = true;
        node->said_us = now_us;
        log_limited(LOG_WARNING, &node->said_ill, now_us, "redis is by-passed",
                    "server=%s why=\"%s\"", node->address, node->error);
    }
    /* Puts that wait for it are lost, rather than kept for who knows how long. */
    for (struct redis_op *op; (op = redis_list_pop(&node->bulk)) != NULL;)
        redis_op_end(op, NULL);
    if (tier->cluster)
        redis_cluster_refresh(tier);
}

bool redis_node_ask(struct redis_node *node)
{
    if (node->ready == 0 && node->breaker.state != BREAKER_CLOSED)
        return false; /* the next connection is the probe, not somebody's request */
    return breaker_ask(&node->breaker, redis_now_us());
}

/* ---- what waits ---- */

/* The connection with the least under way; for a put only one with room for it. */
static struct redis_conn *idlest(struct redis_node *node, const struct redis_op *op)
{
    struct redis_conn *best = NULL;
    size_t best_bytes = SIZE_MAX;

    for (unsigned i = 0; i < node->tier->options.connections; i++) {
        struct redis_conn *conn = &node->conns[i];
        size_t bytes = conn->sent_bytes + (size_t)conn->sent_count * COMMAND_BYTES;
        /* Gets take no room from puts: there may always be some under way. */
        bool room = !op->put || conn->put_bytes == 0 ||
                    conn->put_bytes + op->bytes <= REDIS_PIPELINE_BYTES;
        if (conn->state == REDIS_CONN_READY && room && bytes < best_bytes) {
            best = conn;
            best_bytes = bytes;
        }
    }
    return best;
}

static void send_list(struct redis_node *node, struct redis_list *list)
{
    uint64_t timeout_us = node->tier->options.timeout_ms * UINT64_C(1000);

    while (node->ready > 0 && list->head != NULL) {
        struct redis_conn *conn = idlest(node, list->head);
        if (conn == NULL)
            return;
        struct redis_op *op = redis_list_pop(list);
        if (op->put)
            op->deadline_us =
                redis_now_us() + timeout_us +
                (conn->sent_bytes + op->bytes) / REDIS_BYTES_PER_MS * UINT64_C(1000);
        if (redis_conn_send(conn, op) < 0) {
            redis_list_push_front(list, op);
            return;
        }
        redis_node_wake(node, op->deadline_us);
    }
}

void redis_node_pump(struct redis_node *node)
{
    send_list(node, &node->urgent);
    send_list(node, &node->bulk);
}

void redis_node_take(struct redis_node *node, struct redis_op *op, bool later)
{
    struct redis_list *list = op->put ? &node->bulk : &node->urgent;

    op->on = node;
    if (op->redirections > 0)
        redis_list_push_front(list, op); /* its deadline is older than theirs */
    else
        redis_list_push(list, op);
    redis_node_wake(node, later ? 0 : op->deadline_us);
    if (!later)
        redis_node_pump(node);
}

static uint64_t expire(struct redis_node *node, struct redis_list *list, uint64_t now_us)
{
    while (list->head != NULL && list->head->deadline_us <= now_us) {
        struct redis_op *op = redis_list_pop(list);
        redis_say(node->tier, node, "no connection to it in time");
        node->tier->counters.timeouts++;
        if (!op->put)
            redis_node_failed(node, false);
        redis_op_end(op, NULL);
    }
    return list->head != NULL ? list->head->deadline_us : UINT64_MAX;
}

static void end_list(struct redis_list *list)
{
    struct redis_list old = *list; /* who is told may ask for more */

    *list = (struct redis_list){0};
    for (struct redis_op *op = old.head, *next; op != NULL; op = next) {
        next = op->next;
        redis_op_end(op, NULL);
    }
}

void redis_node_end_ops(struct redis_node *node, bool puts)
{
    end_list(&node->urgent);
    if (puts)
        end_list(&node->bulk);
    for (unsigned i = 0; i < node->tier->options.connections; i++)
        redis_conn_end_ops(&node->conns[i], puts);
}

/* ---- connections ---- */

unsigned redis_node_wanted(const struct redis_node *node)
{
    const struct redis_tier *tier = node->tier;

    if (node->gone || tier->closing_now)
        return 0;
    /* The URL's name may be another one of a server that the map has: one connection, to
     * look at the map when all others are gone. */
    return tier->cluster && node->slots == 0 ? 1 : tier->options.connections;
}

void redis_node_conn_up(struct redis_node *node)
{
    node->tier->counters.connects++;
    node->ready++;
    well_again(node); /* it let us in and answered: this is the probe */
    redis_node_pump(node);
}

void redis_node_conn_down(struct redis_node *node, bool failed, bool final)
{
    if (node->gone)
        return;
    if (failed)
        redis_node_failed(node, final);
    if (node->ready == 0 && node->breaker.state != BREAKER_CLOSED)
        end_list(&node->urgent);
    if (node->tier->cluster)
        redis_cluster_refresh(node->tier);
    redis_tier_look(node->tier);
}

bool redis_node_leave(struct redis_node *node)
{
    uint64_t now_us = redis_now_us();

    if (node->gone)
        return false;
    if (node->left_us != 0 && now_us < node->left_us + LEAVE_US)
        return node->ready == 0; /* or what it answered before it was left */
    node->left_us = now_us;
    log_limited(LOG_NOTICE, &node->said_left, now_us, "redis is left for its successor",
                "server=%s why=\"%s\"", node->address, node->error);
    for (unsigned i = 0; i < node->tier->options.connections; i++)
        redis_conn_leave(&node->conns[i]);
    if (node->tier->cluster)
        redis_cluster_refresh(node->tier);
    return true;
}

/* ---- its time ---- */

static void on_closed(uv_handle_t *handle)
{
    struct redis_node *node = handle->data;
    struct redis_tier *tier = node->tier;

    free(node->conns);
    free(node);
    tier->handles--;
    redis_tier_look(tier);
}

static void bury(struct redis_node *node)
{
    for (unsigned i = 0; i < node->tier->options.connections; i++)
        redis_conn_drop(&node->conns[i]);
    uv_close((uv_handle_t *)&node->timer, on_closed);
}

static void on_timer(uv_timer_t *timer)
{
    struct redis_node *node = timer->data;
    uint64_t now_us = redis_now_us(), next_us;

    node->due_us = UINT64_MAX;
    if (node->gone) {
        bury(node);
        return;
    }
    redis_node_pump(node);
    next_us = expire(node, &node->urgent, now_us);
    next_us = least(next_us, expire(node, &node->bulk, now_us));
    for (unsigned i = 0; i < node->tier->options.connections; i++)
        next_us = least(next_us, redis_conn_run(&node->conns[i], now_us));
    if (next_us != UINT64_MAX)
        redis_node_wake(node, next_us);
}

void redis_node_wake(struct redis_node *node, uint64_t due_us)
{
    if (due_us >= node->due_us || uv_is_closing((uv_handle_t *)&node->timer))
        return;
    uint64_t now_us = redis_now_us();
    node->due_us = due_us;
    /* Cannot fail: the handle is open and has a callback. */
    (void)uv_timer_start(&node->timer, on_timer,
                         due_us <= now_us ? 0 : (due_us - now_us + 999) / 1000, 0);
}

struct redis_node *redis_node_new(struct redis_tier *tier, const char *host,
                                  unsigned port)
{
    struct redis_node *node = calloc(1, sizeof *node);

    if (node == NULL)
        return NULL;
    node->conns = calloc(tier->options.connections, sizeof node->conns[0]);
    if (node->conns == NULL || uv_timer_init(tier->loop, &node->timer) < 0) {
        free(node->conns);
        free(node);
        return NULL;
    }
    node->tier = tier;
    (void)snprintf(node->host, sizeof node->host, "%s", host);
    node->port = port;
    if (port == 0)
        (void)snprintf(node->address, sizeof node->address, "%s", host);
    else
        (void)snprintf(node->address, sizeof node->address, "%s:%u", host, port);
    node->breaker = (struct breaker){
        .failures = FAILURES, .open_us = OPEN_US, .open_us_max = OPEN_US_MAX};
    for (unsigned i = 0; i < tier->options.connections; i++)
        node->conns[i].node = node;
    node->timer.data = node;
    node->due_us = UINT64_MAX;
    tier->handles++;
    redis_node_wake(node, 0);
    return node;
}

void redis_node_drop(struct redis_node *node)
{
    struct redis_list lists[] = {node->urgent, node->bulk};

    node->gone = true;
    node->urgent = node->bulk = (struct redis_list){0};
    for (unsigned i = 0; i < 2; i++)
        for (struct redis_op *op = lists[i].head, *next; op != NULL; op = next) {
            next = op->next;
            redis_op_lost(op, false);
        }
    /* One of its connections may be in one of hiredis' callbacks now. */
    node->due_us = UINT64_MAX;
    redis_node_wake(node, 0);
}
