/* Frames of workers reach the core; the shadow is told what they mean. */
#include "tests/sim/world.h"

#include <errno.h>
#include <string.h>

static int handle_of(const struct world *world, uint32_t machine, uint32_t life)
{
    for (int i = 0; i < SIM_WORKERS; i++)
        if (world->owner[i].used && world->owner[i].machine == machine &&
            world->owner[i].life == life)
            return i;
    return -1;
}

static void deliver_register(struct world *world, const struct world_event *event)
{
    const struct world_machine *machine = &world->machine[event->who];
    struct sim_shadow *shadow = &world->shadow;
    struct broker_core_offer offer = {
        .service = sim_service_names[machine->service],
        .slots = machine->slots_offered,
        .slots_max = machine->slots_max,
        .credit_bytes = machine->credit_bytes,
    };
    int handle = handle_of(world, event->who, event->life);

    if (handle >= 0) {
        if (broker_core_register(world->core, (uint32_t)handle, &offer, world->now_us) !=
            -EALREADY)
            sim_fail("a second REGISTER was taken");
        return;
    }
    handle = 0;
    while (handle < SIM_WORKERS && world->owner[handle].used)
        handle++;
    if (handle == SIM_WORKERS || machine->life != event->life)
        return;
    world->owner[handle].used = true;
    world->owner[handle].machine = event->who;
    world->owner[handle].life = event->life;
    shadow->workers[handle] = (struct sim_worker){
        .open = true,
        .service = machine->service,
        .session = ++shadow->sessions,
        .slots_offered = machine->slots_offered,
        .slots_max = machine->slots_max,
        .credit_bytes = machine->credit_bytes,
    };
    if (broker_core_register(world->core, (uint32_t)handle, &offer, world->now_us) != 0)
        sim_fail("REGISTER was refused");
}

/* START, PROGRESS, DONE, FAIL, honest or not: what the core says must be what is so. */
static void deliver_answer(struct world *world, uint32_t handle, uint32_t verb,
                           const struct proto_id *id, uint32_t attempt, uint64_t status,
                           uint64_t how)
{
    struct broker_core_failure failure = {.status = (unsigned)status,
                                          .retryable = (how & WORLD_RETRYABLE) != 0,
                                          .of_worker = (how & WORLD_OF_WORKER) != 0};
    struct sim_shadow *shadow = &world->shadow;
    struct sim_record *record = sim_shadow_current(shadow, handle, id, attempt);
    uint64_t now_us = world->now_us;
    int err;

    if (verb == PROTO_START)
        err = broker_core_start(world->core, handle, id, (uint8_t)attempt, now_us);
    else if (verb == PROTO_PROGRESS)
        err = broker_core_progress(world->core, handle, id, (uint8_t)attempt, now_us);
    else if (verb == PROTO_DONE)
        err = broker_core_done(world->core, handle, id, (uint8_t)attempt,
                               (unsigned)status, now_us);
    else
        err =
            broker_core_fail(world->core, handle, id, (uint8_t)attempt, &failure, now_us);

    if ((err == 0) != (record != NULL))
        sim_fail("%s of attempt %u: answer %d, but current is %d", proto_verb_name(verb),
                 attempt, err, record != NULL);
    if (record == NULL)
        return;
    if (verb != PROTO_FAIL)
        shadow->workers[handle].doubted = false;
    if (verb == PROTO_START || verb == PROTO_PROGRESS) {
        if (record->place == SIM_SENT)
            record->started_us = now_us;
        record->place = SIM_RUNNING;
        record->alive_us = now_us;
        return;
    }
    bool returned =
        verb == PROTO_FAIL && status == PROTO_STATUS_FULL && record->place == SIM_SENT;
    if (returned)
        sim_shadow_give_back(shadow, record);
    if (record->place == SIM_QUEUED)
        return;
    if (verb == PROTO_DONE)
        sim_shadow_good_end(shadow, record);
    else if (failure.of_worker &&
             (status == PROTO_STATUS_WORKER_LOST || status == PROTO_STATUS_EXPIRED))
        sim_shadow_killed(shadow, record);
    sim_shadow_off_worker(shadow, record);
    if (verb == PROTO_FAIL)
        sim_shadow_lost(shadow, record, failure.retryable);
}

static void deliver_ready(struct world *world, uint32_t handle, uint64_t credit,
                          uint64_t slots)
{
    sim_shadow_ready(&world->shadow, handle, credit, slots);
    if (broker_core_ready(world->core, handle, credit, slots, world->now_us) != 0)
        sim_fail("READY was refused");
}

static void deliver_open(struct world *world, const struct world_event *event,
                         uint32_t handle)
{
    switch (event->verb) {
    case PROTO_READY:
        deliver_ready(world, handle, event->a, event->b);
        break;
    case PROTO_SCALED:
        broker_core_scaled(world->core, handle, event->a, world->now_us);
        break;
    case PROTO_DRAIN:
        if (!world->shadow.workers[handle].leaving)
            sim_shadow_leaving(&world->shadow, handle);
        broker_core_leaving(world->core, handle, world->now_us);
        break;
    case PROTO_BYE:
        broker_core_worker_bye(world->core, handle, world->now_us);
        world->owner[handle].used = false;
        break;
    case PROTO_PING:
        broker_core_worker_heard(world->core, handle, world->now_us);
        break;
    default:
        deliver_answer(world, handle, event->verb, &event->id, event->attempt, event->a,
                       event->b);
        break;
    }
}

void deliver_frame(struct world *world, const struct world_event *event)
{
    int handle = handle_of(world, event->who, event->life);

    if (event->verb == PROTO_REGISTER)
        deliver_register(world, event);
    else if (handle >= 0)
        deliver_open(world, event, (uint32_t)handle);
    else /* no session: the shell says BYE */
        world_schedule(world, (struct world_event){.at_us = world->now_us + 500,
                                                   .kind = WORLD_TO_WORKER,
                                                   .who = event->who,
                                                   .life = event->life,
                                                   .verb = PROTO_BYE});
}

void deliver_forged(struct world *world)
{
    static const uint32_t verbs[] = {PROTO_START, PROTO_PROGRESS, PROTO_DONE, PROTO_FAIL};
    struct sim_shadow *shadow = &world->shadow;
    uint32_t handle = (uint32_t)sim_range(&world->random, 0, SIM_WORKERS - 1);
    struct proto_id id;

    if (!shadow->workers[handle].open)
        return;
    for (size_t i = 0; i < sizeof(id); i++)
        id.bytes[i] = (uint8_t)sim_next(&world->random);
    if (shadow->opened > 0 && sim_chance(&world->random, 800))
        id = shadow
                 ->records[shadow->open[sim_range(&world->random, 0, shadow->opened - 1)]]
                 .job;
    deliver_answer(world, handle, verbs[sim_range(&world->random, 0, 3)], &id,
                   (uint32_t)sim_range(&world->random, 0, 3),
                   sim_range(&world->random, 0, PROTO_STATUS_COUNT + 2),
                   sim_range(&world->random, 0, 3));
}
