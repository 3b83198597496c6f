/*
 * sandbox.h - what a slot gives up before it looks at the first hostile byte.
 *
 * Two steps, neither can be taken back: limits of the system (no new privileges, no
 * capabilities, address space, files, processes), then a seccomp filter that kills the
 * process on any system call that reading a picture does not need: no open, no socket, no
 * fork, no exec, no executable memory. Loaded after start-up and warm-up, so that
 * libraries have read what they read once. Knows no job and no socket.
 *
 * Built with a sanitizer the filter is another one, for the sanitizers' own calls (they
 * read /proc, start a thread for the leak check, and ptrace): everything but sockets,
 * exec, and files opened for writing. It proves nothing about a release build, and keeps
 * the same code running there.
 */
#ifndef EXTRACTOR_SANDBOX_H
#define EXTRACTOR_SANDBOX_H

#include <stdint.h>

enum extractor_sandbox_mode {
    EXTRACTOR_SANDBOX_AUTO, /* the filter, unless the system forbids it; as root: REQUIRE
                             */
    EXTRACTOR_SANDBOX_REQUIRE, /* no slot without the filter */
    EXTRACTOR_SANDBOX_OFF      /* limits only */
};

struct extractor_sandbox {
    enum extractor_sandbox_mode mode;
    uint64_t address_bytes_max; /* RLIMIT_AS; 0: no limit */
};

/* "auto", "require", "off". 0, or -EINVAL. */
int extractor_sandbox_parse(const char *text, enum extractor_sandbox_mode *out);

/* The first step. Files that grow beyond `file_bytes_max` (a result is one) fail with
 * EFBIG. 0 or -errno. */
int extractor_sandbox_limit(const struct extractor_sandbox *sandbox,
                            uint64_t file_bytes_max);

/* The second step: allows what extractor_slot_run needs with `sock` as its socket. 0, or
 * -errno where the system forbids it: then nothing has changed. */
int extractor_sandbox_seal(int sock);

#endif
