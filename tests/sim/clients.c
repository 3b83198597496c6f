/* Clients: they submit, cancel, repeat, fall silent, and begin anew with a new broker. */
#include "tests/sim/world.h"

#include <errno.h>
#include <string.h>

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

static void send_submit(struct world *world, struct sim_record *record,
                        const char *service, uint32_t budget_ms)
{
    const struct broker_core_limits *limits = &world->shadow.limits;
    uint64_t budget_us = budget_ms == 0 ? limits->request_us : 1000ull * budget_ms;
    uint8_t key[BROKER_CORE_KEY_BYTES];

    if (budget_us > limits->request_max_us)
        budget_us = limits->request_max_us;
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

/* docs/PROTOCOL.md section 3, 5: a new epoch, so what was open there is unknown. */
static void submit_again(struct world *world, struct sim_record *lost)
{
    uint64_t left_ms = lost->deadline_us > world->now_us
                           ? (lost->deadline_us - world->now_us) / 1000
                           : 0;

    lost->given_up = left_ms == 0;
    if (left_ms == 0)
        return;
    struct sim_record *record = new_record(world, lost->client);
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

static void say_hello(struct world *world, uint32_t client)
{
    struct sim_shadow *shadow = &world->shadow;
    uint32_t count = shadow->count;

    sim_shadow_hello(shadow, client);
    if (broker_core_hello(world->core, client, world->now_us) != 0)
        sim_fail("HELLO was refused");
    for (uint32_t i = 0; i < count; i++) {
        struct sim_record *record = &shadow->records[i];
        if (record->client == client && record->place == SIM_LOST && record->again == 0 &&
            !record->given_up)
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

    if (record == NULL)
        return;
    if (broker_core_cancel(world->core, client, &record->id, world->now_us) != 0)
        sim_fail("CANCEL of request %u, which is open, found nothing", record->index);
    world_drain(world);
    if (record->place != SIM_ENDED)
        sim_fail("request %u was cancelled and did not end", record->index);
}

/* CANCEL of what has ended, or was never open. */
static void cancel_late(struct world *world, uint32_t client)
{
    struct sim_shadow *shadow = &world->shadow;
    struct sim_record *record =
        &shadow->records[sim_range(&world->random, 0, shadow->count)];
    bool open = record->place == SIM_QUEUED || record->place == SIM_SENT ||
                record->place == SIM_RUNNING;

    if (shadow->count == SIM_RECORDS || (open && record->client == client))
        return;
    if (broker_core_cancel(world->core, client, &record->id, world->now_us) != -ENOENT)
        sim_fail("CANCEL of request %u, which is not open, found it", record->index);
}

static void repeat(struct world *world, uint32_t client)
{
    struct sim_record *record = any_of(world, client);

    if (record == NULL)
        return;
    world->shadow.expect_refusal = true;
    struct broker_core_request request = {.id = record->id, .service = "extract"};
    if (broker_core_submit(world->core, client, &request, world->now_us) != -EAGAIN &&
        !world->shadow.draining)
        sim_fail("an id that is open was accepted again");
    world_drain(world);
    world->shadow.expect_refusal = false;
}

void client_act(struct world *world, uint32_t client)
{
    struct sim_random *random = &world->random;
    uint64_t dice = sim_range(random, 0, 999);

    if (world->silent_until_us[client] > world->now_us ||
        world->down_until_us > world->now_us)
        return;
    if (!world->shadow.client_open[client]) {
        say_hello(world, client);
    } else if (world->calm && dice < 50) {
        submit(world, client);
    } else if (world->calm || dice < world->idle) {
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
        sim_shadow_client_gone(&world->shadow, client);
        broker_core_client_bye(world->core, client, world->now_us);
    } else if (dice < 980) {
        world->silent_until_us[client] = world->now_us + sim_range(random, 0, 6000000);
    }
}
