/* Clients, the network, chaos, and the loop that runs one seed. */
#include "tests/sim/world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool before(const struct world_event *a, const struct world_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->seq < b->seq;
}

void world_schedule(struct world *world, struct world_event event)
{
    uint32_t place = world->pending++;

    if (place >= WORLD_EVENTS)
        sim_fail("the simulator's own queue is full");
    event.seq = ++world->seq;
    while (place > 0 && before(&event, &world->heap[(place - 1) / 2])) {
        world->heap[place] = world->heap[(place - 1) / 2];
        place = (place - 1) / 2;
    }
    world->heap[place] = event;
}

static struct world_event take_first(struct world *world)
{
    struct world_event first = world->heap[0], last = world->heap[--world->pending];
    uint32_t place = 0;

    for (;;) {
        uint32_t child = 2 * place + 1;
        if (child >= world->pending)
            break;
        if (child + 1 < world->pending &&
            before(&world->heap[child + 1], &world->heap[child]))
            child++;
        if (!before(&world->heap[child], &last))
            break;
        world->heap[place] = world->heap[child];
        place = child;
    }
    world->heap[place] = last;
    return first;
}

static void to_worker(struct world *world, const struct broker_core_action *action,
                      uint32_t verb)
{
    struct world_event event = {
        .at_us = world->now_us + sim_range(&world->random, 20, 2000),
        .kind = WORLD_TO_WORKER,
        .who = world->owner[action->peer].machine,
        .life = world->owner[action->peer].life,
        .verb = verb,
        .attempt = action->attempt,
        .id = action->request,
        .a = action->to,
    };

    if (sim_chance(&world->random, world->loss))
        return;
    world_schedule(world, event);
    if (sim_chance(&world->random, world->doubled)) {
        event.at_us += sim_range(&world->random, 0, 2000000);
        world_schedule(world, event);
    }
}

static void send_job(struct world *world, const struct broker_core_action *action)
{
    if (world->unsents < 64 && sim_chance(&world->random, world->loss))
        world->unsent[world->unsents++] = action->request;
    else
        to_worker(world, action, PROTO_JOB);
}

static void carry_out(struct world *world, const struct broker_core_action *action)
{
    switch (action->type) {
    case BROKER_CORE_JOB:
        send_job(world, action);
        break;
    case BROKER_CORE_ABORT:
        to_worker(world, action, PROTO_ABORT);
        break;
    case BROKER_CORE_SHARE:
        to_worker(world, action, PROTO_SCALE);
        break;
    case BROKER_CORE_WORKER_BYE:
        to_worker(world, action, PROTO_BYE);
        world->owner[action->peer].used = false;
        break;
    case BROKER_CORE_CLIENT_BYE:
        sim_shadow_client_gone(&world->shadow, action->peer);
        if (!client_frame_lost(world))
            world->believes[action->peer] = false;
        break;
    case BROKER_CORE_ACCEPT:
    case BROKER_CORE_REJECT:
    case BROKER_CORE_FINAL:
        client_hear(world, action);
        break;
    default:
        break;
    }
}

static void take_actions(struct world *world)
{
    const struct broker_core_action *action;

    while ((action = broker_core_next(world->core)) != NULL) {
        sim_trace("  action %d peer %u attempt %u status %u to %lu", action->type,
                  action->peer, action->attempt, action->status, action->to);
        sim_shadow_act(&world->shadow, action);
        carry_out(world, action);
    }
    sim_shadow_settle(&world->shadow);
}

static void give_back(struct world *world, const struct proto_id *id)
{
    struct sim_shadow *shadow = &world->shadow;

    for (uint32_t i = 0; i < shadow->opened; i++) {
        struct sim_record *record = &shadow->records[shadow->open[i]];
        if (record->place == SIM_SENT && memcmp(&record->job, id, sizeof(*id)) == 0)
            sim_shadow_give_back(shadow, record);
    }
    broker_core_unsent(world->core, id, world->now_us);
}

void world_drain(struct world *world)
{
    take_actions(world);
    while (world->unsents > 0) {
        struct proto_id id = world->unsent[--world->unsents];
        give_back(world, &id);
        take_actions(world);
    }
}

