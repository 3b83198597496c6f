/*
 * Puts: a record under its key, and the key in the sets of its tags.
 */
#include "cacher/redis/state.h"
#include "cacher/tier/ttl.h"
#include "proto/key.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void refused_write(struct redis_tier *tier, struct redis_node *node,
                          const char *why)
{
    redis_say(tier, node, "it refuses writes: %s", why);
    if (!tier->full)
        log_limited(LOG_WARNING, &tier->said_full, redis_now_us(), "redis refuses writes",
                    "server=%s why=\"%s\"", node->address, why);
    tier->full = true;
}

static void on_put(struct redis_op *op, const redisReply *reply)
{
    struct redis_tier *tier = op->tier;

    if (reply != NULL && reply->type == REDIS_REPLY_STATUS) {
        tier->counters.puts++;
        metrics_observe(&tier->counters.put_time, redis_now_us() - op->asked_us);
        if (tier->full)
            log_limited(LOG_NOTICE, &tier->said_room, redis_now_us(),
                        "redis takes writes again", "server=%s", op->on->address);
        tier->full = false;
        return;
    }
    tier->counters.puts_lost++;
    if (reply != NULL && reply->type == REDIS_REPLY_ERROR)
        refused_write(tier, op->on, reply->str);
}

/* PSETEX has its value last, so that the value need not be copied between two parts of a
 * command. */
static bool add_set(struct redis_op *op, const char *name, uint64_t ttl_ms,
                    const struct cacher_record *record, struct hotcache_value *value)
{
    char head[CACHER_RECORD_PREFIX_BYTES_MAX + 256];
    int bytes =
        snprintf(head, sizeof head,
                 "*4\r\n$6\r\nPSETEX\r\n$%zu\r\n%s\r\n$%d\r\n%" PRIu64 "\r\n$%zu\r\n",
                 strlen(name), name, snprintf(NULL, 0, "%" PRIu64, ttl_ms), ttl_ms,
                 cacher_record_bytes(record));
    size_t size =
        (size_t)bytes + cacher_record_encode_prefix(record, (uint8_t *)head + bytes);

    op->command[0] = malloc(size); /* redisFreeCommand() is free() */
    if (op->command[0] == NULL)
        return false;
    memcpy(op->command[0], head, size);
    op->command_bytes[0] = size;
    op->commands = 1;
    op->payload = hotcache_value_ref(value);
    op->bytes = size + value->size + 2;
    return true;
}

static void on_tagged(struct redis_op *op, const redisReply *reply)
{
    if (reply != NULL && reply->type == REDIS_REPLY_ERROR)
        refused_write(op->tier, op->on, reply->str);
}

/* The key in its tag's set until it expires; what has expired in it goes, and the set
 * goes with its last key. The set's life is the longest one that any key got, so that a
 * key with a short one does not cut it. */
static int put_tag(struct redis_tier *tier, const char *tag, size_t bytes,
                   const char *hex, uint64_t now_s, uint64_t ttl_s)
{
    struct redis_op *op = redis_op_new(tier, on_tagged, NULL);
    char name[REDIS_KEY_BYTES];
    int err = -ENOMEM;

    if (op == NULL)
        return -ENOMEM;
    (void)snprintf(name, sizeof name, REDIS_TAG "%.*s", (int)bytes, tag);
    op->put = true;
    op->slot = (int)redis_slot(name, strlen(name));
    if (redis_op_add(op, "ZADD %s %" PRIu64 " %s", name, now_s + ttl_s, hex) &&
        redis_op_add(op, "ZREMRANGEBYSCORE %s -inf (%" PRIu64, name, now_s) &&
        redis_op_add(op, "EXPIRE %s %" PRIu64, name, tier->tag_ttl_s))
        err = redis_op_submit(op);
    if (err < 0)
        redis_op_free(op);
    return err;
}

static void put_tags(struct redis_tier *tier, const struct cacher_record *record,
                     const char *hex, uint64_t ttl_ms)
{
    const char *tags = record->tags, *tag;
    size_t left = record->tags_bytes, bytes;
    uint64_t ttl_s = ttl_ms / 1000 + 1;

    if (ttl_s > tier->tag_ttl_s)
        tier->tag_ttl_s = ttl_s;
    while ((tag = proto_tags_next(&tags, &left, &bytes)) != NULL)
        if (put_tag(tier, tag, bytes, hex, (uint64_t)time(NULL), ttl_s) < 0)
            redis_say(tier, NULL, "a tag was not written");
}

static int lose(struct redis_tier *tier, int err)
{
    tier->counters.puts_lost++;
    tier->counters.puts_large += err == -E2BIG ? 1 : 0;
    return err;
}

int redis_put(struct cacher_tier *base, const struct cacher_record *record,
              struct hotcache_value *value, uint64_t ttl_s)
{
    struct redis_tier *tier = (struct redis_tier *)base;
    const struct cacher_redis_options *options = &tier->options;
    char name[REDIS_KEY_BYTES] = REDIS_FEAT;
    char *hex = name + sizeof REDIS_FEAT - 1;
    size_t bytes = cacher_record_bytes(record);
    struct redis_op *op;
    int err = -ENOMEM;

    if (tier->closing)
        return lose(tier, -EHOSTDOWN);
    if (bytes > options->value_bytes_max)
        return lose(tier, -E2BIG);
    if (tier->records >= options->puts_max ||
        tier->counters.queued_bytes + bytes > options->queue_bytes_max)
        return lose(tier, -EBUSY);
    uint64_t ttl_ms = ttl_s != 0
                          ? ttl_s * 1000
                          : cacher_ttl_us(record->key, options->ttl_s * UINT64_C(1000000),
                                          options->ttl_jitter_percent) /
                                1000;
    proto_hex(record->key, hex);
    if ((op = redis_op_new(tier, on_put, NULL)) == NULL)
        return lose(tier, -ENOMEM);
    op->put = true;
    op->slot = (int)redis_slot(name, strlen(name));
    if (add_set(op, name, ttl_ms, record, value))
        err = redis_op_submit(op);
    if (err < 0) {
        redis_op_free(op);
        return lose(tier, err);
    }
    put_tags(tier, record, hex, ttl_ms);
    return 0;
}
