#include "cacher/redis/state.h"
#include "proto/key.h"
#include "proto/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_BYTES_MAX (256u << 20)

static struct redis_tier *of(struct cacher_tier *tier)
{
    return (struct redis_tier *)tier;
}

uint64_t redis_now_us(void)
{
    return uv_hrtime() / 1000;
}

void redis_say(struct redis_tier *tier, struct redis_node *node, const char *why, ...)
{
    char error[REDIS_ERROR_BYTES];
    va_list args;

    va_start(args, why);
    (void)vsnprintf(error, sizeof error, why, args);
    va_end(args);
    proto_text_clean(error);
    (void)snprintf(tier->error, sizeof tier->error, "%s%s%s",
                   node != NULL ? node->address : "", node != NULL ? ": " : "", error);
    if (node != NULL)
        memcpy(node->error, error, sizeof error);
}

/* ---- gets ---- */

static void got_value(struct redis_op *op, const redisReply *reply)
{
    struct redis_tier *tier = op->tier;
    struct cacher_record record;

    if (reply->len > tier->options.value_bytes_max ||
        cacher_record_decode((const uint8_t *)reply->str, reply->len, &record) < 0 ||
        memcmp(record.key, op->key, sizeof op->key) != 0) {
        tier->counters.damaged++;
        tier->counters.misses++;
        op->got(CACHER_MISSING, NULL, op->arg);
        return;
    }
    tier->counters.hits++;
    op->got(CACHER_FOUND, &record, op->arg);
}

static void on_got(struct redis_op *op, const redisReply *reply)
{
    struct redis_tier *tier = op->tier;

    if (reply != NULL)
        metrics_observe(&tier->counters.get_time, redis_now_us() - op->asked_us);
    if (reply != NULL && reply->type == REDIS_REPLY_STRING && reply->len > 0) {
        got_value(op, reply);
    } else if (reply != NULL && reply->type == REDIS_REPLY_STRING) {
        tier->counters.misses++;
        op->got(CACHER_MISSING, NULL, op->arg);
    } else if (reply != NULL && reply->type == REDIS_REPLY_ERROR &&
               strncmp(reply->str, "WRONGTYPE", 9) == 0) {
        tier->counters.damaged++;
        tier->counters.misses++;
        op->got(CACHER_MISSING, NULL, op->arg);
    } else {
        if (reply != NULL)
            redis_say(tier, op->on, "it answers a get with %s",
                      reply->type == REDIS_REPLY_ERROR ? reply->str
                                                       : "what is no string");
        tier->counters.errors++;
        op->got(CACHER_FAILED, NULL, op->arg);
    }
}

static int get(struct cacher_tier *base, const uint8_t key[PROTO_DIGEST_BYTES],
               cacher_tier_got_fn *got, void *arg)
{
    struct redis_tier *tier = of(base);
    char name[REDIS_KEY_BYTES] = REDIS_FEAT;
    struct redis_op *op;
    int err = -ENOMEM;

    if (tier->closing)
        return -EHOSTDOWN;
    if (tier->gets >= tier->options.gets_max)
        return -EBUSY;
    if ((op = redis_op_new(tier, on_got, arg)) == NULL)
        return -ENOMEM;
    proto_hex(key, name + sizeof REDIS_FEAT - 1);
    op->get = true;
    op->got = got;
    op->slot = (int)redis_slot(name, strlen(name));
    memcpy(op->key, key, sizeof op->key);
    /* One byte more than a value may have shows one that is too large. */
    if (redis_op_add(op, "GETRANGE %s 0 %lu", name,
                     (unsigned long)tier->options.value_bytes_max))
        err = redis_op_submit(op);
    if (err < 0)
        redis_op_free(op);
    return err;
}

/* ---- what is seen of it ---- */

