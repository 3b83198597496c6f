/*
 * jobs.h - the jobs that the broker gave: from JOB to DONE, FAIL or silence.
 *
 * A job waits for a slot only when READY crossed a JOB (docs/PROTOCOL.md section 4.2), at
 * most EXTRACTOR_HELD_MAX of them and EXTRACTOR_HELD_US long; then it is refused, to be
 * given to somebody else. In a slot it is watched: PROGRESS while the slot's counter
 * moves, and stopped when its time is over, when the broker takes it back, or when the
 * broker forgot it. A second attempt never comes to the process that had the first one.
 * One function ends a job.
 */
#ifndef EXTRACTOR_JOBS_H
#define EXTRACTOR_JOBS_H

#include "extractor/slots.h"
#include "runtime/endpoint.h"

#define EXTRACTOR_HELD_MAX    8       /* jobs without a slot */
#define EXTRACTOR_HELD_US     500000u /* half of the broker's start_timeout */
#define EXTRACTOR_PROGRESS_US 500000u

struct extractor;
struct extractor_jobs;

/* Room for `slots_max` jobs in slots and for the held ones. 0 or -ENOMEM. */
int extractor_jobs_open(struct extractor *extractor, unsigned slots_max,
                        struct extractor_jobs **out);
/* Forgets the jobs; sends nothing. NULL is fine. */
void extractor_jobs_close(struct extractor_jobs *jobs);

/* JOB and ABORT from the broker. The payload may be taken. */
void extractor_jobs_add(struct extractor_jobs *jobs, struct mesh_msg *msg);
void extractor_jobs_abort(struct extractor_jobs *jobs, const struct mesh_msg *msg);

/* The broker knows none of them any more: stop them all, answer none. */
void extractor_jobs_abandon(struct extractor_jobs *jobs);

/* We end now: every job FAILs, so that the broker gives it to another at once. */
void extractor_jobs_fail_all(struct extractor_jobs *jobs);

/* Give held jobs to idle slots. */
void extractor_jobs_dispatch(struct extractor_jobs *jobs);

/* Call each 100 ms while there are jobs. */
void extractor_jobs_tick(struct extractor_jobs *jobs);

/* From slots.h; `arg` is the struct extractor_jobs, `job` its own. */
void extractor_jobs_on_started(struct extractor_slot *slot, void *arg);
bool extractor_jobs_on_answer(struct extractor_slot *slot, void *job,
                              const struct extractor_slotwire *answer, int fd, void *arg);
void extractor_jobs_on_lost(struct extractor_slot *slot, void *job,
                            const struct extractor_ending *ending, void *arg);

struct extractor_jobs_count {
    unsigned held, running;
};
struct extractor_jobs_count extractor_jobs_count(const struct extractor_jobs *jobs);

#endif
