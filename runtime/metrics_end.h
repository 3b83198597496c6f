/* metrics_end.h - ends metrics_struct.h or metrics_spec.h. No guard: see metrics.h. */
#undef COUNTER
#undef GAUGE
#undef FAMILY
#undef HISTOGRAM