static const struct cacher_tier_counters *counters(struct cacher_tier *base)
{
    struct redis_tier *tier = of(base);
    struct cacher_tier_counters *c = &tier->counters;

    c->queued_puts = tier->records;
    c->breaker = BREAKER_CLOSED;
    c->pool_used = c->pool_idle = c->pool_waiting = 0;
    for (unsigned i = 0; i < REDIS_NODES_MAX; i++) {
        const struct redis_node *node = tier->nodes[i];
        if (node == NULL)
            continue;
        if (node->breaker.state > c->breaker)
            c->breaker = node->breaker.state;
        c->pool_waiting += node->urgent.count + node->bulk.count;
        for (unsigned j = 0; j < tier->options.connections; j++) {
            bool ready = node->conns[j].state == REDIS_CONN_READY;
            c->pool_used += ready && node->conns[j].sent != NULL ? 1 : 0;
            c->pool_idle += ready && node->conns[j].sent == NULL ? 1 : 0;
        }
    }
    return c;
}

static json_t *describe_node(const struct redis_node *node)
{
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:s}", "server", node->address, "version",
                     node->version, "breaker", breaker_state_name(node->breaker.state),
                     "connections", (json_int_t)node->ready, "slots",
                     (json_int_t)node->slots, "last_error", node->error);
}

static void describe(struct cacher_tier *base, json_t *object)
{
    struct redis_tier *tier = of(base);
    json_t *nodes;

    if (tier->nodes[0] == NULL)
        return; /* closing */
    nodes = json_array();
    (void)json_object_set_new(object, "server", json_string(tier->nodes[0]->address));
    (void)json_object_set_new(object, "db", json_integer(tier->url.db));
    (void)json_object_set_new(object, "version", json_string(tier->nodes[0]->version));
    (void)json_object_set_new(object, "cluster", json_boolean(tier->cluster));
    (void)json_object_set_new(object, "last_error", json_string(tier->error));
    for (unsigned i = 0; i < REDIS_NODES_MAX; i++)
        if (tier->nodes[i] != NULL)
            (void)json_array_append_new(nodes, describe_node(tier->nodes[i]));
    (void)json_object_set_new(object, "nodes", nodes);
}

/* ---- the end ---- */

static void on_tier_closed(uv_handle_t *handle)
{
    struct redis_tier *tier = handle->data;

    tier->handles--;
    redis_tier_look(tier);
}

/* Whether some server may still take what is queued. */
static bool can_flush(const struct redis_tier *tier)
{
    for (unsigned i = 0; i < REDIS_NODES_MAX; i++)
        if (tier->nodes[i] != NULL && tier->nodes[i]->breaker.state == BREAKER_CLOSED)
            return true;
    return false;
}

static void close_now(struct redis_tier *tier)
{
    tier->closing_now = true;
    for (unsigned i = 0; i < REDIS_NODES_MAX; i++) {
        struct redis_node *node = tier->nodes[i];
        if (node == NULL)
            continue;
        redis_node_end_ops(node, true);
        tier->nodes[i] = NULL;
        redis_node_drop(node);
    }
    uv_close((uv_handle_t *)&tier->timer, on_tier_closed);
}

static void on_timer(uv_timer_t *timer)
{
    struct redis_tier *tier = timer->data;
    uint64_t now_us = redis_now_us(), due_us;

    if (!tier->closing) {
        due_us = redis_cluster_run(tier, now_us);
    } else {
        /* Gets and purges end at once; puts have some time. */
        for (unsigned i = 0; i < REDIS_NODES_MAX; i++)
            if (tier->nodes[i] != NULL)
                redis_node_end_ops(tier->nodes[i], false);
        due_us = tier->close_us;
        if (tier->puts == 0 || now_us >= due_us || !can_flush(tier)) {
            close_now(tier);
            return;
        }
    }
    if (due_us != UINT64_MAX)
        (void)uv_timer_start(timer, on_timer,
                             due_us <= now_us ? 0 : (due_us - now_us + 999) / 1000, 0);
}

