/*
 * leases.h - who computes a missing result, and who waits for it.
 *
 * The first get of a key that is not cached is granted a lease: this caller computes.
 * While the lease holds, further gets of the key are parked. A put answers them all; a
 * lease that runs out or is dropped goes to the one that waited longest. So a result is
 * computed once however many ask, and a caller that dies costs a bounded wait.
 *
 * A get of the holder itself, which its trace id tells, is granted the lease anew: the
 * answer to its first get was lost with a broker, and it would wait for itself.
 *
 * No payload, no socket, no clock, no random source: `now_us` is the caller's clock, and
 * every table has its final size from the start. A table that is full refuses, and the
 * caller then computes without a lease: twice the work, never a wrong answer.
 *
 * Where there is something to ask behind memory, the first lease is the cacher's own: it
 * looks, and everybody is parked, the first caller too. Found is a put. Nothing found is
 * a drop: the first caller gets the lease, and its time begins then. A look-up that takes
 * longer than a lease lasts ends like one that ran out.
 *
 * Behaviour: docs/PROTOCOL.md section 7. One thread.
 */
#ifndef CACHER_LEASES_H
#define CACHER_LEASES_H

#include "proto/envelope.h"
#include "proto/key.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cacher_leases;

/* What is needed to answer a get later. */
struct cacher_ticket {
    struct proto_id request; /* the JOB's id */
    struct proto_id trace;
    uint8_t attempt;
    bool peek;         /* waits for look-ups only, and never computes */
    uint64_t until_us; /* latest answer */
};

enum cacher_answer {
    CACHER_ANSWER_RESULT, /* the key was put: here is the result */
    CACHER_ANSWER_LEASE, /* nothing found, or the one before did not deliver: you compute,
                          * under `lease`; 0 for a peek */
    CACHER_ANSWER_TIMEOUT, /* until_us has come */
    CACHER_ANSWER_LEAVING  /* the cacher is shutting down */
};

/* Called for each parked get that ends, after it has left the table. Must not call into
 * this module. */
typedef void cacher_answer_fn(const struct cacher_ticket *ticket,
                              enum cacher_answer answer, uint64_t lease, void *arg);

struct cacher_leases_limits {
    uint32_t leases_max;     /* keys being computed at once */
    uint32_t parked_max;     /* gets waiting, all keys */
    uint32_t parked_key_max; /* gets waiting for one key */
    uint64_t lease_us;       /* time to compute */
    uint64_t first;          /* number of the first lease; random, so that the leases of
                              * an earlier process mean nothing here */
    uint64_t seed;           /* secret, so that no peer can aim at one hash chain */
};

/* All grow, but the two gauges. */
struct cacher_leases_counters {
    uint64_t granted;   /* leases given, to first, waiting and returning callers */
    uint64_t fulfilled; /* put under the lease that held */
    uint64_t expired;   /* ran out */
    uint64_t dropped;   /* given back by their holder */
    uint64_t parked;    /* gets that waited */
    uint64_t coalesced; /* of those, answered by a put */
    uint64_t timeouts;  /* of those, waited in vain */
    uint64_t aborted;   /* of those, no longer wanted */
    uint64_t crowded;   /* gets refused because a table was full */
    uint64_t looks;     /* the cacher's own leases: in none of the four first */
    uint64_t shared;    /* gets and peeks that waited for another's look-up */
    uint64_t leases_now, parked_now; /* look-ups included */
};

/* NULL without memory, when a bound or lease_us is 0, or a bound is above 2^20. */
struct cacher_leases *cacher_leases_new(const struct cacher_leases_limits *limits,
                                        cacher_answer_fn *answer, void *arg);
void cacher_leases_free(struct cacher_leases *leases); /* NULL is fine; answers nobody */

enum cacher_turn {
    CACHER_TURN_LEASE,  /* compute, under *lease */
    CACHER_TURN_PARKED, /* will be answered by `answer` */
    CACHER_TURN_LOOK,   /* the same, and the cacher is to look, under *lease */
    CACHER_TURN_MISS,   /* a peek, and nobody looks */
    CACHER_TURN_CROWDED /* a table is full: compute without a lease */
};

/* A get whose key is not in memory; `look`: there is something behind it to ask. `lease`
 * is written with CACHER_TURN_LEASE and CACHER_TURN_LOOK. */
enum cacher_turn cacher_leases_get(struct cacher_leases *leases,
                                   const uint8_t key[PROTO_DIGEST_BYTES],
                                   const struct cacher_ticket *ticket, bool look,
                                   uint64_t now_us, uint64_t *lease);

/* The result of `key` is there: everybody parked is answered and the lease ends. True
 * when `lease` was the one that held; a late or unasked put serves the parked too. */
bool cacher_leases_fulfil(struct cacher_leases *leases,
                          const uint8_t key[PROTO_DIGEST_BYTES], uint64_t lease);

/* Whether `lease` is the one that holds, a caller's. */
bool cacher_leases_holds(struct cacher_leases *leases,
                         const uint8_t key[PROTO_DIGEST_BYTES], uint64_t lease);

/* The holder could not compute: the next one parked gets a lease, by `answer`. False,
 * and nothing happens, when `lease` is not the one that holds. */
bool cacher_leases_drop(struct cacher_leases *leases,
                        const uint8_t key[PROTO_DIGEST_BYTES], uint64_t lease,
                        uint64_t now_us);

/* A parked get is no longer wanted. False when it is not parked. */
bool cacher_leases_abort(struct cacher_leases *leases, const struct proto_id *request,
                         uint8_t attempt);

/* Ends the leases and the waits whose time has come. Looks at every parked get. */
void cacher_leases_tick(struct cacher_leases *leases, uint64_t now_us);

/* Every parked get ends with CACHER_ANSWER_LEAVING; the leases stay. */
void cacher_leases_leave(struct cacher_leases *leases);
/* Every parked get is forgotten without an answer: nobody knows it any more. */
void cacher_leases_forget(struct cacher_leases *leases);

/* Show every parked get. */
void cacher_leases_each(struct cacher_leases *leases,
                        void (*visit)(const struct cacher_ticket *ticket, void *arg),
                        void *arg);

const struct cacher_leases_counters *
cacher_leases_counters(const struct cacher_leases *leases);

#endif
