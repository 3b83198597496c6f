/* The pressure level, which everybody is told. */
#include "broker/core/state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const level_names[BROKER_CORE_LEVELS] = {"normal", "soft", "forced",
                                                            "critical"};

const char *broker_core_level_name(unsigned level)
{
    return level < BROKER_CORE_LEVELS ? level_names[level] : "?";
}

int broker_core_level_by_name(const char *name, enum broker_core_level *out)
{
    for (unsigned i = 0; i < BROKER_CORE_LEVELS; i++) {
        if (strcmp(name, level_names[i]) != 0)
            continue;
        *out = (enum broker_core_level)i;
        return 0;
    }
    return -EINVAL;
}

static void set(struct broker_core *core, enum broker_core_level level,
                const char *reason)
{
    uint64_t before = core->level;

    core->level = level;
    (void)snprintf(core->level_reason, sizeof(core->level_reason), "%s", reason);
    struct broker_core_action *action =
        broker_core_act(core, BROKER_CORE_MODE, BROKER_CORE_NONE);
    action->from = before;
    action->to = level;
    action->text = core->level_reason;
}

void broker_core_mode(struct broker_core *core, enum broker_core_level level,
                      const char *reason, uint64_t ttl_ms, uint64_t now_us)
{
    uint64_t ttl_us = core->limits.target_ttl_us;

    if (ttl_ms > 0)
        ttl_us = ttl_ms < BROKER_CORE_TARGET_MAX_US / 1000 ? ttl_ms * 1000
                                                           : BROKER_CORE_TARGET_MAX_US;
    if (level == BROKER_CORE_NORMAL)
        broker_core_heap_clear(&core->heap, &core->level_timer);
    else
        broker_core_heap_set(&core->heap, &core->level_timer, now_us + ttl_us);
    set(core, level, reason);
}

void broker_core_mode_due(struct broker_core *core)
{
    set(core, BROKER_CORE_NORMAL, "the level has expired");
}
