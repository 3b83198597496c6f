#include "extractor/pool.h"

const char *extractor_slot_state_name(enum extractor_slot_state state)
{
    switch (state) {
    case EXTRACTOR_SLOT_EMPTY:
        return "empty";
    case EXTRACTOR_SLOT_STARTING:
        return "starting";
    case EXTRACTOR_SLOT_IDLE:
        return "idle";
    case EXTRACTOR_SLOT_BUSY:
        return "busy";
    case EXTRACTOR_SLOT_ENDING:
        return "ending";
    }
    return "?";
}

static size_t count_processes(const struct extractor_pool_slot *slots, size_t count)
{
    size_t processes = 0;

    for (size_t i = 0; i < count; i++)
        processes += slots[i].state != EXTRACTOR_SLOT_EMPTY;
    return processes;
}

/* Slots that will go by themselves: they pay for a smaller share first. */
static size_t count_going(const struct extractor_pool_slot *slots, size_t count)
{
    size_t going = 0;

    for (size_t i = 0; i < count; i++)
        going += slots[i].state == EXTRACTOR_SLOT_ENDING ||
                 (slots[i].state != EXTRACTOR_SLOT_EMPTY && slots[i].leaving);
    return going;
}

static size_t end_some(const struct extractor_pool_slot *slots, size_t count,
                       enum extractor_slot_state state, size_t surplus,
                       enum extractor_pool_verdict *out)
{
    for (size_t i = count; i-- > 0 && surplus > 0;)
        if (slots[i].state == state && out[i] == EXTRACTOR_POOL_KEEP) {
            out[i] = EXTRACTOR_POOL_END;
            surplus--;
        }
    return surplus;
}

static void start_some(const struct extractor_pool_slot *slots, size_t count,
                       size_t missing, enum extractor_pool_verdict *out)
{
    for (size_t i = 0; i < count && missing > 0; i++)
        if (slots[i].state == EXTRACTOR_SLOT_EMPTY) {
            out[i] = EXTRACTOR_POOL_START;
            missing--;
        }
}

static size_t count_state(const struct extractor_pool_slot *slots, size_t count,
                          enum extractor_slot_state state)
{
    size_t found = 0;

    for (size_t i = 0; i < count; i++)
        found += slots[i].state == state && !slots[i].leaving;
    return found;
}

static bool is_worn(const struct extractor_pool_slot *slot)
{
    return slot->worn && !slot->leaving &&
           (slot->state == EXTRACTOR_SLOT_IDLE || slot->state == EXTRACTOR_SLOT_BUSY);
}

static size_t count_worn(const struct extractor_pool_slot *slots, size_t count)
{
    size_t worn = 0;

    for (size_t i = 0; i < count; i++)
        worn += is_worn(&slots[i]);
    return worn;
}

/* Let `most` worn slots go, those first that go at once. Returns how many went. */
static size_t retire_some(const struct extractor_pool_slot *slots, size_t count,
                          size_t most, enum extractor_pool_verdict *out)
{
    size_t gone = 0;

    for (size_t i = 0; i < count && gone < most; i++)
        if (is_worn(&slots[i]) && slots[i].state == EXTRACTOR_SLOT_IDLE) {
            out[i] = EXTRACTOR_POOL_END;
            gone++;
        }
    for (size_t i = 0; i < count && gone < most; i++)
        if (is_worn(&slots[i]) && slots[i].state == EXTRACTOR_SLOT_BUSY) {
            out[i] = EXTRACTOR_POOL_LEAVE;
            gone++;
        }
    return gone;
}

void extractor_pool_plan(const struct extractor_pool_slot *slots, size_t count,
                         unsigned share, enum extractor_pool_verdict *out)
{
    size_t processes = count_processes(slots, count);
    size_t staying = processes - count_going(slots, count);
    size_t starting = count_state(slots, count, EXTRACTOR_SLOT_STARTING);
    size_t ready = staying - starting, worn = count_worn(slots, count);

    for (size_t i = 0; i < count; i++) {
        bool at_rest = slots[i].state == EXTRACTOR_SLOT_IDLE ||
                       slots[i].state == EXTRACTOR_SLOT_STARTING;
        out[i] = slots[i].leaving && at_rest ? EXTRACTOR_POOL_END : EXTRACTOR_POOL_KEEP;
    }
    if (processes < share)
        start_some(slots, count, share - processes, out);
    else if (worn > 0 && starting == 0 && staying == share)
        start_some(slots, count, 1, out);
    if (ready > share) {
        size_t gone = retire_some(slots, count, ready - share, out);
        staying -= gone;
        worn -= gone;
    }
    size_t most = share + (worn > 0 && starting > 0); /* a successor on its way */
    if (staying > most) {
        size_t surplus = staying - most;
        surplus = end_some(slots, count, EXTRACTOR_SLOT_IDLE, surplus, out);
        end_some(slots, count, EXTRACTOR_SLOT_STARTING, surplus, out);
    }
}

uint64_t extractor_brake_death(struct extractor_brake *brake, uint64_t age_us,
                               uint64_t now_us)
{
    if (age_us >= EXTRACTOR_BRAKE_YOUNG_US)
        return 0;

    if (brake->delay_us == 0 || now_us - brake->last_us > EXTRACTOR_BRAKE_FORGET_US)
        brake->delay_us = EXTRACTOR_BRAKE_FIRST_US;
    else
        brake->delay_us *= 2;
    if (brake->delay_us > EXTRACTOR_BRAKE_MAX_US)
        brake->delay_us = EXTRACTOR_BRAKE_MAX_US;
    brake->last_us = now_us;
    brake->until_us = now_us + brake->delay_us;
    return brake->delay_us;
}

bool extractor_brake_allows(const struct extractor_brake *brake, uint64_t now_us)
{
    return now_us >= brake->until_us;
}

const char *extractor_pool_worn(const struct extractor_wear *used,
                                const struct extractor_wear *limit)
{
    if (limit->jobs != 0 && used->jobs >= limit->jobs)
        return "jobs";
    if (limit->age_us != 0 && used->age_us >= limit->age_us)
        return "age";
    if (limit->resident_bytes != 0 && used->resident_bytes >= limit->resident_bytes)
        return "memory";
    return NULL;
}
