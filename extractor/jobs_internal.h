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
    uint64_t received_us, deadline_us, progress_us;
    uint32_t progress;
    uint64_t stop_us;       /* when its slot was told to stop */
    uint32_t stop_progress; /* and how far it was */
};

struct extractor_jobs {
    struct extractor *extractor;
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
/* By FAIL, retryable. */
void extractor_task_fail(struct extractor *extractor, struct extractor_task *job,
                         enum proto_status status, const char *detail);
/* Its time is over; `killed`: the slot did not stop by itself. */
void extractor_task_expire(struct extractor *extractor, struct extractor_task *job,
                           bool killed);

#endif
