/*
 * slots_internal.h - between slots.c, which minds their number, and slots_life.c, which
 * minds one of them from start to end. For nobody else.
 */
#ifndef EXTRACTOR_SLOTS_INTERNAL_H
#define EXTRACTOR_SLOTS_INTERNAL_H

#include "extractor/slots.h"

struct extractor_slots {
    struct service *service;
    const struct extractor_options *options;
    struct extractor_metrics *metrics;
    struct extractor_slots_callbacks callbacks;
    void *arg;
    char program[4096];
    struct extractor_sandbox sandbox;
    unsigned cpu_off;              /* kernels that slots do without */
    struct extractor_slot **table; /* by number - 1; NULL: none */
    struct extractor_pool_slot *view;
    enum extractor_pool_verdict *verdicts;
    unsigned count; /* of the tables: `most` and the spare ones */
    unsigned most, share;
    unsigned turn; /* number of the slot that got the last job */
    uint64_t serial, sampled_us;
    struct extractor_brake *brakes; /* by number - 1 */
    struct log_limit quiet;
    unsigned delayed;  /* starts that wait for their brake */
    bool warned;       /* that there is no seccomp filter */
    bool doors_closed; /* the service ends */
    unsigned open;     /* slots whose handles are not closed, and one for us */
};

/* slots.c: make the slots what they should be, then tell the owner, who may give jobs. */
void extractor_slots_settle(struct extractor_slots *slots);
void extractor_slots_gauge(struct extractor_slots *slots);
/* The last of the slots and their owner frees. */
void extractor_slots_release(struct extractor_slots *slots);

/* slots_life.c. 0 or -errno with nothing left behind. */
int extractor_slot_start(struct extractor_slots *slots, unsigned number);
/* Ask an idle or starting slot to go; it is killed when it does not. */
void extractor_slot_end(struct extractor_slot *slot);
void extractor_slot_kill(struct extractor_slot *slot, const char *why);
void extractor_slot_sample(struct extractor_slot *slot);
void extractor_slot_log_end(const struct extractor_slot *slot, const char *how,
                            uint64_t age_us);
/* Of a reaped one: leave the table and close; freed when libuv is done. */
void extractor_slot_forget(struct extractor_slot *slot);

#endif