static void scale(struct world *world)
{
    struct sim_random *random = &world->random;
    struct sim_shadow *shadow = &world->shadow;
    uint32_t source = (uint32_t)sim_range(random, 0, 1), service;
    uint64_t ttl_ms = sim_chance(random, 100) ? 0 : sim_range(random, 1, 15000);
    struct broker_core_scale scale = {
        .service = "extract",
        .source = source == 0 ? "monitor" : "operator",
        .target = sim_range(random, 0, 20),
        .seq = sim_range(random, 0, 3) + world->now_us / 1000000,
        .ttl_ms = ttl_ms,
        .reason = "chaos",
    };
    const struct sim_source *last = &shadow->sources[0][source];
    bool stale =
        last->live && last->until_us > shadow->ticked_us && scale.seq < last->seq;

    int err = broker_core_scale(world->core, &scale, &service, world->now_us);
    if (err != (stale ? -ESTALE : 0))
        sim_fail("SCALE: %d, stale %d", err, stale);
    uint64_t until_us =
        world->now_us + (ttl_ms == 0 ? shadow->limits.target_ttl_us : ttl_ms * 1000);
    if (!stale)
        sim_shadow_scale(shadow, 0, source,
                         scale.target == 0 && source == 0 ? 1 : scale.target, scale.seq,
                         until_us);
}

/* Of a core that will be gone. */
static void add_counters(struct world *world)
{
    world->quarantined += broker_core_counters(world->core)->keys_quarantined;
}

static void pardon(struct world *world)
{
    uint32_t key = (uint32_t)sim_range(&world->random, 0, 3 * SIM_KEYS);
    uint8_t bytes[BROKER_CORE_KEY_BYTES];

    memset(bytes, (int)key, sizeof(bytes));
    broker_core_pardon(world->core, key == SIM_KEYS ? NULL : bytes);
    for (uint32_t i = 0; i < SIM_KEYS; i++)
        if (key == SIM_KEYS || key == i)
            world->shadow.keys[i].kills = 0;
}

/* Killed, and after a while started again; who speaks then is told that it has no
 * session. Frames that the old one sent are still on their way. */
static void restart_broker(struct world *world)
{
    struct sim_shadow *shadow = &world->shadow;

    add_counters(world);
    broker_core_free(world->core);
    shadow->limits.epoch = sim_next(&world->random);
    shadow->limits.hash_seed = sim_next(&world->random);
    world->core = broker_core_new(&shadow->limits);
    if (world->core == NULL)
        sim_fail("out of memory");
    memset(world->owner, 0, sizeof(world->owner));
    world->unsents = 0;
    world->down_until_us = world->now_us + sim_range(&world->random, 0, 3000000);
    sim_shadow_restart(shadow, world->core);
}

/* A client reads slowly for a while. */
static void hold(struct world *world)
{
    struct sim_shadow *shadow = &world->shadow;
    uint32_t client = (uint32_t)sim_range(&world->random, 0, world->clients - 1);
    bool held = sim_chance(&world->random, 400);

    shadow->held += held && shadow->client_open[client] && !shadow->client_held[client];
    shadow->client_held[client] = held && shadow->client_open[client];
    broker_core_client_hold(world->core, client, held, world->now_us);
}

static void chaos(struct world *world)
{
    struct sim_random *random = &world->random;
    uint32_t index = (uint32_t)sim_range(random, 0, world->machines - 1);
    struct world_machine *machine = &world->machine[index];

    if (world->down_until_us > world->now_us)
        return;
    if (sim_chance(random, world->restart)) {
        restart_broker(world);
        return;
    }
    switch (sim_range(random, 0, 11)) {
    case 0:
        machine_die(world, index, sim_chance(random, 500));
        break;
    case 1:
        machine->muted_until_us = world->now_us + sim_range(random, 100000, 7000000);
        break;
    case 2:
        if (machine->alive && !machine->leaving)
            machine_leave(world, index);
        break;
    case 3:
        broker_core_mode(world->core, (enum broker_core_level)sim_range(random, 0, 3),
                         "chaos", sim_range(random, 0, 3000), world->now_us);
        break;
    case 4:
        (void)broker_core_drain_slot(world->core, sim_range(random, 0, 4000));
        pardon(world);
        break;
    case 5:
    case 6:
        deliver_forged(world);
        break;
    case 7:
    case 8:
        hold(world);
        break;
    default:
        scale(world);
        break;
    }
}

static void restart(struct world *world, const struct world_event *event)
{
    if (!world->machine[event->who].alive &&
        world->machine[event->who].life == event->life)
        machine_boot(world, event->who);
}

