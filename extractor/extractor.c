#include "extractor/extractor.h"

#include "runtime/cgroup.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_FAST_MS 100      /* while there are jobs, or slots that should be gone */
#define TICK_SLOW_MS 1000     /* memory samples; READY said again */
#define READY_US     2000000u /* READY is repeated: a lost one would idle us for ever */

#define SLOTS_MAX_LEAST 8 /* of slots_max by default */

/* ---- to the broker ---- */

void extractor_send(struct extractor *extractor, struct proto_envelope *envelope,
                    const void *body, zmq_msg_t *payload)
{
    if (session_send(extractor->session, envelope, body, payload) < 0)
        extractor->metrics->answers_lost++;
}

/* Jobs that we can take: a slot each, and no more than the share, even while a worn slot
 * ends its job beside its successor. */
static unsigned credit(const struct extractor *extractor,
                       const struct extractor_slots_count *slots)
{
    unsigned held = extractor_jobs_count(extractor->jobs).held;
    unsigned room = slots->share > slots->busy ? slots->share - slots->busy : 0;
    unsigned idle = slots->idle < room ? slots->idle : room;

    return idle > held ? idle - held : 0;
}

static void send_ready(struct extractor *extractor)
{
    struct extractor_slots_count slots = extractor_slots_count(extractor->slots);
    uint64_t now_us = service_now_us(extractor->service);
    struct proto_ready ready = {.credit = credit(extractor, &slots),
                                .slots =
                                    slots.able < slots.share ? slots.able : slots.share};
    struct proto_envelope envelope = {.verb = PROTO_READY,
                                      .priority = PROTO_PRIORITY_NORMAL};

    if (!session_is_up(extractor->session) || service_draining(extractor->service))
        return;
    if (ready.credit == extractor->told_credit && ready.slots == extractor->told_slots &&
        now_us - extractor->told_us < READY_US)
        return;
    if (session_send(extractor->session, &envelope, &ready, NULL) < 0)
        return; /* the next tick says it */
    extractor->told_credit = ready.credit;
    extractor->told_slots = ready.slots;
    extractor->told_us = now_us;
}

static void send_drained(unsigned number, void *arg)
{
    struct proto_drain drain = {.slot = number};
    struct proto_envelope envelope = {.verb = PROTO_DRAINED,
                                      .priority = PROTO_PRIORITY_NORMAL};

    extractor_send(arg, &envelope, &drain, NULL);
}

/* DRAIN(0): give us no more. */
static void send_leaving(struct extractor *extractor)
{
    struct proto_drain all = {.slot = 0};
    struct proto_envelope envelope = {.verb = PROTO_DRAIN,
                                      .priority = PROTO_PRIORITY_NORMAL};

    extractor_send(extractor, &envelope, &all, NULL);
}

static void announce(struct extractor *extractor)
{
    struct extractor_slots_count slots = extractor_slots_count(extractor->slots);

    if (extractor->announced || !session_is_up(extractor->session) || slots.idle == 0)
        return;
    extractor->announced = true;
    service_ready(extractor->service, "%u slots", slots.share);
}

void extractor_settle(struct extractor *extractor)
{
    struct extractor_jobs_count jobs = extractor_jobs_count(extractor->jobs);

    announce(extractor);
    send_ready(extractor);
    if (service_draining(extractor->service) && jobs.held + jobs.running == 0)
        service_stop(extractor->service, 0);
}

/* ---- from the broker ---- */

static void on_scale(struct extractor *extractor, const struct mesh_msg *msg)
{
    struct proto_scale scale;
    struct proto_envelope envelope = {.verb = PROTO_SCALED,
                                      .priority = PROTO_PRIORITY_NORMAL,
                                      .request = msg->envelope.request,
                                      .trace = msg->envelope.trace};

    if (proto_body_decode(proto_scale_fields, msg->body, msg->body_bytes, &scale) < 0)
        return;
    unsigned share = scale.target < extractor->slots_max ? (unsigned)scale.target
                                                         : extractor->slots_max;
    struct extractor_slots_count before = extractor_slots_count(extractor->slots);
    if (share != before.share)
        log_event(LOG_INFO, "share", "slots=%u before=%u reason=\"%s\"", share,
                  before.share, scale.reason);
    extractor_slots_set_share(extractor->slots, share);

    struct extractor_slots_count slots = extractor_slots_count(extractor->slots);
    struct proto_scaled scaled = {.target = slots.share,
                                  .slots = slots.alive,
                                  .slots_max = extractor->slots_max,
                                  .running = slots.busy};
    snprintf(scaled.service, sizeof scaled.service, "extract");
    extractor_send(extractor, &envelope, &scaled, NULL);
    extractor_wake(extractor);
}

