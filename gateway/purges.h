/*
 * purges.h - results to be forgotten everywhere, kept until all have been told.
 *
 * A purge goes to a cacher, for the tiers behind memory, and then by the broker to all
 * memories. Where a part of this fails (no cacher, a store that is away, a broker that
 * went) it is repeated every second until it is done. It is kept in memory: who ends
 * forgets it. No HTTP; time is an argument. One thread.
 */
#ifndef GATEWAY_PURGES_H
#define GATEWAY_PURGES_H

#include "gateway/mesh.h"
#include "proto/key.h"

#include <stdbool.h>

/* Purges that are under way or kept. */
#define GATEWAY_PURGES_MAX 1024u

struct gateway_purges;
struct gateway_purge;

/* The first try is over, whole or not; then nobody waits for the purge any more. */
typedef void gateway_purged_fn(bool done, void *waiter);

/* NULL: out of memory. `mesh` and its link are borrowed. */
struct gateway_purges *gateway_purges_new(struct gateway_mesh *mesh,
                                          const struct gateway_link *link);
/* No exchange may end any more. NULL is fine. */
void gateway_purges_free(struct gateway_purges *purges);

/*
 * Forget `key`. 0 with `out`, and `purged` is called once, later; else nothing was begun:
 * -ENOTCONN, -EAGAIN: the broker cannot be asked; -ENOBUFS: GATEWAY_PURGES_MAX are kept,
 * or there is no credit; -ENOMEM.
 */
int gateway_purges_begin(struct gateway_purges *purges,
                         const uint8_t key[PROTO_DIGEST_BYTES],
                         const struct proto_id *trace, gateway_purged_fn *purged,
                         void *waiter, uint64_t now_us, struct gateway_purge **out);
/* Its client has left; the purge goes on. */
void gateway_purge_leave(struct gateway_purge *purge);

/* A PURGE that came; false: it answers none of ours. */
bool gateway_purges_on_message(struct gateway_purges *purges, const struct proto_id *id,
                               uint64_t now_us);
/* Some times a second. */
void gateway_purges_sweep(struct gateway_purges *purges, uint64_t now_us);

uint64_t gateway_purges_count(const struct gateway_purges *purges);
/* Those of which a first try failed. */
uint64_t gateway_purges_kept(const struct gateway_purges *purges);

#endif
