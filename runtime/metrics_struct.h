/* metrics_struct.h - makes a metrics table into fields. No guard: see metrics.h. */
#define COUNTER(field, help)                   uint64_t field;
#define GAUGE(field, help)                     uint64_t field;
#define FAMILY(field, size, label, name, help) uint64_t field[size];
#define HISTOGRAM(field, help)                 struct metrics_histogram field;
