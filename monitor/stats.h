/*
 * stats.h - the state that the broker answers STATS with, read and shown.
 *
 * It is JSON from another process, and carries what each peer said of itself: names are
 * cut to what Prometheus allows, texts escaped, and the amount is bounded. One thread.
 */
#ifndef MONITOR_STATS_H
#define MONITOR_STATS_H

#include "monitor/policy.h"

#include <jansson.h>
#include <stdio.h>

#define MONITOR_STATS_BYTES_MAX (8u << 20) /* of the broker's answer */
#define MONITOR_SERIES_MAX      8192       /* lines of metrics made from it */

/* NULL for what is too large or not a JSON object. */
json_t *monitor_stats_parse(const void *bytes, size_t size);

/* What the policy needs. Unknown when there is no such service. */
struct monitor_load monitor_stats_load(const json_t *stats, const char *service);

/*
 * Every number in it as Prometheus text: siftmesh_broker_* for the broker's own,
 * siftmesh_<process>_*{instance="..."} for what each peer reports. Types are not known
 * here, so these are untyped and without _total. 0, or -ENOMEM.
 */
int monitor_stats_prometheus(const json_t *stats, FILE *out);

#endif
