/*
 * process.c - the first things a process does: descriptors 0 to 2, SIGHUP, its command
 * line, and the word of `siftmesh up` in its environment.
 *
 * Called by service.c and the commands before they start a thread. It never logs.
 */
#include "runtime/process.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void process_open_standard(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR); /* the lowest that is free */
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

bool process_hangup_ends(void)
{
    struct sigaction now;

    if (sigaction(SIGHUP, NULL, &now) < 0 || now.sa_handler == SIG_IGN)
        return false;
    int terminal = open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (terminal >= 0)
        close(terminal);
    return terminal >= 0;
}

static void hide(char *begin, const char *end)
{
    if (end > begin)
        memset(begin, '*', (size_t)(end - begin));
}

void process_hide_secrets(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char *url = strstr(argv[i], "://");
        if (url == NULL)
            continue;
        char *host = strrchr(url, '@');
        char *query = strchr(host != NULL ? host : url, '?');
        if (host != NULL)
            hide(url + 3, host);
        if (query != NULL)
            hide(query + 1, query + strlen(query));
    }
}

void process_tell_child(const struct process_parent *parent)
{
    char text[64];

    snprintf(text, sizeof text, "%d,%d,%" PRIu64, (int)parent->pid, parent->lock_fd,
             parent->restarts);
    setenv(PROCESS_PARENT, text, 1);
}

struct process_parent process_told(void)
{
    struct process_parent told = {.lock_fd = -1};
    const char *text = getenv(PROCESS_PARENT);
    int pid, fd;
    uint64_t restarts;

    if (text == NULL || sscanf(text, "%d,%d,%" SCNu64, &pid, &fd, &restarts) != 3)
        return told;
    if (fd > STDERR_FILENO)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    told = (struct process_parent){.pid = pid, .lock_fd = fd, .restarts = restarts};
    unsetenv(PROCESS_PARENT);
    return told;
}
