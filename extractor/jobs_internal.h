/*
 * jobs_internal.h - between jobs.c, which takes jobs and watches them, and jobs_end.c,
 * which ends them. For nobody else.
 */
#ifndef EXTRACTOR_JOBS_INTERNAL_H
#define EXTRACTOR_JOBS_INTERNAL_H

#include "extractor/extractor.h"

/* Why a job is being stopped. */
enum extractor_fate {
    EXTRACTOR_FATE_NONE,
    EXTRACTOR_FATE_UNWANTED,
    EXTRACTOR_FATE_EXPIRED
};

struct extractor_task {
    bool used;
    struct proto_envelope envelope; /* of JOB: id, attempt, trace, priority */
    struct extractor_job work;
    zmq_msg_t image;             /* until a slot has it */
    struct extractor_slot *slot; /* NULL: held */
    bool started;
    bool has_budget; /* deadline_us is the client's, not our own job_timeout_ms */
    enum extractor_fate fate;
    uint32_t width_px, height_px; /* by the head of its file, as stored; 0: no picture */
    uint64_t result_bytes_max;
    pid_t avoid; /* of the slot that had the first attempt; 0: it may go anywhere */
    uint64_t given_us, cpu_us; /* when its slot got it, and that slot's CPU time then */
    uint64_t received_us, deadline_us, progress_us;
    uint32_t progress;
    uint64_t progress_cpu_us; /* of its slot, at progress_us */
    uint64_t stop_us;         /* when its slot was told to stop */
    uint32_t stop_progress;   /* and how far it was */
};

/* A first attempt that did not end well here. */
struct extractor_first {
    struct proto_id request;
    pid_t pid; /* of its slot */
};

/* As many as second attempts may be on their way; the oldest gives way. */
#define EXTRACTOR_FIRSTS_MAX 256

struct extractor_jobs {
    struct extractor *extractor;
    struct extractor_first firsts[EXTRACTOR_FIRSTS_MAX];
    unsigned firsts_next;
    unsigned size;
    struct extractor_task table[]; /* the held ones and those in slots */
};

void extractor_task_clear(struct extractor_task *job);

/* Answers to a JOB that never became a task: an error of its input, or ours. */
void extractor_jobs_answer_done(struct extractor *extractor,
                                const struct proto_envelope *envelope,
                                enum proto_status status, const char *detail);
void extractor_jobs_answer_fail(struct extractor *extractor,
                                const struct proto_envelope *envelope,
                                enum proto_status status, const char *detail);

/* The one way out: the task ends here, and is answered unless its fate says that nobody
 * listens. `payload` may be NULL and stays the caller's. */
void extractor_task_end(struct extractor *extractor, struct extractor_task *job,
                        enum proto_verb verb, enum proto_status status,
                        const struct proto_outcome *outcome, zmq_msg_t *payload);
/* By FAIL, retryable: for a reason of this host, which says nothing about the picture. */
void extractor_task_fail(struct extractor *extractor, struct extractor_task *job,
                         enum proto_status status, const char *detail);
/* Its time is over; `killed`: the slot did not stop by itself. */
void extractor_task_expire(struct extractor *extractor, struct extractor_task *job,
                           bool killed);

/* Whether its slot had at least EXTRACTOR_COMPUTED_PERCENT of the CPU since `since_us`,
 * when it had used `cpu_us`. A crowded host gives that much; one that hangs has none. */
#define EXTRACTOR_COMPUTED_PERCENT 5
bool extractor_task_computed(const struct extractor_task *job, uint64_t cpu_us,
                             uint64_t since_us, uint64_t now_us);

/* The job leaves its slot without an end: the next attempt is not to come there. */
void extractor_jobs_remember(struct extractor_jobs *jobs,
                             const struct extractor_task *job);

#endif
