/*
 * monitor.h - the process that samples memory and CPU, decides, tells the broker, and
 * shows operators what it saw and did.
 *
 * It steers nothing by itself: its targets and levels have a time to live, so that a
 * dead monitor leaves the broker's default. One loop thread.
 */
#ifndef MONITOR_MONITOR_H
#define MONITOR_MONITOR_H

#include "runtime/service.h"

#include <stdint.h>

struct monitor_options {
#include "runtime/options_struct.h"

#include "monitor/options.tbl"

#include "runtime/options_end.h"
};

struct monitor_metrics {
#include "runtime/metrics_struct.h"

#include "monitor/counters.tbl"

#include "runtime/metrics_end.h"
};

extern const struct metrics_spec monitor_metrics_specs[];

/* For service_main(). */
extern const struct service_spec monitor_spec;

#endif
