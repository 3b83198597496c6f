/* The list of actions: a ring, so that it never needs to be emptied at once. */
#include "broker/core/state.h"

#include <assert.h>

struct broker_core_action *broker_core_act(struct broker_core *core,
                                           enum broker_core_action_type type,
                                           uint32_t peer)
{
    /* Sized in broker_core_new() for the worst event; a caller that lets actions of
     * several events pile up has broken the contract. */
    assert(core->actions_count < core->actions_max);
    uint32_t at = (core->actions_head + core->actions_count) % core->actions_max;
    core->actions_count++;
    core->actions[at] = (struct broker_core_action){.type = type, .peer = peer};
    return &core->actions[at];
}

const struct broker_core_action *broker_core_next(struct broker_core *core)
{
    if (core->actions_count == 0)
        return NULL;
    const struct broker_core_action *action = &core->actions[core->actions_head];
    core->actions_head = (core->actions_head + 1) % core->actions_max;
    core->actions_count--;
    return action;
}