static void happen(struct world *world, const struct world_event *event)
{
    struct world_event again = *event;

    switch (event->kind) {
    case WORLD_CLIENT:
        client_act(world, event->who);
        again.at_us =
            world->now_us +
            (world->calm ? 500000 : sim_range(&world->random, 1, world->pace_us));
        world_schedule(world, again);
        break;
    case WORLD_TO_BROKER:
        if (world->down_until_us <= world->now_us)
            deliver_frame(world, event);
        break;
    case WORLD_TO_WORKER:
        machine_receive(world, event);
        break;
    case WORLD_SLOT:
        machine_step(world, event);
        break;
    case WORLD_BEAT:
        machine_beat(world, event);
        break;
    case WORLD_RESTART:
        restart(world, event);
        break;
    case WORLD_CHAOS:
        if (world->calm)
            break;
        chaos(world);
        again.at_us = world->now_us + sim_range(&world->random, 1, 60 * world->pace_us);
        world_schedule(world, again);
        break;
    }
}

static void tick(struct world *world)
{
    world->shadow.ticked_us = world->now_us;
    world->shadow.ticking = true;
    while (broker_core_deadline(world->core) <= world->now_us) {
        broker_core_tick(world->core, world->now_us);
        world_drain(world);
    }
    world->shadow.ticking = false;
}

static void set_now(struct world *world, uint64_t now_us)
{
    world->now_us = now_us;
    world->shadow.now_us = now_us;
}

/* At times the clock's turn comes late, as behind a busy socket: several events happen
 * while deadlines are over and nobody has looked. */
static bool clock_is_late(struct world *world)
{
    if (world->now_us < world->late_until_us)
        return true;
    if (!sim_chance(&world->random, 10))
        return false;
    world->late_until_us = world->now_us + sim_range(&world->random, 1, 500000);
    return true;
}

static void step(struct world *world)
{
    uint64_t deadline_us = broker_core_deadline(world->core);
    bool late = clock_is_late(world);

    if (late && deadline_us < world->late_until_us)
        deadline_us = world->late_until_us;
    if (world->pending > 0 && world->heap[0].at_us < deadline_us) {
        struct world_event event = take_first(world);
        set_now(world, event.at_us);
        sim_trace("%lu event %d who %u verb %s attempt %u a %lu b %lu", world->now_us,
                  event.kind, event.who, proto_verb_name(event.verb), event.attempt,
                  event.a, event.b);
        happen(world, &event);
        world_drain(world);
    } else {
        set_now(world, deadline_us);
        late = false;
    }
    if (!late) {
        sim_trace("%lu tick", world->now_us);
        tick(world);
    }
    sim_shadow_check(&world->shadow);
}

static void choose_limits(struct world *world, struct broker_core_limits *limits)
{
    struct sim_random *random = &world->random;

    broker_core_limits_init(limits);
    limits->epoch = sim_next(random);
    limits->hash_seed = sim_next(random);
    limits->clients_max = SIM_CLIENTS;
    limits->workers_max = SIM_WORKERS;
    limits->jobs_max = (uint32_t)sim_range(random, 4, 200);
    limits->lane_jobs = (uint32_t)sim_range(random, 1, 64);
    limits->lane_bytes = sim_range(random, 10000, 1000000);
    limits->total_bytes = sim_range(random, 20000, 3000000);
    limits->payload_bytes_max = sim_range(random, 1000, 100000);
    limits->client_jobs = (uint32_t)sim_range(random, 1, 100);
    limits->client_bytes = sim_range(random, 10000, 1000000);
    limits->batch_share = (uint32_t)sim_range(random, 1, 12);
    limits->high_slots = (uint32_t)sim_range(random, 0, 3);
    limits->request_us = sim_range(random, 1000000, 60000000);
    limits->worker_wait_us = sim_range(random, 0, 8000000);
    limits->newest_first_percent = (uint32_t)sim_range(random, 0, 120);
    limits->memory_budget = sim_chance(random, 400) ? 0 : sim_range(random, 500, 6000);
    limits->retry_percent = (uint32_t)sim_range(random, 0, 30);
    limits->retry_per_s = (uint32_t)sim_range(random, 0, 3);
    limits->retry_burst = (uint32_t)sim_range(random, 0, 30);
    limits->quarantine_keys = SIM_KEYS; /* what a smaller table forgets: a unit test */
    limits->quarantine_us = sim_chance(random, 50) ? 0 : sim_range(random, 1, 30000000);
}

