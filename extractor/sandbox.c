#include "extractor/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* stdin, stdout, stderr, the socket, a picture, a result; and some for a sanitizer. */
#define FILES_MAX 16

int extractor_sandbox_parse(const char *text, enum extractor_sandbox_mode *out)
{
    static const char *const names[] = {"auto", "require", "off"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (enum extractor_sandbox_mode)i;
            return 0;
        }
    return -EINVAL;
}

/* ---- limits ---- */

static int limit(int resource, uint64_t most)
{
    struct rlimit bound = {most, most}, now;

    /* A limit that is lower already stays: it could not be raised. */
    if (getrlimit(resource, &now) == 0 && now.rlim_max <= most)
        return 0;
    return setrlimit(resource, &bound) == 0 ? 0 : -errno;
}

/* A slot that root started is no root: it keeps the user id, and may do nothing by it
 * that the owner of a file could not. 0 or -errno. */
static int capabilities_drop(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

    /* Only with CAP_SETPCAP; without it there is nothing to get back by an exec, which
     * the filter forbids anyway. */
    for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return syscall(SYS_capset, &head, none) < 0 ? -errno : 0;
}

int extractor_sandbox_limit(const struct extractor_sandbox *sandbox,
                            uint64_t file_bytes_max)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    /* So that a write beyond RLIMIT_FSIZE is an error of the job, not the slot's end. */
    signal(SIGXFSZ, SIG_IGN);
    int err = capabilities_drop();
    if (err == 0)
        err = limit(RLIMIT_CORE, 0);
    if (err == 0)
        err = limit(RLIMIT_NOFILE, FILES_MAX);
    if (err == 0)
        err = limit(RLIMIT_FSIZE, file_bytes_max);
    /* A sanitizer's shadow alone needs terabytes of addresses, its leak check a thread.
     */
    if (err == 0 && !SANITIZED)
        err = limit(RLIMIT_NPROC, 0);
    if (err == 0 && !SANITIZED && sandbox->address_bytes_max != 0)
        err = limit(RLIMIT_AS, sandbox->address_bytes_max);
    return err;
}

/* ---- the filter ---- */

static int rules_each(scmp_filter_ctx filter, uint32_t action, const int *calls,
                      size_t count)
{
    int err = 0;

    for (size_t i = 0; i < count && err == 0; i++)
        err = seccomp_rule_add(filter, action, calls[i], 0);
    return err;
}

/* Calls that work on memory, the time, and descriptors that are open already. No memfd:
 * no limit counts its memory. No lseek: with it a slot could write over a log. */
static int rules_plain(scmp_filter_ctx filter)
{
    static const int calls[] = {
        SCMP_SYS(poll),
        SCMP_SYS(ppoll),
        SCMP_SYS(close),
        SCMP_SYS(write),
        SCMP_SYS(munmap),
        SCMP_SYS(mremap),
        SCMP_SYS(brk),
        SCMP_SYS(madvise),
        SCMP_SYS(futex),
        SCMP_SYS(clock_gettime),
        SCMP_SYS(exit),
        SCMP_SYS(exit_group),
        SCMP_SYS(restart_syscall),
        SCMP_SYS(sysinfo),  /* qsort asks how much memory there is */
        SCMP_SYS(getrandom) /* malloc, hash tables */
    };

    return rules_each(filter, SCMP_ACT_ALLOW, calls, sizeof calls / sizeof calls[0]);
}

/* abort(): says why on stderr and ends by its own signal, so that the log tells the
 * truth. Signals to nobody else. */
static int rules_abort(scmp_filter_ctx filter)
{
    static const int calls[] = {SCMP_SYS(getpid), SCMP_SYS(gettid),
                                SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction),
                                SCMP_SYS(rt_sigreturn)};
    int err = rules_each(filter, SCMP_ACT_ALLOW, calls, sizeof calls / sizeof calls[0]);

    if (err == 0)
        err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(writev), 1,
                               SCMP_A0(SCMP_CMP_EQ, STDERR_FILENO, 0));
    if (err == 0)
        err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                               SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
    return err;
}

/* Calls of which only some arguments are harmless. */
static int rules_narrow(scmp_filter_ctx filter, int sock)
{
    const struct {
        int call;
        struct scmp_arg_cmp with;
    } rules[] = {
        {SCMP_SYS(recvmsg), SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)sock, 0)},
        {SCMP_SYS(sendmsg), SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)sock, 0)},
        {SCMP_SYS(mmap), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
        {SCMP_SYS(mprotect), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
    };
    int err = 0;

    for (size_t i = 0; i < sizeof rules / sizeof rules[0] && err == 0; i++)
        err = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, rules[i].call, 1,
                                     &rules[i].with);
    return err;
}

/* Of a sanitized build: what a slot must not do, out of all that a sanitizer may. */
static int rules_sanitized(scmp_filter_ctx filter)
{
    static const int calls[] = {SCMP_SYS(socket),  SCMP_SYS(connect),  SCMP_SYS(bind),
                                SCMP_SYS(execve),  SCMP_SYS(execveat), SCMP_SYS(fork),
                                SCMP_SYS(vfork),   SCMP_SYS(creat),    SCMP_SYS(unlinkat),
                                SCMP_SYS(renameat)};
    int err =
        rules_each(filter, SCMP_ACT_KILL_PROCESS, calls, sizeof calls / sizeof calls[0]);

    for (unsigned mode = O_WRONLY; mode <= O_RDWR && err == 0; mode++)
        err = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(openat), 1,
                               SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE, mode));
    return err;
}

static int rules_strict(scmp_filter_ctx filter, int sock)
{
    int err = rules_plain(filter);

    if (err == 0)
        err = rules_narrow(filter, sock);
    if (err == 0)
        err = rules_abort(filter);
    return err;
}

int extractor_sandbox_seal(int sock)
{
    scmp_filter_ctx filter =
        seccomp_init(SANITIZED ? SCMP_ACT_ALLOW : SCMP_ACT_KILL_PROCESS);

    if (filter == NULL)
        return -ENOMEM;
    int err = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    /* Older kernels slow a filtered process down against Spectre 4. A slot has no secret
     * of another process, and does nothing but compute. Where the attribute is not known
     * there is nothing to turn off. */
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
    (void)seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);
    if (err == 0)
        err = SANITIZED ? rules_sanitized(filter) : rules_strict(filter, sock);
    if (err == 0)
        err = seccomp_load(filter);
    seccomp_release(filter);
    return err;
}
