/*
 * rules.h - what the protocol says must follow from what the shadow knows: targets, the
 * order of lanes, retry budget, quarantine, memory, forecasts. None of it asks the core
 * for its own opinion but for measured rates and for what it holds aborted.
 */
#ifndef TESTS_SIM_RULES_H
#define TESTS_SIM_RULES_H

#include "tests/sim/sim.h"

#define MUST(condition, ...)                                                             \
    do {                                                                                 \
        if (!(condition))                                                                \
            sim_fail(__VA_ARGS__);                                                       \
    } while (0)

/* Of one lane, but for clients that read slowly: who came back, then by arrival; from the
 * other end when the oldest of the others has waited for too much of its time. `again`
 * and `fresh` are the oldest. */
struct sim_ends {
    const struct sim_record *again, *fresh, *newest;
};

/* The core's index of a service, and what it shows of it; -1 when it knows none. */
int sim_rule_view(const struct sim_shadow *shadow, uint32_t service,
                  struct broker_core_service_view *view);
uint64_t sim_rule_target(const struct sim_shadow *shadow, uint32_t service);
bool sim_rule_poison(struct sim_shadow *shadow, const struct sim_record *record);
/* The service's budget of second attempts as of now, with so many millionths more. */
void sim_rule_earn(struct sim_shadow *shadow, uint32_t service, uint64_t micros);
struct sim_ends sim_rule_ends(const struct sim_shadow *shadow, uint32_t service,
                              uint32_t priority);
/* Whether only places are left that are kept for high requests, which came until `at_us`.
 */
bool sim_rule_high_only(const struct sim_shadow *shadow, uint32_t service,
                        uint64_t at_us);
/* Whether some worker may be given the request now. */
bool sim_rule_could_go(const struct sim_shadow *shadow, const struct sim_record *record);
/* Which request is to be sent next; NULL when none waits. */
const struct sim_record *sim_rule_next(const struct sim_shadow *shadow, uint32_t service,
                                       bool high_only);
uint32_t sim_rule_running(const struct sim_shadow *shadow, uint32_t service);
uint32_t sim_rule_aborting(const struct sim_shadow *shadow, uint32_t service);
/* Workers of a service that are not leaving. */
uint32_t sim_rule_workers_open(const struct sim_shadow *shadow, uint32_t service);
/* Whether a worker has credit, a slot and room for the request; targets aside. */
bool sim_rule_could_take(const struct sim_shadow *shadow, uint32_t index,
                         const struct sim_record *record);
/* What the jobs at slots need; whether one needs more than all may; whether it fits now.
 */
uint64_t sim_rule_cost(const struct sim_shadow *shadow);
bool sim_rule_costly(const struct sim_shadow *shadow, const struct sim_record *record);
bool sim_rule_fits(const struct sim_shadow *shadow, const struct sim_record *record);

#endif
