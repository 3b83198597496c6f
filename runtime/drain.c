#include "runtime/drain.h"

void drain_note(struct drain *drain, uint64_t now_us)
{
    drain->ends_us[drain->count++ % DRAIN_ENDS] = now_us;
}

/* Mean time between ends; 0 where it is not known. */
static uint64_t interval_us(const struct drain *drain, uint64_t now_us)
{
    uint64_t seen = drain->count < DRAIN_ENDS ? drain->count : DRAIN_ENDS;

    if (seen < 2)
        return 0;
    uint64_t first_us = drain->ends_us[(drain->count - seen) % DRAIN_ENDS];
    uint64_t last_us = drain->ends_us[(drain->count - 1) % DRAIN_ENDS];
    uint64_t mean_us = (last_us - first_us) / (seen - 1);
    uint64_t pause_us = now_us - last_us;
    return pause_us > mean_us ? pause_us : mean_us;
}

uint64_t drain_ms(const struct drain *drain, uint64_t needed, uint64_t now_us)
{
    uint64_t each_us = interval_us(drain, now_us);

    if (each_us == 0)
        return DRAIN_DEFAULT_MS;
    if (needed > DRAIN_MAX_MS * 1000ull / each_us)
        return DRAIN_MAX_MS;
    uint64_t ms = needed * each_us / 1000;
    return ms < DRAIN_MIN_MS ? DRAIN_MIN_MS : ms;
}
