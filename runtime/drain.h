/*
 * drain.h - how soon something that is full will have room: from the rate at which what
 * filled it has ended lately.
 *
 * For the Retry-After of a refusal. Time is an argument, on any clock that never goes
 * back. Pure, no allocation. One thread.
 */
#ifndef RUNTIME_DRAIN_H
#define RUNTIME_DRAIN_H

#include <stdint.h>

#define DRAIN_ENDS 32u /* last ends that are looked at */
/* A client should neither hammer nor give up. */
#define DRAIN_MIN_MS     1000u
#define DRAIN_MAX_MS     60000u
#define DRAIN_DEFAULT_MS 1000u /* while nothing is known */

/* Zeroed: nothing has ended yet. */
struct drain {
    uint64_t ends_us[DRAIN_ENDS];
    uint64_t count; /* of all ends */
};

void drain_note(struct drain *drain, uint64_t now_us);

/*
 * Time until `needed` more will have ended, at the mean rate of the last ends. Where none
 * ended for longer than that rate says, the pause counts. DRAIN_MIN_MS to DRAIN_MAX_MS.
 */
uint64_t drain_ms(const struct drain *drain, uint64_t needed, uint64_t now_us);

#endif
