#include "runtime/metrics.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

/* Upper end of bucket 0; each bucket's is twice the one before. */
#define FIRST_BUCKET_US 100

static uint64_t bucket_top_us(unsigned bucket)
{
    return (uint64_t)FIRST_BUCKET_US << bucket;
}

void metrics_observe(struct metrics_histogram *histogram, uint64_t us)
{
    unsigned bucket = 0;
    while (bucket < METRICS_BUCKETS - 1 && us > bucket_top_us(bucket))
        bucket++;
    histogram->bucket[bucket]++;
    histogram->count++;
    histogram->sum_us += us;
}

uint64_t metrics_quantile(const struct metrics_histogram *histogram, double fraction)
{
    if (histogram->count == 0)
        return 0;
    double rank = fraction > 1 ? 1 : fraction > 0 ? fraction : 0; /* NaN is 0 too */
    rank *= (double)histogram->count;

    double below = 0, bottom = 0;
    for (unsigned i = 0; i < METRICS_BUCKETS - 1; i++) {
        double here = (double)histogram->bucket[i], top = (double)bucket_top_us(i);
        if (here > 0 && below + here >= rank)
            return (uint64_t)(bottom + (top - bottom) * (rank - below) / here);
        below += here;
        bottom = top;
    }
    return (uint64_t)bottom; /* the last bucket has no end to interpolate to */
}

uint64_t *metrics_value(const struct metrics_spec *specs, void *values, const char *name)
{
    for (const struct metrics_spec *spec = specs; spec != NULL && spec->name != NULL;
         spec++)
        if ((spec->type == METRICS_COUNTER || spec->type == METRICS_GAUGE) &&
            strcmp(spec->name, name) == 0)
            return (uint64_t *)(void *)((char *)values + spec->offset);
    return NULL;
}

static uint64_t value_at(const struct metrics_spec *spec, const void *values,
                         size_t index)
{
    uint64_t value; /* by memcpy: `values` is any struct */
    memcpy(&value, (const char *)values + spec->offset + index * sizeof value,
           sizeof value);
    return value;
}

static const struct metrics_histogram *histogram_at(const struct metrics_spec *spec,
                                                    const void *values)
{
    return (const void *)((const char *)values + spec->offset);
}

static const char *suffix(const struct metrics_spec *spec)
{
    switch (spec->type) {
    case METRICS_COUNTER:
    case METRICS_FAMILY:
        return "_total";
    case METRICS_HISTOGRAM:
        return "_seconds";
    case METRICS_GAUGE:
        break;
    }
    return "";
}

static const char *type_name(const struct metrics_spec *spec)
{
    return spec->type == METRICS_HISTOGRAM ? "histogram"
           : spec->type == METRICS_GAUGE   ? "gauge"
                                           : "counter";
}

struct label_text {
    char text[24];
};

/* A name_fn that has no name for an index gets the number instead. */
static const char *label_at(const struct metrics_spec *spec, unsigned index,
                            struct label_text *number)
{
    const char *label = spec->label_value(index);
    if (label != NULL)
        return label;
    snprintf(number->text, sizeof number->text, "%u", index);
    return number->text;
}

/* ---- Prometheus ---- */

/* The format's escapes: a backslash and a line's end; in a label also the quote. */
static void escaped(FILE *out, const char *text, bool quotes)
{
    for (; *text != '\0'; text++) {
        if (*text == '\n')
            fputs("\\n", out);
        else if (*text == '\\' || (quotes && *text == '"'))
            fprintf(out, "\\%c", *text);
        else
            fputc(*text, out);
    }
}

static void prometheus_family(const char *name, const struct metrics_spec *spec,
                              const void *values, FILE *out)
{
    struct label_text number;

    for (unsigned i = 0; i < spec->size; i++) {
        uint64_t value = value_at(spec, values, i);
        if (value == 0)
            continue;
        fprintf(out, "%s{%s=\"", name, spec->label);
        escaped(out, label_at(spec, i, &number), true);
        fprintf(out, "\"} %" PRIu64 "\n", value);
    }
}

