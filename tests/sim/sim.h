/*
 * sim.h - a seeded simulation of the broker's core: a world of clients, workers and a
 * bad network drives it (world.c), a shadow that knows only what was said checks it
 * after every event (shadow.c). Same seed, same run.
 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include "broker/core/core.h"

#include <stdbool.h>
#include <stdint.h>

#define SIM_CLIENTS  6  /* at most */
#define SIM_WORKERS  12 /* handles; twice the machines, for restarts */
#define SIM_MACHINES 6
#define SIM_RECORDS  8192 /* requests in one run */
#define SIM_SERVICES 2    /* "extract" with slots, "cache" without */
#define SIM_KEYS     48   /* what requests are about; SIM_KEYS: nobody can say */

/* ---- random numbers: xorshift64*, never the clock ---- */

struct sim_random {
    uint64_t state;
};
void sim_seed(struct sim_random *random, uint64_t seed);
uint64_t sim_next(struct sim_random *random);
uint64_t sim_range(struct sim_random *random, uint64_t low, uint64_t high); /* both in */
bool sim_chance(struct sim_random *random, unsigned permille);

/* ---- the shadow: what must hold, from the outside ---- */

enum sim_place {
    SIM_NEW,
    SIM_REFUSED,
    SIM_QUEUED,
    SIM_SENT,
    SIM_RUNNING,
    SIM_ENDED,
    SIM_LOST /* it was open when the broker died */
};

/* What its client knows of a request: each has one end there, too. */
enum sim_view {
    SIM_VIEW_NEW,
    SIM_VIEW_WAITING,
    SIM_VIEW_HEARD,   /* FINAL or REJECT came */
    SIM_VIEW_GAVE_UP, /* its time was over */
    SIM_VIEW_AGAIN    /* never accepted, or the session was a new one */
};

/* One request; its address is the payload handle. */
struct sim_record {
    enum sim_place place;
    uint32_t index, client, service, priority;
    uint64_t session; /* of the client */
    uint64_t bytes, cost, accepted_us, deadline_us;
    struct proto_id id, job; /* the client's; the broker's, once sent */
    bool known_job, final, released, taken_back;
    uint32_t worker, attempt, returned;
    uint64_t worker_session, tried; /* sessions of workers: now, last */
    uint64_t sent_us, started_us, alive_us, back_us;
    uint64_t order;     /* of acceptance */
    enum sim_view view; /* the client's own */
    uint32_t again;     /* VIEW_AGAIN: the request that it was submitted as */
    bool arrived;       /* its SUBMIT came to the broker */
    bool accepted;      /* and its ACCEPT to the client */
    uint64_t submitted_us,
        patience_us; /* when the client submitted it, and gives it up */
    uint32_t key;
    uint64_t forecast_ms; /* when it was submitted: until its end, as things went */
    bool too_late;
    uint16_t status; /* of FINAL */
    bool retryable;  /* the loss of its attempt in this event */
};

struct sim_key {
    uint32_t kills;
    uint64_t until_us;
};

struct sim_worker {
    bool open, leaving;
    bool doubted; /* let a START time pass, and began nothing since */
    uint32_t service;
    uint64_t session, slots_offered, slots_max, credit_bytes, credit, slots;
    uint32_t jobs;
    uint64_t bytes;
    uint64_t aborted_us;              /* last ABORT since READY; 0: none */
    uint64_t aborted_cost, last_cost; /* of ABORTs since none was left; of the last */
};

struct sim_source {
    bool live;
    uint64_t target, seq, until_us;
};

/* Second attempts in hand, in millionths, as of. Two bounds: of a request that ended in
 * the same event the shadow cannot tell whether it had been granted one before. */
struct sim_budget {
    uint64_t least, most, at_us;
};

