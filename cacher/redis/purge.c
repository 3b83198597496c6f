/*
 * One step of a purge. What it looks at is found by SCAN over one server, or by rank in a
 * tag's sorted set; of that, what the filter takes is unlinked in small batches.
 *
 *   find ──▶ (look at the heads of records, for their age) ──▶ remove ──▶ (forget in the
 *   tag's set) ──▶ purged()
 *
 * Each arrow is taken when all operations of the part before it have ended.
 */
#include "cacher/redis/cursor.h"
#include "cacher/redis/state.h"
#include "proto/key.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_KEYS 50 /* in one UNLINK; in a cluster 1, for slots differ */

struct step {
    struct redis_tier *tier;
    struct cacher_filter filter;
    struct redis_cursor cursor, next;
    char asked[CACHER_CURSOR_BYTES_MAX]; /* the cursor's text */
    cacher_tier_purged_fn *purged;
    void *arg;
    bool more;        /* `next` is where it goes on */
    bool forgotten;   /* in the tag's set */
    unsigned pending; /* operations */
    int err;
    uint64_t matched, removed;
    char (*keys)[REDIS_KEY_BYTES]; /* of results; "" is no longer meant */
    char (*tags)[REDIS_KEY_BYTES]; /* of tags' sets: go too where all goes */
    size_t key_count, tag_count;
};

static void finish(struct step *step)
{
    char text[CACHER_CURSOR_BYTES_MAX] = "";

    if (step->err < 0)
        memcpy(text, step->asked, sizeof text);
    else if (step->more)
        redis_cursor_write(&step->next, text);
    step->tier->purges--;
    step->tier->counters.removed += step->removed;
    step->purged(step->err, step->matched, step->removed, text, step->arg);
    free(step->keys);
    free(step->tags);
    free(step);
}

/* Gives a whole operation to its server. On failure it is freed. */
static int submit(struct step *step, struct redis_op *op, bool whole)
{
    int err = whole ? redis_op_submit(op) : -ENOMEM;

    if (err < 0)
        redis_op_free(op);
    else
        step->pending++;
    return err;
}

/* Whether the step still goes on; notes a reply that is not of this type. */
static bool answered(struct step *step, const redisReply *reply, int type)
{
    step->pending--;
    if (reply != NULL && reply->type == type)
        return step->err == 0;
    if (reply != NULL)
        redis_say(step->tier, NULL, "a purge was answered with %s",
                  reply->type == REDIS_REPLY_ERROR ? reply->str : "something else");
    step->err = step->err == 0 ? -EIO : step->err;
    return false;
}

/* ---- remove ---- */

static void forget_in_tag(struct step *step);

static void removed_some(struct step *step)
{
    if (step->pending > 0)
        return;
    if (step->err == 0 && step->filter.kind == CACHER_FILTER_TAG && !step->forgotten &&
        !step->filter.dry_run && step->key_count > 0)
        forget_in_tag(step);
    else
        finish(step);
}

static void on_removed(struct redis_op *op, const redisReply *reply)
{
    struct step *step = op->arg;

    if (answered(step, reply, REDIS_REPLY_INTEGER) && reply->integer > 0) {
        bool known = step->filter.kind == CACHER_FILTER_KEY ||
                     step->filter.kind == CACHER_FILTER_TAG;
        /* By name or tag it is known only now whether there is such a key. */
        step->matched += known ? (uint64_t)reply->integer : 0;
        step->removed += step->filter.dry_run ? 0 : (uint64_t)reply->integer;
    }
    removed_some(step);
}

static void on_tag_removed(struct redis_op *op, const redisReply *reply)
{
    struct step *step = op->arg;

    (void)answered(step, reply, REDIS_REPLY_INTEGER);
    removed_some(step);
}

static int send_batch(struct step *step, const char *verb, const char **keys, int count,
                      redis_op_done_fn *done)
{
    struct redis_op *op = redis_op_new(step->tier, done, step);

    if (op == NULL)
        return -ENOMEM;
    op->slot = (int)redis_slot(keys[1], strlen(keys[1]));
    keys[0] = verb;
    return submit(step, op, redis_op_add_argv(op, count + 1, keys));
}