static void prometheus_histogram(const char *name, const struct metrics_histogram *h,
                                 FILE *out)
{
    uint64_t below = 0;

    for (unsigned i = 0; i < METRICS_BUCKETS - 1; i++) {
        below += h->bucket[i];
        fprintf(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name,
                (double)bucket_top_us(i) / 1e6, below);
    }
    fprintf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, h->count);
    fprintf(out, "%s_sum %" PRIu64 ".%06" PRIu64 "\n", name, h->sum_us / 1000000,
            h->sum_us % 1000000);
    fprintf(out, "%s_count %" PRIu64 "\n", name, h->count);
}

void metrics_prometheus(const char *service, const struct metrics_spec *specs,
                        const void *values, FILE *out)
{
    for (const struct metrics_spec *spec = specs; spec->name != NULL; spec++) {
        char name[160];
        snprintf(name, sizeof name, "siftmesh_%s_%s%s", service, spec->name,
                 suffix(spec));

        fprintf(out, "# HELP %s ", name);
        escaped(out, spec->help, false);
        fprintf(out, "\n# TYPE %s %s\n", name, type_name(spec));
        if (spec->type == METRICS_FAMILY)
            prometheus_family(name, spec, values, out);
        else if (spec->type == METRICS_HISTOGRAM)
            prometheus_histogram(name, histogram_at(spec, values), out);
        else
            fprintf(out, "%s %" PRIu64 "\n", name, value_at(spec, values, 0));
    }
}

/* ---- JSON ---- */

/* JSON's integers are signed in jansson: what no counter reaches is cut. */
static json_t *json_u64(uint64_t value)
{
    return json_integer((json_int_t)(value > INT64_MAX ? INT64_MAX : value));
}

/* {label: {value: count}} */
static json_t *json_family(const struct metrics_spec *spec, const void *values)
{
    json_t *family = json_object();
    struct label_text number;

    for (unsigned i = 0; i < spec->size; i++) {
        uint64_t value = value_at(spec, values, i);
        if (value == 0)
            continue;
        if (json_object_set_new(family, label_at(spec, i, &number), json_u64(value)) <
            0) {
            json_decref(family);
            return NULL;
        }
    }
    return family;
}

static json_t *json_histogram(const struct metrics_histogram *h)
{
    return json_pack("{s:o, s:o, s:o, s:o}", "count", json_u64(h->count), "sum_us",
                     json_u64(h->sum_us), "p50_us", json_u64(metrics_quantile(h, 0.5)),
                     "p99_us", json_u64(metrics_quantile(h, 0.99)));
}

json_t *metrics_json(const struct metrics_spec *specs, const void *values)
{
    json_t *all = json_object();

    for (const struct metrics_spec *spec = specs; spec->name != NULL; spec++) {
        char name[128];
        json_t *one;
        snprintf(name, sizeof name, "%s%s", spec->name,
                 spec->type == METRICS_HISTOGRAM ? "" : suffix(spec));
        if (spec->type == METRICS_FAMILY)
            one = json_pack("{s:o}", spec->label, json_family(spec, values));
        else if (spec->type == METRICS_HISTOGRAM)
            one = json_histogram(histogram_at(spec, values));
        else
            one = json_u64(value_at(spec, values, 0));
        if (json_object_set_new(all, name, one) < 0) { /* also for NULL */
            json_decref(all);
            return NULL;
        }
    }
    return all;
}

/* ---- Markdown ---- */

/* A bar or a line's end would end the cell. */
static void markdown_cell(FILE *out, const char *text)
{
    for (; *text != '\0'; text++)
        fprintf(out, *text == '|' ? "\\%c" : "%c", *text == '\n' ? ' ' : *text);
}

void metrics_markdown(const char *service, const struct metrics_spec *specs, FILE *out)
{
    for (const struct metrics_spec *spec = specs; spec->name != NULL; spec++) {
        fprintf(out, "| `siftmesh_%s_%s%s", service, spec->name, suffix(spec));
        if (spec->type == METRICS_FAMILY)
            fprintf(out, "{%s}", spec->label);
        fprintf(out, "` | %s | ", type_name(spec));
        markdown_cell(out, spec->help);
        fprintf(out, " |\n");
    }
}
