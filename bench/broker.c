/*
 * broker - what the broker costs beside a bare zmq_proxy: requests a second with many in
 * flight, and the round trip of one at a time.
 *
 *     broker BROKER [--rounds N] [--seconds S] [--window N]
 *
 * BROKER is the path of siftmesh-broker. Both sides have one client (this process), one
 * process in the middle and one worker that does nothing, over ipc, with the same payload
 * both ways. Through the proxy a request is two messages; through the broker it is
 * SUBMIT, ACCEPT, JOB, DONE and FINAL. The proxy is measured twice: with the payload as
 * the only frame, and with the same frames as the broker's messages. Rounds are
 * interleaved, the figures are medians. The CPU time that the process in the middle takes
 * for a request depends less than the others on what else the machine does.
 */
#include "proto/body.h"
#include "proto/envelope.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#define PAYLOAD_BYTES 200
#define CREDIT        4096 /* of the worker that does nothing */
#define READY_EACH    512  /* jobs */
#define ROUNDS_MAX    99
#define TRIPS         1500 /* round trips, one at a time */
#define TIMEOUT_MS    10000

enum side { BROKER, PROXY_SAME_FRAMES, PROXY_ONE_FRAME, SIDES };

static const char *const side_names[SIDES] = {"siftmesh-broker", "zmq_proxy, same frames",
                                              "zmq_proxy, one frame"};

struct bench {
    char dir[64];
    void *zmq;
    void *sockets[SIDES];
    pid_t children[8];
    int child_count;
    uint8_t submit_body[PROTO_BODY_BYTES_MAX];
    int submit_body_bytes;
    uint64_t sent; /* for ids */
};

static void die(const char *what)
{
    fprintf(stderr, "broker: %s: %s\n", what, zmq_strerror(zmq_errno()));
    exit(1);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *open_socket(void *zmq, int type, const char *dir, const char *name,
                         bool bind)
{
    char address[128];
    void *socket = zmq_socket(zmq, type);
    int linger = 0, hwm = 16384, timeout_ms = bind ? -1 : TIMEOUT_MS;

    snprintf(address, sizeof address, "ipc://%s/%s.sock", dir, name);
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(socket, ZMQ_SNDHWM, &hwm, sizeof hwm);
    zmq_setsockopt(socket, ZMQ_RCVHWM, &hwm, sizeof hwm);
    zmq_setsockopt(socket, ZMQ_RCVTIMEO, &timeout_ms, sizeof timeout_ms);
    if ((bind ? zmq_bind(socket, address) : zmq_connect(socket, address)) < 0)
        die(address);
    return socket;
}

static void send_frame(void *socket, const void *bytes, size_t size, bool more)
{
    if (zmq_send(socket, bytes, size, more ? ZMQ_SNDMORE : 0) < 0)
        die("send");
}

static void send_header(void *socket, struct proto_envelope envelope)
{
    uint8_t header[PROTO_ENVELOPE_BYTES];

    envelope.priority = PROTO_PRIORITY_NORMAL;
    proto_envelope_encode(&envelope, header);
    send_frame(socket, header, sizeof header, true);
}

static void send_body(void *socket, uint8_t verb, const void *body)
{
    uint8_t packed[PROTO_BODY_BYTES_MAX];
    int size = proto_body_encode(proto_verb_fields(verb), body, packed, sizeof packed);

    send_header(socket, (struct proto_envelope){.verb = verb});
    send_frame(socket, packed, (size_t)size, false);
}

/* The header of the next message; the other frames are read and dropped. False when none
 * came in time. */
static bool receive(void *socket, struct proto_envelope *envelope)
{
    uint8_t header[PROTO_ENVELOPE_BYTES], rest[PROTO_BODY_BYTES_MAX];
    int more, size = zmq_recv(socket, header, sizeof header, 0);
    size_t more_bytes = sizeof more;

    if (size < 0)
        return false;
    if (proto_envelope_decode(header, (size_t)size, envelope) < 0)
        die("not SMP/1");
    while (zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &more_bytes) == 0 && more)
        if (zmq_recv(socket, rest, sizeof rest, 0) < 0)
            die("receive");
    return true;
}

/* ---- the processes beside this one ---- */

static void run_proxy(const char *dir)
{
    void *zmq = zmq_ctx_new();
    zmq_proxy(open_socket(zmq, ZMQ_ROUTER, dir, "proxy-front", true),
              open_socket(zmq, ZMQ_DEALER, dir, "proxy-back", true), NULL);
}

