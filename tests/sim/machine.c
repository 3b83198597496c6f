/* Workers: supervisors with slots, or a cache that parks. They crash, hang and lie low.
 */
#include "tests/sim/world.h"

#include <string.h>

static const struct proto_id no_id;

void machine_send(struct world *world, uint32_t index, uint32_t verb,
                  const struct proto_id *id, uint32_t attempt, uint64_t a, uint64_t b)
{
    struct world_machine *machine = &world->machine[index];
    struct sim_random *random = &world->random;
    struct world_event event = {
        .at_us = world->now_us + sim_range(random, 20, 3000),
        .kind = WORLD_TO_BROKER,
        .who = index,
        .life = machine->life,
        .verb = verb,
        .attempt = attempt,
        .id = *id,
        .a = a,
        .b = b,
    };

    if (machine->muted_until_us > world->now_us || sim_chance(random, world->loss))
        return;
    if (event.at_us < machine->last_out_us)
        event.at_us = machine->last_out_us;
    machine->last_out_us = event.at_us;
    world_schedule(world, event);
    /* A copy that is late, or comes twice. */
    if (sim_chance(random, world->doubled)) {
        event.at_us += sim_range(random, 0, 4000000);
        world_schedule(world, event);
    }
}

static void say_ready(struct world *world, uint32_t index)
{
    const struct world_machine *machine = &world->machine[index];
    uint64_t alive = 0, idle = 0;

    for (int i = 0; i < WORLD_SLOTS; i++) {
        alive += machine->slots[i].alive;
        idle += machine->slots[i].alive && !machine->slots[i].busy;
    }
    machine_send(world, index, PROTO_READY, &no_id, 0, machine->leaving ? 0 : idle,
                 alive);
}

/* As many slots as it is to keep; those with a job in hand stay until it is done. */
static void resize(struct world_machine *machine)
{
    uint64_t alive = 0;

    for (int i = 0; i < WORLD_SLOTS; i++)
        alive += machine->slots[i].alive;
    for (int i = 0; i < WORLD_SLOTS; i++) {
        struct world_slot *slot = &machine->slots[i];
        if (alive > machine->keep && slot->alive && !slot->busy) {
            slot->alive = false;
            alive--;
        } else if (alive < machine->keep && !slot->alive) {
            slot->alive = true;
            alive++;
        }
    }
}

static void enlist(struct world *world, uint32_t index)
{
    struct world_machine *machine = &world->machine[index];

    memset(machine->slots, 0, sizeof(machine->slots));
    machine->keep = machine->slots_max > 0 ? machine->slots_offered : WORLD_SLOTS;
    resize(machine);
    machine_send(world, index, PROTO_REGISTER, &no_id, 0, 0, 0);
    say_ready(world, index);
}

void machine_boot(struct world *world, uint32_t index)
{
    struct world_machine *machine = &world->machine[index];
    struct sim_random *random = &world->random;

    machine->alive = true;
    machine->leaving = false;
    machine->life++;
    machine->last_out_us = world->now_us;
    machine->muted_until_us = 0;
    machine->service = index == 0 ? 0 : (uint32_t)sim_chance(random, 250);
    machine->slots_offered = sim_range(random, 1, 6);
    machine->slots_max =
        machine->service == 1 ? 0 : machine->slots_offered + sim_range(random, 0, 4);
    machine->credit_bytes = sim_chance(random, 500) ? 0 : sim_range(random, 1000, 200000);
    enlist(world, index);
    world_schedule(world, (struct world_event){.at_us = world->now_us + 1000000,
                                               .kind = WORLD_BEAT,
                                               .who = index,
                                               .life = machine->life});
}

void machine_die(struct world *world, uint32_t index, bool bye)
{
    struct world_machine *machine = &world->machine[index];

    if (!machine->alive)
        return;
    if (bye)
        machine_send(world, index, PROTO_BYE, &no_id, 0, 0, 0);
    machine->alive = false;
    uint64_t away_us = sim_range(&world->random, 10000, 9000000);
    world_schedule(world, (struct world_event){.at_us = world->now_us + away_us,
                                               .kind = WORLD_RESTART,
                                               .who = index,
                                               .life = machine->life});
}

