/*
 * The methods of the service "cache" that hits and misses are made of.
 *
 * A get is answered from memory, or parked while the tiers behind are asked; one look-up
 * serves everybody who asks for the key meanwhile. What none of them has, the caller
 * computes under a lease (leases.h).
 */
#include "cacher/state.h"
#include "cacher/value.h"

#include <stdio.h>
#include <string.h>

#define MARGIN_MS 20 /* a parked get is answered so long before its budget ends */
#define TOUCH_S   60 /* the use of a result is told to the tiers so often at most */

/* ---- what waited ---- */

void cacher_method_parked_end(const struct cacher_ticket *ticket,
                              enum cacher_answer answer, uint64_t lease, void *arg)
{
    struct cacher *cacher = arg;
    const struct cacher_fresh *fresh = &cacher->fresh;

    switch (answer) {
    case CACHER_ANSWER_RESULT:
        if (fresh->refusal != NULL)
            cacher_answer_refusal(cacher, ticket, fresh->refusal, fresh->how);
        else
            cacher_answer_result(cacher, ticket, fresh->result, fresh->how);
        break;
    case CACHER_ANSWER_LEASE:
        cacher_answer_miss(cacher, ticket, lease, 0);
        break;
    case CACHER_ANSWER_TIMEOUT:
        cacher_answer_miss(cacher, ticket, 0, 1);
        break;
    case CACHER_ANSWER_LEAVING:
        cacher_answer_leaving(cacher, ticket);
        break;
    }
}

/* Tell those who wait for the key. Whether `lease` was the one that held. */
static bool tell(struct cacher *cacher, const uint8_t *key, uint64_t lease,
                 const struct cacher_fresh *fresh)
{
    cacher->fresh = *fresh;
    bool held = cacher_leases_fulfil(cacher->leases, key, lease);
    cacher->fresh = (struct cacher_fresh){0};
    return held;
}

/* ---- looking behind memory ---- */

/* A store keeps by rules of its own, and being asked for is a new beginning. What is in
 * Redis was put there for the same time as here, and is not to live longer by moving. */
static uint64_t age_us_of(const struct hotcache_value *value, enum cacher_role from)
{
    static const uint8_t no_key[PROTO_DIGEST_BYTES];
    struct cacher_record record;
    uint64_t now_s = cacher_wall_s();

    cacher_result_record(value, no_key, &record);
    if (from == CACHER_ROLE_STORE || record.created_s >= now_s)
        return 0;
    return (now_s - record.created_s) * 1000000;
}

static void on_looked(const uint8_t key[PROTO_DIGEST_BYTES], uint64_t lease,
                      struct hotcache_value *value, enum cacher_role from, void *arg)
{
    struct cacher *cacher = arg;
    uint64_t now_us = cacher_now_us(cacher);

    if (value == NULL) {
        (void)cacher_leases_drop(cacher->leases, key, lease, now_us);
        return;
    }
    cacher_plan_found(&cacher->plan, key, cacher_memory_cost(value));
    if (cacher_memory_put(&cacher->memory, key, value, age_us_of(value, from), now_us) <
        0)
        cacher->metrics->puts_uncached++;
    (void)tell(cacher, key, lease, &(struct cacher_fresh){.result = value, .how = "hit"});
}

/* ---- get and peek ---- */

static void park_until(struct cacher *cacher, struct cacher_job *job)
{
    uint64_t wait_ms = cacher->options->park_ms, left_ms = job->budget_ms;

    if (left_ms != 0 && left_ms < wait_ms + MARGIN_MS)
        wait_ms = left_ms > 2 * MARGIN_MS ? left_ms - MARGIN_MS : left_ms / 2;
    job->ticket.until_us = cacher_now_us(cacher) + wait_ms * 1000;
}

