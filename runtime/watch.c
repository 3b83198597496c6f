#include "runtime/watch.h"

#include <zmq.h>

static void on_again(uv_idle_t *idle)
{
    struct watch *watch = idle->data;
    watch->pump(watch->owner);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    (void)status;
    (void)events;
    watch->pump(watch->owner);
}

int watch_start(struct watch *watch, uv_loop_t *loop, void *socket,
                void (*pump)(void *owner), void *owner)
{
    int fd;
    size_t size = sizeof fd;

    watch->pump = pump;
    watch->owner = owner;
    if (zmq_getsockopt(socket, ZMQ_FD, &fd, &size) < 0)
        return -zmq_errno();
    uv_idle_init(loop, &watch->again);
    watch->again.data = watch;
    watch->open_handles = 1;
    int err = uv_poll_init(loop, &watch->poll, fd);
    if (err < 0)
        return err;
    watch->poll.data = watch;
    watch->open_handles = 2;
    err = uv_poll_start(&watch->poll, UV_READABLE, on_poll);
    /* What came before the watch began gave its edge already. */
    return err < 0 ? err : uv_idle_start(&watch->again, on_again);
}

void watch_again(struct watch *watch, bool again)
{
    if (again)
        uv_idle_start(&watch->again, on_again);
    else
        uv_idle_stop(&watch->again);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct watch *watch = handle->data;
    if (--watch->open_handles == 0)
        watch->closed(watch->owner);
}

void watch_stop(struct watch *watch, void (*closed)(void *owner), void *owner)
{
    int handles = watch->open_handles;

    watch->closed = closed;
    watch->owner = owner;
    if (handles >= 2)
        uv_close((uv_handle_t *)&watch->poll, on_handle_closed);
    if (handles >= 1)
        uv_close((uv_handle_t *)&watch->again, on_handle_closed);
    if (handles == 0)
        closed(owner);
}
