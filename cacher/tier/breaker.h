/*
 * breaker.h - whether a peer is worth asking: a circuit breaker.
 *
 * Closed: everybody may ask. After `failures` in a row it opens: nobody may, until
 * `open_us` has passed, twice as long after each probe that failed, up to `open_us_max`.
 * Then it is half-open: one probe may ask; its success closes, its failure opens again.
 *
 * Pure: time is an argument. One thread.
 */
#ifndef CACHER_TIER_BREAKER_H
#define CACHER_TIER_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

enum breaker_state { BREAKER_CLOSED, BREAKER_HALF_OPEN, BREAKER_OPEN };

struct breaker {
    /* set by the owner */
    unsigned failures; /* in a row that open it, at least 1 */
    uint64_t open_us, open_us_max;
    /* its own, zeroed at first */
    enum breaker_state state;
    unsigned failed; /* in a row */
    bool probing;
    uint64_t wait_us, until_us;
    uint64_t opened; /* times */
};

/* Whether one request may be sent now. In half-open it is true once, until that request's
 * end is said by breaker_ok or breaker_failed. */
bool breaker_ask(struct breaker *breaker, uint64_t now_us);
void breaker_ok(struct breaker *breaker);
/* True when this failure opened it: say it in the log, once. */
bool breaker_failed(struct breaker *breaker, uint64_t now_us);
/* Open, without the failures that it usually takes. As breaker_failed. */
bool breaker_trip(struct breaker *breaker, uint64_t now_us);
const char *breaker_state_name(unsigned state); /* "closed", "half-open", "open" */

#endif
