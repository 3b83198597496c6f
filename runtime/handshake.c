#include "runtime/handshake.h"

#include "runtime/log.h"
#include "runtime/watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

/* Events that may wait for the loop. When there are more, ZeroMQ's thread waits until we
 * have read some: connecting is slowed down, nothing is lost. */
#define EVENTS_HWM 65536
#define BATCH      64 /* events for each turn of the loop */

#define EVENTS                                                                           \
    (ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED |                                       \
     ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |        \
     ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)

struct handshake {
    void *socket, *events; /* monitored; its monitor's other end */
    char address[256];
    struct watch watch;
    struct handshake_counters counters;
    struct log_limit quiet;
};

const char *handshake_failure_name(unsigned failure)
{
    static const char *const names[] = {"cut", "protocol", "auth"};
    return failure < HANDSHAKE_FAILURES ? names[failure] : "?";
}

static const char *reason(enum handshake_failure failure, uint32_t value)
{
    if (failure == HANDSHAKE_AUTH)
        return "the key is not allowed";
    if (failure == HANDSHAKE_CUT)
        return "the other side hung up or took too long; with CURVE also: its key of the "
               "server is another one";
    if (value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
        return "one side speaks CURVE and the other does not";
    if (value == ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC)
        return "the other side has another key of the server";
    return "the other side does not speak ZMTP";
}

static void fail(struct handshake *handshake, enum handshake_failure failure,
                 uint32_t value)
{
    handshake->counters.failed[failure]++;
    log_limited(LOG_NOTICE, &handshake->quiet, uv_hrtime() / 1000, "handshake failed",
                "address=\"%s\" why=\"%s\"", handshake->address, reason(failure, value));
}

static void on_event(struct handshake *handshake, uint16_t event, uint32_t value)
{
    switch (event) {
    case ZMQ_EVENT_ACCEPTED:
        handshake->counters.accepted++;
        break;
    case ZMQ_EVENT_DISCONNECTED:
        handshake->counters.ended++;
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        fail(handshake, HANDSHAKE_CUT, value);
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        fail(handshake, HANDSHAKE_PROTOCOL, value);
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        fail(handshake, HANDSHAKE_AUTH, value);
        break;
    default:
        break;
    }
}

/* One event: a frame with number and value, one with an address. 0 or -errno. */
static int take_event(struct handshake *handshake)
{
    uint8_t frame[6];
    uint16_t event;
    uint32_t value;
    char address[256];

    int n = zmq_recv(handshake->events, frame, sizeof frame, ZMQ_DONTWAIT);
    if (n < 0)
        return -zmq_errno();
    if (zmq_recv(handshake->events, address, sizeof address, ZMQ_DONTWAIT) < 0)
        return -zmq_errno();
    if (n == sizeof frame) {
        memcpy(&event, frame, sizeof event);
        memcpy(&value, frame + sizeof event, sizeof value);
        on_event(handshake, event, value);
    }
    return 0;
}

static void pump(void *owner)
{
    struct handshake *handshake = owner;
    int err = 0;

    for (int i = 0; i < BATCH && err == 0; i++)
        err = take_event(handshake);
    watch_again(&handshake->watch, err == 0);
}

static int connect_events(struct handshake *handshake, void *zmq)
{
    char name[64];
    int hwm = EVENTS_HWM, linger = 0;

    snprintf(name, sizeof name, "inproc://handshake-%p", handshake->socket);
    handshake->events = zmq_socket(zmq, ZMQ_PAIR);
    if (handshake->events == NULL ||
        zmq_setsockopt(handshake->events, ZMQ_RCVHWM, &hwm, sizeof hwm) < 0 ||
        zmq_setsockopt(handshake->events, ZMQ_LINGER, &linger, sizeof linger) < 0 ||
        zmq_socket_monitor(handshake->socket, name, EVENTS) < 0 ||
        zmq_connect(handshake->events, name) < 0)
        return -zmq_errno();
    return 0;
}

int handshake_open(uv_loop_t *loop, void *zmq, void *socket, const char *address,
                   struct handshake **out)
{
    struct handshake *handshake = calloc(1, sizeof *handshake);

    if (handshake == NULL)
        return -ENOMEM;
    handshake->socket = socket;
    snprintf(handshake->address, sizeof handshake->address, "%s", address);
    int err = connect_events(handshake, zmq);
    if (err == 0)
        err = watch_start(&handshake->watch, loop, handshake->events, pump, handshake);
    if (err < 0) {
        handshake_close(handshake);
        return err;
    }
    *out = handshake;
    return 0;
}

void handshake_close(struct handshake *handshake)
{
    if (handshake == NULL)
        return;
    /* ZeroMQ's thread waits for ever where nobody reads its events, and ending the
     * monitor waits for that thread: first room, then the end, then our side. */
    while (handshake->events != NULL && take_event(handshake) == 0)
        ;
    zmq_socket_monitor(handshake->socket, NULL, 0);
    if (handshake->events != NULL)
        zmq_close(handshake->events);
    watch_stop(&handshake->watch, free, handshake);
}

const struct handshake_counters *handshake_counters(const struct handshake *handshake)
{
    return &handshake->counters;
}
