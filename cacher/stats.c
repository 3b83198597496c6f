/* Counters and gauges brought up to date, and the tiers as people want to see them. */
#include "cacher/state.h"

static void update_tier(struct cacher_metrics *m, const struct cacher_behind *behind)
{
    const struct cacher_tier_counters *c = behind->tier->class->counters(behind->tier);

#define COPY(t)                                                                          \
    m->t##_hits = c->hits, m->t##_misses = c->misses, m->t##_errors = c->errors,         \
    m->t##_passed_by = behind->passed_by, m->t##_damaged = c->damaged + behind->refused, \
    m->t##_puts = c->puts, m->t##_puts_lost = c->puts_lost,                              \
    m->t##_puts_large = c->puts_large, m->t##_removed = c->removed,                      \
    m->t##_evicted = c->evicted, m->t##_expired = c->expired,                            \
    m->t##_retries = c->retries, m->t##_timeouts = c->timeouts,                          \
    m->t##_connects = c->connects, m->t##_disconnects = c->disconnects,                  \
    m->t##_breaker_opened = c->breaker_opened, m->t##_get = c->get_time,                 \
    m->t##_put = c->put_time, m->t##_breaker = c->breaker, m->t##_entries = c->entries,  \
    m->t##_bytes = c->bytes, m->t##_queued_puts = c->queued_puts,                        \
    m->t##_queued_bytes = c->queued_bytes, m->t##_pool_used = c->pool_used,              \
    m->t##_pool_idle = c->pool_idle, m->t##_pool_waiting = c->pool_waiting,              \
    m->t##_pool_wait_max_us = c->pool_wait_max_us
    if (behind->role == CACHER_ROLE_REDIS)
        COPY(redis);
    else
        COPY(store);
#undef COPY
}

static void update(struct cacher *cacher)
{
    struct cacher_metrics *m = cacher->metrics;
    const struct cacher_leases_counters *l = cacher_leases_counters(cacher->leases);
    const struct hotcache_counters *h = hotcache_counters(cacher->memory.results);
    const struct hotcache_counters *n = hotcache_counters(cacher->memory.refusals);

    m->coalesced = l->coalesced;
    m->parked = l->parked;
    m->park_timeouts = l->timeouts;
    m->park_aborted = l->aborted;
    m->crowded = l->crowded;
    m->looks = l->looks;
    m->looks_shared = l->shared;
    m->leases_granted = l->granted;
    m->leases_fulfilled = l->fulfilled;
    m->leases_expired = l->expired;
    m->leases_dropped = l->dropped;
    m->parked_now = l->parked_now;
    m->leases_now = l->leases_now;
    m->looks_now = cacher->tiers.looks;
    m->evictions = h->evicted;
    m->expired = h->expired + n->expired;
    m->squeezed = cacher->memory.counters.squeezed;
    m->purged = cacher->memory.counters.purged;
    m->entries = h->entries;
    m->bytes = h->bytes;
    m->bytes_max = cacher->memory.bytes_max;
    m->negative_entries = n->entries;
    m->level = cacher->pressure.held;
    for (unsigned i = 0; i < cacher->tiers.count; i++)
        if (cacher->tiers.behind[i].tier != NULL)
            update_tier(m, &cacher->tiers.behind[i]);
}

static json_t *memory_json(const struct cacher *cacher)
{
    const struct cacher_metrics *m = cacher->metrics;

    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:s}", "tier", "memory", "name",
                     "memory", "hits", (json_int_t)m->memory_hits, "misses",
                     (json_int_t)m->memory_misses, "entries", (json_int_t)m->entries,
                     "bytes", (json_int_t)m->bytes, "bytes_max", (json_int_t)m->bytes_max,
                     "level", cacher_level_name(cacher->pressure.held));
}

static json_t *tier_json(const struct cacher_behind *behind)
{
    struct cacher_tier *tier = behind->tier;
    const struct cacher_tier_counters *c = tier->class->counters(tier);
    json_t *one =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "tier",
                  cacher_role_name(behind->role), "name", tier->class->name, "breaker",
                  breaker_state_name((unsigned)c->breaker), "hits", (json_int_t)c->hits,
                  "misses", (json_int_t)c->misses, "errors", (json_int_t)c->errors,
                  "puts", (json_int_t)c->puts, "get_p50_us",
                  (json_int_t)metrics_quantile(&c->get_time, 0.5), "get_p99_us",
                  (json_int_t)metrics_quantile(&c->get_time, 0.99));

    if (behind->role == CACHER_ROLE_STORE) { /* Redis does not count ours */
        json_object_set_new(one, "entries", json_integer((json_int_t)c->entries));
        json_object_set_new(one, "bytes", json_integer((json_int_t)c->bytes));
    }
    if (one != NULL && tier->class->describe != NULL)
        tier->class->describe(tier, one);
    return one;
}

/* An array, which the monitor leaves out of what it counts: all the numbers are among
 * the metrics. */
static json_t *tiers_json(const struct cacher *cacher)
{
    json_t *all = json_array();

    json_array_append_new(all, memory_json(cacher));
    for (unsigned i = 0; i < cacher->tiers.count; i++)
        if (cacher->tiers.behind[i].tier != NULL)
            json_array_append_new(all, tier_json(&cacher->tiers.behind[i]));
    return all;
}

json_t *cacher_stats(void *arg)
{
    struct cacher *cacher = arg;

    update(cacher);
    json_t *stats = metrics_json(cacher_metrics_specs, cacher->metrics);
    if (stats != NULL)
        json_object_set_new(stats, "tiers", tiers_json(cacher));
    return stats;
}