static int send_batches(struct step *step, const char *verb,
                        char (*keys)[REDIS_KEY_BYTES], size_t count,
                        redis_op_done_fn *done)
{
    const int most = step->tier->cluster ? 1 : BATCH_KEYS;
    const char *batch[1 + BATCH_KEYS];
    int held = 0, err = 0;

    for (size_t i = 0; i < count && err == 0; i++) {
        if (keys[i][0] != '\0')
            batch[1 + held++] = keys[i];
        if (held == most) {
            err = send_batch(step, verb, batch, held, done);
            held = 0;
        }
    }
    if (held > 0 && err == 0)
        err = send_batch(step, verb, batch, held, done);
    return err;
}

/* 0, and the operations' ends go on; or -errno with step->pending as it is. */
static int remove_keys(struct step *step)
{
    bool known =
        step->filter.kind == CACHER_FILTER_KEY || step->filter.kind == CACHER_FILTER_TAG;
    int err;

    if (step->filter.dry_run && !known)
        return 0;
    err = send_batches(step, step->filter.dry_run ? "EXISTS" : "UNLINK", step->keys,
                       step->key_count, on_removed);
    if (err == 0)
        err = send_batches(step, "UNLINK", step->tags, step->tag_count, on_tag_removed);
    return err;
}

static void go_on_to_remove(struct step *step)
{
    int err;

    for (size_t i = 0; i < step->key_count; i++)
        if (step->keys[i][0] != '\0' && step->filter.kind != CACHER_FILTER_TAG)
            step->matched++;
    err = remove_keys(step);
    if (err < 0 && step->err == 0)
        step->err = err;
    removed_some(step);
}

static void on_forgotten(struct redis_op *op, const redisReply *reply)
{
    struct step *step = op->arg;

    (void)answered(step, reply, REDIS_REPLY_INTEGER);
    finish(step);
}

/* The names of what was removed leave the tag's set. Last, so that a step that failed can
 * be made again. */
static void forget_in_tag(struct step *step)
{
    const size_t at = sizeof REDIS_FEAT - 1;
    char name[REDIS_KEY_BYTES];
    const char **arguments = calloc(step->key_count + 2, sizeof arguments[0]);
    struct redis_op *op = redis_op_new(step->tier, on_forgotten, step);
    int err = -ENOMEM;

    step->forgotten = true;
    (void)snprintf(name, sizeof name, REDIS_TAG "%s", step->filter.tag);
    if (arguments != NULL && op != NULL) {
        arguments[0] = "ZREM";
        arguments[1] = name;
        for (size_t i = 0; i < step->key_count; i++)
            arguments[2 + i] = step->keys[i] + at;
        op->slot = (int)redis_slot(name, strlen(name));
        err =
            submit(step, op, redis_op_add_argv(op, (int)step->key_count + 2, arguments));
    } else {
        redis_op_free(op);
    }
    free(arguments);
    if (err < 0) {
        step->err = err;
        finish(step);
    }
}

/* ---- look at the age ---- */

static void on_head(struct redis_op *op, const redisReply *reply)
{
    struct step *step = op->arg;
    uint64_t created_s;
    size_t at = op->index;

    /* What is no record has no age: it stays until it expires. */
    if (!answered(step, reply, REDIS_REPLY_STRING) ||
        cacher_record_created((const uint8_t *)reply->str, reply->len, &created_s) < 0 ||
        created_s >= step->filter.before_s)
        step->keys[at][0] = '\0';
    if (step->pending == 0 && step->err == 0)
        go_on_to_remove(step);
    else if (step->pending == 0)
        finish(step);
}

static void look_at_heads(struct step *step)
{
    for (size_t i = 0; i < step->key_count && step->err == 0; i++) {
        struct redis_op *op = redis_op_new(step->tier, on_head, step);
        if (op == NULL) {
            step->err = -ENOMEM;
            break;
        }
        op->slot = (int)redis_slot(step->keys[i], strlen(step->keys[i]));
        op->index = i;
        step->err = submit(step, op,
                           redis_op_add(op, "GETRANGE %s 0 %d", step->keys[i],
                                        CACHER_RECORD_HEAD_BYTES - 1));
    }
    if (step->pending == 0)
        finish(step);
}

/* ---- find ---- */

static bool is_hex(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (!(text[i] >= '0' && text[i] <= '9') && !(text[i] >= 'a' && text[i] <= 'f'))
            return false;
    return true;
}

