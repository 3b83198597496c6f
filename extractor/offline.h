/*
 * offline.h - siftmesh-extractor --image PHOTO: the pipeline in this process alone, for
 * debugging and for measuring. No mesh, no service.
 */
#ifndef EXTRACTOR_OFFLINE_H
#define EXTRACTOR_OFFLINE_H

#include <stdbool.h>

/* True when `argv` asks for this mode: one of its words is --image or begins --image=. */
bool extractor_offline_wanted(int argc, char **argv);

/*
 * Parse the arguments, run, print. Returns a code of sysexits.h: EX_OK; EX_USAGE;
 * EX_NOINPUT when the photo cannot be read; EX_DATAERR when it is no picture that can be
 * decoded; EX_CANTCREAT; EX_SOFTWARE for a failure of our own.
 */
int extractor_offline_main(int argc, char **argv);

#endif