static void run_echo(const char *dir)
{
    void *socket = open_socket(zmq_ctx_new(), ZMQ_DEALER, dir, "proxy-back", false);
    int forever = -1;
    zmq_setsockopt(socket, ZMQ_RCVTIMEO, &forever, sizeof forever);

    for (;;) {
        zmq_msg_t msg;
        zmq_msg_init(&msg);
        if (zmq_msg_recv(&msg, socket, 0) < 0)
            return;
        if (zmq_msg_send(&msg, socket, zmq_msg_more(&msg) ? ZMQ_SNDMORE : 0) < 0)
            return;
    }
}

static void say_ready(void *socket)
{
    send_body(socket, PROTO_READY, &(struct proto_ready){.credit = CREDIT});
}

static void run_worker(const char *dir)
{
    static const char payload[PAYLOAD_BYTES];
    void *socket = open_socket(zmq_ctx_new(), ZMQ_DEALER, dir, "back", false);
    struct proto_envelope job;
    int forever = -1;

    zmq_setsockopt(socket, ZMQ_RCVTIMEO, &forever, sizeof forever);
    send_body(socket, PROTO_REGISTER,
              &(struct proto_enlist){.service = "noop", .name = "noop@bench:1"});
    say_ready(socket);
    for (uint64_t jobs = 0; receive(socket, &job);) {
        if (job.verb != PROTO_JOB)
            continue;
        send_header(socket, (struct proto_envelope){.verb = PROTO_DONE,
                                                    .attempt = job.attempt,
                                                    .request = job.request});
        send_frame(socket, "", 0, true);
        send_frame(socket, payload, sizeof payload, false);
        if (++jobs % READY_EACH == 0)
            say_ready(socket);
    }
}

static void run_broker(const char *dir, const char *program)
{
    execl(program, program, "--runtime-dir", dir, "--heartbeat-ms", "60000",
          "--log-level", "error", (char *)NULL);
    die(program);
}

static bool forked(struct bench *bench)
{
    pid_t pid = fork();

    if (pid < 0)
        die("fork");
    bench->children[bench->child_count] = pid;
    bench->child_count += pid > 0;
    return pid == 0;
}

static void start_all(struct bench *bench, const char *program)
{
    static void (*const roles[])(const char *) = {run_proxy, run_echo, run_worker};

    if (forked(bench)) {
        run_broker(bench->dir, program);
        _exit(1);
    }
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
        if (!forked(bench))
            continue;
        roles[i](bench->dir);
        _exit(1);
    }
}

static void stop_all(struct bench *bench)
{
    for (int i = 0; i < bench->child_count; i++) {
        kill(bench->children[i], i == 0 ? SIGTERM : SIGKILL);
        waitpid(bench->children[i], NULL, 0);
    }
}

/* CPU time that the process in the middle has used, user and kernel, all threads. */
static double cpu_s(const struct bench *bench, enum side side)
{
    char path[64], text[1024];
    unsigned long user = 0, kernel = 0;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)bench->children[side != BROKER]);
    FILE *file = fopen(path, "r");
    size_t size = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file != NULL)
        fclose(file);
    text[size] = '\0';
    const char *after = strrchr(text, ')'); /* the name may hold anything */
    if (after == NULL ||
        sscanf(after, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
               &kernel) != 2)
        die(path);
    return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

/* ---- the client ---- */

static void ask(struct bench *bench, enum side side)
{
    static const char payload[PAYLOAD_BYTES];
    void *socket = bench->sockets[side];
    struct proto_envelope envelope = {.verb = PROTO_SUBMIT, .budget_ms = 60000};

    if (side != PROXY_ONE_FRAME) {
        bench->sent++;
        memcpy(envelope.request.bytes, &bench->sent, sizeof bench->sent);
        send_header(socket, envelope);
        send_frame(socket, bench->submit_body, (size_t)bench->submit_body_bytes, true);
    }
    send_frame(socket, payload, sizeof payload, false);
}

static void await(struct bench *bench, enum side side)
{
    struct proto_envelope envelope = {0};
    char payload[PAYLOAD_BYTES];
    void *socket = bench->sockets[side];

    if (side == PROXY_ONE_FRAME) {
        if (zmq_recv(socket, payload, sizeof payload, 0) != sizeof payload)
            die("no answer");
        return;
    }
    do {
        if (!receive(socket, &envelope))
            die("no answer");
        if (envelope.verb == PROTO_REJECT || envelope.status != PROTO_STATUS_OK) {
            fprintf(stderr, "broker: refused: %s\n", proto_status_code(envelope.status));
            exit(1);
        }
    } while (envelope.verb == PROTO_ACCEPT);
}

struct rate {
    double per_s, cpu_us; /* requests; of the process in the middle, for each */
};

