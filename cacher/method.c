/*
 * The four methods of the service "cache", and the frames that answer them.
 *
 * DONE proves delivery as START does, so START is sent for what is parked only.
 */
#include "cacher/state.h"
#include "cacher/tier/ttl.h"
#include "cacher/value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARGIN_MS 20 /* a parked get is answered so long before its budget ends */

/* ---- a result in memory ----
 *
 * hotcache's references are for one thread, and ZeroMQ frees what it has sent on its
 * own. So each value owns a zmq_msg_t: sending takes a zmq_msg_copy() of it, whose count
 * is libzmq's own and atomic, and the bytes go out without being copied. They are copied
 * once, when they arrive: a received message may be a piece of a larger receive buffer,
 * which it would keep alive uncounted.
 */

struct value {
    struct hotcache_value shared; /* first: destroy gets this */
    zmq_msg_t payload;
};

static void value_destroy(struct hotcache_value *shared)
{
    struct value *value = (struct value *)shared;
    zmq_msg_close(&value->payload);
    free(value);
}

static struct hotcache_value *value_new(const void *bytes, size_t size)
{
    struct value *value = calloc(1, sizeof *value);
    if (value == NULL)
        return NULL;
    if (mesh_payload_copy(&value->payload, bytes, size) < 0) {
        free(value);
        return NULL;
    }
    value->shared = (struct hotcache_value){.bytes = zmq_msg_data(&value->payload),
                                            .size = size,
                                            .references = 1,
                                            .destroy = value_destroy};
    return &value->shared;
}

static zmq_msg_t *value_payload(struct hotcache_value *shared)
{
    return &((struct value *)shared)->payload;
}

/* ---- answers ---- */

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

static void answer_result(struct cacher *cacher, const struct cacher_ticket *ticket,
                          struct hotcache_value *value, const char *how)
{
    struct proto_outcome outcome = {0};

    snprintf(outcome.code, sizeof outcome.code, "%s", proto_status_code(PROTO_STATUS_OK));
    snprintf(outcome.cache, sizeof outcome.cache, "%s", how);
    send_about(cacher, ticket, PROTO_DONE, PROTO_STATUS_OK, &outcome,
               value_payload(value));
}

static void answer_end(struct cacher *cacher, const struct cacher_ticket *ticket,
                       enum proto_status status, const char *detail)
{
    struct proto_outcome outcome = {0};

    snprintf(outcome.code, sizeof outcome.code, "%s", proto_status_code(status));
    snprintf(outcome.detail, sizeof outcome.detail, "%s", detail);
    send_about(cacher, ticket, PROTO_DONE, status, &outcome, NULL);
}

static void refuse(struct cacher *cacher, const struct cacher_ticket *ticket,
                   const char *why)
{
    cacher->metrics->bad_jobs++;
    answer_end(cacher, ticket, PROTO_STATUS_BAD_REQUEST, why);
}

/* `lease` 0: compute without one, or, with `retry_ms`, ask again. */
static void answer_miss(struct cacher *cacher, const struct cacher_ticket *ticket,
                        uint64_t lease, uint64_t retry_ms)
{
    struct proto_outcome outcome = {.lease = lease, .retry_after_ms = retry_ms};

    cacher->metrics->misses++;
    if (lease != 0)
        outcome.lease_ms = cacher->options->lease_ms;
    snprintf(outcome.code, sizeof outcome.code, "%s",
             proto_status_code(PROTO_STATUS_MISS));
    snprintf(outcome.cache, sizeof outcome.cache, "miss");
    send_about(cacher, ticket, PROTO_DONE, PROTO_STATUS_MISS, &outcome, NULL);
}

static void answer_leaving(struct cacher *cacher, const struct cacher_ticket *ticket)
{
    struct proto_outcome outcome = {.retryable = 1};

    snprintf(outcome.code, sizeof outcome.code, "%s",
             proto_status_code(PROTO_STATUS_DRAINING));
    snprintf(outcome.detail, sizeof outcome.detail, "the cacher is shutting down");
    snprintf(outcome.blame, sizeof outcome.blame, "worker");
    send_about(cacher, ticket, PROTO_FAIL, PROTO_STATUS_DRAINING, &outcome, NULL);
}

