/*
 * siftmesh-slot NUMBER: one slot of siftmesh-extractor, which starts it. By itself it is
 * of no use: it wants its socket as fd 3 and the shared page as fd 4.
 */
#include "extractor/slot.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static int limit(int resource, rlim_t most)
{
    struct rlimit bound = {most, most};

    return setrlimit(resource, &bound);
}

/* Give up what a decoder under attack could use. Nothing here can be taken back. */
static int confine(uint64_t address_bytes_max)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || limit(RLIMIT_CORE, 0) < 0)
        return -1;
    /* The sanitizer's shadow alone needs terabytes of addresses. */
    if (address_bytes_max != 0 && !SANITIZED && limit(RLIMIT_AS, address_bytes_max) < 0)
        return -1;
    /* The seccomp filter goes here, last. What runs after it: read-only use of fds 3 and
     * 4, recvmsg, sendmsg, poll, memfd_create, write, fcntl, fstat, mmap, munmap, mremap,
     * brk, madvise, close, futex, clock_gettime, exit_group. */
    return 0;
}

/* A terminal's Ctrl-C and a service manager's SIGTERM reach the whole group; the job in
 * hand is to finish, so only the supervisor decides (by closing the socket, or SIGKILL).
 */
static int obey_only_the_supervisor(void)
{
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    /* For a supervisor that died before this line there is the end of the socket. */
    return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
}

int main(int argc, char **argv)
{
    const char *number = argc == 2 ? argv[1] : "?";
    struct extractor_slotpage *page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE,
                                           MAP_SHARED, EXTRACTOR_SLOT_PAGE_FD, 0);

    if (argc != 2 || page == MAP_FAILED) {
        fprintf(stderr, "siftmesh-slot is started by siftmesh-extractor only.\n");
        return EX_USAGE;
    }
    close(EXTRACTOR_SLOT_PAGE_FD);
    close_range(EXTRACTOR_SLOT_PAGE_FD + 1, ~0u, 0);
    extractor_slot_tune_malloc();
    if (obey_only_the_supervisor() < 0 || confine(page->address_bytes_max) < 0) {
        fprintf(stderr, "siftmesh-slot %s: cannot confine itself: %s\n", number,
                strerror(errno));
        return EX_OSERR;
    }
    return extractor_slot_run(EXTRACTOR_SLOT_SOCKET_FD, page);
}
