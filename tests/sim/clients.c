/* Clients: they submit, cancel, repeat, fall silent, and begin anew with a new broker.
 * Their frames, and those for them, are lost at times. */
#include "tests/sim/world.h"

#include <errno.h>
#include <string.h>

/* As gateway/mesh.c waits: for FINAL beyond the budget, and for ACCEPT. */
#define GRACE_US  250000u
#define ACCEPT_US 2000000u

static struct proto_id new_id(struct world *world, uint32_t index)
{
    struct proto_id id;
    uint64_t random = sim_next(&world->random) | 1;

    memset(&id, 0, sizeof(id));
    memcpy(id.bytes, &index, sizeof(index));
    memcpy(id.bytes + 8, &random, sizeof(random));
    return id;
}

static struct sim_record *new_record(struct world *world, uint32_t client)
{
    struct sim_shadow *shadow = &world->shadow;
    if (shadow->count == SIM_RECORDS)
        return NULL;

    uint32_t index = shadow->count++;
    shadow->records[index] = (struct sim_record){
        .index = index,
        .client = client,
        .session = shadow->client_session[client],
        .id = new_id(world, index),
        .worker = BROKER_CORE_NONE,
        .accepted_us = world->now_us,
    };
    return &shadow->records[index];
}

bool client_frame_lost(struct world *world)
{
    bool lost = sim_chance(&world->random, world->client_loss);

    world->shadow.frames_lost += lost;
    return lost;
}

/* ---- what the client knows ---- */

static void begin_waiting(struct world *world, struct sim_record *record,
                          uint64_t budget_us)
{
    record->view = SIM_VIEW_WAITING;
    record->submitted_us = world->now_us;
    record->patience_us = world->now_us + budget_us + GRACE_US;
    world->waiting[world->waitings++] = record->index;
}

/* The one way out of waiting. */
static void end_waiting(struct world *world, struct sim_record *record,
                        enum sim_view view)
{
    uint32_t i = 0;

    while (i < world->waitings && world->waiting[i] != record->index)
        i++;
    if (i == world->waitings || record->view != SIM_VIEW_WAITING)
        sim_fail("request %u ended twice at its client", record->index);
    world->waiting[i] = world->waiting[--world->waitings];
    record->view = view;
}

void client_hear(struct world *world, const struct broker_core_action *action)
{
    struct sim_record *record;
    uint32_t index;

    memcpy(&index, action->request.bytes, sizeof(index));
    record = &world->shadow.records[index];
    if (world->shadow.expect_refusal || client_frame_lost(world))
        return;
    /* Of what it gave up or submitted again it may hear yet, but of nothing twice. */
    if (record->view == SIM_VIEW_HEARD)
        sim_fail("request %u is answered twice", index);
    if (record->view != SIM_VIEW_WAITING)
        return;
    if (action->type == BROKER_CORE_ACCEPT)
        record->accepted = true;
    else
        end_waiting(world, record, SIM_VIEW_HEARD);
}

/* ---- frames ---- */

/* What the shell does for any frame but HELLO: without a session, BYE. */
static bool frame_arrives(struct world *world, uint32_t client)
{
    if (client_frame_lost(world))
        return false;
    if (world->shadow.client_open[client]) {
        world->spoke[client] = true;
        return true;
    }
    if (!client_frame_lost(world))
        world->believes[client] = false;
    return false;
}

static void send_submit(struct world *world, struct sim_record *record,
                        const char *service, uint32_t budget_ms)
{
    const struct broker_core_limits *limits = &world->shadow.limits;
    uint64_t budget_us = budget_ms == 0 ? limits->request_us : 1000ull * budget_ms;
    uint8_t key[BROKER_CORE_KEY_BYTES];

    if (budget_us > limits->request_max_us)
        budget_us = limits->request_max_us;
    begin_waiting(world, record, budget_us);
    if (!frame_arrives(world, record->client))
        return;
    record->arrived = true;
    record->session = world->shadow.client_session[record->client];
    record->deadline_us = world->now_us + budget_us;
    memset(key, (int)record->key, sizeof(key));
    struct broker_core_request request = {
        .id = record->id,
        .service = service,
        .priority = (uint8_t)record->priority,
        .budget_ms = budget_ms,
        .bytes = record->bytes,
        .cost_bytes = record->cost,
        .key = record->key < SIM_KEYS ? key : NULL,
        .payload = record,
    };
    sim_shadow_forecast(&world->shadow, record);
    int err = broker_core_submit(world->core, record->client, &request, world->now_us);
    if (err != 0 && err != -EAGAIN)
        sim_fail("SUBMIT in an open session: %d", err);
    world_drain(world);
    if ((err == 0) == (record->place == SIM_REFUSED || record->place == SIM_NEW))
        sim_fail("SUBMIT says %d, but request %u is in place %d", err, record->index,
                 record->place);
}

