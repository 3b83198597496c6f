#include "gateway/cache.h"

void gateway_cache_init(struct gateway_cache *cache, struct gateway_mesh *mesh,
                        uint64_t probe_us)
{
    *cache = (struct gateway_cache){.mesh = mesh, .probe_us = probe_us};
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

void gateway_cache_sweep(struct gateway_cache *cache, uint64_t now_us)
{
    if (cache->down && now_us >= cache->probe_at_us)
        gateway_cache_probe(cache, now_us);
}