/* 0: every slot, each replaced as it becomes free. */
static void on_drain(struct extractor *extractor, const struct mesh_msg *msg)
{
    struct proto_drain drain;

    if (proto_body_decode(proto_drain_fields, msg->body, msg->body_bytes, &drain) < 0)
        return;
    unsigned first = 1, last = extractor->slots_max + EXTRACTOR_SLOTS_SPARE;
    if (drain.slot != 0)
        first = last = drain.slot <= last ? (unsigned)drain.slot : last + 1;
    for (unsigned i = first; i <= last; i++)
        if (extractor_slots_drain(extractor->slots, i) < 0 && drain.slot != 0)
            send_drained((unsigned)drain.slot, extractor); /* it has ended already */
    extractor_wake(extractor);
}

static void on_message(struct session *session, struct mesh_msg *msg, void *arg)
{
    struct extractor *extractor = arg;
    (void)session;

    switch (msg->envelope.verb) {
    case PROTO_JOB:
        if (extractor->told_credit > 0)
            extractor->told_credit--; /* as the broker counts */
        extractor_jobs_add(extractor->jobs, msg);
        extractor_settle(extractor);
        break;
    case PROTO_ABORT:
        extractor_jobs_abort(extractor->jobs, msg);
        extractor_wake(extractor);
        break;
    case PROTO_SCALE:
        on_scale(extractor, msg);
        break;
    case PROTO_DRAIN:
        on_drain(extractor, msg);
        break;
    default: /* EVENT, MODE and what later versions have: not for us */
        break;
    }
}

static void on_up(struct session *session, const struct proto_welcome *welcome,
                  bool new_epoch, void *arg)
{
    struct extractor *extractor = arg;
    (void)session;
    (void)welcome;

    if (new_epoch) {
        extractor_jobs_abandon(extractor->jobs);
        extractor_slots_set_share(extractor->slots, extractor->slots_default);
    }
    if (service_draining(extractor->service))
        send_leaving(extractor); /* this broker does not know it */
    extractor->told_us = 0;      /* READY, whatever was said before */
    extractor_wake(extractor);
    extractor_settle(extractor);
}

static json_t *stats(void *arg)
{
    struct extractor *extractor = arg;
    json_t *object = metrics_json(extractor_metrics_specs, extractor->metrics);

    if (object != NULL)
        json_object_set_new(object, "slot_list", extractor_slots_json(extractor->slots));
    return object;
}

/* ---- slots and time ---- */

static void on_started(struct extractor_slot *slot, void *arg)
{
    extractor_jobs_on_started(slot, ((struct extractor *)arg)->jobs);
}

static bool on_answer(struct extractor_slot *slot, void *job,
                      const struct extractor_slotwire *answer, int fd, void *arg)
{
    return extractor_jobs_on_answer(slot, job, answer, fd,
                                    ((struct extractor *)arg)->jobs);
}

static void on_lost(struct extractor_slot *slot, void *job,
                    const struct extractor_ending *ending, void *arg)
{
    extractor_jobs_on_lost(slot, job, ending, ((struct extractor *)arg)->jobs);
}

static bool is_hurried(const struct extractor *extractor)
{
    struct extractor_jobs_count jobs = extractor_jobs_count(extractor->jobs);

    return jobs.held + jobs.running > 0 || extractor_slots_hurry(extractor->slots);
}

static void on_change(void *arg)
{
    struct extractor *extractor = arg;

    extractor_jobs_dispatch(extractor->jobs);
    extractor_settle(extractor);
    if (is_hurried(extractor))
        extractor_wake(extractor);
}

static void on_tick(uv_timer_t *timer)
{
    struct extractor *extractor = timer->data;

    extractor_jobs_tick(extractor->jobs);
    extractor_slots_tick(extractor->slots);
    extractor->ticking_fast = is_hurried(extractor);
    uv_timer_start(timer, on_tick, extractor->ticking_fast ? TICK_FAST_MS : TICK_SLOW_MS,
                   0);
}

void extractor_wake(struct extractor *extractor)
{
    if (extractor->ticking_fast)
        return;
    extractor->ticking_fast = true;
    uv_timer_start(&extractor->timer, on_tick, TICK_FAST_MS, 0);
}

/* ---- the service ---- */

