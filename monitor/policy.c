#include "monitor/policy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* So many flap times without a step down, and the hold is short again. */
#define CALM_FLAPS 5

const char *monitor_level_name(enum monitor_level level)
{
    static const char *const names[] = {"normal", "soft", "forced", "critical"};
    return level < MONITOR_LEVELS ? names[level] : "?";
}

int monitor_rules_check(const struct monitor_rules *rules, const char **name,
                        const char **why)
{
    const uint32_t *level = rules->level_permille;
    const struct {
        bool wrong;
        const char *name, *why;
    } checks[] = {
        {rules->restore_permille >= rules->shrink_permille, "restore_percent",
         "it must be below shrink_percent"},
        {level[MONITOR_SOFT] >= level[MONITOR_FORCED], "soft_percent",
         "it must be below forced_percent"},
        {level[MONITOR_FORCED] >= level[MONITOR_CRITICAL], "forced_percent",
         "it must be below critical_percent"},
        {rules->hysteresis_permille >= level[MONITOR_SOFT], "hysteresis_percent",
         "it must be below soft_percent"},
    };

    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++)
        if (checks[i].wrong) {
            *name = checks[i].name;
            *why = checks[i].why;
            return -EINVAL;
        }
    return 0;
}

void monitor_policy_init(struct monitor_policy *policy, const struct monitor_rules *rules,
                         uint64_t now_us)
{
    *policy =
        (struct monitor_policy){.rules = *rules, .hold_factor = 1, .seen_us = now_us};
}

uint64_t monitor_policy_slots(const struct monitor_policy *policy,
                              const struct monitor_load *load)
{
    bool lower = policy->target != 0 && policy->target < load->slots_default;
    return lower ? policy->target : load->slots_default;
}

/* ---- decisions of one step ---- */

struct step {
    struct monitor_policy *policy;
    const struct monitor_sample *sample;
    const struct monitor_load *load;
    uint64_t now_us;
    struct monitor_decision *out;
    unsigned count;
};