void machine_leave(struct world *world, uint32_t index)
{
    world->machine[index].leaving = true;
    machine_send(world, index, PROTO_DRAIN, &no_id, 0, 0, 0);
}

static void step_later(struct world *world, uint32_t index, uint32_t slot)
{
    struct world_machine *machine = &world->machine[index];
    uint64_t next_us = world->now_us + 900000;

    if (!machine->slots[slot].endless && machine->slots[slot].ends_us < next_us)
        next_us = machine->slots[slot].ends_us;
    world_schedule(world, (struct world_event){.at_us = next_us,
                                               .kind = WORLD_SLOT,
                                               .who = index,
                                               .life = machine->life,
                                               .a = slot,
                                               .b = machine->slots[slot].token});
}

static bool is_poison(struct world *world, const struct proto_id *id)
{
    struct sim_shadow *shadow = &world->shadow;

    for (uint32_t i = 0; i < shadow->opened; i++) {
        const struct sim_record *record = &shadow->records[shadow->open[i]];
        if (record->known_job && memcmp(&record->job, id, sizeof(*id)) == 0)
            return record->key < WORLD_POISON;
    }
    return false;
}

static enum world_fate choose_fate(struct world *world, const struct proto_id *id)
{
    uint64_t dice = sim_range(&world->random, 0, 999);

    if (world->calm)
        return WORLD_GOOD;
    if (is_poison(world, id) && sim_chance(&world->random, 800))
        return dice < 500 ? WORLD_CRASH : WORLD_FATAL;
    if (dice < world->crash)
        return WORLD_CRASH;
    if (dice < 2 * world->crash)
        return WORLD_HANG;
    if (dice < 2 * world->crash + 10)
        return WORLD_FATAL;
    return dice < 2 * world->crash + 60 ? WORLD_BAD_INPUT : WORLD_GOOD;
}

static void take_job(struct world *world, const struct world_event *event)
{
    struct world_machine *machine = &world->machine[event->who];
    uint32_t i = 0;

    while (i < WORLD_SLOTS && (!machine->slots[i].alive || machine->slots[i].busy))
        i++;
    if (i == WORLD_SLOTS || machine->leaving) {
        machine_send(world, event->who, PROTO_FAIL, &event->id, event->attempt,
                     PROTO_STATUS_FULL, WORLD_RETRYABLE | WORLD_OF_WORKER);
        return;
    }
    struct world_slot *slot = &machine->slots[i];
    uint64_t most_us = machine->slots_max == 0 && sim_chance(&world->random, 50)
                           ? 20000000
                           : world->pace_us * world->work;
    *slot = (struct world_slot){
        .alive = true,
        .busy = true,
        .id = event->id,
        .attempt = event->attempt,
        .token = ++machine->tokens,
        .fate = choose_fate(world, &event->id),
        .endless = !world->calm && sim_chance(&world->random, 10),
        .ends_us = world->now_us + sim_range(&world->random, 100, most_us),
    };
    if (world->calm || !sim_chance(&world->random, world->crash))
        machine_send(world, event->who, PROTO_START, &slot->id, slot->attempt, i, 0);
    step_later(world, event->who, i);
}

static void free_slot(struct world *world, uint32_t index, struct world_slot *slot)
{
    slot->busy = false;
    resize(&world->machine[index]);
    say_ready(world, index);
}

