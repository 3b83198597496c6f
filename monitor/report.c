#include "monitor/state.h"

#include <stdlib.h>
#include <string.h>

/* ---- Prometheus ---- */

char *monitor_report_metrics(const struct monitor *monitor, size_t *size)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, size);

    if (out == NULL)
        return NULL;
    metrics_prometheus("monitor", monitor_metrics_specs, monitor->metrics, out);
    if (monitor->stats != NULL)
        (void)monitor_stats_prometheus(monitor->stats, out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* ---- JSON ---- */

static char *dump(json_t *json, size_t *size)
{
    char *text =
        json != NULL
            ? json_dumps(json, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(10))
            : NULL;

    json_decref(json);
    if (text != NULL)
        *size = strlen(text);
    return text;
}

static json_t *sample_json(const struct monitor_sample *sample)
{
    json_t *memory = json_pack(
        "{s:b, s:I, s:I, s:f, s:s, s:s}", "known", sample->memory_known, "used_bytes",
        (json_int_t)sample->memory_used_bytes, "limit_bytes",
        (json_int_t)sample->memory_limit_bytes, "percent", sample->memory_permille / 10.0,
        "from", sample->memory_from != NULL ? sample->memory_from : "", "why",
        sample->why);
    json_t *cpu = json_pack("{s:b, s:f, s:s, s:s}", "known", sample->cpu_known, "percent",
                            sample->cpu_permille / 10.0, "from",
                            sample->cpu_from != NULL ? sample->cpu_from : "", "why",
                            sample->why_cpu);
    json_t *stall = json_pack("{s:b, s:f}", "known", sample->stall_known, "percent",
                              sample->stall_permille / 10.0);

    return json_pack("{s:o, s:o, s:o}", "memory", memory, "cpu", cpu, "stall", stall);
}

static json_t *decision_json(const struct monitor_ring_entry *entry)
{
    char text[MONITOR_REASON_BYTES + 64];

    monitor_decision_text(&entry->decision, text, sizeof text);
    return json_pack("{s:I, s:I, s:s}", "number", (json_int_t)entry->number, "time_ms",
                     (json_int_t)entry->wall_ms, "text", text);
}

/* The newest first. */
static json_t *decisions_json(const struct monitor_ring *ring)
{
    json_t *all = json_array();
    const struct monitor_ring_entry *entry;

    for (uint64_t i = 0; (entry = monitor_ring_last(ring, i)) != NULL; i++)
        json_array_append_new(all, decision_json(entry));
    return all;
}

/* `wanted` is the monitor's own wish. What holds is the broker's to say, who hears an
 * operator, too; its word is as old as its statistics. */
static json_t *slots_json(const struct monitor *monitor)
{
    const struct monitor_policy *policy = &monitor->policy;
    json_t *services = json_object_get(monitor->stats, "services");
    json_t *ours = json_object_get(services, monitor->options->service);
    json_t *target = json_object_get(ours, "target");
    const char *reason = json_string_value(json_object_get(ours, "reason"));
    uint64_t wanted = monitor_policy_slots(policy, &monitor->load);

    if (reason == NULL)
        reason = policy->target != 0 ? policy->target_reason : "";
    return json_pack(
        "{s:s, s:b, s:I, s:I, s:I, s:s}", "service", monitor->options->service, "known",
        monitor->load.known, "wanted", (json_int_t)wanted, "target",
        target != NULL ? json_integer_value(target) : (json_int_t)wanted, "default",
        (json_int_t)monitor->load.slots_default, "reason", reason);
}

static json_t *broker_json(const struct monitor *monitor)
{
    uint64_t now_us = service_now_us(monitor->service);
    bool have = monitor->stats != NULL;

    return json_pack("{s:b, s:I, s:O*}", "up", session_is_up(monitor->session), "age_ms",
                     (json_int_t)(have ? (now_us - monitor->stats_us) / 1000 : 0),
                     "stats", monitor->stats);
}

char *monitor_report_status(const struct monitor *monitor, size_t *size)
{
    json_t *all = json_pack(
        "{s:s, s:o, s:o, s:s, s:s, s:b, s:I, s:o}", "instance",
        service_instance(monitor->service), "sample", sample_json(&monitor->sample),
        "slots", slots_json(monitor), "level", monitor_level_name(monitor->policy.level),
        "level_reason", monitor->policy.level_reason, "blind", monitor->policy.blind,
        "decisions", (json_int_t)monitor->ring.count, "broker", broker_json(monitor));

    return dump(all, size);
}

char *monitor_report_decisions(const struct monitor *monitor, size_t *size)
{
    return dump(json_pack("{s:o}", "decisions", decisions_json(&monitor->ring)), size);
}
