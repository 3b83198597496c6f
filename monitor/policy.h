/*
 * policy.h - samples in, decisions out: how many slots, and which pressure level.
 *
 * Pure: no file, socket or clock. Slots are halved as long as memory is above `shrink`,
 * and doubled again, one step at a time, once it has been below `restore` for `hold`.
 * What was doubled and had to be halved soon after doubles the hold (a flap). CPU above
 * its bound, memory stalls, or an unknown CPU forbid growth, never shrinking.
 *
 * Without a memory sample nothing is decided; after `blind_us` of that the target is
 * given up, so that the broker falls back to its default: a monitor that cannot see is
 * as good as none, and says so.
 *
 * Levels: soft, forced, critical rise at once and fall with hysteresis. `forced` is a
 * cleanup: not again within `cooldown`, nor while many clients are active; `critical`
 * is not held back by anything.
 */
#ifndef MONITOR_POLICY_H
#define MONITOR_POLICY_H

#include "monitor/sample.h"

#include <stdbool.h>
#include <stdint.h>

#define MONITOR_REASON_BYTES  128 /* what SCALE and MODE can carry, with its NUL */
#define MONITOR_DECISIONS_MAX 4   /* of one step */
#define MONITOR_HOLD_MAX      8   /* a hold is lengthened at most so many times */

enum monitor_level {
    MONITOR_NORMAL,
    MONITOR_SOFT,
    MONITOR_FORCED,
    MONITOR_CRITICAL,
    MONITOR_LEVELS
};

/* "normal", "soft", "forced", "critical". */
const char *monitor_level_name(enum monitor_level level);

struct monitor_rules {
    uint32_t shrink_permille, restore_permille; /* memory; restore < shrink */
    uint32_t cpu_permille, stall_permille;      /* no growth above */
    uint32_t level_permille[MONITOR_LEVELS];    /* [MONITOR_NORMAL] is not used */
    uint32_t hysteresis_permille;               /* a level falls so far below its own */
    uint64_t hold_us;        /* memory below restore, before a step up */
    uint64_t shrink_wait_us; /* between two steps down: memory takes time to return */
    uint64_t flap_us;        /* a step down so soon after one up is a flap */
    uint64_t blind_us;       /* without a memory sample, before giving up */
    uint64_t cooldown_us;    /* between two cleanups */
    uint64_t busy_clients;   /* more than so many active: no forced cleanup */
};

/* 0, or -EINVAL when the rules contradict each other: the option's `name` and `why`, both
 * static. */
int monitor_rules_check(const struct monitor_rules *rules, const char **name,
                        const char **why);

/* What the broker says. */
struct monitor_load {
    bool known;
    uint64_t slots_default;  /* of the service; 0: it has no workers */
    uint64_t clients;        /* active */
    uint64_t operator_slots; /* an operator's target; 0: none */
};

enum monitor_decision_kind {
    MONITOR_DECIDED_SLOTS, /* `from` -> `to` slots; `to` 0: the broker's default */
    MONITOR_DECIDED_LEVEL, /* `from` -> `to`: enum monitor_level */
    MONITOR_DECIDED_HOLD,  /* growth is due but forbidden: `from` == `to` slots */
    MONITOR_DECIDED_SIGHT, /* memory is no longer seen (`to` 0), or again (`to` 1) */
    MONITOR_OPERATOR_SLOTS /* an operator decided: target `from` -> `to`; 0: none */
};

struct monitor_decision {
    enum monitor_decision_kind kind;
    uint64_t at_us, from, to;
    char reason[MONITOR_REASON_BYTES]; /* "memory 81.3 % > 80 %" */
};

/* "slots 4 -> 2: memory 81.3 % > 80 %" */
void monitor_decision_text(const struct monitor_decision *decision, char *out,
                           size_t capacity);

struct monitor_policy {
    struct monitor_rules rules;
    uint64_t target; /* slots; 0: the default holds and nothing is asked for */
    enum monitor_level level;
    char target_reason[MONITOR_REASON_BYTES], level_reason[MONITOR_REASON_BYTES];

    /* The rest is for the policy alone; times are 0 while there was none. */
    bool blind, hold_told;
    unsigned hold_factor;
    uint64_t seen_us;  /* last sample that knew memory */
    uint64_t below_us; /* memory is below restore since */
    uint64_t shrunk_us, grown_us, cleaned_us;
};

void monitor_policy_init(struct monitor_policy *policy, const struct monitor_rules *rules,
                         uint64_t now_us);

/* Take a sample; the number of decisions written to `out`. */
unsigned monitor_policy_step(struct monitor_policy *policy,
                             const struct monitor_sample *sample,
                             const struct monitor_load *load, uint64_t now_us,
                             struct monitor_decision out[MONITOR_DECISIONS_MAX]);

/* The slots that should be, given the default; never above it. */
uint64_t monitor_policy_slots(const struct monitor_policy *policy,
                              const struct monitor_load *load);

#endif
