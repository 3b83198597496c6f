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
 * Run one small job, before the sandbox closes: libraries read and set up what they do
 * once (libjpeg on ARM reads /proc/cpuinfo), and the first picture finds a slot as fast
 * as any later one does. Without the kernels of `cpu_off`. Its memory is given back.
 */
void extractor_slot_warm_up(unsigned cpu_off);

/*
 * Serve jobs from `sock` until the supervisor closes it. Both are borrowed. `filter_err`
 * is what HELLO says of extractor_sandbox_seal: 0 or its -errno. Returns an exit code of
 * sysexits.h: EX_OK at the end, EX_PROTOCOL, EX_OSERR.
 */
int extractor_slot_run(int sock, struct extractor_slotpage *page, int filter_err);

#endif
