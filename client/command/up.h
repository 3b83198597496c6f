/*
 * up.h - the parts of `siftmesh up`: up.c reads options and runs the loop, up_child.c
 * starts services, and starts them again, up_stop.c ends them in order. One thread.
 */
#ifndef CLIENT_COMMAND_UP_H
#define CLIENT_COMMAND_UP_H

#include "client/command/command.h"
#include "runtime/folder.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/* In the order of starting; ended from the last to the first. */
enum { UP_BROKER, UP_CACHER, UP_EXTRACTOR, UP_MONITOR, UP_GATEWAY, UP_SERVICES };

struct up_child {
    struct up *up;
    int index;
    pid_t pid; /* 0: not running */
    bool ready, was_ready;
    uint64_t started_ms, retry_ms, starts;
    uv_timer_t retry;
};

struct up {
    uv_loop_t loop;
    uv_signal_t sigchld, sigterm, sigint, sighup;
    uv_poll_t notify;
    uv_timer_t stop_timer, tick;
    int notify_fd, lock_fd, lock_err;
    struct folder_file lock;
    uint64_t ticks;
    char notify_name[COMMAND_NOTIFY_BYTES];
    struct up_child children[UP_SERVICES];
    const char *runtime_dir, *listen, *monitor_listen, *slots, *config, *log_level;
    char *redis, *store; /* copies: what is on the command line is hidden */
    char listen_fixed[2][300];
    bool announced;
    int exit_code;

    /* up_stop.c */
    bool stopping, hurried;
    int stop_signal;
    struct up_child *stop_child; /* the one that is being stopped */
    int stop_step;               /* told, hurried, killed */
    uint64_t stop_end_ms;
};

extern const char *const up_names[UP_SERVICES];

/* A line to stdout, or to stderr after "siftmesh up: ". They wait for no reader. */
void up_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void up_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t up_now_ms(void);

void up_child_init(struct up *up, int index);
/* Starts the service, now or, where the system has no process to spare, later. */
void up_child_start(struct up_child *child);
/* A READY=1 of the process `pid`, with its STATUS. */
void up_child_ready(struct up *up, pid_t pid, const char *status);
/* Reaps every child there is: as PID 1 orphans of others are ours. */
void up_child_reap(struct up *up);

/*
 * Ends the services in order, the first by `number` (SIGTERM or SIGINT), each only when
 * the one before has gone, and then the loop. Whatever hangs, it takes UP_STOP_TOTAL_MS:
 * a service that leaves too little of it to the others is hurried, then killed.
 */
#define UP_STOP_TOTAL_MS 25000
void up_stop_begin(struct up *up, int number);
/* The user cannot wait: hurries all; the second time, kills them. */
void up_stop_hurry(struct up *up);
/* A service has ended: on to the next, if it was its turn. */
void up_stop_next(struct up *up);

#endif
