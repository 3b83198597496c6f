#include "extractor/options.h"

const struct option_spec extractor_option_specs[] = {
#define OPTIONS_OF struct extractor_options
#include "runtime/options_spec.h"

#include "extractor/options.tbl"

#include "runtime/options_end.h"
    {0}};

const struct metrics_spec extractor_metrics_specs[] = {
#define METRICS_OF struct extractor_metrics
#include "runtime/metrics_spec.h"

#include "extractor/counters.tbl"

#include "runtime/metrics_end.h"
    {0}};
