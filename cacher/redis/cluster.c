#include "cacher/redis/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct redis_node *redis_cluster_find(struct redis_tier *tier, const char *address)
{
    for (unsigned i = 0; i < REDIS_NODES_MAX; i++)
        if (tier->nodes[i] != NULL && strcmp(tier->nodes[i]->address, address) == 0)
            return tier->nodes[i];
    return NULL;
}

/* Its place in tier->nodes, made where it is new; REDIS_NO_NODE: no room, or no host. */
static uint8_t node_at(struct redis_tier *tier, const char *host, unsigned port)
{
    uint8_t free_at = REDIS_NO_NODE;

    for (const char *c = host; *c != '\0'; c++)
        if (*c <= ' ' || *c > '~')
            return REDIS_NO_NODE;
    for (unsigned i = 0; i < REDIS_NODES_MAX; i++) {
        struct redis_node *node = tier->nodes[i];
        if (node == NULL)
            free_at = free_at == REDIS_NO_NODE ? (uint8_t)i : free_at;
        else if (node->port == port && strcmp(node->host, host) == 0)
            return (uint8_t)i;
    }
    if (free_at == REDIS_NO_NODE) {
        redis_say(tier, NULL, "the cluster has more than %d servers", REDIS_NODES_MAX);
        return REDIS_NO_NODE;
    }
    tier->nodes[free_at] = redis_node_new(tier, host, port);
    return tier->nodes[free_at] != NULL ? free_at : REDIS_NO_NODE;
}

/* ---- the map ---- */

/* One entry of CLUSTER SLOTS: first, last, [host, port, ...], replicas. */
static bool read_entry(struct redis_tier *tier, const struct redis_node *from,
                       const redisReply *entry, uint8_t *map)
{
    if (entry->type != REDIS_REPLY_ARRAY || entry->elements < 3)
        return false;
    const redisReply *first = entry->element[0], *last = entry->element[1];
    const redisReply *master = entry->element[2];
    if (first->type != REDIS_REPLY_INTEGER || last->type != REDIS_REPLY_INTEGER ||
        first->integer < 0 || last->integer < first->integer ||
        last->integer >= REDIS_SLOTS || master->type != REDIS_REPLY_ARRAY ||
        master->elements < 2)
        return false;
    const redisReply *host = master->element[0], *port = master->element[1];
    if (port->type != REDIS_REPLY_INTEGER || port->integer < 1 || port->integer > 65535 ||
        (host->type != REDIS_REPLY_STRING && host->type != REDIS_REPLY_NIL))
        return false;
    /* No host: the one that was asked. */
    const char *name =
        host->type == REDIS_REPLY_STRING && host->len > 0 ? host->str : from->host;
    if (strlen(name) >= REDIS_HOST_BYTES_MAX || strcmp(name, "?") == 0)
        return false;
    uint8_t at = node_at(tier, name, (unsigned)port->integer);
    memset(map + first->integer, at, (size_t)(last->integer - first->integer + 1));
    return true;
}

/* A slot on its way to a server that has none yet is asked for there. */
static bool is_asked(const struct redis_node *node)
{
    return node->redirected_us != 0 &&
           redis_now_us() - node->redirected_us < REDIS_REDIRECTED_S * UINT64_C(1000000);
}

static void count_slots(struct redis_tier *tier)
{
    unsigned slots[REDIS_NODES_MAX] = {0};

    for (unsigned i = 0; i < REDIS_SLOTS; i++)
        if (tier->map[i] != REDIS_NO_NODE)
            slots[tier->map[i]]++;
    for (unsigned i = 0; i < REDIS_NODES_MAX; i++) {
        struct redis_node *node = tier->nodes[i];
        if (node == NULL)
            continue;
        if (node->slots == 0 && slots[i] > 0)
            redis_node_wake(node, 0); /* it may have more connections now */
        node->slots = slots[i];
        if (i > 0 && slots[i] == 0 && !is_asked(node)) {
            tier->nodes[i] = NULL;
            redis_node_drop(node);
        }
    }
}

void redis_cluster_learn(struct redis_tier *tier, struct redis_node *from,
                         const redisReply *reply)
{
    uint8_t map[REDIS_SLOTS];

    if (tier->closing || reply->type != REDIS_REPLY_ARRAY || reply->elements == 0)
        return;
    memset(map, REDIS_NO_NODE, sizeof map);
    for (size_t i = 0; i < reply->elements; i++)
        if (!read_entry(tier, from, reply->element[i], map))
            redis_say(tier, from, "CLUSTER SLOTS has an entry that cannot be read");
    tier->cluster = true;
    tier->refreshed_us = redis_now_us();
    memcpy(tier->map, map, sizeof map);
    count_slots(tier);
}

struct redis_node *redis_cluster_node(struct redis_tier *tier, const struct redis_op *op)
{
    if (!tier->cluster || op->slot < 0)
        return tier->nodes[0];
    if (tier->map[op->slot] != REDIS_NO_NODE)
        return tier->nodes[tier->map[op->slot]];
    /* Nobody has it that we know of: whoever is asked says who. */
    for (unsigned i = 0; i < REDIS_NODES_MAX; i++)
        if (tier->nodes[i] != NULL && tier->nodes[i]->ready > 0)
            return tier->nodes[i];
    return tier->nodes[0];
}

