/*
 * pool.h - the decisions about slots, without the slots: which to start and to end, when
 * to wait after crashes, when one is used up.
 *
 * Pure: state and time in, decision out. slots.c acts on it.
 */
#ifndef EXTRACTOR_POOL_H
#define EXTRACTOR_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum extractor_slot_state {
    EXTRACTOR_SLOT_EMPTY,    /* no process */
    EXTRACTOR_SLOT_STARTING, /* started, has not said HELLO */
    EXTRACTOR_SLOT_IDLE,
    EXTRACTOR_SLOT_BUSY,
    EXTRACTOR_SLOT_ENDING /* told to end or killed; not reaped yet */
};

/* "idle"; "?" outside the enum. */
const char *extractor_slot_state_name(enum extractor_slot_state state);

struct extractor_pool_slot {
    enum extractor_slot_state state;
    bool leaving; /* it is to end after its job, whatever the share is */
    bool worn;    /* used up: it works on until a successor is ready */
};

enum extractor_pool_verdict {
    EXTRACTOR_POOL_KEEP, /* as it is; a busy one that is surplus gets END when it is idle
                          */
    EXTRACTOR_POOL_START,
    EXTRACTOR_POOL_END,
    EXTRACTOR_POOL_LEAVE /* busy: it is to take no other job */
};

/*
 * What to do with each of `count` slots so that `share` processes remain. No busy slot is
 * ended, and none is started while processes that are still ending fill the share: memory
 * has to be back before it is given out again. Idle ones go before starting ones, high
 * numbers before low ones; starts fill the lowest numbers.
 *
 * A worn slot is not ended before another one can do its work: a successor is started
 * beside the share, one at a time, and when that has said HELLO a worn one goes, idle at
 * once, busy after its job. A new slot has little memory, so the share is exceeded by
 * processes, not by their weight.
 */
void extractor_pool_plan(const struct extractor_pool_slot *slots, size_t count,
                         unsigned share, enum extractor_pool_verdict *out);

/* The brake on crash storms, one for each number. Zeroed is ready. A death before the age
 * YOUNG is one of a storm: the next start waits FIRST, doubled by each such death up to
 * MAX; after FORGET without one it begins anew. */
#define EXTRACTOR_BRAKE_YOUNG_US  5000000u
#define EXTRACTOR_BRAKE_FIRST_US  100000u
#define EXTRACTOR_BRAKE_MAX_US    10000000u
#define EXTRACTOR_BRAKE_FORGET_US 60000000u

struct extractor_brake {
    uint64_t delay_us, last_us, until_us;
};

/* A slot died unasked at `now_us`, `age_us` after its start. Returns the delay before
 * the next start, 0 for none. */
uint64_t extractor_brake_death(struct extractor_brake *brake, uint64_t age_us,
                               uint64_t now_us);
bool extractor_brake_allows(const struct extractor_brake *brake, uint64_t now_us);

/* When a slot is used up. 0 in a limit: never for this reason. */
struct extractor_wear {
    uint64_t jobs, age_us, resident_bytes;
};

/* "jobs", "age" or "memory"; NULL while `used` is below every limit. */
const char *extractor_pool_worn(const struct extractor_wear *used,
                                const struct extractor_wear *limit);

#endif
