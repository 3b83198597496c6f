/*
 * level.h - how much of the memory bound holds under the monitor's levels.
 *
 * A higher level holds at once. A lower one holds only after nothing higher was said for
 * `restore_us`: a bound that grows back with every good second makes the pressure come
 * back with every bad one. A level whose time to live ends counts as normal from then on,
 * so a dead monitor leaves no stale bound. Pure: time is an argument.
 */
#ifndef CACHER_LEVEL_H
#define CACHER_LEVEL_H

#include <stdbool.h>
#include <stdint.h>

enum cacher_level {
    CACHER_NORMAL,
    CACHER_SOFT,    /* expired results go */
    CACHER_FORCED,  /* half of the bound; what was cheapest to compute goes first */
    CACHER_CRITICAL /* a tenth of it */
};

/* Zeroed is normal. */
struct cacher_pressure {
    enum cacher_level held;  /* what holds */
    enum cacher_level said;  /* by the monitor, last */
    uint64_t until_us;       /* when what was said ends; 0: never (normal) */
    uint64_t lower_since_us; /* since when `said` is below `held`; 0: it is not */
};

/* "normal", "soft", "forced", "critical"; -EINVAL for another word. */
int cacher_level_by_name(const char *name, enum cacher_level *out);
const char *cacher_level_name(enum cacher_level level);
/* What remains of the bound, percent. */
unsigned cacher_level_percent(enum cacher_level level);

/* The monitor said `level` for `ttl_us`. True when `held` has changed. */
bool cacher_level_say(struct cacher_pressure *pressure, enum cacher_level level,
                      uint64_t ttl_us, uint64_t now_us);
/* Now and then. True when `held` has changed. */
bool cacher_level_tick(struct cacher_pressure *pressure, uint64_t restore_us,
                       uint64_t now_us);

#endif
