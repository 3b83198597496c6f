/* A real siftmesh-slot through its socket. Where the program is not built beside the
 * tests (../bin), there is nothing to test. */
#include "extractor/process.h"
#include "proto/blob.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 60000 /* sanitizers are slow; nothing waits for this to pass */

static char program[4096];
static struct extractor_sandbox sandbox = {.address_bytes_max = 4ull << 30};

static struct extractor_process start(void)
{
    struct extractor_process process;

    assert_int_equal(extractor_process_start(program, 7, &sandbox, 0, &process), 0);
    return process;
}

static void await(int fd, const char *what)
{
    struct pollfd in = {.fd = fd, .events = POLLIN};

    if (poll(&in, 1, PATIENCE_MS) != 1)
        fail_msg("no %s in %d ms", what, PATIENCE_MS);
}

static struct extractor_slotwire hear(const struct extractor_process *process)
{
    struct extractor_slotwire message;

    await(process->sock, "packet");
    assert_int_equal(extractor_slotwire_recv(process->sock, &message, NULL), 0);
    return message;
}

static void hear_kind(const struct extractor_process *process,
                      enum extractor_slotwire_kind kind)
{
    assert_int_equal(hear(process).kind, kind);
}

/* End it by closing the socket; it has to go by itself, with success. */
static void finish(struct extractor_process *process)
{
    struct extractor_ending ending;

    shutdown(process->sock, SHUT_RDWR);
    await(process->pidfd, "end");
    assert_int_equal(extractor_process_reap(process, false, &ending), 0);
    assert_string_equal(ending.how, "exit 0");
    assert_int_equal(ending.signal, 0);
    extractor_process_free(process);
    extractor_process_free(process); /* twice is fine */
}

/* A PGM of blobs on a grid, `side` pixels wide and high. The caller frees. */
static uint8_t *blobs(unsigned side, size_t *size)
{
    uint8_t *bytes = malloc(32 + (size_t)side * side);
    int head = sprintf((char *)bytes, "P5\n%u %u\n255\n", side, side);

    for (unsigned y = 0; y < side; y++)
        for (unsigned x = 0; x < side; x++) {
            int dx = (int)(x % 24) - 12, dy = (int)(y % 24) - 12;
            bytes[(size_t)head + (size_t)y * side + x] =
                dx * dx + dy * dy < 25 ? 220 : (uint8_t)(30 + x % 5);
        }
    *size = (size_t)head + (size_t)side * side;
    return bytes;
}

/* For the result of the last submit(). */
static int room = -1;
#define ROOM_BYTES (8u << 20)

static void submit(const struct extractor_process *process, const uint8_t *image,
                   size_t size, uint64_t serial)
{
    struct extractor_slotwire message = {.kind = EXTRACTOR_SLOT_JOB, .serial = serial};
    int fds[EXTRACTOR_FDS] = {extractor_payload_make(image, size),
                              extractor_payload_room(ROOM_BYTES)};

    message.job.kind = PROTO_KIND_FEATURES;
    message.job.image_bytes = size;
    message.job.pixels_max = 1u << 20;
    proto_params_init(&message.job.params);
    memset(message.job.key, 0x11, sizeof message.job.key);
    memset(message.job.image_sha256, 0x22, sizeof message.job.image_sha256);
    assert_true(fds[EXTRACTOR_FD_IMAGE] >= 0 && fds[EXTRACTOR_FD_RESULT] >= 0);
    assert_int_equal(extractor_slotwire_send(process->sock, &message, fds), 0);
    close(fds[EXTRACTOR_FD_IMAGE]);
    close(room);
    room = fds[EXTRACTOR_FD_RESULT];
}

static void check_blob(const struct extractor_slotwire *done, unsigned side)
{
    struct proto_blob blob;
    void *bytes;

    assert_int_equal(extractor_payload_seal(room, done->result.size), 0);
    assert_int_equal(extractor_payload_map(room, done->result.size, &bytes), 0);
    assert_int_equal(proto_blob_decode(bytes, done->result.size, &blob), 0);
    assert_true(blob.count > 20);
    assert_int_equal(blob.count, done->result.count);
    assert_int_equal(blob.width_px, side);
    assert_int_equal(blob.key[31], 0x11);
    assert_int_equal(blob.image_sha256[0], 0x22);
    munmap(bytes, done->result.size);
}