void redis_tier_look(struct redis_tier *tier)
{
    if (tier->handles == 0) {
        void (*closed)(void *arg) = tier->closed;
        void *arg = tier->closed_arg;
        free(tier);
        closed(arg);
        return;
    }
    if ((tier->closing || tier->refresh_wanted) &&
        !uv_is_closing((uv_handle_t *)&tier->timer))
        (void)uv_timer_start(&tier->timer, on_timer, 0, 0);
}

static void close_tier(struct cacher_tier *base, uint64_t ms, void (*closed)(void *arg),
                       void *arg)
{
    struct redis_tier *tier = of(base);

    tier->closing = true;
    tier->close_us = redis_now_us() + ms * UINT64_C(1000);
    tier->closed = closed;
    tier->closed_arg = arg;
    redis_tier_look(tier);
}

/* ---- the beginning ---- */

static const char *check(const struct cacher_redis_options *options)
{
    if (options->connections > CACHER_REDIS_CONNECTIONS_MAX)
        return "more than 64 connections";
    if (options->ttl_jitter_percent > 50)
        return "a jitter of the time to live above 50 %";
    if (options->value_bytes_max > VALUE_BYTES_MAX)
        return "a bound of a value above 256 MiB";
    if (options->queue_bytes_max < options->value_bytes_max)
        return "a bound of what is queued below that of one value";
    return NULL;
}

static void use_defaults(struct cacher_redis_options *options)
{
    static const struct cacher_redis_options defaults = {
        .connections = 4,
        .timeout_ms = 250,
        .connect_timeout_ms = 1000,
        .ping_ms = 30000,
        .ttl_s = 3600,
        .value_bytes_max = 32u << 20,
        .gets_max = 4096,
        .puts_max = 4096,
        .queue_bytes_max = 64u << 20,
    };

#define DEFAULT(field)                                                                   \
    if (options->field == 0)                                                             \
    options->field = defaults.field
    DEFAULT(connections);
    DEFAULT(timeout_ms);
    DEFAULT(connect_timeout_ms);
    DEFAULT(ping_ms);
    DEFAULT(ttl_s);
    DEFAULT(value_bytes_max);
    DEFAULT(gets_max);
    DEFAULT(puts_max);
    DEFAULT(queue_bytes_max);
#undef DEFAULT
}

static const struct cacher_tier_class class = {
    .name = "redis",
    .get = get,
    .put = redis_put,
    .purge = redis_purge,
    .counters = counters,
    .describe = describe,
    .close = close_tier,
};

static void never_begun(void *arg)
{
    (void)arg;
}

/* On failure the tier goes with its timer. */
static int start(struct redis_tier *tier, uv_loop_t *loop)
{
    int err = uv_timer_init(loop, &tier->timer);

    if (err < 0) {
        free(tier);
        return err;
    }
    tier->handles++;
    tier->timer.data = tier;
    tier->nodes[0] = redis_node_new(tier, tier->url.host, tier->url.port);
    if (tier->nodes[0] != NULL)
        return 0;
    tier->closed = never_begun;
    close_now(tier);
    return -ENOMEM;
}

int cacher_redis_open(uv_loop_t *loop, const struct cacher_redis_options *options,
                      struct cacher_tier **out)
{
    struct redis_tier *tier = calloc(1, sizeof *tier);
    const char *why;
    int err;

    if (tier == NULL)
        return -ENOMEM;
    tier->tier.class = &class;
    tier->loop = loop;
    tier->options = *options;
    tier->options.url = NULL;
    use_defaults(&tier->options);
    memset(tier->map, REDIS_NO_NODE, sizeof tier->map);
    tier->tag_ttl_s = tier->options.ttl_s * UINT64_C(2);
    why = redis_url_parse(options->url, &tier->url);
    if (why == NULL)
        why = check(&tier->options);
    if (why != NULL) {
        log_event(LOG_ERROR, "redis cannot be used", "why=\"%s\"", why);
        free(tier);
        return -EINVAL;
    }
    if ((err = start(tier, loop)) < 0)
        return err;
    *out = &tier->tier;
    return 0;
}
