/*
 * extractor.h - the supervisor as a service: what its parts share.
 *
 *   extractor.c  service, session, timer, drain; who calls whom
 *   jobs.c       the mesh's verbs and the jobs in hand
 *   slots.c      the slot processes
 *
 * Loop thread only.
 */
#ifndef EXTRACTOR_EXTRACTOR_H
#define EXTRACTOR_EXTRACTOR_H

#include "extractor/jobs.h"
#include "extractor/options.h"
#include "extractor/slots.h"
#include "runtime/session.h"

extern const struct service_spec extractor_spec;

struct extractor {
    struct service *service;
    struct session *session; /* NULL until start() came that far */
    const struct extractor_options *options;
    struct extractor_metrics *metrics;
    struct extractor_slots *slots;
    struct extractor_jobs *jobs;
    uv_timer_t timer;
    bool timer_open, ticking_fast, announced;
    unsigned slots_default, slots_max;
    /* What the broker believes: the last READY less the JOBs that came since. */
    uint64_t told_credit, told_slots, told_us;
};

/* Send to the broker; what cannot be sent is counted. `body` and `payload` as for
 * session_send. */
void extractor_send(struct extractor *extractor, struct proto_envelope *envelope,
                    const void *body, zmq_msg_t *payload);

/* There is work that the timer watches. */
void extractor_wake(struct extractor *extractor);

/* A job has ended or slots have changed: tell the broker what we can take; end when
 * draining and nothing is left. */
void extractor_settle(struct extractor *extractor);

#endif