static void submit(struct world *world, uint32_t client)
{
    struct sim_random *random = &world->random;
    struct sim_record *record = new_record(world, client);
    uint64_t large = world->shadow.limits.payload_bytes_max;
    uint32_t budget_ms =
        sim_chance(random, 100) ? 0 : (uint32_t)sim_range(random, 1, 20000);

    if (record == NULL)
        return;
    record->service = (uint32_t)sim_chance(random, 300);
    record->priority = (uint32_t)sim_range(random, 0, 2);
    record->bytes = sim_range(random, 0, sim_chance(random, 20) ? 2 * large : large / 4);
    record->cost = sim_chance(random, 200) ? 0 : sim_range(random, 1, 1000);
    if (sim_chance(random, 10)) /* larger than any budget, or a lie */
        record->cost = sim_range(random, 5000, 1ull << 39);
    record->key = (uint32_t)sim_range(random, 0, SIM_KEYS);
    send_submit(world, record,
                sim_chance(random, 10) ? "Not A Name"
                                       : sim_service_names[record->service],
                budget_ms);
}

/* docs/PROTOCOL.md section 3, 5: what was open is unknown there; and what was never
 * accepted. */
static void submit_again(struct world *world, struct sim_record *lost)
{
    uint64_t end_us = lost->patience_us - GRACE_US;
    uint64_t left_ms = end_us > world->now_us ? (end_us - world->now_us) / 1000 : 0;
    struct sim_record *record = left_ms > 0 ? new_record(world, lost->client) : NULL;

    end_waiting(world, lost, record != NULL ? SIM_VIEW_AGAIN : SIM_VIEW_GAVE_UP);
    world->shadow.given_up += record == NULL;
    if (record == NULL)
        return;
    record->service = lost->service;
    record->priority = lost->priority;
    record->bytes = lost->bytes;
    record->cost = lost->cost;
    record->key = lost->key;
    lost->again = record->index;
    world->shadow.resubmitted++;
    send_submit(world, record, sim_service_names[record->service], (uint32_t)left_ms);
}

/* Those of `client` that wait, as of now: what is submitted meanwhile is not among them.
 */
static uint32_t waiting_of(const struct world *world, uint32_t client, uint32_t *out)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < world->waitings; i++)
        if (world->shadow.records[world->waiting[i]].client == client)
            out[count++] = world->waiting[i];
    return count;
}

static void submit_all_again(struct world *world, uint32_t client)
{
    static uint32_t lost[SIM_RECORDS];
    uint32_t count = waiting_of(world, client, lost);

    for (uint32_t i = 0; i < count; i++)
        submit_again(world, &world->shadow.records[lost[i]]);
}

/* WELCOME without `fresh` says that the broker still knows what is open. */
static void check_known(const struct world *world, uint32_t client)
{
    const struct sim_shadow *shadow = &world->shadow;
    static uint32_t mine[SIM_RECORDS];
    uint32_t count = waiting_of(world, client, mine);

    for (uint32_t i = 0; i < count; i++) {
        const struct sim_record *record = &shadow->records[mine[i]];
        if (record->arrived && record->session != shadow->client_session[client])
            sim_fail("request %u is unknown, but the session is not fresh",
                     record->index);
    }
}

/* HELLO may be lost, and so may WELCOME; then it is said again. */
static void say_hello(struct world *world, uint32_t client)
{
    struct sim_shadow *shadow = &world->shadow;
    bool known = shadow->client_open[client];

    if (client_frame_lost(world))
        return;
    if (!known) {
        sim_shadow_hello(shadow, client);
        world->spoke[client] = false;
    }
    if (broker_core_hello(world->core, client, world->now_us) != (known ? -EALREADY : 0))
        sim_fail("HELLO was refused");
    bool fresh = !world->spoke[client] || world->epoch[client] != shadow->limits.epoch;
    if (client_frame_lost(world))
        return;
    world->believes[client] = true;
    world->epoch[client] = shadow->limits.epoch;
    if (fresh)
        submit_all_again(world, client);
    else
        check_known(world, client);
}

static void send_cancel(struct world *world, struct sim_record *record)
{
    bool open = record->place == SIM_QUEUED || record->place == SIM_SENT ||
                record->place == SIM_RUNNING;

    if (!frame_arrives(world, record->client))
        return;
    /* Of a session before this one: unknown. */
    open &= record->session == world->shadow.client_session[record->client];
    if (broker_core_cancel(world->core, record->client, &record->id, world->now_us) !=
        (open ? 0 : -ENOENT))
        sim_fail("CANCEL of request %u: open %d", record->index, open);
    world_drain(world);
    if (open && record->place != SIM_ENDED)
        sim_fail("request %u was cancelled and did not end", record->index);
}

