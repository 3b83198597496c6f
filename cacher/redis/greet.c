/*
 * What a connection is asked before it may be used: whether it lets us in, whether it is
 * well, what it is. All at once; the last answer makes it ready.
 */
#include "cacher/redis/state.h"
#include "proto/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 3, 4))) static void refuse(struct redis_conn *conn,
                                                         bool final, const char *why, ...)
{
    char text[REDIS_ERROR_BYTES];
    va_list args;

    va_start(args, why);
    (void)vsnprintf(text, sizeof text, why, args);
    va_end(args);
    redis_say(conn->node->tier, conn->node, "%s", text);
    redis_conn_break(conn, final);
}

static bool begins(const redisReply *reply, const char *with)
{
    return reply->str != NULL && strncmp(reply->str, with, strlen(with)) == 0;
}

static void on_auth(redisAsyncContext *ac, void *answer, void *arg)
{
    struct redis_conn *conn = arg;
    const redisReply *reply = answer;

    (void)ac;
    if (reply == NULL || conn->state != REDIS_CONN_GREETING ||
        reply->type != REDIS_REPLY_ERROR)
        return;
    /* WRONGPASS since 6; before, and where the server has no password: ERR with a text.
     */
    if (begins(reply, "WRONGPASS") || strstr(reply->str, "password") != NULL)
        refuse(conn, true, "it refuses the user or password of the URL: %s", reply->str);
    else
        refuse(conn, false, "it refuses AUTH: %s", reply->str);
}

static void on_select(redisAsyncContext *ac, void *answer, void *arg)
{
    struct redis_conn *conn = arg;
    const redisReply *reply = answer;

    (void)ac;
    if (reply == NULL || conn->state != REDIS_CONN_GREETING ||
        reply->type != REDIS_REPLY_ERROR)
        return;
    if (begins(reply, "NOAUTH"))
        refuse(conn, true, "it wants a password, and the URL has none");
    else
        refuse(conn, begins(reply, "ERR DB") || begins(reply, "ERR SELECT"),
               "it refuses database %u of the URL: %s", conn->node->tier->url.db,
               reply->str);
}

static void on_first_ping(redisAsyncContext *ac, void *answer, void *arg)
{
    struct redis_conn *conn = arg;
    const redisReply *reply = answer;

    (void)ac;
    if (reply == NULL || conn->state != REDIS_CONN_GREETING)
        return;
    if (reply->type == REDIS_REPLY_STATUS && begins(reply, "PONG"))
        return;
    if (reply->type != REDIS_REPLY_ERROR)
        refuse(conn, true, "it does not answer PING as Redis does");
    else if (begins(reply, "NOAUTH"))
        refuse(conn, true, "it wants a password, and the URL has none");
    else if (begins(reply, "LOADING"))
        refuse(conn, false, "it is still loading its data");
    else
        refuse(conn, false, "it refuses PING: %s", reply->str);
}

static void on_info(redisAsyncContext *ac, void *answer, void *arg)
{
    static const char name[] = "redis_version:";
    struct redis_conn *conn = arg;
    const redisReply *reply = answer;

    (void)ac;
    if (reply == NULL || reply->type != REDIS_REPLY_STRING)
        return; /* not allowed: then it is not known */
    const char *at = strstr(reply->str, name);
    if (at == NULL)
        return;
    at += sizeof name - 1;
    size_t bytes = strcspn(at, "\r\n");
    if (bytes >= sizeof conn->node->version)
        bytes = sizeof conn->node->version - 1;
    memcpy(conn->node->version, at, bytes);
    conn->node->version[bytes] = '\0';
    proto_text_clean(conn->node->version);
}

static void on_slots(redisAsyncContext *ac, void *answer, void *arg)
{
    struct redis_conn *conn = arg;
    struct redis_node *node = conn->node;
    const redisReply *reply = answer;

    (void)ac;
    if (reply == NULL || conn->state != REDIS_CONN_GREETING)
        return;
    conn->state = REDIS_CONN_READY;
    conn->ready_us = redis_now_us();
    conn->pause_ms = 0;
    conn->due_us = conn->ready_us + node->tier->options.ping_ms * UINT64_C(1000);
    redis_node_wake(node, conn->due_us);
    if (reply->type == REDIS_REPLY_ARRAY) /* an error: no cluster, or not allowed */
        redis_cluster_learn(node->tier, node, reply);
    redis_node_conn_up(node);
}

void redis_conn_greet(struct redis_conn *conn)
{
    const struct redis_url *url = &conn->node->tier->url;
    redisAsyncContext *ac = conn->io->ac;
    int err = REDIS_OK;

    if (url->user[0] != '\0')
        err |=
            redisAsyncCommand(ac, on_auth, conn, "AUTH %s %s", url->user, url->password);
    else if (url->password[0] != '\0')
        err |= redisAsyncCommand(ac, on_auth, conn, "AUTH %s", url->password);
    if (url->db != 0)
        err |= redisAsyncCommand(ac, on_select, conn, "SELECT %u", url->db);
    err |= redisAsyncCommand(ac, on_first_ping, conn, "PING");
    err |= redisAsyncCommand(ac, on_info, conn, "INFO server");
    err |= redisAsyncCommand(ac, on_slots, conn, "CLUSTER SLOTS");
    if (err != REDIS_OK)
        refuse(conn, false, "out of memory");
}
