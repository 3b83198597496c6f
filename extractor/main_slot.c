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
#include <sysexits.h>
#include <unistd.h>

/* A terminal's Ctrl-C and a service manager's SIGTERM reach the whole group; the job in
 * hand is to finish, so only the supervisor decides (by closing the socket, or SIGKILL).
 */
static int obey_only_the_supervisor(void)
{
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    /* For a supervisor that died before this line there is the end of the socket. */
    return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 ? -errno : 0;
}

/* When memory runs out, a slot is the one to go: its job has a second attempt. */
static void be_the_first_to_go(void)
{
    FILE *file = fopen("/proc/self/oom_score_adj", "w");

    if (file == NULL)
        return; /* no procfs: the kernel chooses by size, which is a slot too */
    fputs("500", file);
    fclose(file);
}

/* 0 with `filter_err` as extractor_slot_run wants it; or -errno. */
static int confine(const struct extractor_slotpage *page, int *filter_err)
{
    const struct extractor_sandbox *sandbox = &page->sandbox;
    int err = obey_only_the_supervisor();

    if (err == 0)
        err = extractor_sandbox_limit(sandbox, EXTRACTOR_PAYLOAD_BYTES_MAX);
    if (err < 0)
        return err;
    extractor_slot_warm_up(page->cpu_off);
    *filter_err = sandbox->mode == EXTRACTOR_SANDBOX_OFF
                      ? 0
                      : extractor_sandbox_seal(EXTRACTOR_SLOT_SOCKET_FD);
    return sandbox->mode == EXTRACTOR_SANDBOX_REQUIRE ? *filter_err : 0;
}

/* The option or setting to change, where it is known. */
static const char *hint(int err, int filter_err)
{
    if (err == -ENOMEM)
        return "; slot_address_bytes leaves too little";
    if (filter_err < 0)
        return "; the system forbids seccomp filters, and sandbox is require, or auto as "
               "root";
    return "";
}

int main(int argc, char **argv)
{
    const char *number = argc == 2 ? argv[1] : "?";
    struct extractor_slotpage *page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE,
                                           MAP_SHARED, EXTRACTOR_SLOT_PAGE_FD, 0);
    int filter_err = 0;

    if (argc != 2 || page == MAP_FAILED) {
        fprintf(stderr, "siftmesh-slot is started by siftmesh-extractor only.\n");
        return EX_USAGE;
    }
    close(EXTRACTOR_SLOT_PAGE_FD);
    close_range(EXTRACTOR_SLOT_PAGE_FD + 1, ~0u, 0);
    extractor_slot_tune_malloc();
    be_the_first_to_go();
    int err = confine(page, &filter_err);
    if (err < 0) {
        fprintf(stderr, "siftmesh-slot %s: cannot confine itself: %s%s\n", number,
                strerror(-err), hint(err, filter_err));
        return EX_OSERR;
    }
    return extractor_slot_run(EXTRACTOR_SLOT_SOCKET_FD, page, filter_err);
}
