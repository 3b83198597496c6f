/*
 * state.h - the core's own structs, shared by the files of this folder and by nobody
 * else. Who may change what: each file's functions are listed under its name.
 *
 * An object of every kind is a member of a fixed array made at start. A job is in
 * exactly one place: a lane (QUEUED) or a worker's list (SENT, RUNNING).
 */
#ifndef BROKER_CORE_STATE_H
#define BROKER_CORE_STATE_H

#include "broker/core/core.h"
#include "broker/core/heap.h"
#include "broker/core/list.h"

enum broker_core_job_state {
    BROKER_CORE_JOB_FREE,
    BROKER_CORE_JOB_QUEUED,  /* in its lane */
    BROKER_CORE_JOB_SENT,    /* given to a worker, START not seen */
    BROKER_CORE_JOB_RUNNING, /* START seen */
    BROKER_CORE_JOB_LOOSE    /* between two places, inside one function only */
};

struct broker_core_job {
    uint64_t number; /* its id towards workers; grows with arrival; 0: free */
    struct proto_id request;
    void *payload;
    uint64_t bytes, cost;
    uint8_t key[BROKER_CORE_KEY_BYTES];
    bool has_key;
    enum broker_core_job_state state;
    uint8_t priority, attempt, returned;
    uint32_t client, service, worker;
    uint64_t tried; /* session of the worker of the first attempt; 0: none */
    uint64_t accepted_us, deadline_us, dispatched_us, started_us, alive_us;
    struct broker_core_timer timer;
    struct broker_core_link line; /* in one line of its lane, or in its worker */
    struct broker_core_link of_client;
    struct broker_core_job *same_hash; /* in broker_core.buckets; next free job */
};

struct broker_core_client {
    bool open;
    bool held; /* results wait for it: none of its jobs is begun */
    uint32_t jobs;
    uint64_t bytes, heard_us;
    struct broker_core_link all; /* its open jobs */
    struct broker_core_timer timer;
};

struct broker_core_worker {
    bool open, leaving, told; /* told: it has confirmed its share */
    uint32_t service;
    uint32_t number;  /* k of its slot numbers */
    uint64_t session; /* unique for the life of the broker */
    uint64_t slots_offered, slots_max, credit_bytes;
    uint64_t credit, slots; /* as READY stated, credit counted down */
    uint64_t share, share_us;
    uint32_t jobs, aborting;
    uint64_t bytes, used, heard_us;
    uint64_t aborting_until_us;  /* when `aborting` is forgotten */
    uint64_t aborting_cost;      /* of all since the last time there was none */
    bool doubted;                /* let a START time pass, and has begun nothing since */
    struct broker_core_link all; /* its jobs */
    struct broker_core_link of_service;
    struct broker_core_timer timer;
};

/* Both lines are in order of arrival. What comes back arrived before all that was never
 * sent, unless these are served from the other end. */
struct broker_core_lane {
    struct broker_core_link again; /* jobs that were at a worker already: go first */
    struct broker_core_link line;  /* the others */
    uint32_t jobs;
    uint64_t bytes;
};

struct broker_core_target {
    bool live;
    uint64_t target, seq; /* target 0: withdrawn */
    char reason[BROKER_CORE_REASON_BYTES + 1];
    struct broker_core_timer timer;
};

struct broker_core_service {
    char name[BROKER_CORE_NAME_BYTES + 1];     /* empty: free */
    char reason[BROKER_CORE_REASON_BYTES + 1]; /* of the last change of the target */
    struct broker_core_link workers;
    uint32_t workers_open; /* those that are not leaving */
    struct broker_core_lane lanes[PROTO_PRIORITIES];
    uint32_t running, aborting;
    uint32_t since_batch;   /* dispatches while a batch job waited */
    uint64_t high_until_us; /* until then places are kept for the high lane */
    struct broker_core_timer high;
    struct broker_core_target sources[BROKER_CORE_SOURCES];
    uint64_t target, slots_max;               /* of the workers that are not leaving */
    const struct broker_core_target *decider; /* NULL: no source's target decides */
    uint64_t workerless_us;                   /* since when nobody offers it */
    struct broker_core_timer wait;
    uint64_t busy_us, interval_us; /* last end or begin of work; mean time between ends */
    uint32_t ends; /* that interval_us knows, up to BROKER_CORE_ENDS_MIN */
    uint64_t retry_micros, retry_us; /* second attempts in hand, in millionths; as of */
};

