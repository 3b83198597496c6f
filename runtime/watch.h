/*
 * watch.h - a ZeroMQ socket on the libuv loop; the one place that knows ZMQ_FD.
 *
 * ZMQ_FD is edge-triggered: it tells once that the socket's state may have changed, and a
 * send or a receive may use up what it would have told. So the owner reads until there is
 * nothing (EAGAIN), a bounded batch at a time, and while there may be more, and after
 * each send, asks to be called again. Loop thread only.
 */
#ifndef RUNTIME_WATCH_H
#define RUNTIME_WATCH_H

#include <stdbool.h>
#include <uv.h>

struct watch {
    uv_poll_t poll;
    uv_idle_t again;
    int open_handles;
    void (*pump)(void *owner);
    void (*closed)(void *owner);
    void *owner;
};

/* Call pump(owner) soon, and then whenever something may have come. `watch` is zeroed,
 * and stays where it is until closed(). 0 or -errno; also after an error it is to be
 * stopped.
 */
int watch_start(struct watch *watch, uv_loop_t *loop, void *socket,
                void (*pump)(void *owner), void *owner);
/* Whether to call pump() at the next turn of the loop, whatever ZMQ_FD says. */
void watch_again(struct watch *watch, bool again);
/* closed(owner) follows when libuv is done; at once where nothing was started. The socket
 * may be closed meanwhile. */
void watch_stop(struct watch *watch, void (*closed)(void *owner), void *owner);

#endif