/* Of those that we may run on (a cpuset is among what bounds them), and of a quota. */
static unsigned whole_processors(void)
{
    cpu_set_t set;
    unsigned all =
        sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;

    return cgroup_whole_processors(&cgroup_system, all);
}

static bool is_wrong(const void *all, const struct mesh_options *mesh,
                     struct service_wrong *wrong)
{
    const struct extractor_options *options = all;
    (void)mesh;

    if (options->slots_max == 0 || options->slots <= options->slots_max)
        return false; /* slots of 0: the processors tell, at the start */
    wrong->name = "slots_max";
    snprintf(wrong->why, sizeof wrong->why, "it must not be below slots, which is %u",
             (unsigned)options->slots);
    return true;
}

static int choose_slots(struct extractor *extractor)
{
    const struct extractor_options *options = extractor->options;
    unsigned slots =
        options->slots != 0 ? (unsigned)options->slots : whole_processors() + 1;
    unsigned most = (unsigned)options->slots_max;

    if (most == 0)
        most = 2 * slots > SLOTS_MAX_LEAST ? 2 * slots : SLOTS_MAX_LEAST;
    if (most < slots) {
        log_event(LOG_ERROR, "slots_max is below slots", "slots_max=%u slots=%u", most,
                  slots);
        return -EINVAL;
    }
    extractor->slots_default = slots;
    extractor->slots_max = most;
    return 0;
}

static int open_session(struct extractor *extractor)
{
    static const struct session_callbacks callbacks = {
        .on_up = on_up, .on_message = on_message, .stats = stats};
    struct proto_enlist enlist = {.slots = extractor->slots_default,
                                  .slots_max = extractor->slots_max,
                                  .credit_bytes = extractor->options->credit_bytes};

    snprintf(enlist.service, sizeof enlist.service, "extract");
    return session_open(extractor->service, NULL, &enlist, &callbacks, extractor,
                        &extractor->session);
}

static int open_slots(struct extractor *extractor)
{
    static const struct extractor_slots_callbacks callbacks = {
        on_started, on_answer, on_lost, send_drained, on_change};

    return extractor_slots_open(extractor->service, extractor->slots_max, &callbacks,
                                extractor, &extractor->slots);
}

static void open_timer(struct extractor *extractor)
{
    uv_timer_init(service_loop(extractor->service), &extractor->timer);
    extractor->timer.data = extractor;
    extractor->timer_open = true;
    uv_timer_start(&extractor->timer, on_tick, TICK_SLOW_MS, 0);
}

static int start(struct service *service)
{
    struct extractor *extractor = calloc(1, sizeof *extractor);

    if (extractor == NULL)
        return -ENOMEM;
    extractor->service = service;
    extractor->options = service_options(service);
    extractor->metrics = service_metrics(service);
    service_set_data(service, extractor);
    int err = choose_slots(extractor);
    if (err == 0)
        err = extractor_jobs_open(extractor, extractor->slots_max + EXTRACTOR_SLOTS_SPARE,
                                  &extractor->jobs);
    if (err == 0)
        err = open_slots(extractor);
    if (err == 0)
        err = open_session(extractor);
    if (err < 0) {
        log_event(LOG_ERROR, "cannot start", "error=\"%s\"", strerror(-err));
        return err;
    }
    open_timer(extractor);
    extractor_slots_set_share(extractor->slots, extractor->slots_default);
    return 0;
}

/* Jobs in hand end in their own time, the broker gives no more; with `hurry` they are
 * given back. */
static void drain(struct service *service, bool hurry)
{
    struct extractor *extractor = service_data(service);

    extractor_slots_close_doors(extractor->slots);
    if (hurry)
        extractor_jobs_fail_all(extractor->jobs);
    else
        send_leaving(extractor);
    extractor_settle(extractor);
}

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void stop(struct service *service)
{
    struct extractor *extractor = service_data(service);

    if (extractor == NULL)
        return;
    session_close(extractor->session);
    extractor_slots_close(extractor->slots);
    extractor_jobs_close(extractor->jobs);
    if (extractor->timer_open)
        uv_close((uv_handle_t *)&extractor->timer, on_timer_closed);
    else
        free(extractor);
}

const struct service_spec extractor_spec = {
    .name = "extractor",
    .summary = "Keeps slot processes and runs extraction jobs in them.",
    .options = extractor_option_specs,
    .options_bytes = sizeof(struct extractor_options),
    .metrics = extractor_metrics_specs,
    .metrics_bytes = sizeof(struct extractor_metrics),
    .is_wrong = is_wrong,
    .start = start,
    .drain = drain,
    .stop = stop,
};