/* A key that killed a slot. */
struct broker_core_suspect {
    uint8_t key[BROKER_CORE_KEY_BYTES];
    uint32_t service;
    uint32_t kills;
    uint64_t until_us;
    struct broker_core_link line;          /* by until_us */
    struct broker_core_suspect *same_hash; /* in its bucket; next free one */
};

struct broker_core_quarantine {
    struct broker_core_suspect *all;
    struct broker_core_suspect *unused;
    uint32_t touched; /* from here on none was ever used */
    uint32_t refused; /* those with BROKER_CORE_KILLS_MAX */
    struct broker_core_link line;
    struct broker_core_suspect **buckets;
    uint32_t bucket_mask;
};

enum broker_core_timer_kind {
    BROKER_CORE_TIMER_JOB,
    BROKER_CORE_TIMER_CLIENT,
    BROKER_CORE_TIMER_WORKER,
    BROKER_CORE_TIMER_WAIT,
    BROKER_CORE_TIMER_TARGET, /* owner: service * BROKER_CORE_SOURCES + source */
    BROKER_CORE_TIMER_MODE,
    BROKER_CORE_TIMER_HIGH
};

struct broker_core {
    struct broker_core_limits limits;
    struct broker_core_counters counters;
    struct broker_core_job *jobs;
    struct broker_core_client *clients;
    struct broker_core_worker *workers;
    struct broker_core_service services[BROKER_CORE_SERVICES_MAX];

    struct broker_core_job *free_jobs;
    uint32_t jobs_touched; /* jobs from here on were never used: memory stays untouched */
    uint32_t jobs_open;
    uint64_t jobs_begun; /* for numbers */
    uint64_t bytes;      /* payloads of open jobs */
    uint64_t cost;       /* of jobs at workers with slots, aborted ones too */
    struct broker_core_job **buckets;
    uint32_t bucket_mask;

    struct broker_core_quarantine quarantine;
    struct broker_core_heap heap;
    uint64_t sessions, uses, shares; /* counts: worker sessions, dispatches, SHAREs */
    bool draining;
    enum broker_core_level level;
    char level_reason[BROKER_CORE_REASON_BYTES + 1];
    struct broker_core_timer level_timer;

    struct broker_core_action *actions; /* ring */
    uint32_t actions_max, actions_head, actions_count;
};

/* actions.c: append; the caller fills the rest. Never NULL. */
struct broker_core_action *broker_core_act(struct broker_core *core,
                                           enum broker_core_action_type type,
                                           uint32_t peer);

/* job.c: the one way through a job's states. */
struct broker_core_job *broker_core_job_find(struct broker_core *core, uint32_t client,
                                             const struct proto_id *id);
/* By the broker's own id; NULL when it is not open. */
struct broker_core_job *broker_core_job_numbered(struct broker_core *core,
                                                 const struct proto_id *id);
struct proto_id broker_core_job_id(const struct broker_core *core,
                                   const struct broker_core_job *job);
/* A new job in its lane, with ACCEPT. NULL when jobs_max are open. */
struct broker_core_job *broker_core_job_begin(struct broker_core *core, uint32_t client,
                                              uint32_t service,
                                              const struct broker_core_request *request,
                                              uint64_t now_us);
void broker_core_job_send(struct broker_core *core, struct broker_core_job *job,
                          uint32_t worker, uint64_t now_us);
/* Out of its lane, or off its worker, whom `abort` tells to stop. */
void broker_core_job_loosen(struct broker_core *core, struct broker_core_job *job,
                            bool abort, uint64_t now_us);
/* A loose job goes back to its place in its lane. */
void broker_core_job_requeue(struct broker_core *core, struct broker_core_job *job,
                             uint64_t now_us);