/* How a get that was parked ends. */
void cacher_method_parked_end(const struct cacher_ticket *ticket,
                              enum cacher_answer answer, uint64_t lease, void *arg)
{
    struct cacher *cacher = arg;

    switch (answer) {
    case CACHER_ANSWER_RESULT:
        answer_result(cacher, ticket, cacher->fresh, "coalesced");
        break;
    case CACHER_ANSWER_LEASE:
        answer_miss(cacher, ticket, lease, 0);
        break;
    case CACHER_ANSWER_TIMEOUT:
        answer_miss(cacher, ticket, 0, 1);
        break;
    case CACHER_ANSWER_LEAVING:
        answer_leaving(cacher, ticket);
        break;
    }
}

/* ---- credit ---- */

static void say_ready(struct cacher *cacher)
{
    uint64_t parked = cacher_leases_counters(cacher->leases)->parked_now;
    struct proto_envelope envelope = {.verb = PROTO_READY,
                                      .priority = PROTO_PRIORITY_NORMAL};
    struct proto_ready ready = {.credit = cacher->options->jobs_max - parked};

    if (cacher->leaving)
        return;
    if (session_send(cacher->session, &envelope, &ready, NULL) == 0)
        cacher->credit = ready.credit;
}

/* A JOB came: say READY again when half of the credit is used, not for each job. */
static void use_credit(struct cacher *cacher)
{
    uint64_t parked = cacher_leases_counters(cacher->leases)->parked_now;

    if (cacher->credit > 0)
        cacher->credit--;
    if (cacher->credit <= (cacher->options->jobs_max - parked) / 2)
        say_ready(cacher);
}

/* ---- methods ---- */

struct job {
    struct cacher_ticket ticket;
    struct proto_submit submit;
    uint32_t budget_ms;
    zmq_msg_t *payload;
};

static void park_until(struct cacher *cacher, struct job *job)
{
    uint64_t wait_ms = cacher->options->park_ms, left_ms = job->budget_ms;

    if (left_ms != 0 && left_ms < wait_ms + MARGIN_MS)
        wait_ms = left_ms > 2 * MARGIN_MS ? left_ms - MARGIN_MS : left_ms / 2;
    job->ticket.until_us = cacher_now_us(cacher) + wait_ms * 1000;
}

static void get_missing(struct cacher *cacher, struct job *job)
{
    uint64_t lease = 0;

    if (cacher->leaving) {
        answer_leaving(cacher, &job->ticket);
        return;
    }
    park_until(cacher, job);
    if (!uv_is_active((uv_handle_t *)&cacher->tick))
        uv_timer_start(&cacher->tick, cacher_on_tick, CACHER_TICK_MS, CACHER_TICK_MS);
    switch (cacher_leases_get(cacher->leases, job->submit.key, &job->ticket, false,
                              cacher_now_us(cacher), &lease)) {
    case CACHER_TURN_LOOK:
    case CACHER_TURN_MISS:
    case CACHER_TURN_LEASE:
    case CACHER_TURN_CROWDED:
        answer_miss(cacher, &job->ticket, lease, 0);
        break;
    case CACHER_TURN_PARKED:
        send_about(cacher, &job->ticket, PROTO_START, PROTO_STATUS_OK,
                   &(struct proto_start){.pid = (uint64_t)uv_os_getpid()}, NULL);
        break;
    }
}

/* True when the result was in memory and is on its way. */
static bool answer_from_memory(struct cacher *cacher, const struct job *job)
{
    struct hotcache_value *value = hotcache_get(
        cacher->cache, job->submit.key, PROTO_DIGEST_BYTES, cacher_now_us(cacher));
    if (value == NULL)
        return false;
    answer_result(cacher, &job->ticket, value, "hit");
    hotcache_value_unref(value);
    return true;
}

static void do_get(struct cacher *cacher, struct job *job)
{
    cacher->metrics->gets++;
    if (answer_from_memory(cacher, job))
        cacher->metrics->hits++;
    else
        get_missing(cacher, job);
}

static void do_peek(struct cacher *cacher, struct job *job)
{
    cacher->metrics->peeks++;
    if (!answer_from_memory(cacher, job))
        answer_miss(cacher, &job->ticket, 0, 0);
}

