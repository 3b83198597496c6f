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

static const char *const services[] = {"broker", "gateway", "extractor", "cacher",
                                       "monitor"};
enum { SERVICES = sizeof services / sizeof services[0] };

/* Runs `siftmesh-NAME --show-config [--config FILE]`; its exit code. */
static int ask(const char *service, const char *file, bool quiet)
{
    char path[512], name[64];

    snprintf(name, sizeof name, "siftmesh-%s", service);
    if (!command_beside(name, path, sizeof path))
        return EX_OSERR;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        if (quiet && freopen("/dev/null", "w", stdout) == NULL)
            _exit(EX_OSERR);
        if (file != NULL)
            execl(path, path, "--show-config", "--config", file, (char *)NULL);
        else
            execl(path, path, "--show-config", (char *)NULL);
        perror(path);
        _exit(EX_UNAVAILABLE);
    }
    int status;
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return EX_OSERR;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EX_SOFTWARE;
}

static int ask_all(const char *file, bool quiet)
{
    int code = EX_OK;

    for (int i = 0; i < SERVICES; i++) {
        int answer = ask(services[i], file, quiet);
        code = code == EX_OK ? answer : code;
    }
    return code;
}

int command_config(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        printf("Usage: siftmesh config [FILE]\n"
               "Print every option of every service: value, origin, meaning.\n");
        return EX_OK;
    }
    return ask_all(argc > 1 ? argv[1] : NULL, false);
}

int command_check_config(int argc, char **argv)
{
    if (argc != 2 || strcmp(argv[1], "--help") == 0) {
        printf("Usage: siftmesh check-config FILE\n"
               "Check a configuration file; complaints name the line and the bounds.\n");
        return argc == 2 ? EX_OK : EX_USAGE;
    }
    int code = ask_all(argv[1], true);
    if (code == EX_OK)
        printf("%s: good\n", command_shown(argv[1]));
    return code == EX_USAGE ? EX_CONFIG : code;
}