/* Whether its key is in quarantine. */
bool broker_core_job_poisoned(struct broker_core *core, const struct broker_core_job *job,
                              uint64_t now_us);
/* A loose job's attempt failed: queue it again where that is allowed, else end it. */
void broker_core_job_retry(struct broker_core *core, struct broker_core_job *job,
                           enum proto_status otherwise, const char *detail,
                           uint64_t now_us);
/* A loose job ends: the only function that ends one. */
void broker_core_job_end(struct broker_core *core, struct broker_core_job *job,
                         enum proto_status status, const char *detail, bool pass_on,
                         uint64_t now_us);
/* The time of a request that states this budget. */
uint64_t broker_core_job_budget_us(const struct broker_core *core, uint32_t budget_ms);
/* Set its timer by its state. */
void broker_core_job_arm(struct broker_core *core, struct broker_core_job *job);
void broker_core_job_due(struct broker_core *core, struct broker_core_job *job,
                         uint64_t now_us);

/* service.c */
/* Find by name, or make it; `by_worker` may use the last free places. Index, -EINVAL
 * for a bad name, -ENOSPC. */
int broker_core_service_named(struct broker_core *core, const char *name, bool by_worker,
                              uint64_t now_us);
/* Watch over jobs that wait while there is no worker. */
void broker_core_service_watch(struct broker_core *core, uint32_t service);
void broker_core_service_waited(struct broker_core *core, uint32_t service,
                                uint64_t now_us);
/* How long a new job of this priority would wait and work, as things go; 0 where nothing
 * waits or nothing is known yet. */
uint64_t broker_core_service_wait_us(const struct broker_core *core, uint32_t service,
                                     uint8_t priority);
/* An attempt ended at its worker: learn how fast they do. */
void broker_core_service_learn(struct broker_core_service *service, uint64_t now_us);
/* Take one second attempt out of the budget; false when there is none left. */
bool broker_core_service_may_retry(struct broker_core *core, uint32_t service,
                                   uint64_t now_us);
/* A request of it was accepted: the budget grows. */
void broker_core_service_earn_retry(struct broker_core *core, uint32_t service);
/* How long until what waits has ended; bounded, never 0. */
uint32_t broker_core_service_retry_ms(const struct broker_core_service *service);

/* slots.c */
/* The workers or the targets changed: a new target, and everybody's share. */
void broker_core_slots_update(struct broker_core *core, uint32_t service,
                              const char *reason, uint64_t now_us);
void broker_core_slots_tell(struct broker_core *core, uint32_t worker, uint64_t now_us);
void broker_core_slots_expired(struct broker_core *core, uint32_t owner, uint64_t now_us);
uint32_t broker_core_slots_number(const struct broker_core *core);

/* quarantine.c: keys that killed slots. 0 or -ENOMEM. */
int broker_core_quarantine_init(struct broker_core *core);
void broker_core_quarantine_free(struct broker_core *core);
/* The attempt of `job` ended with its slot. */
void broker_core_quarantine_blame(struct broker_core *core,
                                  const struct broker_core_job *job, uint64_t now_us);
/* It came to a good end. */
void broker_core_quarantine_clear(struct broker_core *core,
                                  const struct broker_core_job *job);
/* How long `key` will be refused yet; 0: it is not. */
uint64_t broker_core_quarantine_left_us(struct broker_core *core, uint32_t service,
                                        const uint8_t *key, uint64_t now_us);
/* The service at this index is another one from now on. */
void broker_core_quarantine_drop(struct broker_core *core, uint32_t service);

/* dispatch.c: give out whatever can be given; ends every event that may free a slot. */
void broker_core_dispatch(struct broker_core *core, uint64_t now_us);

/* client.c, worker.c, mode.c: their timers fired. */
void broker_core_client_due(struct broker_core *core, uint32_t client, uint64_t now_us);
void broker_core_worker_due(struct broker_core *core, uint32_t worker, uint64_t now_us);
void broker_core_mode_due(struct broker_core *core);

#endif
