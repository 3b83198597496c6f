#include "cacher/redis/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- lists ---- */

void redis_list_push(struct redis_list *list, struct redis_op *op)
{
    if (list->head == NULL)
        list->tail = &list->head;
    op->next = NULL;
    *list->tail = op;
    list->tail = &op->next;
    list->count++;
}

void redis_list_push_front(struct redis_list *list, struct redis_op *op)
{
    if (list->head == NULL)
        list->tail = &op->next;
    op->next = list->head;
    list->head = op;
    list->count++;
}

struct redis_op *redis_list_pop(struct redis_list *list)
{
    struct redis_op *op = list->head;

    if (op == NULL)
        return NULL;
    list->head = op->next;
    list->count--;
    op->next = NULL;
    return op;
}

/* ---- one operation ---- */

struct redis_op *redis_op_new(struct redis_tier *tier, redis_op_done_fn *done, void *arg)
{
    struct redis_op *op = calloc(1, sizeof *op);

    if (op == NULL)
        return NULL;
    op->tier = tier;
    op->slot = -1;
    op->asked_us = redis_now_us();
    op->done = done;
    op->arg = arg;
    return op;
}

void redis_op_free(struct redis_op *op)
{
    if (op == NULL)
        return;
    for (unsigned i = 0; i < op->commands; i++)
        redisFreeCommand(op->command[i]);
    hotcache_value_unref(op->payload);
    free(op);
}

static bool add(struct redis_op *op, char *command, int bytes)
{
    if (bytes < 0)
        return false;
    op->command[op->commands] = command;
    op->command_bytes[op->commands++] = (size_t)bytes;
    op->bytes += (size_t)bytes;
    return true;
}

bool redis_op_add(struct redis_op *op, const char *format, ...)
{
    char *command;
    va_list args;

    va_start(args, format);
    int bytes = redisvFormatCommand(&command, format, args);
    va_end(args);
    return add(op, command, bytes);
}

bool redis_op_add_argv(struct redis_op *op, int argc, const char **argv)
{
    char *command;
    int bytes = redisFormatCommandArgv(&command, argc, argv, NULL);

    return add(op, command, bytes);
}

void redis_op_end(struct redis_op *op, const redisReply *reply)
{
    struct redis_tier *tier = op->tier;

    tier->gets -= op->get ? 1 : 0;
    if (op->put) {
        tier->puts--;
        tier->records -= op->payload != NULL ? 1 : 0;
        tier->counters.queued_bytes -= op->bytes;
    }
    op->done(op, reply);
    redis_op_free(op);
    redis_tier_look(tier);
}

/* ---- where it goes ---- */

static struct redis_node *route(const struct redis_op *op)
{
    struct redis_node *node =
        op->fixed != NULL ? op->fixed : redis_cluster_node(op->tier, op);

    return node != NULL && !node->gone ? node : NULL;
}

static void begin_try(struct redis_op *op, struct redis_node *node)
{
    unsigned wait_ms = op->put ? REDIS_PUT_WAIT_MS : op->tier->options.timeout_ms;

    op->tries++;
    op->redirections = 0;
    op->ask = false;
    op->deadline_us = redis_now_us() + wait_ms * UINT64_C(1000);
    redis_node_take(node, op, op->tries > 1);
}

int redis_op_submit(struct redis_op *op)
{
    struct redis_node *node = route(op);

    if (node == NULL || op->tier->closing)
        return -EHOSTDOWN;
    /* A put is no probe: nobody hears of its end. */
    if (op->put ? node->breaker.state != BREAKER_CLOSED : !redis_node_ask(node))
        return -EHOSTDOWN;
    op->tier->gets += op->get ? 1 : 0;
    if (op->put) {
        op->tier->puts++;
        op->tier->records += op->payload != NULL ? 1 : 0;
        op->tier->counters.queued_bytes += op->bytes;
    }
    begin_try(op, node);
    return 0;
}

void redis_op_lost(struct redis_op *op, bool late)
{
    struct redis_tier *tier = op->tier;
    struct redis_node *node;
    bool again;

    if (late) {
        tier->counters.timeouts++;
        redis_node_failed(op->on, false);
    }
    again = op->tries < REDIS_TRIES && !tier->closing_now && (op->put || !tier->closing);
    node = again ? route(op) : NULL;
    if (node == NULL || (node->ready == 0 && node->breaker.state != BREAKER_CLOSED)) {
        if (!late && !op->on->gone)
            redis_node_failed(op->on, false); /* it may have been the breaker's probe */
        redis_op_end(op, NULL);
        return;
    }
    tier->counters.retries++;
    begin_try(op, node);
}

/* ---- what errors mean ---- */

static bool begins(const redisReply *reply, const char *with)
{
    return strncmp(reply->str, with, strlen(with)) == 0;
}

static void redirect(struct redis_op *op, const redisReply *reply)
{
    bool ask;
    struct redis_node *node = NULL;

    redis_node_ok(op->on);
    if (op->redirections < REDIS_REDIRECTIONS && op->fixed == NULL)
        node = redis_cluster_redirect(op->on, reply->str, &ask);
    if (node == NULL) {
        redis_say(op->tier, op->on, "a redirection too many, or to nowhere: %s",
                  reply->str);
        redis_op_end(op, NULL);
        return;
    }
    op->redirections++;
    op->ask = ask;
    redis_node_take(node, op, false);
}

/* The server is there, but cannot serve: its breaker hears of it. */
static bool is_failure(const redisReply *reply)
{
    static const char *const failures[] = {"LOADING", "CLUSTERDOWN", "MASTERDOWN",
                                           "NOAUTH",  "BUSY ",       "TRYAGAIN"};

    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++)
        if (begins(reply, failures[i]))
            return true;
    return false;
}

void redis_op_answered(struct redis_op *op, const redisReply *reply)
{
    struct redis_node *node = op->on;

    if (reply->type == REDIS_REPLY_ERROR &&
        (begins(reply, "MOVED ") || begins(reply, "ASK "))) {
        redirect(op, reply);
        return;
    }
    if (reply->type == REDIS_REPLY_ERROR && is_failure(reply)) {
        redis_say(op->tier, node, "%s", reply->str);
        redis_node_failed(node, false);
        if (op->tier->cluster)
            redis_cluster_refresh(op->tier);
        redis_op_end(op, NULL);
        return;
    }
    redis_node_ok(node);
    /* After a fail-over the old master is a replica, and the name means another one. */
    if (reply->type == REDIS_REPLY_ERROR && begins(reply, "READONLY")) {
        redis_say(op->tier, node, "%s", reply->str);
        if (redis_node_leave(node)) {
            redis_op_lost(op, false);
            return;
        }
    }
    redis_op_end(op, reply);
}