static bool is_ours(const redisReply *name, const char *prefix)
{
    return name->type == REDIS_REPLY_STRING && name->len < REDIS_KEY_BYTES &&
           strncmp(name->str, prefix, strlen(prefix)) == 0;
}

/* A key exactly as we write them: another program's may begin the same. */
static void take_key(struct step *step, const redisReply *name)
{
    const size_t feat = sizeof REDIS_FEAT - 1, tag = sizeof REDIS_TAG - 1;

    if (is_ours(name, REDIS_FEAT) && name->len == feat + PROTO_HEX_BYTES - 1 &&
        is_hex(name->str + feat, PROTO_HEX_BYTES - 1) &&
        strncmp(name->str + feat, step->filter.prefix, strlen(step->filter.prefix)) == 0)
        memcpy(step->keys[step->key_count++], name->str, name->len);
    else if (step->filter.kind == CACHER_FILTER_ALL && is_ours(name, REDIS_TAG) &&
             name->len > tag &&
             proto_tags_check(name->str + tag, name->len - tag) == NULL)
        memcpy(step->tags[step->tag_count++], name->str, name->len);
}

static bool make_room(struct step *step, size_t count)
{
    step->keys = calloc(count + 1, sizeof step->keys[0]);
    step->tags = calloc(count + 1, sizeof step->tags[0]);
    if (step->keys != NULL && step->tags != NULL)
        return true;
    step->err = -ENOMEM;
    return false;
}

/* The server's next cursor; at its end, the next server. */
static bool read_next(struct step *step, const char *text)
{
    struct redis_node *node;
    char *end;

    step->next = step->cursor;
    errno = 0;
    step->next.at = strtoull(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0)
        return false;
    step->more = true;
    if (step->next.at != 0)
        return true;
    node = redis_cluster_next(step->tier, step->cursor.server);
    step->more = node != NULL && strlen(node->address) < sizeof step->next.server;
    if (step->more)
        (void)snprintf(step->next.server, sizeof step->next.server, "%.*s",
                       REDIS_CURSOR_SERVER_BYTES - 1, node->address);
    return true;
}

static bool read_scan(struct step *step, const redisReply *reply)
{
    if (reply->elements != 2 || reply->element[0]->type != REDIS_REPLY_STRING ||
        reply->element[1]->type != REDIS_REPLY_ARRAY ||
        !read_next(step, reply->element[0]->str)) {
        redis_say(step->tier, NULL, "SCAN was answered with something else");
        step->err = -EPROTO;
        return false;
    }
    if (!make_room(step, reply->element[1]->elements))
        return false;
    for (size_t i = 0; i < reply->element[1]->elements; i++)
        take_key(step, reply->element[1]->element[i]);
    return true;
}

static void on_scanned(struct redis_op *op, const redisReply *reply)
{
    struct step *step = op->arg;

    if (!answered(step, reply, REDIS_REPLY_ARRAY) || !read_scan(step, reply))
        finish(step);
    else if (step->filter.kind == CACHER_FILTER_OLDER && step->key_count > 0)
        look_at_heads(step);
    else
        go_on_to_remove(step);
}

static void on_nothing(struct redis_op *op, const redisReply *reply)
{
    (void)reply;
    finish(op->arg);
}

static int find_by_scan(struct step *step)
{
    struct redis_tier *tier = step->tier;
    struct redis_cursor *cursor = &step->cursor;
    struct redis_node *node = redis_cluster_find(tier, cursor->server);
    struct redis_op *op = redis_op_new(tier, on_scanned, step);

    if (op == NULL)
        return -ENOMEM;
    if (node == NULL || (tier->cluster && node->slots == 0)) {
        /* It has left the cluster, or this is the beginning: the next one. */
        cursor->at = 0;
        node = redis_cluster_next(tier, cursor->server);
    }
    if (node == NULL) { /* no more: the end, but not inside the call that asked */
        op->done = on_nothing;
        return submit(step, op, redis_op_add(op, "PING"));
    }
    (void)snprintf(cursor->server, sizeof cursor->server, "%.*s",
                   REDIS_CURSOR_SERVER_BYTES - 1, node->address);
    op->fixed = node;
    return submit(
        step, op,
        redis_op_add(op, "SCAN %" PRIu64 " MATCH %s%s* COUNT %d", cursor->at,
                     step->filter.kind == CACHER_FILTER_ALL ? "siftmesh:" : REDIS_FEAT,
                     step->filter.prefix, CACHER_STEP_KEYS));
}

