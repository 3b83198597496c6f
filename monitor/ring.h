/*
 * ring.h - the last decisions, oldest overwritten first. One thread.
 */
#ifndef MONITOR_RING_H
#define MONITOR_RING_H

#include "monitor/policy.h"

#define MONITOR_RING_DECISIONS 256

struct monitor_ring_entry {
    struct monitor_decision decision;
    uint64_t wall_ms; /* since 1970, for people */
    uint64_t number;  /* from 1 */
};

/* Zeroed is ready. */
struct monitor_ring {
    struct monitor_ring_entry entries[MONITOR_RING_DECISIONS];
    uint64_t count; /* ever added */
};

void monitor_ring_add(struct monitor_ring *ring, const struct monitor_decision *decision,
                      uint64_t wall_ms);
/* The `back`th last, from 0; NULL when there is none or it was overwritten. */
const struct monitor_ring_entry *monitor_ring_last(const struct monitor_ring *ring,
                                                   uint64_t back);

#endif