static void look(struct cacher *cacher, const struct cacher_job *job, uint64_t lease)
{
    const uint8_t *key = job->submit.key;

    if (cacher_tiers_look(&cacher->tiers, key, cacher_value_kind(&job->submit), lease,
                          on_looked, cacher) == 0)
        cacher_answer_start(cacher, &job->ticket);
    else /* nobody can be asked: as if nothing was found, at once */
        (void)cacher_leases_drop(cacher->leases, key, lease, cacher_now_us(cacher));
}

static void get_missing(struct cacher *cacher, struct cacher_job *job)
{
    uint64_t lease = 0;

    if (cacher->leaving) {
        cacher_answer_leaving(cacher, &job->ticket);
        return;
    }
    park_until(cacher, job);
    if (!uv_is_active((uv_handle_t *)&cacher->tick))
        uv_timer_start(&cacher->tick, cacher_on_tick, CACHER_TICK_MS, CACHER_TICK_MS);
    switch (cacher_leases_get(cacher->leases, job->submit.key, &job->ticket,
                              cacher_tiers_any(&cacher->tiers), cacher_now_us(cacher),
                              &lease)) {
    case CACHER_TURN_LOOK:
        look(cacher, job, lease);
        break;
    case CACHER_TURN_PARKED:
        cacher_answer_start(cacher, &job->ticket);
        break;
    case CACHER_TURN_LEASE:
    case CACHER_TURN_CROWDED:
    case CACHER_TURN_MISS:
        cacher_answer_miss(cacher, &job->ticket, lease, 0);
        break;
    }
}

/* A denoised picture shows not of which key it is, so it may have been kept under one of
 * features before anybody proved that. NULL then: it is dropped. */
static struct hotcache_value *find(struct cacher *cacher, const struct cacher_job *job)
{
    const uint8_t *key = job->submit.key;
    struct hotcache_value *value =
        cacher_memory_get(&cacher->memory, key, cacher_now_us(cacher));

    if (value == NULL ||
        cacher_value_is_of(PROTO_KIND_FEATURES, value->bytes, value->size) ||
        cacher_value_kind(&job->submit) != PROTO_KIND_FEATURES)
        return value;
    cacher->metrics->misfits++;
    cacher_memory_drop(&cacher->memory, key);
    hotcache_value_unref(value);
    return NULL;
}

/* True when a result or a refusal was in memory and is on its way. */
static bool answer_from_memory(struct cacher *cacher, const struct cacher_job *job)
{
    const uint8_t *key = job->submit.key;
    struct hotcache_value *value = find(cacher, job);

    if (!job->ticket.peek)
        cacher_plan_get(&cacher->plan, key,
                        value != NULL ? cacher_memory_cost(value) : 0);
    if (value != NULL) {
        cacher->metrics->memory_hits++;
        cacher_answer_result(cacher, &job->ticket, value, "hit");
        if (cacher_result_touch(value, cacher_wall_s(), TOUCH_S))
            cacher_tiers_touch(&cacher->tiers, key);
    } else {
        cacher->metrics->memory_misses++;
        value = cacher_memory_refused(&cacher->memory, key, cacher_now_us(cacher));
        if (value == NULL)
            return false;
        cacher->metrics->negative_hits++;
        cacher_answer_refusal(cacher, &job->ticket, value, "hit");
    }
    hotcache_value_unref(value);
    return true;
}

static void do_get(struct cacher *cacher, struct cacher_job *job)
{
    cacher->metrics->gets++;
    if (answer_from_memory(cacher, job))
        cacher->metrics->hits++;
    else
        get_missing(cacher, job);
}

/* As a get, but nothing is computed for it: it waits for look-ups alone. */
static void do_peek(struct cacher *cacher, struct cacher_job *job)
{
    cacher->metrics->peeks++;
    job->ticket.peek = true;
    if (!answer_from_memory(cacher, job))
        get_missing(cacher, job);
}

/* ---- put and drop ---- */

