#include "monitor/ring.h"

void monitor_ring_add(struct monitor_ring *ring, const struct monitor_decision *decision,
                      uint64_t wall_ms)
{
    struct monitor_ring_entry *entry =
        &ring->entries[ring->count % MONITOR_RING_DECISIONS];

    *entry = (struct monitor_ring_entry){*decision, wall_ms, ++ring->count};
}

const struct monitor_ring_entry *monitor_ring_last(const struct monitor_ring *ring,
                                                   uint64_t back)
{
    if (back >= ring->count || back >= MONITOR_RING_DECISIONS)
        return NULL;
    return &ring->entries[(ring->count - 1 - back) % MONITOR_RING_DECISIONS];
}
