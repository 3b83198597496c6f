/*
 * cache.h - whether the cache service is worth asking, and the leases owed to it.
 *
 * A look-up that fails puts the cache down: nobody asks it, until one of the probes, sent
 * in nobody's way, comes back. So a dead cacher costs the requests that found it out, no
 * others.
 *
 * A lease ends by a `put` that the cache took, or by a `drop`: others wait for it. What
 * was refused, lost or could not be sent is followed by a drop, and that is repeated
 * until the cache took it or the lease is over by itself.
 *
 * Time is an argument. One thread.
 */
#ifndef GATEWAY_CACHE_H
#define GATEWAY_CACHE_H

#include "gateway/mesh.h"
#include "proto/key.h"

#include <stdbool.h>

/* Leases on their way back; beyond them one that cannot be ended runs out. */
#define GATEWAY_LEASES_MAX 1024u

struct gateway_lease {
    uint8_t key[PROTO_DIGEST_BYTES];
    uint64_t number; /* 0: none */
    uint64_t until_us;
    struct proto_id trace;
};

struct gateway_debt;

struct gateway_cache {
    struct gateway_mesh *mesh;
    uint64_t probe_us; /* between probes */
    bool down, probing;
    uint64_t probe_at_us;
    struct gateway_debt *debts;
    uint64_t debts_count;
    uint64_t drops; /* that the cache took; only grows */
};

/* Not down at first: nothing is known against it. */
void gateway_cache_init(struct gateway_cache *cache, struct gateway_mesh *mesh,
                        uint64_t probe_us);
/* Forgets what is owed. No exchange may end any more. */
void gateway_cache_free(struct gateway_cache *cache);
bool gateway_cache_is_down(const struct gateway_cache *cache);
void gateway_cache_failed(struct gateway_cache *cache, uint64_t now_us);
/* Ask for a key that nobody has; one probe is under way at a time. */
void gateway_cache_probe(struct gateway_cache *cache, uint64_t now_us);
/* Some times a second. */
void gateway_cache_sweep(struct gateway_cache *cache, uint64_t now_us);

/* Send a put under a lease; where it does not end well the lease is dropped. `ended` and
 * `owner` of the put are set here. What gateway_mesh_submit() says. */
int gateway_cache_put(struct gateway_cache *cache, struct gateway_submit *put,
                      const struct gateway_lease *lease, uint64_t now_us);
/* Let the next one who waits for the key compute it. Nothing for lease 0. */
void gateway_cache_drop(struct gateway_cache *cache, const struct gateway_lease *lease,
                        uint64_t now_us);

#endif
