/*
 * config.c - `siftmesh config` and `check-config`: each service knows its own options,
 * so each is asked.
 */
#include "client/command/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#define SAID_BYTES 2048 /* what a service says in refusing a file */

static const char *const services[] = {"broker", "gateway", "extractor", "cacher",
                                       "monitor"};
enum { SERVICES = sizeof services / sizeof services[0] };

/* A service's process; it does not return. */
static void become(const char *service, const char *word, const char *file)
{
    char path[512], name[64];

    snprintf(name, sizeof name, "siftmesh-%s", service);
    if (!command_beside(name, path, sizeof path))
        _exit(EX_OSERR);
    if (file != NULL)
        execl(path, path, word, "--config", file, (char *)NULL);
    else
        execl(path, path, word, (char *)NULL);
    perror(path);
    _exit(EX_UNAVAILABLE);
}

static int exit_code_of(pid_t pid)
{
    int status;

    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return EX_OSERR;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EX_SOFTWARE;
}

int command_config(int argc, char **argv)
{
    int code = EX_OK;

    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        printf("Usage: siftmesh config [FILE]\n"
               "Print every option of every service: value, origin, meaning. What is "
               "printed\nis a file that the services read.\n");
        return EX_OK;
    }
    for (int i = 0; i < SERVICES && code == EX_OK; i++) {
        if (i > 0)
            putchar('\n');
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) /* section [mesh] is the same for all */
            become(services[i], i == 0 ? "--show-config" : "--show-own-config",
                   argc > 1 ? argv[1] : NULL);
        code = exit_code_of(pid);
    }
    return code == EX_USAGE ? EX_CONFIG : code;
}

/* The first line that a service says against the file, without its own name. */
static int ask(const char *service, const char *file, char said[SAID_BYTES])
{
    int ends[2];
    size_t used = 0;
    ssize_t n;

    if (pipe(ends) < 0)
        return EX_OSERR;
    pid_t pid = fork();
    if (pid == 0) {
        if (dup2(ends[1], STDERR_FILENO) < 0 || close(ends[0]) < 0 || close(ends[1]) < 0)
            _exit(EX_OSERR);
        become(service, "--check-config", file);
    }
    close(ends[1]);
    while ((n = read(ends[0], said + used, SAID_BYTES - 1 - used)) > 0)
        used += (size_t)n;
    close(ends[0]);
    said[used] = '\0';
    said[strcspn(said, "\n")] = '\0';
    char *name_end = strstr(said, ": ");
    if (strncmp(said, "siftmesh-", 9) == 0 && name_end != NULL)
        memmove(said, name_end + 2, strlen(name_end + 2) + 1);
    return exit_code_of(pid);
}

int command_check_config(int argc, char **argv)
{
    static char said[SERVICES][SAID_BYTES];
    int code = EX_OK;

    if (argc != 2 || strcmp(argv[1], "--help") == 0) {
        printf("Usage: siftmesh check-config FILE\n"
               "Check a configuration file; complaints name the line, the value and what "
               "is allowed,\nthe first one of each service.\n");
        return argc == 2 ? EX_OK : EX_USAGE;
    }
    for (int i = 0; i < SERVICES; i++) {
        bool known = false;
        int answer = ask(services[i], argv[1], said[i]);
        for (int j = 0; j < i; j++)
            known = known || strcmp(said[j], said[i]) == 0;
        if (answer != EX_OK && said[i][0] == '\0')
            fprintf(stderr, "siftmesh check-config: siftmesh-%s ended with code %d\n",
                    services[i], answer);
        else if (answer != EX_OK && !known)
            fprintf(stderr, "siftmesh check-config: %s\n", command_shown(said[i]));
        code = code == EX_OK ? answer : code;
    }
    if (code == EX_OK)
        printf("%s: good\n", command_shown(argv[1]));
    return code == EX_USAGE ? EX_CONFIG : code;
}
