#include "monitor/series.h"
#include "proto/text.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

void monitor_series_free(struct monitor_series *series)
{
    free(series->lines);
    *series = (struct monitor_series){0};
}

static bool reserve(struct monitor_series *series)
{
    if (series->count < series->capacity)
        return true;
    size_t capacity = series->capacity == 0 ? 256 : series->capacity * 2;
    if (capacity > series->max)
        capacity = series->max;
    if (capacity <= series->count)
        return false;
    struct monitor_series_line *lines =
        realloc(series->lines, capacity * sizeof lines[0]);
    if (lines == NULL)
        return false;
    series->lines = lines;
    series->capacity = capacity;
    return true;
}

void monitor_series_add(struct monitor_series *series, const char *name,
                        const char *labels, double value)
{
    if (!reserve(series)) {
        series->left_out++;
        return;
    }
    struct monitor_series_line *line = &series->lines[series->count];
    snprintf(line->name, sizeof line->name, "%s", name);
    snprintf(line->labels, sizeof line->labels, "%s", labels);
    for (char *c = line->name; *c != '\0'; c++)
        if (!isascii((unsigned char)*c) || (!isalnum((unsigned char)*c) && *c != '_'))
            *c = '_';
    line->value = value;
    line->order = series->count++;
}

void monitor_series_label(char labels[MONITOR_SERIES_LABELS_BYTES], const char *key,
                          const char *value)
{
    char text[MONITOR_SERIES_LABELS_BYTES], clean[MONITOR_SERIES_LABELS_BYTES];
    size_t used = strlen(labels);
    size_t n = (size_t)snprintf(text, sizeof text, "%s%s=\"", used > 0 ? "," : "", key);

    value = proto_text_copy(value, clean, sizeof clean);
    for (; *value != '\0' && n + 4 < sizeof text; value++) {
        unsigned char c = (unsigned char)*value;
        if (c == '"' || c == '\\')
            text[n++] = '\\';
        text[n++] = (char)c;
    }
    if (*value != '\0' || n + 2 > sizeof text ||
        used + n + 2 > MONITOR_SERIES_LABELS_BYTES)
        return;
    text[n++] = '"';
    text[n] = '\0';
    memcpy(labels + used, text, n + 1);
}

/* metrics.h names counters so, and nothing else. */
static const char *type_of(const char *name)
{
    size_t length = strlen(name), suffix = strlen("_total");
    return length > suffix && strcmp(name + length - suffix, "_total") == 0 ? "counter"
                                                                            : "untyped";
}

static int compare(const void *a, const void *b)
{
    const struct monitor_series_line *x = a, *y = b;
    int order = strcmp(x->name, y->name);

    if (order == 0)
        order = strcmp(x->labels, y->labels);
    if (order != 0)
        return order;
    return x->order < y->order ? -1 : x->order > y->order;
}

void monitor_series_write(struct monitor_series *series, FILE *out)
{
    const struct monitor_series_line *before = NULL;

    if (series->count > 0)
        qsort(series->lines, series->count, sizeof series->lines[0], compare);
    for (size_t i = 0; i < series->count; i++) {
        const struct monitor_series_line *line = &series->lines[i];
        bool same_name = before != NULL && strcmp(before->name, line->name) == 0;
        if (same_name && strcmp(before->labels, line->labels) == 0)
            continue;
        if (!same_name)
            fprintf(out, "# TYPE %s %s\n", line->name, type_of(line->name));
        if (line->labels[0] != '\0')
            fprintf(out, "%s{%s} %.15g\n", line->name, line->labels, line->value);
        else
            fprintf(out, "%s %.15g\n", line->name, line->value);
        before = line;
    }
}
