/*
 * tiers.h - the tiers behind memory, in the order in which they are asked.
 *
 * A look-up asks one after another until one has the result. A tier that cannot be asked
 * now (its breaker is open, or it is busy) is passed by at once, one that fails after its
 * own time-out. What is found is checked like what a peer puts, and the tiers before get
 * it too. Loop thread only.
 */
#ifndef CACHER_TIERS_H
#define CACHER_TIERS_H

#include "cacher/result.h"
#include "cacher/tier/tier.h"
#include "proto/key.h"

#define CACHER_TIERS_MAX 2

/* What a tier is for, whatever program is behind it. */
enum cacher_role { CACHER_ROLE_REDIS, CACHER_ROLE_STORE };
const char *cacher_role_name(unsigned role); /* "redis", "store" */

struct cacher_tiers;

struct cacher_behind {
    struct cacher_tiers *tiers;
    struct cacher_tier *tier; /* NULL: closed */
    enum cacher_role role;
    uint64_t passed_by; /* gets for which it was not asked */
    uint64_t refused;   /* records found there that were no result of the key */
};

struct cacher_tiers {
    struct cacher_behind behind[CACHER_TIERS_MAX];
    unsigned count;
    bool closing;
    uint64_t looks;  /* under way */
    unsigned closes; /* under way */
    void (*closed)(void *arg);
    void *closed_arg;
};

/* The next one to be asked. At most CACHER_TIERS_MAX. Owned from now on. */
void cacher_tiers_add(struct cacher_tiers *tiers, enum cacher_role role,
                      struct cacher_tier *tier);
struct cacher_tier *cacher_tiers_by_role(const struct cacher_tiers *tiers,
                                         enum cacher_role role);

/* The end of a look-up. `value` (borrowed) is NULL where nothing was found; else `from`
 * says where. */
typedef void cacher_looked_fn(const uint8_t key[PROTO_DIGEST_BYTES], uint64_t lease,
                              struct hotcache_value *value, enum cacher_role from,
                              void *arg);
/* Whether there is any tier to ask, now or later. */
bool cacher_tiers_any(const struct cacher_tiers *tiers);
/* 0, and `looked` is called once, later, with `lease` handed through; -EHOSTDOWN: no tier
 * can be asked now; -ENOMEM. `kind` is the key's where it is proved, else 0: what a tier
 * has of the other kind is missing there. */
int cacher_tiers_look(struct cacher_tiers *tiers, const uint8_t key[PROTO_DIGEST_BYTES],
                      enum proto_kind kind, uint64_t lease, cacher_looked_fn *looked,
                      void *arg);

/* Written behind, to every tier that takes it. */
void cacher_tiers_put(struct cacher_tiers *tiers, const uint8_t key[PROTO_DIGEST_BYTES],
                      struct hotcache_value *value);
/* It was used. */
void cacher_tiers_touch(struct cacher_tiers *tiers,
                        const uint8_t key[PROTO_DIGEST_BYTES]);

/* Write what waits, for at most `ms`; then `closed`, maybe before this returns. Look-ups
 * under way end with nothing found. */
void cacher_tiers_close(struct cacher_tiers *tiers, uint64_t ms,
                        void (*closed)(void *arg), void *arg);

#endif