static void keep(struct cacher *cacher, const struct job *job)
{
    const struct cacher_options *options = cacher->options;
    uint64_t ttl_us = cacher_ttl_us(job->submit.key, options->ttl_s * 1000000,
                                    (unsigned)options->ttl_jitter_percent);

    if (hotcache_put(cacher->cache, job->submit.key, PROTO_DIGEST_BYTES, cacher->fresh,
                     ttl_us, cacher_now_us(cacher)) < 0)
        cacher->metrics->puts_uncached++;
}

static void do_put(struct cacher *cacher, struct job *job)
{
    const uint8_t *key = job->submit.key;
    const char *wrong =
        cacher_value_check(key, zmq_msg_data(job->payload), zmq_msg_size(job->payload));

    if (wrong != NULL) {
        cacher->metrics->puts_refused++;
        (void)cacher_leases_drop(cacher->leases, key, job->submit.lease,
                                 cacher_now_us(cacher));
        refuse(cacher, &job->ticket, wrong);
        return;
    }
    cacher->metrics->puts++;
    /* A result never changes under its key: the first one stays, so that what was
     * handed out and what will be are the same bytes. */
    cacher->fresh =
        hotcache_get(cacher->cache, key, PROTO_DIGEST_BYTES, cacher_now_us(cacher));
    if (cacher->fresh != NULL) {
        cacher->metrics->puts_known++;
    } else {
        cacher->fresh = value_new(zmq_msg_data(job->payload), zmq_msg_size(job->payload));
        if (cacher->fresh == NULL) {
            (void)cacher_leases_drop(cacher->leases, key, job->submit.lease,
                                     cacher_now_us(cacher));
            answer_end(cacher, &job->ticket, PROTO_STATUS_FULL, "out of memory");
            return;
        }
        keep(cacher, job);
    }
    if (!cacher_leases_fulfil(cacher->leases, key, job->submit.lease))
        cacher->metrics->puts_late++;
    hotcache_value_unref(cacher->fresh);
    cacher->fresh = NULL;
    answer_end(cacher, &job->ticket, PROTO_STATUS_OK, "");
}

static void do_drop(struct cacher *cacher, struct job *job)
{
    cacher->metrics->drops++;
    (void)cacher_leases_drop(cacher->leases, job->submit.key, job->submit.lease,
                             cacher_now_us(cacher));
    answer_end(cacher, &job->ticket, PROTO_STATUS_OK, "");
}

static const struct {
    const char *name;
    void (*run)(struct cacher *cacher, struct job *job);
} methods[] = {{"get", do_get}, {"peek", do_peek}, {"put", do_put}, {"drop", do_drop}};

void cacher_method_run(struct cacher *cacher, struct mesh_msg *msg)
{
    struct job job = {.ticket = {.request = msg->envelope.request,
                                 .trace = msg->envelope.trace,
                                 .attempt = msg->envelope.attempt},
                      .budget_ms = msg->envelope.budget_ms,
                      .payload = &msg->payload};

    use_credit(cacher);
    if (proto_body_decode(proto_submit_fields, msg->body, msg->body_bytes, &job.submit) <
        0) {
        refuse(cacher, &job.ticket, "the body is malformed");
        return;
    }
    if (job.submit.key_bytes != PROTO_DIGEST_BYTES) {
        refuse(cacher, &job.ticket, "the key is not of 32 bytes");
        return;
    }
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (strcmp(job.submit.method, methods[i].name) == 0) {
            methods[i].run(cacher, &job);
            return;
        }
    }
    refuse(cacher, &job.ticket, "the methods of cache are get, peek, put and drop");
}

/* ---- each second ---- */

static void say_progress(const struct cacher_ticket *ticket, void *arg)
{
    send_about(arg, ticket, PROTO_PROGRESS, PROTO_STATUS_OK, NULL, NULL);
}

void cacher_method_progress(struct cacher *cacher)
{
    cacher_leases_each(cacher->leases, say_progress, cacher);
}

void cacher_method_ready(struct cacher *cacher)
{
    uint64_t parked = cacher_leases_counters(cacher->leases)->parked_now;

    if (cacher->credit != cacher->options->jobs_max - parked)
        say_ready(cacher);
}
