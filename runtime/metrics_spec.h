/* metrics_spec.h - makes a metrics table into specs. No guard: see metrics.h. */
#define COUNTER(field, help)                                                             \
    {#field, METRICS_COUNTER, help, offsetof(METRICS_OF, field), 1, NULL, NULL},
#define GAUGE(field, help)                                                               \
    {#field, METRICS_GAUGE, help, offsetof(METRICS_OF, field), 1, NULL, NULL},
#define FAMILY(field, size, label, name, help)                                           \
    {#field, METRICS_FAMILY, help, offsetof(METRICS_OF, field), size, label, name},
#define HISTOGRAM(field, help)                                                           \
    {#field, METRICS_HISTOGRAM, help, offsetof(METRICS_OF, field), 1, NULL, NULL},
