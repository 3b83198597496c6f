#include "cacher/level.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

static const struct {
    const char *name;
    unsigned percent;
} levels[] = {{"normal", 100}, {"soft", 100}, {"forced", 50}, {"critical", 10}};

int cacher_level_by_name(const char *name, enum cacher_level *out)
{
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        if (strcmp(levels[i].name, name) == 0) {
            *out = (enum cacher_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

const char *cacher_level_name(enum cacher_level level)
{
    return levels[level].name;
}

unsigned cacher_level_percent(enum cacher_level level)
{
    return levels[level].percent;
}

static void note_lower(struct cacher_pressure *pressure, uint64_t now_us)
{
    if (pressure->said >= pressure->held)
        pressure->lower_since_us = 0;
    else if (pressure->lower_since_us == 0)
        pressure->lower_since_us = now_us;
}

bool cacher_level_say(struct cacher_pressure *pressure, enum cacher_level level,
                      uint64_t ttl_us, uint64_t now_us)
{
    bool higher = level > pressure->held;

    pressure->said = level;
    pressure->until_us = level != CACHER_NORMAL ? now_us + ttl_us : 0;
    if (higher)
        pressure->held = level;
    note_lower(pressure, now_us);
    return higher;
}

bool cacher_level_tick(struct cacher_pressure *pressure, uint64_t restore_us,
                       uint64_t now_us)
{
    if (pressure->until_us != 0 && now_us >= pressure->until_us) {
        pressure->said = CACHER_NORMAL;
        pressure->until_us = 0;
        note_lower(pressure, now_us);
    }
    if (pressure->lower_since_us == 0 || now_us - pressure->lower_since_us < restore_us)
        return false;
    pressure->held = pressure->said;
    pressure->lower_since_us = 0;
    return true;
}
