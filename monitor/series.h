/*
 * series.h - lines of Prometheus text, collected in any order, written in groups.
 *
 * The format wants all lines of one name together; JSON from several peers comes peer by
 * peer. One thread.
 */
#ifndef MONITOR_SERIES_H
#define MONITOR_SERIES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define MONITOR_SERIES_NAME_BYTES   160
#define MONITOR_SERIES_LABELS_BYTES 256

struct monitor_series_line {
    char name[MONITOR_SERIES_NAME_BYTES];
    char labels[MONITOR_SERIES_LABELS_BYTES]; /* key="value",...; or empty */
    double value;
    size_t order; /* of adding */
};

/* Zeroed with `max` set is ready. */
struct monitor_series {
    struct monitor_series_line *lines;
    size_t count, capacity, max;
    size_t left_out; /* beyond max, or without memory */
};

void monitor_series_free(struct monitor_series *series);

/* Bytes that a name cannot have become '_'. `labels` from monitor_series_label(). */
void monitor_series_add(struct monitor_series *series, const char *name,
                        const char *labels, double value);

/* Append key="value" to `labels`, escaped; left out when it does not fit whole. */
void monitor_series_label(char labels[MONITOR_SERIES_LABELS_BYTES], const char *key,
                          const char *value);

/* Sorts by name and labels, and writes all lines, untyped. Of lines with equal name and
 * labels the first one added: two peers may say that they are the same. */
void monitor_series_write(struct monitor_series *series, FILE *out);

#endif