/* As the gateway does: give up what is over, and submit again what nobody accepted. */
static void look_at_times(struct world *world, uint32_t client)
{
    static uint32_t mine[SIM_RECORDS];
    uint32_t count = waiting_of(world, client, mine);

    for (uint32_t i = 0; i < count; i++) {
        struct sim_record *record = &world->shadow.records[mine[i]];
        bool over = world->now_us >= record->patience_us;
        /* Answered meanwhile, or the session went. */
        if (record->view != SIM_VIEW_WAITING ||
            (!over && (record->accepted || !world->believes[client] ||
                       world->now_us < record->submitted_us + ACCEPT_US)))
            continue;
        if (over) {
            end_waiting(world, record, SIM_VIEW_GAVE_UP);
            world->shadow.given_up++;
        }
        if (world->believes[client])
            send_cancel(world, record);
        if (record->view == SIM_VIEW_WAITING)
            submit_again(world, record);
    }
}

static struct sim_record *any_of(struct world *world, uint32_t client)
{
    struct sim_shadow *shadow = &world->shadow;
    if (shadow->opened == 0)
        return NULL;
    struct sim_record *record =
        &shadow->records[shadow->open[sim_range(&world->random, 0, shadow->opened - 1)]];
    return record->client == client ? record : NULL;
}

static void cancel(struct world *world, uint32_t client)
{
    struct sim_record *record = any_of(world, client);

    if (record != NULL)
        send_cancel(world, record);
}

/* CANCEL of what has ended, or was never open. */
static void cancel_late(struct world *world, uint32_t client)
{
    struct sim_shadow *shadow = &world->shadow;
    struct sim_record *record =
        &shadow->records[sim_range(&world->random, 0, shadow->count)];
    bool open = record->place == SIM_QUEUED || record->place == SIM_SENT ||
                record->place == SIM_RUNNING;

    if (shadow->count == SIM_RECORDS || (open && record->client == client) ||
        !frame_arrives(world, client))
        return;
    if (broker_core_cancel(world->core, client, &record->id, world->now_us) != -ENOENT)
        sim_fail("CANCEL of request %u, which is not open, found it", record->index);
}

static void repeat(struct world *world, uint32_t client)
{
    struct sim_record *record = any_of(world, client);

    if (record == NULL || !frame_arrives(world, client))
        return;
    world->shadow.expect_refusal = true;
    struct broker_core_request request = {.id = record->id, .service = "extract"};
    if (broker_core_submit(world->core, client, &request, world->now_us) != -EAGAIN &&
        !world->shadow.draining)
        sim_fail("an id that is open was accepted again");
    world_drain(world);
    world->shadow.expect_refusal = false;
}

/* It leaves and comes back: nobody waits for anything any more. */
static void leave(struct world *world, uint32_t client)
{
    static uint32_t mine[SIM_RECORDS];
    uint32_t count = waiting_of(world, client, mine);

    for (uint32_t i = 0; i < count; i++)
        end_waiting(world, &world->shadow.records[mine[i]], SIM_VIEW_GAVE_UP);
    world->believes[client] = false;
    if (!frame_arrives(world, client))
        return;
    sim_shadow_client_gone(&world->shadow, client);
    broker_core_client_bye(world->core, client, world->now_us);
}

static void act_in_session(struct world *world, uint32_t client, uint64_t dice)
{
    struct sim_random *random = &world->random;

    if (world->calm && dice < 50) {
        submit(world, client);
    } else if (world->calm || dice < world->idle) {
        if (frame_arrives(world, client))
            broker_core_client_heard(world->core, client, world->now_us);
    } else if (dice < 860) {
        for (uint64_t n = sim_range(random, 1, sim_chance(random, 50) ? 40 : 3); n > 0;
             n--)
            submit(world, client);
    } else if (dice < 930) {
        cancel(world, client);
    } else if (dice < 960) {
        repeat(world, client);
    } else if (dice < 970) {
        cancel_late(world, client);
    } else if (dice < 975) {
        leave(world, client);
    } else if (dice < 980) {
        world->silent_until_us[client] = world->now_us + sim_range(random, 0, 6000000);
    } else if (dice < 985) {
        world->believes[client] = false; /* it thinks that the broker is silent */
    }
}

void client_act(struct world *world, uint32_t client)
{
    uint64_t dice = sim_range(&world->random, 0, 999);

    if (world->silent_until_us[client] > world->now_us ||
        world->down_until_us > world->now_us)
        return;
    look_at_times(world, client);
    if (world->believes[client])
        act_in_session(world, client, dice);
    else
        say_hello(world, client);
}
