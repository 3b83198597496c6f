#include "extractor/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* Our ends live above the child's 0 to 4, so that no dup2 there can hit another. */
#define FD_FLOOR 10

static int move_up(int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, FD_FLOOR);
    int err = errno;

    close(fd);
    errno = err;
    return high;
}

static int open_socket(int *ours, int *childs)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    *ours = move_up(pair[0]);
    *childs = move_up(pair[1]);
    if (*ours < 0 || *childs < 0 || fcntl(*ours, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    return 0;
}

static int open_page(int *fd, struct extractor_slotpage **page)
{
    *fd = memfd_create("siftmesh-slot-page", MFD_CLOEXEC);
    if (*fd < 0 || (*fd = move_up(*fd)) < 0 || ftruncate(*fd, sizeof **page) < 0)
        return -errno;

    void *bytes = mmap(NULL, sizeof **page, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    if (bytes == MAP_FAILED)
        return -errno;
    *page = bytes;
    return 0;
}

static int add_files(posix_spawn_file_actions_t *files, int sock, int page_fd)
{
    int err = posix_spawn_file_actions_addopen(files, 0, "/dev/null", O_RDONLY, 0);

    if (err == 0)
        err = posix_spawn_file_actions_adddup2(files, 2, 1);
    if (err == 0)
        err = posix_spawn_file_actions_adddup2(files, sock, EXTRACTOR_SLOT_SOCKET_FD);
    if (err == 0)
        err = posix_spawn_file_actions_adddup2(files, page_fd, EXTRACTOR_SLOT_PAGE_FD);
    if (err == 0)
        err = posix_spawn_file_actions_addclosefrom_np(files, EXTRACTOR_SLOT_PAGE_FD + 1);
    return -err;
}

/* libuv and libzmq block and catch signals as they like; a slot starts without. */
static int add_signals(posix_spawnattr_t *attributes)
{
    sigset_t none, all;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(attributes, &none);
    posix_spawnattr_setsigdefault(attributes, &all);
    return -posix_spawnattr_setflags(attributes,
                                     POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

static int spawn(const char *program, unsigned number, int sock, int page_fd, pid_t *pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    char name[] = "siftmesh-slot", text[16];
    char *argv[] = {name, text, NULL};

    snprintf(text, sizeof text, "%u", number);
    if (posix_spawn_file_actions_init(&files) != 0)
        return -ENOMEM;
    if (posix_spawnattr_init(&attributes) != 0) {
        posix_spawn_file_actions_destroy(&files);
        return -ENOMEM;
    }
    int err = add_files(&files, sock, page_fd);
    if (err == 0)
        err = add_signals(&attributes);
    if (err == 0)
        err = -posix_spawn(pid, program, &files, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    return err;
}

/* Without a pidfd we could neither watch nor safely signal the child: it goes. */
static int open_pidfd(struct extractor_process *process)
{
    process->pidfd = pidfd_open(process->pid, 0);
    if (process->pidfd >= 0)
        return 0;

    int err = -errno;
    kill(process->pid, SIGKILL);
    waitpid(process->pid, NULL, 0);
    return err;
}

int extractor_process_start(const char *program, unsigned number,
                            const struct extractor_sandbox *sandbox, unsigned cpu_off,
                            struct extractor_process *out)
{
    struct extractor_process process = {.pidfd = -1, .sock = -1};
    int childs = -1, page_fd = -1;
    int err = open_socket(&process.sock, &childs);

    if (err == 0)
        err = open_page(&page_fd, &process.page);
    if (err == 0) {
        process.page->sandbox = *sandbox;
        process.page->cpu_off = cpu_off;
        err = spawn(program, number, childs, page_fd, &process.pid);
    }
    if (err == 0)
        err = open_pidfd(&process);
    if (childs >= 0)
        close(childs);
    if (page_fd >= 0)
        close(page_fd);
    if (err < 0)
        extractor_process_free(&process);
    else
        *out = process;
    return err;
}

void extractor_process_kill(const struct extractor_process *process)
{
    /* By pidfd: a pid could be somebody else's by now. */
    (void)pidfd_send_signal(process->pidfd, SIGKILL, NULL, 0);
}

int extractor_process_reap(const struct extractor_process *process, bool wait,
                           struct extractor_ending *out)
{
    siginfo_t info = {0};
    struct pollfd end = {.fd = process->pidfd, .events = POLLIN};
    int failed;

    /* Not by a blocking waitid: libuv makes the pidfd non-blocking, and that holds there.
     */
    do
        failed = poll(&end, 1, wait ? -1 : 0);
    while (failed < 0 && errno == EINTR);
    do
        failed = waitid(P_PIDFD, (id_t)process->pidfd, &info, WEXITED | WNOHANG);
    while (failed < 0 && errno == EINTR);
    if (failed < 0)
        return -errno;
    if (info.si_pid == 0)
        return -EAGAIN;
    out->signal = info.si_code == CLD_EXITED ? 0 : info.si_status;
    if (out->signal == 0)
        snprintf(out->how, sizeof out->how, "exit %d", info.si_status);
    else
        snprintf(out->how, sizeof out->how, "signal %d (%s)", out->signal,
                 strsignal(out->signal));
    return 0;
}

void extractor_process_free(struct extractor_process *process)
{
    if (process->page != NULL)
        munmap(process->page, sizeof *process->page);
    /* 0 is nobody's here (FD_FLOOR, and pidfds come after stdin): a zeroed struct. */
    if (process->sock > 0)
        close(process->sock);
    if (process->pidfd > 0)
        close(process->pidfd);
    *process = (struct extractor_process){0};
}

static uint64_t line_kib(const char *text, const char *name)
{
    const char *line = strstr(text, name);

    return line == NULL ? 0 : strtoull(line + strlen(name), NULL, 10);
}

int extractor_process_cpu(const struct extractor_process *process, uint64_t *used_us)
{
    struct timespec used;
    clockid_t clock;
    int err = clock_getcpuclockid(process->pid, &clock);

    if (err != 0)
        return -err;
    if (clock_gettime(clock, &used) < 0)
        return -errno;
    *used_us = (uint64_t)used.tv_sec * 1000000 + (uint64_t)used.tv_nsec / 1000;
    return 0;
}

int extractor_process_limit_cpu(const struct extractor_process *process, uint64_t seconds)
{
    struct rlimit bound = {.rlim_max = RLIM_INFINITY};
    uint64_t used_us;
    int err = extractor_process_cpu(process, &used_us);

    if (err < 0)
        return err;
    /* The kernel counts whole seconds: what is left of this one is given. */
    bound.rlim_cur = used_us / 1000000 + 1 + seconds;
    return prlimit(process->pid, RLIMIT_CPU, &bound, NULL) < 0 ? -errno : 0;
}

int extractor_process_memory(const struct extractor_process *process,
                             struct extractor_memory *out)
{
    char path[64], text[2048]; /* the three lines are within the first 800 bytes */

    snprintf(path, sizeof path, "/proc/%d/status", (int)process->pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    if (size <= 0)
        return -EIO;
    text[size] = '\0';

    struct extractor_memory memory = {line_kib(text, "VmRSS:") * 1024,
                                      line_kib(text, "VmHWM:") * 1024,
                                      line_kib(text, "RssAnon:") * 1024};
    if (memory.peak_bytes == 0) /* it has ended: no memory, no lines */
        return -ESRCH;
    *out = memory;
    return 0;
}

int extractor_process_beside(const char *name, char *out, size_t out_bytes)
{
    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);

    if (length < 0)
        return -errno;
    path[length] = '\0';
    *strrchr(path, '/') = '\0';
    int printed = snprintf(out, out_bytes, "%s/%s", path, name);
    return printed < 0 || (size_t)printed >= out_bytes ? -ENAMETOOLONG : 0;
}
