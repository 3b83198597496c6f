/*
 * cache.h - whether the cache service is worth asking.
 *
 * A look-up that fails puts the cache down: nobody asks it, until one of the probes, sent
 * in nobody's way, comes back. So a dead cacher costs the requests that found it out, no
 * others. Time is an argument. One thread.
 */
#ifndef GATEWAY_CACHE_H
#define GATEWAY_CACHE_H

#include "gateway/mesh.h"

#include <stdbool.h>

struct gateway_cache {
    struct gateway_mesh *mesh;
    uint64_t probe_us; /* between probes */
    bool down, probing;
    uint64_t probe_at_us;
};

/* Not down at first: nothing is known against it. */
void gateway_cache_init(struct gateway_cache *cache, struct gateway_mesh *mesh,
                        uint64_t probe_us);
bool gateway_cache_is_down(const struct gateway_cache *cache);
void gateway_cache_failed(struct gateway_cache *cache, uint64_t now_us);
/* Ask for a key that nobody has; one probe is under way at a time. */
void gateway_cache_probe(struct gateway_cache *cache, uint64_t now_us);
/* Some times a second. */
void gateway_cache_sweep(struct gateway_cache *cache, uint64_t now_us);

#endif