static void abort_job(struct world *world, const struct world_event *event)
{
    struct world_machine *machine = &world->machine[event->who];

    for (int i = 0; i < WORLD_SLOTS; i++) {
        struct world_slot *slot = &machine->slots[i];
        if (!slot->busy || memcmp(&slot->id, &event->id, sizeof(slot->id)) != 0 ||
            slot->attempt != event->attempt)
            continue;
        /* Stops at the next step. */
        slot->endless = false;
        slot->fate = WORLD_HANG;
        slot->ends_us = world->now_us + sim_range(&world->random, 0, 300000);
        slot->token = ++machine->tokens;
        step_later(world, event->who, (uint32_t)i);
        return;
    }
    say_ready(world, event->who);
}

/* How a slot fails: of its own death, of hanging, or of what its host lacks. */
static enum proto_status choose_failure(struct world *world)
{
    static const enum proto_status shortages[] = {
        PROTO_STATUS_INTERNAL, PROTO_STATUS_UNAVAILABLE, PROTO_STATUS_DRAINING};

    if (sim_chance(&world->random, 200))
        return shortages[sim_range(&world->random, 0, 2)];
    return sim_chance(&world->random, 300) ? PROTO_STATUS_EXPIRED
                                           : PROTO_STATUS_WORKER_LOST;
}

void machine_step(struct world *world, const struct world_event *event)
{
    struct world_machine *machine = &world->machine[event->who];
    struct world_slot *slot = &machine->slots[event->a];

    if (!machine->alive || machine->life != event->life || !slot->busy ||
        slot->token != event->b)
        return;
    if (slot->endless || world->now_us < slot->ends_us) {
        if (slot->fate != WORLD_HANG)
            machine_send(world, event->who, PROTO_PROGRESS, &slot->id, slot->attempt, 0,
                         0);
        step_later(world, event->who, (uint32_t)event->a);
        return;
    }
    if (slot->fate == WORLD_GOOD || slot->fate == WORLD_BAD_INPUT)
        machine_send(
            world, event->who, PROTO_DONE, &slot->id, slot->attempt,
            slot->fate == WORLD_GOOD ? PROTO_STATUS_OK : PROTO_STATUS_UNDECODABLE, 0);
    else if (slot->fate != WORLD_HANG)
        machine_send(world, event->who, PROTO_FAIL, &slot->id, slot->attempt,
                     choose_failure(world),
                     WORLD_OF_WORKER | (slot->fate == WORLD_CRASH ? WORLD_RETRYABLE : 0));
    free_slot(world, event->who, slot);
}

static void rescale(struct world *world, const struct world_event *event)
{
    struct world_machine *machine = &world->machine[event->who];

    machine->keep = event->a < WORLD_SLOTS ? event->a : WORLD_SLOTS;
    resize(machine);
    machine_send(world, event->who, PROTO_SCALED, &no_id, 0, event->a, 0);
    say_ready(world, event->who);
}

void machine_receive(struct world *world, const struct world_event *event)
{
    struct world_machine *machine = &world->machine[event->who];

    if (!machine->alive || machine->life != event->life ||
        machine->muted_until_us > world->now_us)
        return;
    switch (event->verb) {
    case PROTO_JOB:
        take_job(world, event);
        break;
    case PROTO_ABORT:
        abort_job(world, event);
        break;
    case PROTO_SCALE:
        rescale(world, event);
        break;
    case PROTO_BYE:
        if (!machine->leaving)
            enlist(world, event->who);
        break;
    default:
        break;
    }
}

void machine_beat(struct world *world, const struct world_event *event)
{
    struct world_machine *machine = &world->machine[event->who];
    bool busy = false;

    if (!machine->alive || machine->life != event->life)
        return;
    for (int i = 0; i < WORLD_SLOTS; i++)
        busy |= machine->slots[i].busy;
    if (machine->leaving && !busy) {
        machine_die(world, event->who, true);
        return;
    }
    machine_send(world, event->who, PROTO_PING, &no_id, 0, 0, 0);
    say_ready(world, event->who);
    world_schedule(world, (struct world_event){.at_us = world->now_us + 1000000,
                                               .kind = WORLD_BEAT,
                                               .who = event->who,
                                               .life = machine->life});
}
