/*
 * What leaves for the broker about JOBs.
 *
 * DONE proves delivery as START does, so START is sent for what waits only.
 */
#include "cacher/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A frame that cannot be sent is lost, as PROTOCOL section 1 says; the broker's waits
 * have an end. The session's queue holds more than jobs_max frames, so it is rare. */
static void send_about(struct cacher *cacher, const struct cacher_ticket *ticket,
                       enum proto_verb verb, enum proto_status status, const void *body,
                       zmq_msg_t *payload)
{
    struct proto_envelope envelope = {.verb = (uint8_t)verb,
                                      .status = (uint16_t)status,
                                      .priority = PROTO_PRIORITY_NORMAL,
                                      .attempt = ticket->attempt,
                                      .request = ticket->request,
                                      .trace = ticket->trace};

    if (session_send(cacher->session, &envelope, body, payload) < 0)
        cacher->metrics->lost_answers++;
}

/* ---- ends ---- */

static struct proto_outcome outcome_of(enum proto_status status, const char *cache)
{
    struct proto_outcome outcome = {0};

    snprintf(outcome.code, sizeof outcome.code, "%s", proto_status_code(status));
    snprintf(outcome.cache, sizeof outcome.cache, "%s", cache);
    return outcome;
}

void cacher_answer_start(struct cacher *cacher, const struct cacher_ticket *ticket)
{
    send_about(cacher, ticket, PROTO_START, PROTO_STATUS_OK,
               &(struct proto_start){.pid = (uint64_t)uv_os_getpid()}, NULL);
}

void cacher_answer_result(struct cacher *cacher, const struct cacher_ticket *ticket,
                          struct hotcache_value *value, const char *how)
{
    struct proto_outcome outcome = outcome_of(PROTO_STATUS_OK, how);

    send_about(cacher, ticket, PROTO_DONE, PROTO_STATUS_OK, &outcome,
               cacher_result_payload(value));
}

void cacher_answer_refusal(struct cacher *cacher, const struct cacher_ticket *ticket,
                           const struct hotcache_value *refusal, const char *how)
{
    const struct cacher_refusal *known = cacher_refusal_of(refusal);
    struct proto_outcome outcome = outcome_of(known->status, how);

    snprintf(outcome.detail, sizeof outcome.detail, "%s", known->detail);
    snprintf(outcome.blame, sizeof outcome.blame, "input");
    outcome.limit = known->limit;
    outcome.actual = known->actual;
    send_about(cacher, ticket, PROTO_DONE, known->status, &outcome, NULL);
}

void cacher_answer_end(struct cacher *cacher, const struct cacher_ticket *ticket,
                       enum proto_status status, const char *detail)
{
    struct proto_outcome outcome = outcome_of(status, "");

    snprintf(outcome.detail, sizeof outcome.detail, "%s", detail);
    send_about(cacher, ticket, PROTO_DONE, status, &outcome, NULL);
}

void cacher_answer_json(struct cacher *cacher, const struct cacher_ticket *ticket,
                        json_t *json)
{
    struct proto_outcome outcome = outcome_of(PROTO_STATUS_OK, "");
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    zmq_msg_t payload;

    json_decref(json);
    if (text == NULL || mesh_payload_copy(&payload, text, strlen(text)) < 0) {
        cacher_answer_end(cacher, ticket, PROTO_STATUS_INTERNAL, "out of memory");
    } else {
        send_about(cacher, ticket, PROTO_DONE, PROTO_STATUS_OK, &outcome, &payload);
        zmq_msg_close(&payload);
    }
    free(text);
}

void cacher_answer_bad(struct cacher *cacher, const struct cacher_ticket *ticket,
                       const char *why)
{
    cacher->metrics->bad_jobs++;
    cacher_answer_end(cacher, ticket, PROTO_STATUS_BAD_REQUEST, why);
}

void cacher_answer_miss(struct cacher *cacher, const struct cacher_ticket *ticket,
                        uint64_t lease, uint64_t retry_ms)
{
    struct proto_outcome outcome = outcome_of(PROTO_STATUS_MISS, "miss");

    cacher->metrics->misses++;
    outcome.lease = lease;
    outcome.retry_after_ms = retry_ms;
    if (lease != 0)
        outcome.lease_ms = cacher->options->lease_ms;
    send_about(cacher, ticket, PROTO_DONE, PROTO_STATUS_MISS, &outcome, NULL);
}

void cacher_answer_leaving(struct cacher *cacher, const struct cacher_ticket *ticket)
{
    struct proto_outcome outcome = outcome_of(PROTO_STATUS_DRAINING, "");

    outcome.retryable = 1;
    snprintf(outcome.detail, sizeof outcome.detail, "the cacher is shutting down");
    snprintf(outcome.blame, sizeof outcome.blame, "worker");
    send_about(cacher, ticket, PROTO_FAIL, PROTO_STATUS_DRAINING, &outcome, NULL);
}

/* ---- signs of life ---- */

static void say_progress(const struct cacher_ticket *ticket, void *arg)
{
    send_about(arg, ticket, PROTO_PROGRESS, PROTO_STATUS_OK, NULL, NULL);
}

void cacher_answer_progress(struct cacher *cacher)
{
    cacher_leases_each(cacher->leases, say_progress, cacher);
    for (const struct cacher_errand *at = cacher->errands; at != NULL; at = at->next)
        if (!at->unwanted)
            say_progress(&at->ticket, cacher);
}

/* ---- credit ---- */

static uint64_t room(const struct cacher *cacher)
{
    return cacher->options->jobs_max -
           cacher_leases_counters(cacher->leases)->parked_now - cacher->errand_count;
}

static void say_ready(struct cacher *cacher)
{
    struct proto_envelope envelope = {.verb = PROTO_READY,
                                      .priority = PROTO_PRIORITY_NORMAL};
    struct proto_ready ready = {.credit = room(cacher)};

    if (cacher->leaving)
        return;
    if (session_send(cacher->session, &envelope, &ready, NULL) == 0)
        cacher->credit = ready.credit;
}

void cacher_answer_use_credit(struct cacher *cacher)
{
    if (cacher->credit > 0)
        cacher->credit--;
    if (cacher->credit <= room(cacher) / 2)
        say_ready(cacher);
}

void cacher_answer_ready(struct cacher *cacher)
{
    if (cacher->credit != room(cacher))
        say_ready(cacher);
}
