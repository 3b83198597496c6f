/*
 * process.h - what a process makes sure of before it does anything, and what `siftmesh
 * up` tells the services that it starts.
 */
#ifndef RUNTIME_PROCESS_H
#define RUNTIME_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Descriptors 0, 1 and 2 are open, on /dev/null where they were closed: else the next
 * file opened would get what is printed, and libuv aborts when it closes such a one. */
void process_open_standard(void);

/*
 * Whether SIGHUP ends this process: a terminal is there to hang up, and whoever started
 * us did not ignore the signal (nohup). Else it is to be ignored. Asked at the start, as
 * the terminal is gone when the signal comes.
 */
bool process_hangup_ends(void);

/* Overwrites, in the command line that every user of the host can read, what URLs in it
 * may hide: all before the last @, and the query. Values in use were copied before. */
void process_hide_secrets(int argc, char **argv);

/* From `siftmesh up` to a service, in the environment (PROCESS_PARENT). */
struct process_parent {
    pid_t pid;         /* of `siftmesh up`; 0: started by something else */
    int lock_fd;       /* the mesh's lock, held for as long as a service lives; or -1 */
    uint64_t restarts; /* times that this service was started again */
};

#define PROCESS_PARENT "SIFTMESH_UP"
/* In the child, before exec: tell it. */
void process_tell_child(const struct process_parent *parent);
/* In the service, first of all: what it was told. The lock is not passed on further. */
struct process_parent process_told(void);

#endif