static const char *decide(struct step *step, enum monitor_decision_kind kind,
                          uint64_t from, uint64_t to, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

static const char *decide(struct step *step, enum monitor_decision_kind kind,
                          uint64_t from, uint64_t to, const char *format, ...)
{
    struct monitor_decision *decision = &step->out[step->count++];
    va_list args;

    *decision = (struct monitor_decision){
        .kind = kind, .at_us = step->now_us, .from = from, .to = to};
    va_start(args, format);
    vsnprintf(decision->reason, sizeof decision->reason, format, args);
    va_end(args);
    return decision->reason;
}

/* "81.3 %" and "80 %": a bound is given as it was set. */
struct percent {
    char text[16];
};

static const char *percent(struct percent *out, uint32_t permille)
{
    if (permille % 10 != 0)
        snprintf(out->text, sizeof out->text, "%u.%u %%", permille / 10, permille % 10);
    else
        snprintf(out->text, sizeof out->text, "%u %%", permille / 10);
    return out->text;
}

static void operator_text(const struct monitor_decision *d, char *out, size_t capacity)
{
    if (d->to == 0)
        snprintf(out, capacity, "operator's target %" PRIu64 " has ended", d->from);
    else if (d->from == 0)
        snprintf(out, capacity, "operator's target: %" PRIu64 " slots", d->to);
    else
        snprintf(out, capacity, "operator's target: slots %" PRIu64 " -> %" PRIu64,
                 d->from, d->to);
}

void monitor_decision_text(const struct monitor_decision *d, char *out, size_t capacity)
{
    switch (d->kind) {
    case MONITOR_DECIDED_SLOTS:
        if (d->to == 0)
            snprintf(out, capacity, "slots %" PRIu64 " -> default: %s", d->from,
                     d->reason);
        else
            snprintf(out, capacity, "slots %" PRIu64 " -> %" PRIu64 ": %s", d->from,
                     d->to, d->reason);
        break;
    case MONITOR_DECIDED_LEVEL:
        snprintf(out, capacity, "level %s -> %s: %s",
                 monitor_level_name((enum monitor_level)d->from),
                 monitor_level_name((enum monitor_level)d->to), d->reason);
        break;
    case MONITOR_DECIDED_HOLD:
        snprintf(out, capacity, "slots stay at %" PRIu64 ": %s", d->from, d->reason);
        break;
    case MONITOR_DECIDED_SIGHT:
        snprintf(out, capacity, "%s: %s", d->to != 0 ? "sees memory again" : "blind",
                 d->reason);
        break;
    case MONITOR_OPERATOR_SLOTS:
        operator_text(d, out, capacity);
        break;
    }
}

/* ---- slots ---- */

static void set_target(struct step *step, uint64_t to, const char *reason)
{
    struct monitor_policy *policy = step->policy;

    policy->target = to < step->load->slots_default ? to : 0;
    policy->below_us = 0;
    policy->hold_told = false;
    snprintf(policy->target_reason, sizeof policy->target_reason, "%s", reason);
}

static void shrink(struct step *step, uint64_t slots)
{
    struct monitor_policy *policy = step->policy;
    struct percent is, bound;

    if (policy->shrunk_us != 0 &&
        step->now_us - policy->shrunk_us < policy->rules.shrink_wait_us)
        return;
    if (policy->grown_us != 0 &&
        step->now_us - policy->grown_us < policy->rules.flap_us &&
        policy->hold_factor < MONITOR_HOLD_MAX)
        policy->hold_factor *= 2;
    policy->shrunk_us = step->now_us;
    set_target(step, slots / 2,
               decide(step, MONITOR_DECIDED_SLOTS, slots, slots / 2, "memory %s > %s",
                      percent(&is, step->sample->memory_permille),
                      percent(&bound, policy->rules.shrink_permille)));
}

/* Why growth is forbidden, or false. */
static bool forbids(const struct step *step, char reason[MONITOR_REASON_BYTES])
{
    const struct monitor_rules *rules = &step->policy->rules;
    const struct monitor_sample *sample = step->sample;
    struct percent is, bound;

    if (!sample->cpu_known)
        snprintf(reason, MONITOR_REASON_BYTES, "CPU is unknown: %.100s", sample->why_cpu);
    else if (sample->cpu_permille > rules->cpu_permille)
        snprintf(reason, MONITOR_REASON_BYTES, "CPU %s > %s",
                 percent(&is, sample->cpu_permille),
                 percent(&bound, rules->cpu_permille));
    else if (sample->stall_known && sample->stall_permille > rules->stall_permille)
        snprintf(reason, MONITOR_REASON_BYTES, "memory stalls %s > %s",
                 percent(&is, sample->stall_permille),
                 percent(&bound, rules->stall_permille));
    else
        return false;
    return true;
}

static void grow(struct step *step, uint64_t slots)
{
    struct monitor_policy *policy = step->policy;
    uint64_t hold_us = policy->rules.hold_us * policy->hold_factor;
    uint64_t below_us = step->now_us - policy->below_us;
    char reason[MONITOR_REASON_BYTES];
    struct percent is, bound;

    if (below_us < hold_us)
        return;
    if (forbids(step, reason)) {
        if (!policy->hold_told)
            decide(step, MONITOR_DECIDED_HOLD, slots, slots, "%s", reason);
        policy->hold_told = true;
        return;
    }
    uint64_t to = slots * 2;
    if (to > step->load->slots_default)
        to = step->load->slots_default;
    policy->grown_us = step->now_us;
    set_target(step, to,
               decide(step, MONITOR_DECIDED_SLOTS, slots, to, "memory %s < %s for %.1f s",
                      percent(&is, step->sample->memory_permille),
                      percent(&bound, policy->rules.restore_permille),
                      (double)below_us / 1e6));
}

static void step_slots(struct step *step)
{
    struct monitor_policy *policy = step->policy;
    const struct monitor_rules *rules = &policy->rules;
    uint32_t memory = step->sample->memory_permille;

    if (!step->load->known || step->load->slots_default == 0)
        return; /* nobody to steer; the memory of it stays */
    if (policy->hold_factor > 1 &&
        step->now_us - policy->shrunk_us >= CALM_FLAPS * rules->flap_us)
        policy->hold_factor = 1;
    uint64_t slots = monitor_policy_slots(policy, step->load);

    if (memory >= rules->restore_permille)
        policy->below_us = 0;
    else if (policy->below_us == 0)
        policy->below_us = step->now_us;
    if (memory > rules->shrink_permille && slots > 1)
        shrink(step, slots);
    else if (policy->below_us != 0 && slots < step->load->slots_default)
        grow(step, slots);
}

/* ---- levels ---- */

/* The highest level whose bound is passed, or that has not yet been left. */
static enum monitor_level wanted_level(const struct monitor_policy *policy,
                                       uint32_t memory)
{
    const struct monitor_rules *rules = &policy->rules;
    unsigned level = MONITOR_CRITICAL;

    for (; level > MONITOR_NORMAL; level--) {
        uint32_t bound = rules->level_permille[level];
        if (memory > bound ||
            (policy->level >= level && memory > bound - rules->hysteresis_permille))
            break;
    }
    return (enum monitor_level)level;
}

/* A cleanup now? One that went on is not a new one. */
static bool may_clean(const struct step *step)
{
    const struct monitor_policy *policy = step->policy;

    if (policy->level >= MONITOR_FORCED)
        return true;
    if (step->load->known && step->load->clients > policy->rules.busy_clients)
        return false;
    return policy->cleaned_us == 0 ||
           step->now_us - policy->cleaned_us >= policy->rules.cooldown_us;
}

static void set_level(struct step *step, enum monitor_level to, const char *reason)
{
    snprintf(step->policy->level_reason, sizeof step->policy->level_reason, "%s", reason);
    step->policy->level = to;
}

static void step_level(struct step *step)
{
    struct monitor_policy *policy = step->policy;
    uint32_t memory = step->sample->memory_permille;
    enum monitor_level from = policy->level, to = wanted_level(policy, memory);
    struct percent is, bound;

    if (to == MONITOR_FORCED && !may_clean(step))
        to = MONITOR_SOFT;
    if (to == from)
        return;
    if (to > from) {
        percent(&bound, policy->rules.level_permille[to]);
        set_level(step, to,
                  decide(step, MONITOR_DECIDED_LEVEL, from, to, "memory %s > %s",
                         percent(&is, memory), bound.text));
    } else {
        percent(&bound,
                policy->rules.level_permille[from] - policy->rules.hysteresis_permille);
        set_level(step, to,
                  decide(step, MONITOR_DECIDED_LEVEL, from, to, "memory %s <= %s",
                         percent(&is, memory), bound.text));
    }
    if (from < MONITOR_FORCED && to >= MONITOR_FORCED)
        policy->cleaned_us = step->now_us;
}

/* ---- sight ---- */

static void go_blind(struct step *step)
{
    struct monitor_policy *policy = step->policy;
    double for_s = (double)(step->now_us - policy->seen_us) / 1e6;
    uint64_t to = step->load->known ? step->load->slots_default : 0;

    policy->blind = true;
    decide(step, MONITOR_DECIDED_SIGHT, 1, 0, "no memory sample for %.1f s: %.80s", for_s,
           step->sample->why);
    if (policy->target != 0) {
        const char *reason = decide(step, MONITOR_DECIDED_SLOTS, policy->target, to,
                                    "blind: the default holds");
        set_target(step, step->load->slots_default, reason);
    }
    if (policy->level != MONITOR_NORMAL) {
        const char *reason = decide(step, MONITOR_DECIDED_LEVEL, policy->level,
                                    MONITOR_NORMAL, "blind: nothing is known");
        set_level(step, MONITOR_NORMAL, reason);
    }
    policy->below_us = 0;
}

static void see(struct step *step)
{
    struct monitor_policy *policy = step->policy;
    struct percent is;

    if (policy->blind)
        decide(step, MONITOR_DECIDED_SIGHT, 0, 1, "memory %s, after %.1f s",
               percent(&is, step->sample->memory_permille),
               (double)(step->now_us - policy->seen_us) / 1e6);
    policy->blind = false;
    policy->seen_us = step->now_us;
}

unsigned monitor_policy_step(struct monitor_policy *policy,
                             const struct monitor_sample *sample,
                             const struct monitor_load *load, uint64_t now_us,
                             struct monitor_decision out[MONITOR_DECISIONS_MAX])
{
    struct step step = {policy, sample, load, now_us, out, 0};

    if (sample->memory_known) {
        see(&step);
        step_slots(&step);
        step_level(&step);
    } else if (!policy->blind && now_us - policy->seen_us >= policy->rules.blind_us) {
        go_blind(&step);
    }
    return step.count;
}
