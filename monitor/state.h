/*
 * state.h - what the monitor's files share. No one else includes it.
 *
 *   monitor.c   life of the process: sample, decide, tell the broker
 *   web.c       HTTP: who asks for what
 *   report.c    the answers: Prometheus text, JSON
 *   page.c      the page that shows them
 */
#ifndef MONITOR_STATE_H
#define MONITOR_STATE_H

#include "monitor/monitor.h"
#include "monitor/policy.h"
#include "monitor/ring.h"
#include "monitor/sample.h"
#include "monitor/stats.h"
#include "runtime/browser.h"
#include "runtime/http.h"
#include "runtime/http_listen.h"
#include "runtime/session.h"

struct monitor {
    struct service *service;
    const struct monitor_options *options;
    struct monitor_metrics *metrics;
    struct session *session;
    struct http_server *server;
    struct http_listen at;
    struct browser_rules browser;
    uv_timer_t timer;

    struct monitor_sampler sampler;
    struct monitor_sample sample; /* the last one */
    struct monitor_policy policy;
    struct monitor_load load;
    struct monitor_ring ring;

    json_t *stats; /* the broker's last answer, or NULL */
    uint64_t stats_us;
    uint64_t seq;     /* of the last SCALE */
    uint64_t mode_us; /* when MODE was sent last */
    bool withdraw;    /* the target is the default again: to be said once */
};

/* Listen; 0 or -errno, logged. */
int monitor_web_open(struct monitor *monitor);
/* Close, and forget monitor.port. */
void monitor_web_close(struct monitor *monitor);

/* Malloc'd texts of `*size` bytes; NULL without memory. */
char *monitor_report_metrics(const struct monitor *monitor, size_t *size);
char *monitor_report_status(const struct monitor *monitor, size_t *size);
char *monitor_report_decisions(const struct monitor *monitor, size_t *size);

extern const char monitor_page[];

#endif
