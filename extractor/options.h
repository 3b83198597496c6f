/*
 * options.h - the extractor's options and metrics as structs; the tables are the manual.
 */
#ifndef EXTRACTOR_OPTIONS_H
#define EXTRACTOR_OPTIONS_H

#include "runtime/metrics.h"
#include "runtime/options.h"

struct extractor_options {
#include "runtime/options_struct.h"

#include "extractor/options.tbl"

#include "runtime/options_end.h"
};

struct extractor_metrics {
#include "runtime/metrics_struct.h"

#include "extractor/counters.tbl"

#include "runtime/metrics_end.h"
};

extern const struct option_spec extractor_option_specs[];
extern const struct metrics_spec extractor_metrics_specs[];

#endif