static void begin(struct world *world, uint64_t seed)
{
    struct sim_random *random = &world->random;
    struct sim_shadow *shadow = &world->shadow;

    sim_seed(random, seed);
    choose_limits(world, &shadow->limits);
    world->core = shadow->core = broker_core_new(&shadow->limits);
    world->heap = calloc(WORLD_EVENTS, sizeof(world->heap[0]));
    shadow->records = calloc(SIM_RECORDS, sizeof(shadow->records[0]));
    if (world->core == NULL || world->heap == NULL || shadow->records == NULL)
        sim_fail("out of memory");
    set_now(world, 1000000);
    world->clients = (uint32_t)sim_range(random, 1, SIM_CLIENTS);
    world->machines = (uint32_t)sim_range(random, 1, SIM_MACHINES);
    world->pace_us = sim_range(random, 1000, 200000);
    world->loss = sim_chance(random, 300) ? 0 : (unsigned)sim_range(random, 0, 60);
    world->doubled = (unsigned)sim_range(random, 0, 60);
    world->client_loss = sim_chance(random, 400) ? 0 : (unsigned)sim_range(random, 1, 80);
    world->idle = (unsigned)sim_range(random, 100, 850);
    world->work = sim_range(random, 1, 40);
    world->crash = (unsigned)sim_range(random, 0, 100);
    world->restart = sim_chance(random, 500) ? 0 : (unsigned)sim_range(random, 1, 150);
    for (uint32_t i = 0; i < world->clients; i++)
        world_schedule(
            world,
            (struct world_event){.at_us = world->now_us, .kind = WORLD_CLIENT, .who = i});
    for (uint32_t i = 0; i < world->machines; i++)
        machine_boot(world, i);
    world_schedule(world, (struct world_event){.at_us = world->now_us + 500000,
                                               .kind = WORLD_CHAOS});
}

/* Half of the runs end by stopping the broker, half by letting everything come to rest:
 * with a good network each request must end, at the latest by its deadline. */
static void finish(struct world *world)
{
    world->calm = true;
    world->loss = world->doubled = world->client_loss = 0;
    broker_core_drain(world->core);
    world->shadow.draining = true;
    bool at_rest = sim_chance(&world->random, 500);
    if (at_rest) {
        uint64_t limit_us = world->now_us + world->shadow.limits.request_max_us;
        uint64_t rest_us = world->now_us + 10000000; /* silences and outages are over */
        while (world->shadow.opened > 0 || world->waitings > 0 ||
               world->now_us < rest_us) {
            step(world);
            if (world->now_us > limit_us)
                sim_fail("requests wait for ever");
        }
    } else {
        broker_core_stop(world->core, world->now_us);
        world_drain(world);
    }
    sim_shadow_check_end(&world->shadow, at_rest);
}

static void add_up(const struct world *world, uint64_t events, struct sim_totals *totals)
{
    const struct sim_shadow *shadow = &world->shadow;

    totals->events += events;
    totals->requests += shadow->count;
    totals->finals += shadow->finals;
    totals->refusals += shadow->refusals;
    totals->dispatches += shadow->dispatches;
    totals->second_attempts += shadow->second_attempts;
    totals->unretried += shadow->unretried;
    totals->newest_first += shadow->newest_first;
    totals->late_refusals += shadow->late_refusals;
    totals->costly += shadow->costly;
    totals->quarantined += world->quarantined;
    totals->restarts += shadow->restarts;
    totals->resubmitted += shadow->resubmitted;
    totals->given_up += shadow->given_up;
    totals->frames_lost += shadow->frames_lost;
    totals->kept_places += shadow->kept_places;
    totals->overtaken += shadow->overtaken;
    totals->held += shadow->held;
    totals->checks += shadow->checks;
    for (int i = 0; i < PROTO_STATUS_COUNT; i++)
        totals->by_status[i] += shadow->by_status[i];
}

void sim_run(uint64_t seed, uint64_t events, struct sim_totals *totals)
{
    static struct world world; /* large; one run at a time */

    memset(&world, 0, sizeof(world));
    begin(&world, seed);
    for (uint64_t i = 0; i < events; i++)
        step(&world);
    finish(&world);
    add_counters(&world);
    add_up(&world, events, totals);
    broker_core_free(world.core);
    free(world.heap);
    free(world.shadow.records);
}
