#include "cacher/tier/breaker.h"

bool breaker_ask(struct breaker *breaker, uint64_t now_us)
{
    if (breaker->state == BREAKER_CLOSED)
        return true;
    if (breaker->state == BREAKER_OPEN) {
        if (now_us < breaker->until_us)
            return false;
        breaker->state = BREAKER_HALF_OPEN;
        breaker->probing = false;
    }
    if (breaker->probing)
        return false;
    breaker->probing = true;
    return true;
}

void breaker_ok(struct breaker *breaker)
{
    breaker->state = BREAKER_CLOSED;
    breaker->failed = 0;
    breaker->probing = false;
    breaker->wait_us = 0;
}

bool breaker_failed(struct breaker *breaker, uint64_t now_us)
{
    bool was_closed = breaker->state == BREAKER_CLOSED;

    /* What was asked before it opened may fail late: that says nothing new. */
    if (breaker->state == BREAKER_OPEN)
        return false;
    if (was_closed && ++breaker->failed < breaker->failures)
        return false;
    breaker->wait_us = was_closed ? breaker->open_us : 2 * breaker->wait_us;
    if (breaker->wait_us > breaker->open_us_max)
        breaker->wait_us = breaker->open_us_max;
    breaker->state = BREAKER_OPEN;
    breaker->probing = false;
    breaker->until_us = now_us + breaker->wait_us;
    breaker->opened++;
    return was_closed;
}

bool breaker_trip(struct breaker *breaker, uint64_t now_us)
{
    if (breaker->state == BREAKER_CLOSED)
        breaker->failed = breaker->failures - 1;
    return breaker_failed(breaker, now_us);
}

const char *breaker_state_name(unsigned state)
{
    static const char *const names[] = {"closed", "half-open", "open"};

    return state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}
