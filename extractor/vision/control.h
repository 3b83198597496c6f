/*
 * control.h - how a long computation is watched and stopped from outside.
 *
 * Both words may live in memory shared with another process. A kernel adds to
 * `progress` at least every few milliseconds of work and reads `cancel` as often; a
 * non-zero `cancel` makes it return -ECANCELED soon, its output undefined.
 */
#ifndef VISION_CONTROL_H
#define VISION_CONTROL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vision_control {
    _Atomic uint32_t cancel;
    _Atomic uint32_t progress; /* steps done, wraps; only its change means anything */
};

/* One step of work is done. True when the work is to stop. `control` may be NULL. */
static inline bool vision_step(struct vision_control *control)
{
    if (control == NULL)
        return false;
    atomic_fetch_add_explicit(&control->progress, 1, memory_order_relaxed);
    return atomic_load_explicit(&control->cancel, memory_order_relaxed) != 0;
}

#endif