static void on_ranked(struct redis_op *op, const redisReply *reply)
{
    struct step *step = op->arg;
    uint64_t strange = 0; /* members that are no keys: step over them */

    if (!answered(step, reply, REDIS_REPLY_ARRAY) || !make_room(step, reply->elements)) {
        finish(step);
        return;
    }
    for (size_t i = 0; i < reply->elements; i++) {
        const redisReply *hex = reply->element[i];
        if (hex->type == REDIS_REPLY_STRING && hex->len == PROTO_HEX_BYTES - 1 &&
            is_hex(hex->str, hex->len))
            (void)snprintf(step->keys[step->key_count++], REDIS_KEY_BYTES,
                           REDIS_FEAT "%.64s", hex->str);
        else
            strange++;
    }
    step->more = reply->elements >= CACHER_STEP_KEYS;
    step->next = step->cursor;
    step->next.at += step->filter.dry_run ? reply->elements : strange;
    go_on_to_remove(step);
}

static int find_by_tag(struct step *step)
{
    struct redis_op *op = redis_op_new(step->tier, on_ranked, step);
    char name[REDIS_KEY_BYTES];

    if (op == NULL)
        return -ENOMEM;
    (void)snprintf(name, sizeof name, REDIS_TAG "%s", step->filter.tag);
    op->slot = (int)redis_slot(name, strlen(name));
    return submit(step, op,
                  redis_op_add(op, "ZRANGE %s %" PRIu64 " %" PRIu64, name,
                               step->cursor.at, step->cursor.at + CACHER_STEP_KEYS - 1));
}

static int find_key(struct step *step)
{
    if (!make_room(step, 1))
        return -ENOMEM;
    memcpy(step->keys[0], REDIS_FEAT, sizeof REDIS_FEAT);
    proto_hex(step->filter.key, step->keys[0] + sizeof REDIS_FEAT - 1);
    step->key_count = 1;
    return remove_keys(step);
}

/* ---- the beginning ---- */

static bool is_filter(const struct cacher_filter *filter)
{
    size_t tag_bytes = strnlen(filter->tag, sizeof filter->tag);

    switch (filter->kind) {
    case CACHER_FILTER_ALL:
    case CACHER_FILTER_KEY:
    case CACHER_FILTER_OLDER:
        return true;
    case CACHER_FILTER_PREFIX: /* it becomes part of a pattern */
        return strnlen(filter->prefix, sizeof filter->prefix) < sizeof filter->prefix &&
               is_hex(filter->prefix, strlen(filter->prefix));
    case CACHER_FILTER_TAG:
        return tag_bytes > 0 && memchr(filter->tag, ',', tag_bytes) == NULL &&
               proto_tags_check(filter->tag, tag_bytes) == NULL;
    }
    return false;
}

int redis_purge(struct cacher_tier *base, const struct cacher_filter *filter,
                const char *cursor, cacher_tier_purged_fn *purged, void *arg)
{
    struct redis_tier *tier = (struct redis_tier *)base;
    struct step *step;
    int err;

    if (tier->closing)
        return -EHOSTDOWN;
    if (tier->purges >= REDIS_PURGES_MAX)
        return -EBUSY;
    if (!is_filter(filter) || strlen(cursor) >= CACHER_CURSOR_BYTES_MAX)
        return -EINVAL;
    if ((step = calloc(1, sizeof *step)) == NULL)
        return -ENOMEM;
    *step = (struct step){.tier = tier, .filter = *filter, .purged = purged, .arg = arg};
    (void)snprintf(step->asked, sizeof step->asked, "%s", cursor);
    if (filter->kind != CACHER_FILTER_PREFIX)
        step->filter.prefix[0] = '\0';
    if (!redis_cursor_read(cursor, filter->kind == CACHER_FILTER_TAG, &step->cursor))
        err = -EINVAL;
    else if (filter->kind == CACHER_FILTER_KEY)
        err = find_key(step);
    else
        err = filter->kind == CACHER_FILTER_TAG ? find_by_tag(step) : find_by_scan(step);
    if (err < 0) {
        free(step->keys);
        free(step->tags);
        free(step);
        return err;
    }
    tier->purges++;
    return 0;
}