static void jobs_go_in_and_features_come_out(void **state)
{
    struct extractor_process process = start();
    struct extractor_slotwire message;
    size_t size;
    uint8_t *image = blobs(160, &size);
    (void)state;

    message = hear(&process);
    assert_int_equal(message.kind, EXTRACTOR_SLOT_HELLO);
    assert_int_equal(message.pid, process.pid);
    for (uint64_t serial = 1; serial <= 3; serial++) {
        submit(&process, image, size, serial);
        hear_kind(&process, EXTRACTOR_SLOT_STARTED);
        message = hear(&process);
        assert_int_equal(message.kind, EXTRACTOR_SLOT_DONE);
        assert_int_equal(message.serial, serial);
        check_blob(&message, 160);
    }
    assert_true(atomic_load(&process.page->control.progress) > 0);
    free(image);
    finish(&process);
}

static void a_picture_that_is_none_is_an_error_and_the_slot_goes_on(void **state)
{
    struct extractor_process process = start();
    struct extractor_slotwire message;
    uint8_t garbage[999];
    size_t size;
    uint8_t *image = blobs(64, &size);
    (void)state;

    memset(garbage, 0xc3, sizeof garbage);
    hear_kind(&process, EXTRACTOR_SLOT_HELLO);
    submit(&process, garbage, sizeof garbage, 1);
    hear_kind(&process, EXTRACTOR_SLOT_STARTED);
    message = hear(&process);
    assert_int_equal(message.kind, EXTRACTOR_SLOT_ERROR);
    assert_true(proto_status_http(message.error.status) / 100 == 4);
    assert_true(message.error.detail[0] != '\0');

    submit(&process, image, size, 2);
    hear_kind(&process, EXTRACTOR_SLOT_STARTED);
    message = hear(&process);
    assert_int_equal(message.kind, EXTRACTOR_SLOT_DONE);
    free(image);
    finish(&process);
}

static void a_cancelled_job_ends_as_cancelled(void **state)
{
    struct extractor_process process = start();
    struct extractor_slotwire message;
    size_t size;
    uint8_t *image = blobs(900, &size); /* long enough that the flag is always seen */
    (void)state;

    hear_kind(&process, EXTRACTOR_SLOT_HELLO);
    atomic_store(&process.page->control.cancel, 1);
    submit(&process, image, size, 1);
    hear_kind(&process, EXTRACTOR_SLOT_STARTED);
    message = hear(&process);
    assert_int_equal(message.kind, EXTRACTOR_SLOT_ERROR);
    assert_int_equal(message.error.status, PROTO_STATUS_CANCELLED);
    free(image);
    finish(&process);
}

static void a_killed_slot_is_the_end_of_its_socket(void **state)
{
    struct extractor_process process = start();
    struct extractor_slotwire message;
    struct extractor_memory memory;
    size_t size;
    uint8_t *image = blobs(900, &size);
    struct extractor_ending ending;
    (void)state;

    hear_kind(&process, EXTRACTOR_SLOT_HELLO);
    assert_int_equal(extractor_process_memory(&process, &memory), 0);
    assert_true(memory.peak_bytes >= memory.resident_bytes && memory.resident_bytes > 0);
    submit(&process, image, size, 1);
    hear_kind(&process, EXTRACTOR_SLOT_STARTED);
    assert_int_equal(extractor_process_reap(&process, false, &ending), -EAGAIN);
    extractor_process_kill(&process);
    await(process.sock, "end of the socket");
    assert_int_equal(extractor_slotwire_recv(process.sock, &message, NULL), -EPIPE);
    await(process.pidfd, "end of the process");
    assert_int_equal(extractor_process_memory(&process, &memory), -ESRCH);
    assert_int_equal(extractor_process_reap(&process, false, &ending), 0);
    assert_non_null(strstr(ending.how, "signal 9"));
    assert_int_equal(ending.signal, SIGKILL);
    free(image);
    extractor_process_free(&process);
}

static void signals_meant_for_the_supervisor_do_not_end_a_slot(void **state)
{
    struct extractor_process process = start();
    size_t size;
    uint8_t *image = blobs(64, &size);
    (void)state;

    hear_kind(&process, EXTRACTOR_SLOT_HELLO);
    kill(process.pid, SIGTERM);
    kill(process.pid, SIGINT);
    kill(process.pid, SIGHUP);
    submit(&process, image, size, 1);
    hear_kind(&process, EXTRACTOR_SLOT_STARTED);
    assert_int_equal(hear(&process).kind, EXTRACTOR_SLOT_DONE);
    free(image);
    finish(&process);
}

static void a_slot_inherits_its_socket_and_no_other_descriptor(void **state)
{
    int stray = dup(2);
    struct extractor_process process = start();
    char path[64], target[256];
    (void)state;

    hear_kind(&process, EXTRACTOR_SLOT_HELLO);
    for (int fd = 0; fd < 256; fd++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)process.pid, fd);
        bool there = readlink(path, target, sizeof target) >= 0;
        assert_int_equal(there, fd <= EXTRACTOR_SLOT_SOCKET_FD);
    }
    close(stray);
    finish(&process);
}

