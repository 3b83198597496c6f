/*
 * metrics.h - counters, gauges and histograms, declared once in a table.
 *
 *   COUNTER(field, "help")                     uint64_t field; only grows
 *   GAUGE(field, "help")                       uint64_t field
 *   FAMILY(field, size, "label", name_fn, "help")  uint64_t field[size]; label value by
 *                                              const char *name_fn(unsigned index)
 *   HISTOGRAM(field, "help")                   struct metrics_histogram field, seconds
 *
 * A field `jobs_done` of service `broker` is `siftmesh_broker_jobs_done_total` to
 * Prometheus (gauges and histograms without _total, histograms with _seconds). Loop
 * thread only.
 */
#ifndef RUNTIME_METRICS_H
#define RUNTIME_METRICS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define METRICS_BUCKETS 20

/* Bucket i counts what took at most 100 us * 2^i; the last one is everything above. */
struct metrics_histogram {
    uint64_t bucket[METRICS_BUCKETS];
    uint64_t count, sum_us;
};

enum metrics_type {
    METRICS_COUNTER = 1,
    METRICS_GAUGE,
    METRICS_FAMILY,
    METRICS_HISTOGRAM
};

struct metrics_spec {
    const char *name; /* NULL ends a list */
    enum metrics_type type;
    const char *help;
    size_t offset, size; /* size: elements of a family */
    const char *label;
    const char *(*label_value)(unsigned index);
};

void metrics_observe(struct metrics_histogram *histogram, uint64_t us);
/* The value below which `fraction` (0 to 1) of all observations lie, interpolated in its
 * bucket; 0 when there are none. Microseconds. */
uint64_t metrics_quantile(const struct metrics_histogram *histogram, double fraction);

/* The field of a counter or gauge; NULL: the table has none of this name, or is NULL. */
uint64_t *metrics_value(const struct metrics_spec *specs, void *values, const char *name);

/* Prometheus text exposition format 0.0.4; help and type lines included. Zero members of
 * families are left out. */
void metrics_prometheus(const char *service, const struct metrics_spec *specs,
                        const void *values, FILE *out);
/* A new JSON object: name -> number (counters as name_total), families as name_total ->
 * {label: {value: number}}, histograms as {count, sum_us, p50_us, p99_us}. */
json_t *metrics_json(const struct metrics_spec *specs, const void *values);
/* Rows of a Markdown table, for docs/COUNTERS.md: name, type, help. No heading. */
void metrics_markdown(const char *service, const struct metrics_spec *specs, FILE *out);

#endif
