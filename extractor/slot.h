/*
 * slot.h - the work of one slot process: jobs in, results out, nothing else.
 *
 * It handles hostile bytes, so it knows no mesh, no socket but its own and no file. It
 * trusts its supervisor. One thread. Protocol: slotwire.h.
 */
#ifndef EXTRACTOR_SLOT_H
#define EXTRACTOR_SLOT_H

#include "extractor/slotwire.h"

/* Set up malloc so that memory stays warm between jobs and goes back when they stop. */
void extractor_slot_tune_malloc(void);

/*
 * Serve jobs from `sock` until the supervisor closes it. Both are borrowed. Returns an
 * exit code of sysexits.h: EX_OK at the end, EX_PROTOCOL, EX_OSERR.
 */
int extractor_slot_run(int sock, struct extractor_slotpage *page);

#endif
