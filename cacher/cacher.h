/*
 * cacher.h - the process of the service "cache": frames in, frames out.
 *
 * Decides nothing by itself: leases.h says who computes and who waits, the runtime's hot
 * cache says what is kept, value.h what may be. One loop thread. A result is held once;
 * every answer shares its bytes. Behaviour: docs/PROTOCOL.md section 7.
 */
#ifndef CACHER_CACHER_H
#define CACHER_CACHER_H

#include "runtime/service.h"

#include <stdint.h>

struct cacher_options {
#include "runtime/options_struct.h"

#include "cacher/options.tbl"

#include "runtime/options_end.h"
};

struct cacher_metrics {
#include "runtime/metrics_struct.h"

#include "cacher/counters.tbl"

#include "runtime/metrics_end.h"
};

extern const struct metrics_spec cacher_metrics_specs[];
/* For service_main(). */
extern const struct service_spec cacher_spec;

#endif
