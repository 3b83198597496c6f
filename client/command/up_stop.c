/*
 * up_stop.c - the end of `siftmesh up`: each service in its turn, hurried and then killed
 * where it takes the others' time.
 *
 * Called from up.c's signals and up_child.c's deaths. It never starts a service, and
 * never waits: a timer tells it that one is late.
 */
#include "client/command/up.h"
#include "runtime/service.h"

#include <signal.h>

/* Kept of the whole for each service that is still to be stopped. */
#define KEPT_MS 2000
/* From hurry to kill, and from kill to giving up on a process that the kernel holds. */
#define STEP_MS 1000
/* For each, once the user hurries. */
#define HURRIED_MS 2000

enum { TOLD, HURRIED, KILLED };

static void on_late(uv_timer_t *timer);

/* The last that runs in the order of starting, or NULL. */
static struct up_child *running(struct up *up)
{
    for (int i = UP_SERVICES - 1; i >= 0; i--)
        if (up->children[i].pid > 0)
            return &up->children[i];
    return NULL;
}

static uint64_t patience_ms(const struct up *up, const struct up_child *child)
{
    uint64_t from_ms = up_now_ms() + (uint64_t)child->index * KEPT_MS + STEP_MS;
    uint64_t ms = from_ms < up->stop_end_ms ? up->stop_end_ms - from_ms : 0;

    return up->hurried && ms > HURRIED_MS ? HURRIED_MS : ms;
}

void up_stop_next(struct up *up)
{
    struct up_child *child = running(up);

    if (child == NULL) {
        uv_stop(&up->loop);
        return;
    }
    if (child == up->stop_child)
        return; /* another one has died meanwhile */
    up->stop_child = child;
    /* To those that were hurried beside it already, it is the second signal. */
    up->stop_step = up->hurried ? HURRIED : TOLD;
    kill(child->pid, up->stop_signal);
    uv_timer_start(&up->stop_timer, on_late, patience_ms(up, child), 0);
}

static void on_late(uv_timer_t *timer)
{
    struct up *up = timer->data;
    struct up_child *child = running(up);

    if (child == NULL)
        return;
    if (up->stop_step == TOLD) {
        kill(child->pid, up->stop_signal); /* the second one hurries it */
    } else if (up->stop_step == HURRIED) {
        up_complain("%s does not stop, killing it", up_names[child->index]);
        kill(child->pid, SIGKILL);
    } else {
        up_complain("%s (pid %d) does not even die, leaving it behind",
                    up_names[child->index], (int)child->pid);
        child->pid = 0;
        up_stop_next(up);
        return;
    }
    up->stop_step++;
    uv_timer_start(&up->stop_timer, on_late, STEP_MS, 0);
}

void up_stop_begin(struct up *up, int number)
{
    if (up->stopping)
        return;
    up->stopping = true;
    up->stop_signal = number;
    up->stop_end_ms = up_now_ms() + UP_STOP_TOTAL_MS;
    for (int i = 0; i < UP_SERVICES; i++)
        uv_timer_stop(&up->children[i].retry);
    up_stop_next(up);
}

void up_stop_hurry(struct up *up)
{
    up->stop_signal = SIGINT;
    for (int i = 0; i < UP_SERVICES; i++)
        if (up->children[i].pid > 0)
            kill(up->children[i].pid, up->hurried ? SIGKILL : SIGINT);
    up->hurried = true;
    if (up->stop_child != NULL && up->stop_step == TOLD) {
        up->stop_step = HURRIED;
        uv_timer_start(&up->stop_timer, on_late, patience_ms(up, up->stop_child), 0);
    }
}