static struct rate throughput(struct bench *bench, enum side side, double seconds,
                              int window)
{
    double begin = now_s(), end = begin, cpu = cpu_s(bench, side);
    uint64_t answers = 0;

    for (int i = 0; i < window; i++)
        ask(bench, side);
    while (end - begin < seconds) {
        for (int i = 0; i < 64; i++) {
            await(bench, side);
            ask(bench, side);
        }
        answers += 64;
        end = now_s();
    }
    for (int i = 0; i < window; i++)
        await(bench, side);
    cpu = cpu_s(bench, side) - cpu;
    return (struct rate){(double)answers / (end - begin),
                         1e6 * cpu / (double)(answers + (uint64_t)window)};
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof values[0], compare);
    return values[count / 2];
}

static double round_trip_us(struct bench *bench, enum side side)
{
    static double trips[TRIPS];

    for (int i = 0; i < TRIPS; i++) {
        double begin = now_s();
        ask(bench, side);
        await(bench, side);
        trips[i] = 1e6 * (now_s() - begin);
    }
    return median(trips, TRIPS);
}

static void connect_all(struct bench *bench)
{
    struct proto_hello hello = {.role = "client", .name = "bench@here:1"};
    struct proto_submit submit = {.service = "noop", .method = "noop"};
    struct proto_envelope envelope;

    bench->zmq = zmq_ctx_new();
    bench->submit_body_bytes = proto_body_encode(
        proto_submit_fields, &submit, bench->submit_body, sizeof bench->submit_body);
    for (int side = 0; side < SIDES; side++)
        bench->sockets[side] =
            open_socket(bench->zmq, ZMQ_DEALER, bench->dir,
                        side == BROKER ? "front" : "proxy-front", false);
    send_body(bench->sockets[BROKER], PROTO_HELLO, &hello);
    if (!receive(bench->sockets[BROKER], &envelope) || envelope.verb != PROTO_WELCOME)
        die("no WELCOME");
}

static void measure(struct bench *bench, int rounds, double seconds, int window)
{
    static double rates[SIDES][ROUNDS_MAX], cpus[SIDES][ROUNDS_MAX],
        trips[SIDES][ROUNDS_MAX];
    double rate[SIDES], cpu[SIDES], trip[SIDES];

    for (int side = 0; side < SIDES; side++)
        (void)throughput(bench, side, 0.2, window); /* warm, and everybody is there */
    for (int round = 0; round < rounds; round++)
        for (int side = 0; side < SIDES; side++) {
            struct rate now = throughput(bench, side, seconds, window);
            rates[side][round] = now.per_s;
            cpus[side][round] = now.cpu_us;
            trips[side][round] = round_trip_us(bench, side);
        }
    for (int side = 0; side < SIDES; side++) {
        rate[side] = median(rates[side], rounds);
        cpu[side] = median(cpus[side], rounds);
        trip[side] = median(trips[side], rounds);
    }
    printf("%d bytes each way, ipc, %d in flight; medians of %d rounds of %.1f s\n",
           PAYLOAD_BYTES, window, rounds, seconds);
    for (int side = 0; side < SIDES; side++)
        printf("%-24s %9.0f req/s %6.2f us of CPU each   p50 round trip %6.1f us\n",
               side_names[side], rate[side], cpu[side], trip[side]);
    for (int side = 1; side < SIDES; side++)
        printf("broker / %-24s %.2f\n", side_names[side], rate[BROKER] / rate[side]);
}

static double number_of(int argc, char **argv, const char *flag, double otherwise)
{
    for (int i = 2; i + 1 < argc; i += 2)
        if (strcmp(argv[i], flag) == 0)
            return strtod(argv[i + 1], NULL);
    return otherwise;
}

int main(int argc, char **argv)
{
    struct bench bench = {.dir = "/tmp/siftmesh-bench-XXXXXX"};
    int rounds = (int)number_of(argc, argv, "--rounds", 5);
    int window = (int)number_of(argc, argv, "--window", 256);
    double seconds = number_of(argc, argv, "--seconds", 1.5);

    if (argc < 2 || argc % 2 != 0 || rounds < 1 || rounds > ROUNDS_MAX || window < 1 ||
        window > CREDIT / 4) {
        fprintf(stderr, "usage: broker BROKER [--rounds N] [--seconds S] [--window N]\n");
        return 64;
    }
    if (mkdtemp(bench.dir) == NULL)
        die("mkdtemp");
    start_all(&bench, argv[1]);
    connect_all(&bench);
    measure(&bench, rounds, seconds, window);
    stop_all(&bench);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", bench.dir);
    return system(command) == 0 ? 0 : 1;
}