/* ---- redirections ---- */

static void move_slot(struct redis_tier *tier, unsigned slot, uint8_t to)
{
    if (tier->map[slot] != REDIS_NO_NODE)
        tier->nodes[tier->map[slot]]->slots--;
    tier->map[slot] = to;
    tier->nodes[to]->slots++;
    redis_node_wake(tier->nodes[to], 0); /* it may have more connections now */
}

struct redis_node *redis_cluster_redirect(struct redis_node *from, const char *text,
                                          bool *ask)
{
    struct redis_tier *tier = from->tier;
    unsigned slot, port;
    int at = 0, port_end = 0;
    char host[REDIS_HOST_BYTES_MAX];

    *ask = strncmp(text, "ASK ", 4) == 0;
    text += *ask ? 4 : 6;
    if (sscanf(text, "%5u %n", &slot, &at) != 1 || at == 0 || slot >= REDIS_SLOTS)
        return NULL;
    text += at;
    const char *colon = strrchr(text, ':'); /* a host may be an IPv6 address */
    if (colon == NULL || sscanf(colon + 1, "%5u%n", &port, &port_end) != 1 || port == 0 ||
        port > 65535 || colon[1 + port_end] != '\0' ||
        (size_t)(colon - text) >= sizeof host)
        return NULL;
    (void)snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
    uint8_t index = node_at(tier, colon == text ? from->host : host, port);
    if (index == REDIS_NO_NODE)
        return NULL;
    tier->cluster = true;
    tier->nodes[index]->redirected_us = redis_now_us();
    if (!*ask) {
        move_slot(tier, slot, index);
        redis_cluster_refresh(tier);
    }
    return tier->nodes[index];
}

/* ---- looking again ---- */

void redis_cluster_refresh(struct redis_tier *tier)
{
    if (tier->closing || tier->refresh_wanted)
        return;
    tier->refresh_wanted = true;
    redis_tier_look(tier);
}

static bool all_are_well(const struct redis_tier *tier)
{
    for (unsigned i = 0; i < REDIS_NODES_MAX; i++)
        if (tier->nodes[i] != NULL && tier->nodes[i]->slots > 0 &&
            (tier->nodes[i]->ready == 0 ||
             tier->nodes[i]->breaker.state != BREAKER_CLOSED))
            return false;
    return true;
}

static void on_refreshed(struct redis_op *op, const redisReply *reply)
{
    struct redis_tier *tier = op->tier;

    tier->refreshing = false;
    tier->refreshed_us = redis_now_us();
    if (reply != NULL && reply->type == REDIS_REPLY_ARRAY)
        redis_cluster_learn(tier, op->on, reply);
    if (reply == NULL || !all_are_well(tier))
        redis_cluster_refresh(tier);
}

/* Servers are asked in turn: one may be cut off from the others and not know. */
static struct redis_node *next_ready(struct redis_tier *tier)
{
    for (unsigned i = 1; i <= REDIS_NODES_MAX; i++) {
        unsigned at = (tier->refresh_turn + i) % REDIS_NODES_MAX;
        if (tier->nodes[at] != NULL && tier->nodes[at]->ready > 0) {
            tier->refresh_turn = at;
            return tier->nodes[at];
        }
    }
    return NULL;
}

static void ask_for_map(struct redis_tier *tier, struct redis_node *node)
{
    struct redis_op *op = redis_op_new(tier, on_refreshed, NULL);

    if (op == NULL)
        return; /* again, after a while */
    op->fixed = node;
    tier->refreshing = true; /* its end may come at any time from here on */
    if (!redis_op_add(op, "CLUSTER SLOTS") || redis_op_submit(op) < 0) {
        tier->refreshing = false;
        redis_op_free(op);
    }
}

uint64_t redis_cluster_run(struct redis_tier *tier, uint64_t now_us)
{
    uint64_t due_us = tier->refreshed_us + REDIS_REFRESH_MS * UINT64_C(1000);

    if (!tier->cluster || tier->closing || tier->refreshing)
        return UINT64_MAX;
    if (!tier->refresh_wanted && all_are_well(tier))
        return UINT64_MAX;
    if (now_us < due_us)
        return due_us;
    tier->refreshed_us = now_us;
    tier->refresh_wanted = false;
    struct redis_node *node = next_ready(tier);
    if (node != NULL)
        ask_for_map(tier, node);
    return now_us + REDIS_REFRESH_MS * UINT64_C(1000);
}

/* ---- all of them, in order ---- */

struct redis_node *redis_cluster_next(struct redis_tier *tier, const char *after)
{
    struct redis_node *best = NULL;

    for (unsigned i = 0; i < REDIS_NODES_MAX; i++) {
        struct redis_node *node = tier->nodes[i];
        if (node == NULL || (tier->cluster ? node->slots == 0 : i > 0))
            continue;
        if (strcmp(node->address, after) > 0 &&
            (best == NULL || strcmp(node->address, best->address) < 0))
            best = node;
    }
    return best;
}
