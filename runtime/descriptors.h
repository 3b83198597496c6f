/*
 * descriptors.h - open descriptors: the limit raised at start, and a reserve under it.
 *
 * libzmq ends the process when it cannot accept an ipc connection for want of a
 * descriptor (EMFILE is none of the errors that its ipc_listener_t::accept() expects). So
 * a program that links this has an accept4() of its own, which libzmq and libuv call in
 * place of the C library's: a connection that would take one of the reserve's descriptors
 * is closed at once, and its peer sees that, while files, logs and pipes can still be
 * opened.
 */
#ifndef RUNTIME_DESCRIPTORS_H
#define RUNTIME_DESCRIPTORS_H

#include <stdint.h>

#define DESCRIPTORS_RESERVE 32u        /* for all that is no connection */
#define DESCRIPTORS_MAX     (1u << 20) /* a higher hard limit is not used up */

/* A service with fewer has no room for the mesh's own connections beside the reserve. */
#define DESCRIPTORS_MIN 96u

/* Raise the soft limit to the hard one. Where that cannot be, it stays. Returns what it
 * is then. */
uint64_t descriptors_raise(void);
/* Say so in the log where the limit leaves no room for so many connections. */
void descriptors_check(uint64_t connections);
/* Connections closed for the reserve. Any thread. */
uint64_t descriptors_refused(void);

#endif
