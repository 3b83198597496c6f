/*
 * descriptors.c - the limit of open files, and an accept4() that keeps a reserve of them.
 *
 * service.c raises the limit. libuv and libzmq call accept4() by its name and so get this
 * one: near the limit it closes the new connection and counts it, where libzmq would end
 * the process. It never touches a connection that was taken before.
 */
#include "runtime/descriptors.h"

#include "runtime/log.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_uint_fast64_t refused;

uint64_t descriptors_raise(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return DESCRIPTORS_MAX;
    rlim_t wanted = limit.rlim_max < DESCRIPTORS_MAX ? limit.rlim_max : DESCRIPTORS_MAX;
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = wanted;
    if (before >= wanted || setrlimit(RLIMIT_NOFILE, &limit) < 0)
        return before;
    return wanted;
}

void descriptors_check(uint64_t connections)
{
    uint64_t wanted = connections + DESCRIPTORS_RESERVE;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted)
        log_event(LOG_WARNING, "too few descriptors for the connections allowed",
                  "descriptors=%llu wanted=%llu", (unsigned long long)limit.rlim_cur,
                  (unsigned long long)wanted);
}

uint64_t descriptors_refused(void)
{
    return atomic_load(&refused);
}

/* A new descriptor is the lowest free one, so its number tells how many are in use. The
 * limit may be another one than at start: prlimit(1). */
static int is_of_reserve(int fd)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
           (rlim_t)fd + DESCRIPTORS_RESERVE >= limit.rlim_cur;
}

__attribute__((visibility("default"))) int accept4(int listener, struct sockaddr *address,
                                                   socklen_t *size, int flags)
{
    int fd = (int)syscall(SYS_accept4, listener, address, size, flags);

    if (fd < 0) {
        if (errno == EMFILE) /* which libzmq expects: the whole system's shortage */
            errno = ENFILE;
        return -1;
    }
    if (!is_of_reserve(fd))
        return fd;
    close(fd);
    atomic_fetch_add(&refused, 1);
    errno = ECONNABORTED;
    return -1;
}
