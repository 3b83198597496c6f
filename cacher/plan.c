#include "cacher/plan.h"

#include <errno.h>

#define REDIS_ENTRY_BYTES 216
#define REDIS_SDS_BYTES   6 /* header and NUL of a string of up to 64 KB */
#define CURVE_OCTAVES     4 /* each way from the bound; two points an octave */

int cacher_plan_open(struct cacher_plan *plan, uint64_t seed)
{
    *plan = (struct cacher_plan){.reuse = cacher_reuse_new(PLAN_REUSE_KEYS, seed)};
    return plan->reuse != NULL ? 0 : -ENOMEM;
}

void cacher_plan_close(struct cacher_plan *plan)
{
    cacher_reuse_free(plan->reuse);
    plan->reuse = NULL;
}

void cacher_plan_get(struct cacher_plan *plan, const uint8_t key[PROTO_DIGEST_BYTES],
                     uint64_t bytes)
{
    plan->gets++;
    cacher_reuse_get(plan->reuse, key);
    if (bytes > 0)
        cacher_reuse_size(plan->reuse, key, bytes);
}

void cacher_plan_found(struct cacher_plan *plan, const uint8_t key[PROTO_DIGEST_BYTES],
                       uint64_t bytes)
{
    cacher_reuse_size(plan->reuse, key, bytes);
}

void cacher_plan_made(struct cacher_plan *plan, const uint8_t key[PROTO_DIGEST_BYTES],
                      uint64_t bytes, uint64_t payload_bytes, uint64_t record_bytes)
{
    cacher_reuse_size(plan->reuse, key, bytes);
    plan->results++;
    plan->bytes += payload_bytes;
    plan->redis_bytes += cacher_plan_redis_bytes(record_bytes);
}

void cacher_plan_tick(struct cacher_plan *plan, uint64_t now_us)
{
    if (plan->ticked_us != 0 && now_us > plan->ticked_us) {
        double seconds = (double)(now_us - plan->ticked_us) / 1e6;
        double gets = (double)(plan->gets - plan->gets_before) / seconds;
        double results = (double)(plan->results - plan->results_before) / seconds;
        plan->seconds += seconds;
        double window = plan->seconds < PLAN_WINDOW_S ? plan->seconds : PLAN_WINDOW_S;
        double weight = seconds < window ? seconds / window : 1;
        plan->gets_per_s += (gets - plan->gets_per_s) * weight;
        plan->results_per_s += (results - plan->results_per_s) * weight;
    }
    plan->gets_before = plan->gets;
    plan->results_before = plan->results;
    plan->ticked_us = now_us;
}

/* jemalloc: steps of 16 up to 128, then four in each doubling. */
static uint64_t size_class(uint64_t bytes)
{
    if (bytes <= 128)
        return (bytes + 15) / 16 * 16;
    uint64_t step = (UINT64_C(1) << (63 - __builtin_clzll(bytes - 1))) / 4;
    return (bytes + step - 1) / step * step;
}

uint64_t cacher_plan_redis_bytes(uint64_t bytes)
{
    return size_class(bytes + REDIS_SDS_BYTES) + REDIS_ENTRY_BYTES;
}

static json_t *curve_json(const struct cacher_plan *plan, uint64_t bound)
{
    json_t *curve = json_array();

    for (int i = -2 * CURVE_OCTAVES; i <= 2 * CURVE_OCTAVES; i++) {
        uint64_t bytes = i < 0 ? bound >> -((i - 1) / 2) : bound << i / 2;
        if (i % 2 != 0) /* half of an octave up, near enough */
            bytes += bytes * 2 / 5;
        if (bytes > 0)
            json_array_append_new(
                curve, json_pack("{s:I, s:f}", "bytes", (json_int_t)bytes, "hit_ratio",
                                 cacher_reuse_hit_ratio(plan->reuse, bytes)));
    }
    return curve;
}

static double ratio(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

json_t *cacher_plan_json(const struct cacher_plan *plan,
                         const struct cacher_plan_memory *memory)
{
    struct cacher_reuse_sample sample = cacher_reuse_sample(plan->reuse);
    double made = (double)plan->results;
    double in_redis = plan->results_per_s * (double)memory->ttl_s;
    double redis_entry = ratio((double)plan->redis_bytes, made);
    json_t *traffic = json_pack(
        "{s:f, s:f, s:f}", "window_s",
        plan->seconds < PLAN_WINDOW_S ? plan->seconds : (double)PLAN_WINDOW_S,
        "gets_per_s", plan->gets_per_s, "new_results_per_s", plan->results_per_s);
    json_t *entry =
        json_pack("{s:I, s:f, s:f, s:f}", "results", (json_int_t)plan->results,
                  "mean_bytes", ratio((double)plan->bytes, made), "memory_bytes",
                  ratio((double)memory->bytes, (double)memory->entries), "redis_bytes",
                  redis_entry);
    json_t *held = json_pack(
        "{s:I, s:I, s:I, s:f}", "bytes_max", (json_int_t)memory->bytes_max, "bytes",
        (json_int_t)memory->bytes, "entries", (json_int_t)memory->entries, "hit_ratio",
        ratio((double)memory->hits, (double)(memory->hits + memory->misses)));
    json_t *redis = json_pack("{s:I, s:f, s:f}", "ttl_s", (json_int_t)memory->ttl_s,
                              "entries", in_redis, "bytes", in_redis * redis_entry);
    json_t *watched = json_pack("{s:I, s:f, s:f}", "keys", (json_int_t)sample.keys,
                                "rate", sample.rate, "requests", sample.requests);

    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "traffic", traffic, "entry", entry,
                     "memory", held, "redis", redis, "sample", watched, "curve",
                     curve_json(plan, memory->bytes_max));
}