/* The text after `name` in /proc/PID/status; the caller frees. */
static char *status_line(pid_t pid, const char *name)
{
    char path[64], *line = NULL, *found = NULL;
    size_t size = 0;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (found == NULL && getline(&line, &size, file) > 0)
        if (strncmp(line, name, strlen(name)) == 0)
            found = strndup(line + strlen(name), strcspn(line, "\n") - strlen(name));
    free(line);
    fclose(file);
    return found;
}

static void check_status(pid_t pid, const char *name, const char *want)
{
    char *found = status_line(pid, name);

    assert_non_null(found);
    assert_string_equal(found, want);
    free(found);
}

static void a_slot_that_said_hello_is_confined(void **state)
{
    struct extractor_process process = start();
    (void)state;

    struct extractor_slotwire message = hear(&process);
    check_status(process.pid, "NoNewPrivs:", "\t1");
    /* Where the system forbids the filter, the slot says so. */
    check_status(process.pid, "Seccomp:", message.filter_errno == 0 ? "\t2" : "\t0");
    finish(&process);

    sandbox.mode = EXTRACTOR_SANDBOX_OFF;
    process = start();
    sandbox.mode = EXTRACTOR_SANDBOX_AUTO;
    assert_int_equal(hear(&process).filter_errno, 0);
    check_status(process.pid, "NoNewPrivs:", "\t1");
    finish(&process);
}

static void cpu_is_limited_from_now_on(void **state)
{
    struct extractor_process process = start();
    struct rlimit now;
    (void)state;

    hear_kind(&process, EXTRACTOR_SLOT_HELLO);
    assert_int_equal(extractor_process_limit_cpu(&process, 16), 0);
    assert_int_equal(prlimit(process.pid, RLIMIT_CPU, NULL, &now), 0);
    assert_in_range(now.rlim_cur, 17, 17 + PATIENCE_MS / 1000);
    assert_int_equal(extractor_process_limit_cpu(&process, 32), 0); /* and up again */
    finish(&process);
}

static bool file_holds(const char *path, const char *text)
{
    FILE *file = fopen(path, "rb");
    static char bytes[64 << 20]; /* a sanitized slot has some */

    assert_non_null(file);
    size_t size = fread(bytes, 1, sizeof bytes, file);
    assert_true(feof(file));
    fclose(file);
    return memmem(bytes, size, text, strlen(text)) != NULL;
}

static void only_a_build_for_tests_has_failpoints(void **state)
{
    (void)state;
#ifdef SIFTMESH_FAILPOINTS
    assert_true(file_holds(program, "SIFTMESH_FAILPOINT"));
#else
    assert_false(file_holds(program, "SIFTMESH_FAILPOINT"));
#endif
    assert_true(file_holds(program, "is started by siftmesh-extractor")); /* it is read */
}

static void a_packet_that_is_no_job_ends_the_slot(void **state)
{
    struct extractor_process process = start();
    struct extractor_ending ending;
    (void)state;

    hear_kind(&process, EXTRACTOR_SLOT_HELLO);
    assert_int_equal(send(process.sock, "nonsense", 8, 0), 8);
    await(process.pidfd, "end");
    assert_int_equal(extractor_process_reap(&process, false, &ending), 0);
    assert_string_equal(ending.how, "exit 76"); /* EX_PROTOCOL */
    extractor_process_free(&process);
}

static void a_program_that_is_not_there_leaves_nothing_behind(void **state)
{
    struct extractor_process process;
    (void)state;

    assert_int_equal(extractor_process_start("/nonexistent", 1, &sandbox, 0, &process),
                     -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_go_in_and_features_come_out),
        cmocka_unit_test(a_picture_that_is_none_is_an_error_and_the_slot_goes_on),
        cmocka_unit_test(a_cancelled_job_ends_as_cancelled),
        cmocka_unit_test(a_killed_slot_is_the_end_of_its_socket),
        cmocka_unit_test(signals_meant_for_the_supervisor_do_not_end_a_slot),
        cmocka_unit_test(a_slot_inherits_its_socket_and_no_other_descriptor),
        cmocka_unit_test(a_slot_that_said_hello_is_confined),
        cmocka_unit_test(cpu_is_limited_from_now_on),
        cmocka_unit_test(only_a_build_for_tests_has_failpoints),
        cmocka_unit_test(a_packet_that_is_no_job_ends_the_slot),
        cmocka_unit_test(a_program_that_is_not_there_leaves_nothing_behind),
    };
    if (extractor_process_beside("../bin/siftmesh-slot", program, sizeof program) < 0 ||
        access(program, X_OK) < 0) {
        fprintf(stderr, "skipped: %s is not built\n", program);
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