static void refuse_put(struct cacher *cacher, const struct cacher_job *job,
                       const char *why)
{
    cacher->metrics->puts_refused++;
    (void)cacher_leases_drop(cacher->leases, job->submit.key, job->submit.lease,
                             cacher_now_us(cacher));
    cacher_answer_bad(cacher, &job->ticket, why);
}

static void put_fails(struct cacher *cacher, const struct cacher_job *job)
{
    (void)cacher_leases_drop(cacher->leases, job->submit.key, job->submit.lease,
                             cacher_now_us(cacher));
    cacher_answer_end(cacher, &job->ticket, PROTO_STATUS_FULL, "out of memory");
}

static const char *check_put(const struct cacher_job *job, struct proto_result *result)
{
    const struct proto_submit *submit = &job->submit;

    if (proto_tags_check(submit->tags, strlen(submit->tags)) != NULL)
        return "the tags are malformed";
    return cacher_value_check_put(submit, zmq_msg_data(job->payload),
                                  zmq_msg_size(job->payload), result);
}

/* One reference; NULL: out of memory. */
static struct hotcache_value *result_of(const struct cacher_job *job,
                                        const struct proto_result *result)
{
    const struct proto_submit *submit = &job->submit;
    struct cacher_record record = {
        .created_s = cacher_wall_s(),
        .width_px = result->width_px,
        .height_px = result->height_px,
        .cost_us = submit->cost_us < UINT32_MAX ? (uint32_t)submit->cost_us : UINT32_MAX,
        .params = submit->params,
        .params_bytes = (uint16_t)submit->params_bytes,
        .tags = submit->tags,
        .tags_bytes = (uint16_t)strlen(submit->tags),
        .payload = zmq_msg_data(job->payload),
        .payload_bytes = (uint32_t)zmq_msg_size(job->payload)};

    return cacher_result_new(&record);
}

/* At once in memory, behind the answer in the tiers. */
static void keep(struct cacher *cacher, const uint8_t *key, struct hotcache_value *value)
{
    struct cacher_record record;

    cacher_result_record(value, key, &record);
    cacher_plan_made(&cacher->plan, key, cacher_memory_cost(value), value->size,
                     cacher_record_bytes(&record));
    if (cacher_memory_put(&cacher->memory, key, value, 0, cacher_now_us(cacher)) < 0)
        cacher->metrics->puts_uncached++;
    cacher_tiers_put(&cacher->tiers, key, value);
}

/* A result never changes under its key: the first one stays, so that what was handed out
 * and what will be are the same bytes. But what is put has proved of which kind the key
 * is: one of the other kind is no result of it, and gives way. */
static struct hotcache_value *known_result(struct cacher *cacher,
                                           const struct cacher_job *job,
                                           const struct proto_result *result)
{
    const uint8_t *key = job->submit.key;
    struct hotcache_value *value =
        cacher_memory_get(&cacher->memory, key, cacher_now_us(cacher));

    if (value == NULL || cacher_value_is_of(result->kind, value->bytes, value->size))
        return value;
    cacher->metrics->misfits++;
    hotcache_value_unref(value);
    return NULL;
}

static void put_result(struct cacher *cacher, struct cacher_job *job)
{
    const uint8_t *key = job->submit.key;
    struct proto_result result = {0};
    const char *wrong = check_put(job, &result);

    if (wrong != NULL) {
        refuse_put(cacher, job, wrong);
        return;
    }
    struct hotcache_value *value = known_result(cacher, job, &result);
    cacher->metrics->puts_known += value != NULL;
    bool known = value != NULL;
    if (!known)
        value = result_of(job, &result);
    if (value == NULL) {
        put_fails(cacher, job);
        return;
    }
    cacher->metrics->puts++;
    if (!known)
        keep(cacher, key, value);
    if (!tell(cacher, key, job->submit.lease,
              &(struct cacher_fresh){.result = value, .how = "coalesced"}))
        cacher->metrics->puts_late++;
    hotcache_value_unref(value);
    cacher_answer_end(cacher, &job->ticket, PROTO_STATUS_OK, "");
}