struct sim_shadow {
    struct broker_core *core;
    struct broker_core_limits limits;
    struct sim_record *records; /* SIM_RECORDS */
    uint32_t count;
    uint32_t open[SIM_RECORDS], opened; /* indices of records between accept and end */
    bool client_open[SIM_CLIENTS], client_held[SIM_CLIENTS];
    uint64_t client_session[SIM_CLIENTS];
    struct sim_worker workers[SIM_WORKERS];
    struct sim_source sources[SIM_SERVICES][BROKER_CORE_SOURCES];
    uint64_t workerless_us[SIM_SERVICES];
    uint32_t since_batch[SIM_SERVICES];
    uint64_t high_until_us[SIM_SERVICES];
    struct sim_key keys[SIM_KEYS];
    struct sim_budget budgets[SIM_SERVICES];
    uint32_t lost[SIM_RECORDS], losts; /* whose attempt was lost in this event */
    uint64_t sessions, orders;
    uint64_t now_us, ticked_us; /* ticked: what was due until then was done */
    bool draining, expect_refusal, ticking;
    uint64_t checks, finals, refusals, dispatches, second_attempts;
    uint64_t unretried, newest_first, late_refusals, costly;
    uint64_t restarts, resubmitted, given_up, frames_lost, kept_places;
    uint64_t held;      /* times that a client's results waited for it */
    uint64_t overtaken; /* requests sent in a batch job's turn, which had to wait */
    uint64_t by_status[PROTO_STATUS_COUNT];
};

extern const char *const sim_service_names[SIM_SERVICES];

/* The broker died, and `core` is the next one: no session, no request is known to it. */
void sim_shadow_restart(struct sim_shadow *shadow, struct broker_core *core);
/* What was said to the core, told before (`_will`) or after the call. */
void sim_shadow_hello(struct sim_shadow *shadow, uint32_t client);
void sim_shadow_client_gone(struct sim_shadow *shadow, uint32_t client);
void sim_shadow_ready(struct sim_shadow *shadow, uint32_t worker, uint64_t credit,
                      uint64_t slots);
void sim_shadow_leaving(struct sim_shadow *shadow, uint32_t worker);
void sim_shadow_scale(struct sim_shadow *shadow, uint32_t service, uint32_t source,
                      uint64_t target, uint64_t seq, uint64_t until_us);
/* The record that an answer is about when it is about the attempt in hand, else NULL. */
struct sim_record *sim_shadow_current(struct sim_shadow *shadow, uint32_t worker,
                                      const struct proto_id *id, uint32_t attempt);
void sim_shadow_off_worker(struct sim_shadow *shadow, struct sim_record *record);
/* Its attempt came to nothing; and perhaps it was the slot that it took with it. */
void sim_shadow_lost(struct sim_shadow *shadow, struct sim_record *record,
                     bool retryable);
void sim_shadow_killed(struct sim_shadow *shadow, const struct sim_record *record);
void sim_shadow_good_end(struct sim_shadow *shadow, const struct sim_record *record);
/* It could not be sent or begun: without losing an attempt, unless that came too often.
 */
void sim_shadow_give_back(struct sim_shadow *shadow, struct sim_record *record);

/* Digest one action, in order. Complains about what must not be. */
void sim_shadow_act(struct sim_shadow *shadow, const struct broker_core_action *action);
/* It will be submitted now. */
void sim_shadow_forecast(const struct sim_shadow *shadow, struct sim_record *record);
/* All actions of an event were digested. */
void sim_shadow_settle(struct sim_shadow *shadow);
/* Everything that must hold between two events. */
void sim_shadow_check(struct sim_shadow *shadow);
/* Nothing is open any more; `at_rest`: and every client has had its turn since. */
void sim_shadow_check_end(struct sim_shadow *shadow, bool at_rest);

/* Prints seed, time and message, and ends the process with status 1. */
void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void sim_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool sim_verbose(void);

/* ---- the world ---- */

struct sim_totals {
    uint64_t events, requests, finals, refusals, dispatches, second_attempts, checks;
    uint64_t unretried, quarantined, newest_first, late_refusals, costly;
    uint64_t restarts, resubmitted, given_up, frames_lost, kept_places, overtaken, held;
    uint64_t by_status[PROTO_STATUS_COUNT];
};

/* One run; fails by sim_fail(). Adds to `totals`. */
void sim_run(uint64_t seed, uint64_t events, struct sim_totals *totals);

#endif
