#include "gateway/cache.h"

#include <stdlib.h>
#include <string.h>

/* Time of one drop. */
#define DROP_US 5000000u
/* Between two of one lease. */
#define AGAIN_US 500000u

/* A lease whose put or drop is under way, or is to be dropped. */
struct gateway_debt {
    struct gateway_cache *cache;
    struct gateway_debt *previous, *next;
    struct gateway_lease lease;
    bool under_way;
    uint64_t again_us;
};

void gateway_cache_init(struct gateway_cache *cache, struct gateway_mesh *mesh,
                        uint64_t probe_us)
{
    *cache = (struct gateway_cache){.mesh = mesh, .probe_us = probe_us};
}

void gateway_cache_free(struct gateway_cache *cache)
{
    for (struct gateway_debt *at = cache->debts, *next; at != NULL; at = next) {
        next = at->next;
        free(at);
    }
    cache->debts = NULL;
}

bool gateway_cache_is_down(const struct gateway_cache *cache)
{
    return cache->down;
}

void gateway_cache_failed(struct gateway_cache *cache, uint64_t now_us)
{
    if (!cache->down)
        cache->probe_at_us = now_us + cache->probe_us;
    cache->down = true;
}

static void on_probed(const struct gateway_ending *ending, uint64_t now_us, void *owner)
{
    struct gateway_cache *cache = owner;

    cache->probing = false;
    cache->probe_at_us = now_us + cache->probe_us;
    if (!ending->lost)
        cache->down = ending->status != PROTO_STATUS_OK &&
                      ending->status != PROTO_STATUS_MISS &&
                      ending->status != PROTO_STATUS_NOT_FOUND;
}

void gateway_cache_probe(struct gateway_cache *cache, uint64_t now_us)
{
    struct proto_submit body = {.service = "cache", .method = "peek", .key_bytes = 32};
    struct gateway_submit submit = {.body = &body,
                                    .budget_us = cache->probe_us,
                                    .priority = PROTO_PRIORITY_NORMAL,
                                    .ended = on_probed,
                                    .owner = cache};

    if (!cache->probing)
        cache->probing = gateway_mesh_submit(cache->mesh, &submit, now_us, NULL) == 0;
}

/* ---- leases --------------------------------------------------------------------- */

/* NULL: too many, or out of memory. */
static struct gateway_debt *owe(struct gateway_cache *cache,
                                const struct gateway_lease *lease)
{
    struct gateway_debt *debt = NULL;

    if (lease->number != 0 && cache->debts_count < GATEWAY_LEASES_MAX)
        debt = calloc(1, sizeof *debt);
    if (debt == NULL)
        return NULL;
    debt->cache = cache;
    debt->lease = *lease;
    debt->next = cache->debts;
    if (debt->next != NULL)
        debt->next->previous = debt;
    cache->debts = debt;
    cache->debts_count++;
    return debt;
}

static void settle(struct gateway_debt *debt)
{
    struct gateway_cache *cache = debt->cache;

    if (debt->previous != NULL)
        debt->previous->next = debt->next;
    else
        cache->debts = debt->next;
    if (debt->next != NULL)
        debt->next->previous = debt->previous;
    cache->debts_count--;
    free(debt);
}

static void on_dropped(const struct gateway_ending *ending, uint64_t now_us, void *owner)
{
    struct gateway_debt *debt = owner;

    debt->under_way = false;
    debt->again_us = now_us + AGAIN_US;
    if (ending->status != PROTO_STATUS_OK)
        return;
    debt->cache->drops++;
    settle(debt);
}

static int send_drop(struct gateway_mesh *mesh, const struct gateway_lease *lease,
                     struct gateway_debt *debt, uint64_t now_us)
{
    struct proto_submit body = {.service = "cache",
                                .method = "drop",
                                .key_bytes = PROTO_DIGEST_BYTES,
                                .lease = lease->number};
    struct gateway_submit drop = {.body = &body,
                                  .trace = lease->trace,
                                  .budget_us = DROP_US,
                                  .priority = PROTO_PRIORITY_HIGH,
                                  .ended = debt != NULL ? on_dropped : NULL,
                                  .owner = debt};

    memcpy(body.key, lease->key, sizeof body.key);
    return gateway_mesh_submit(mesh, &drop, now_us, NULL);
}

static void try_drop(struct gateway_debt *debt, uint64_t now_us)
{
    debt->again_us = now_us + AGAIN_US;
    debt->under_way = send_drop(debt->cache->mesh, &debt->lease, debt, now_us) == 0;
}

void gateway_cache_drop(struct gateway_cache *cache, const struct gateway_lease *lease,
                        uint64_t now_us)
{
    struct gateway_debt *debt = owe(cache, lease);

    if (debt != NULL)
        try_drop(debt, now_us);
    else if (lease->number != 0)
        (void)send_drop(cache->mesh, lease, NULL, now_us);
}

static void on_put(const struct gateway_ending *ending, uint64_t now_us, void *owner)
{
    struct gateway_debt *debt = owner;

    if (ending->status == PROTO_STATUS_OK)
        settle(debt);
    else
        try_drop(debt, now_us);
}

int gateway_cache_put(struct gateway_cache *cache, struct gateway_submit *put,
                      const struct gateway_lease *lease, uint64_t now_us)
{
    struct gateway_debt *debt = owe(cache, lease);

    put->ended = debt != NULL ? on_put : NULL;
    put->owner = debt;
    int err = gateway_mesh_submit(cache->mesh, put, now_us, NULL);
    if (debt == NULL)
        return err;
    if (err == 0)
        debt->under_way = true;
    else
        try_drop(debt, now_us);
    return err;
}

static void sweep_debts(struct gateway_cache *cache, uint64_t now_us)
{
    /* A drop that is sent ends later, so `next` holds. */
    for (struct gateway_debt *at = cache->debts, *next; at != NULL; at = next) {
        next = at->next;
        if (at->under_way || now_us < at->again_us)
            continue;
        if (now_us >= at->lease.until_us)
            settle(at);
        else
            try_drop(at, now_us);
    }
}

void gateway_cache_sweep(struct gateway_cache *cache, uint64_t now_us)
{
    if (cache->down && now_us >= cache->probe_at_us)
        gateway_cache_probe(cache, now_us);
    sweep_debts(cache, now_us);
}