/* The input is refused, whoever sends it next. Nothing shows whether that is true, so it
 * is taken of the one who was asked to compute, alone. */
static void put_refusal(struct cacher *cacher, struct cacher_job *job)
{
    const struct proto_submit *submit = &job->submit;
    struct cacher_refusal refusal = {
        .limit = submit->limit, .actual = submit->actual, .created_s = cacher_wall_s()};

    if (submit->status >= PROTO_STATUS_COUNT ||
        !proto_status_is_of_input((unsigned)submit->status)) {
        refuse_put(cacher, job, "this status says nothing lasting of an input");
        return;
    }
    if (cacher_value_kind(submit) == 0) {
        refuse_put(cacher, job,
                   "a refusal is put with the hash and parameters that make its key");
        return;
    }
    if (!cacher_leases_holds(cacher->leases, submit->key, submit->lease)) {
        cacher->metrics->puts_late++;
        cacher_answer_end(cacher, &job->ticket, PROTO_STATUS_OK, "");
        return;
    }
    refusal.status = (enum proto_status)submit->status;
    snprintf(refusal.detail, sizeof refusal.detail, "%s", submit->detail);
    struct hotcache_value *value = cacher_refusal_new(&refusal);
    if (value == NULL) {
        put_fails(cacher, job);
        return;
    }
    cacher->metrics->puts_negative++;
    if (cacher->options->negative_ttl_s > 0)
        (void)cacher_memory_refuse(&cacher->memory, submit->key, value,
                                   cacher_now_us(cacher));
    (void)tell(cacher, submit->key, submit->lease,
               &(struct cacher_fresh){.refusal = value, .how = "coalesced"});
    hotcache_value_unref(value);
    cacher_answer_end(cacher, &job->ticket, PROTO_STATUS_OK, "");
}

static void do_put(struct cacher *cacher, struct cacher_job *job)
{
    if (job->submit.status != 0)
        put_refusal(cacher, job);
    else
        put_result(cacher, job);
}

static void do_drop(struct cacher *cacher, struct cacher_job *job)
{
    cacher->metrics->drops++;
    (void)cacher_leases_drop(cacher->leases, job->submit.key, job->submit.lease,
                             cacher_now_us(cacher));
    cacher_answer_end(cacher, &job->ticket, PROTO_STATUS_OK, "");
}

/* ---- which one ---- */

static const struct {
    const char *name;
    void (*run)(struct cacher *cacher, struct cacher_job *job);
} methods[] = {{"get", do_get},
               {"peek", do_peek},
               {"put", do_put},
               {"drop", do_drop},
               {"purge", cacher_errand_purge},
               {"warm", cacher_errand_warm},
               {"plan", cacher_errand_plan}};

void cacher_method_run(struct cacher *cacher, struct mesh_msg *msg)
{
    struct cacher_job job = {.ticket = {.request = msg->envelope.request,
                                        .trace = msg->envelope.trace,
                                        .attempt = msg->envelope.attempt},
                             .budget_ms = msg->envelope.budget_ms,
                             .payload = &msg->payload};

    cacher_answer_use_credit(cacher);
    if (proto_body_decode(proto_submit_fields, msg->body, msg->body_bytes, &job.submit) <
        0) {
        cacher_answer_bad(cacher, &job.ticket, "the body is malformed");
        return;
    }
    if (job.submit.key_bytes != PROTO_DIGEST_BYTES) {
        cacher_answer_bad(cacher, &job.ticket, "the key is not of 32 bytes");
        return;
    }
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (strcmp(job.submit.method, methods[i].name) == 0) {
            methods[i].run(cacher, &job);
            return;
        }
    }
    cacher_answer_bad(cacher, &job.ticket,
                      "the methods of cache are get, peek, put, drop, purge, warm and "
                      "plan");
}
