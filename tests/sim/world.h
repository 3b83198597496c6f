/*
 * world.h - what world.c (clients, the network, chaos) and machine.c (workers) share.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include "tests/sim/sim.h"

#define WORLD_SLOTS  32 /* of a machine */
#define WORLD_EVENTS 65536
#define WORLD_POISON 4 /* keys below this kill most slots that work on them */

/* `b` of a FAIL */
#define WORLD_RETRYABLE 1u
#define WORLD_OF_WORKER 2u

enum world_kind {
    WORLD_CLIENT,    /* client `who` does something */
    WORLD_TO_BROKER, /* a frame of machine `who` arrives */
    WORLD_TO_WORKER, /* a frame for machine `who` arrives */
    WORLD_SLOT,      /* slot `a` of machine `who` gets on */
    WORLD_BEAT,      /* machine `who` sends PING and READY */
    WORLD_RESTART,   /* machine `who` comes back */
    WORLD_CHAOS
};

struct world_event {
    uint64_t at_us, seq;
    enum world_kind kind;
    uint32_t who, life;
    uint32_t verb, attempt, status;
    struct proto_id id;
    uint64_t a, b;
};

enum world_fate { WORLD_GOOD, WORLD_BAD_INPUT, WORLD_CRASH, WORLD_FATAL, WORLD_HANG };

struct world_slot {
    bool alive, busy, endless;
    struct proto_id id;
    uint32_t attempt, token;
    enum world_fate fate;
    uint64_t ends_us;
};

struct world_machine {
    bool alive, leaving;
    uint32_t life, service;
    uint64_t keep, slots_offered, slots_max, credit_bytes, muted_until_us, last_out_us;
    uint32_t tokens;
    struct world_slot slots[WORLD_SLOTS];
};

struct world {
    struct sim_random random;
    struct sim_shadow shadow;
    struct broker_core *core;
    uint64_t now_us, seq, late_until_us;
    struct world_event *heap; /* WORLD_EVENTS */
    uint32_t pending;
    uint32_t clients, machines;
    struct proto_id unsent[64]; /* JOBs of this event that could not be sent */
    uint32_t unsents;
    bool calm;                           /* chaos and new requests have ended */
    unsigned loss, doubled, crash, idle; /* permille */
    uint64_t pace_us;                    /* most between two acts of a client */
    uint64_t work;                       /* most that a job takes, in pace_us */
    uint64_t silent_until_us[SIM_CLIENTS];
    unsigned client_loss;       /* permille of the frames of and to clients */
    bool believes[SIM_CLIENTS]; /* the client, that it has a session */
    uint64_t epoch[SIM_CLIENTS];
    bool spoke[SIM_CLIENTS];       /* the shell's: since its session opened */
    uint32_t waiting[SIM_RECORDS]; /* indices of records whose client waits */
    uint32_t waitings;
    unsigned restart;       /* permille of the chaos */
    uint64_t down_until_us; /* the broker */
    uint64_t quarantined;   /* counted by brokers that died */
    struct world_machine machine[SIM_MACHINES];
    struct {
        bool used;
        uint32_t machine, life;
    } owner[SIM_WORKERS]; /* of worker handles */
};

/* Copies `event`; at_us absolute. */
void world_schedule(struct world *world, struct world_event event);
/* Take all actions, show them to the shadow, and let them act on the world. */
void world_drain(struct world *world);

/* clients.c */
void client_act(struct world *world, uint32_t client);
/* ACCEPT, REJECT or FINAL was sent to a client; it may be lost on its way. */
void client_hear(struct world *world, const struct broker_core_action *action);
/* Whether a frame of or to a client is lost. */
bool client_frame_lost(struct world *world);

/* machine.c */
void machine_boot(struct world *world, uint32_t index);
void machine_die(struct world *world, uint32_t index, bool bye);
void machine_receive(struct world *world, const struct world_event *event);
void machine_step(struct world *world, const struct world_event *event);
void machine_beat(struct world *world, const struct world_event *event);
void machine_leave(struct world *world, uint32_t index);
/* A frame to the broker; late, lost or doubled at times. */
void machine_send(struct world *world, uint32_t index, uint32_t verb,
                  const struct proto_id *id, uint32_t attempt, uint64_t a, uint64_t b);

/* deliver.c: a worker's frame reaches the core, as the shell would hand it on. */
void deliver_frame(struct world *world, const struct world_event *event);
/* A frame about any job, from any worker, about any attempt. */
void deliver_forged(struct world *world);

#endif
