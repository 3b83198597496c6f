/* A real siftmesh-extractor with real slots; the test plays the broker. Where the
 * programs are not built beside the tests (../bin), there is nothing to test. */
#include "extractor/process.h"
#include "proto/blob.h"
#include "proto/body.h"
#include "proto/envelope.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include <cmocka.h>

extern char **environ;

#define PATIENCE_S 60 /* sanitizers are slow; nothing waits for this to pass */
#define HEARD_MAX  4096
#define EPOCH      77

struct heard {
    struct proto_envelope envelope;
    union {
        struct proto_outcome outcome;
        struct proto_ready ready;
        struct proto_start start;
        struct proto_drain drain;
        struct proto_scaled scaled;
        struct proto_enlist enlist;
    } body;
    size_t payload_bytes;
};

struct broker {
    char folder[64];
    void *zmq, *router;
    pid_t pid;
    uint8_t peer[256];
    size_t peer_bytes;
    struct heard *heard;
    size_t count, from; /* from: what a test has not looked at */
};

static char program[4096];
static const char *abort_grace_ms = "1000", *recycle_jobs = "500";
static uint8_t large[32 + 1600 * 1600], small[32 + 120 * 120];
static size_t large_bytes, small_bytes;

/* ---- the broker's part ---- */

static void say_payload(struct broker *b, enum proto_verb verb, uint64_t id,
                        const void *body, const void *payload, size_t size,
                        uint32_t budget_ms)
{
    struct proto_envelope envelope = {.verb = (uint8_t)verb,
                                      .priority = PROTO_PRIORITY_NORMAL,
                                      .attempt = verb == PROTO_JOB || verb == PROTO_ABORT,
                                      .budget_ms = budget_ms,
                                      .epoch = EPOCH};
    uint8_t header[PROTO_ENVELOPE_BYTES], packed[PROTO_BODY_BYTES_MAX];
    const struct proto_field *fields = proto_verb_fields(verb);
    int bytes = body != NULL ? proto_body_encode(fields, body, packed, sizeof packed) : 0;

    memcpy(envelope.request.bytes, &id, sizeof id);
    proto_envelope_encode(&envelope, header);
    zmq_send(b->router, b->peer, b->peer_bytes, ZMQ_SNDMORE);
    zmq_send(b->router, header, sizeof header, ZMQ_SNDMORE);
    zmq_send(b->router, packed, (size_t)bytes, payload != NULL ? ZMQ_SNDMORE : 0);
    if (payload != NULL)
        zmq_send(b->router, payload, size, 0);
}

static void say(struct broker *b, enum proto_verb verb, uint64_t id, const void *body)
{
    say_payload(b, verb, id, body, NULL, 0, 0);
}

/* The frames of one message; false when there is none. */
static bool take_frames(struct broker *b, zmq_msg_t frames[4], int *count)
{
    int more = 1;

    for (*count = 0; more && *count < 4; (*count)++) {
        zmq_msg_init(&frames[*count]);
        if (zmq_msg_recv(&frames[*count], b->router, ZMQ_DONTWAIT) < 0)
            return false;
        more = zmq_msg_more(&frames[*count]);
    }
    return true;
}

static void note(struct broker *b, zmq_msg_t frames[4], int count)
{
    struct heard *heard = &b->heard[b->count];
    const struct proto_field *fields;

    assert_true(count >= 3 && b->count < HEARD_MAX);
    memset(heard, 0, sizeof *heard);
    b->peer_bytes = zmq_msg_size(&frames[0]);
    memcpy(b->peer, zmq_msg_data(&frames[0]), b->peer_bytes);
    assert_int_equal(proto_envelope_decode(zmq_msg_data(&frames[1]),
                                           zmq_msg_size(&frames[1]), &heard->envelope),
                     0);
    fields = proto_verb_fields(heard->envelope.verb);
    if (fields != NULL)
        assert_int_equal(proto_body_decode(fields, zmq_msg_data(&frames[2]),
                                           zmq_msg_size(&frames[2]), &heard->body),
                         0);
    heard->payload_bytes = count == 4 ? zmq_msg_size(&frames[3]) : 0;
    b->count++;
}

static void hear(struct broker *b)
{
    zmq_pollitem_t item = {.socket = b->router, .events = ZMQ_POLLIN};
    struct proto_welcome welcome = {.heartbeat_ms = 1000, .fresh = 1};
    zmq_msg_t frames[4];
    int count;

    zmq_poll(&item, 1, 50);
    while (take_frames(b, frames, &count)) {
        note(b, frames, count);
        for (int i = 0; i < count; i++)
            zmq_msg_close(&frames[i]);
        unsigned verb = b->heard[b->count - 1].envelope.verb;
        if (verb == PROTO_REGISTER)
            say(b, PROTO_WELCOME, 0, &welcome);
        if (verb == PROTO_PING)
            say(b, PROTO_PONG, 0, NULL);
    }
}

/* The first message of this verb about `id` (0: any) from `b->from` on; NULL: none. */
static struct heard *find(struct broker *b, enum proto_verb verb, uint64_t id)
{
    for (size_t i = b->from; i < b->count; i++) {
        struct heard *heard = &b->heard[i];
        if (heard->envelope.verb == verb &&
            (id == 0 || memcmp(heard->envelope.request.bytes, &id, sizeof id) == 0))
            return heard;
    }
    return NULL;
}

static struct heard *await(struct broker *b, enum proto_verb verb, uint64_t id)
{
    time_t end = time(NULL) + PATIENCE_S;
    struct heard *heard;

    while ((heard = find(b, verb, id)) == NULL) {
        if (time(NULL) > end)
            fail_msg("no %s about %llu", proto_verb_name(verb), (unsigned long long)id);
        hear(b);
    }
    return heard;
}

/* Until the last word about credit is this. */
static void await_ready(struct broker *b, uint64_t credit, uint64_t slots)
{
    time_t end = time(NULL) + PATIENCE_S;
    const struct proto_ready *last = NULL;

    for (;;) {
        for (size_t i = b->from; i < b->count; i++)
            if (b->heard[i].envelope.verb == PROTO_READY)
                last = &b->heard[i].body.ready;
        if (last != NULL && last->credit == credit && last->slots == slots)
            return;
        if (time(NULL) > end)
            fail_msg("no READY %d of %d", (int)credit, (int)slots);
        hear(b);
    }
}

static void submit(struct broker *b, uint64_t id, const uint8_t *image, size_t size,
                   uint32_t budget_ms)
{
    struct proto_submit body = {.service = "extract",
                                .method = "features",
                                .key_bytes = 32,
                                .image_sha256_bytes = 32,
                                .params_bytes = PROTO_PARAMS_BYTES};
    struct proto_params params;

    memset(body.image_sha256, 0x22, 32);
    proto_params_init(&params);
    params.sift = PROTO_SIFT_VLFEAT; /* long enough to be seen at work */
    proto_key(body.image_sha256, PROTO_KIND_FEATURES, &params, body.key);
    proto_params_encode(&params, body.params);
    say_payload(b, PROTO_JOB, id, &body, image, size, budget_ms);
}

static void start_process(struct broker *b, const char *slots)
{
    const char *argv[] = {program,        "--runtime-dir",
                          b->folder,      "--slots",
                          slots,          "--log-level",
                          "error",        "--job-timeout-ms",
                          "600000",       "--abort-grace-ms",
                          abort_grace_ms, "--recycle-jobs",
                          recycle_jobs,   NULL};

    assert_int_equal(
        posix_spawn(&b->pid, program, NULL, NULL, (char **)(uintptr_t)argv, environ), 0);
}

static struct broker open_broker(const char *slots, uint64_t count)
{
    struct broker b = {.folder = "/tmp/test_supervisor_XXXXXX"};
    char address[128];

    assert_non_null(mkdtemp(b.folder));
    snprintf(address, sizeof address, "ipc://%s/back.sock", b.folder);
    b.heard = calloc(HEARD_MAX, sizeof *b.heard);
    b.zmq = zmq_ctx_new();
    b.router = zmq_socket(b.zmq, ZMQ_ROUTER);
    assert_int_equal(zmq_bind(b.router, address), 0);
    start_process(&b, slots);
    await_ready(&b, count, count);
    b.from = b.count;
    return b;
}

static bool exists(uint64_t pid)
{
    return kill((pid_t)pid, 0) == 0;
}

/* SIGTERM when it is still to end; then it has to end with success. */
static void close_broker(struct broker *b, bool terminate)
{
    char path[128];
    int status;

    if (terminate)
        kill(b->pid, SIGTERM);
    await(b, PROTO_BYE, 0);
    assert_int_equal(waitpid(b->pid, &status, 0), b->pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    zmq_close(b->router);
    zmq_ctx_term(b->zmq);
    snprintf(path, sizeof path, "%s/back.sock", b->folder);
    unlink(path);
    rmdir(b->folder);
    free(b->heard);
}

/* ---- the tests ---- */

static void a_job_is_started_and_then_done(void **state)
{
    struct broker b = open_broker("2", 2);
    struct heard *end;
    (void)state;

    submit(&b, 1, small, small_bytes, 30000);
    end = await(&b, PROTO_DONE, 1);
    assert_int_equal(end->envelope.status, PROTO_STATUS_OK);
    assert_int_equal(end->envelope.attempt, 1);
    assert_true(end->body.outcome.count > 10);
    assert_int_equal(end->payload_bytes,
                     proto_blob_bytes((uint32_t)end->body.outcome.count));
    assert_int_equal(end->body.outcome.width_px, 120);
    struct heard *start = find(&b, PROTO_START, 1);
    assert_non_null(start);
    assert_true(start < end);
    assert_int_equal(start->body.start.slot, end->body.outcome.slot);
    await_ready(&b, 2, 2);
    close_broker(&b, true);
}

static void what_is_wrong_with_the_input_is_done_not_failed(void **state)
{
    struct broker b = open_broker("1", 1);
    struct proto_submit body = {.service = "extract", .method = "paint"};
    (void)state;

    submit(&b, 1, (const uint8_t *)"no picture", 10, 0);
    assert_int_equal(proto_status_http(await(&b, PROTO_DONE, 1)->envelope.status) / 100,
                     4);
    say_payload(&b, PROTO_JOB, 2, &body, small, small_bytes, 0);
    assert_int_equal(await(&b, PROTO_DONE, 2)->envelope.status, PROTO_STATUS_BAD_REQUEST);
    body.key_bytes = body.image_sha256_bytes = 32;
    strcpy(body.method, "features");
    say_payload(&b, PROTO_JOB, 3, &body, small, small_bytes, 0);
    assert_int_equal(await(&b, PROTO_DONE, 3)->envelope.status,
                     PROTO_STATUS_BAD_PARAMETER);
    assert_null(find(&b, PROTO_FAIL, 0));
    close_broker(&b, true);
}

static void a_killed_slot_fails_its_job_and_is_replaced(void **state)
{
    struct broker b = open_broker("1", 1);
    struct heard *end;
    (void)state;

    submit(&b, 1, large, large_bytes, 0);
    uint64_t pid = await(&b, PROTO_START, 1)->body.start.pid;
    kill((pid_t)pid, SIGKILL);
    end = await(&b, PROTO_FAIL, 1);
    assert_int_equal(end->envelope.status, PROTO_STATUS_WORKER_LOST);
    assert_int_equal(end->body.outcome.retryable, 1);
    assert_string_equal(end->body.outcome.blame, "worker");
    assert_false(exists(pid)); /* not even as a zombie */
    b.from = b.count;
    await_ready(&b, 1, 1);
    submit(&b, 2, small, small_bytes, 0);
    assert_int_equal(await(&b, PROTO_DONE, 2)->envelope.status, PROTO_STATUS_OK);
    close_broker(&b, true);
}

/* RLIMIT_NOFILE of the supervisor: `soft`, or the hard limit for 0. */
static void limit_descriptors(const struct broker *b, rlim_t soft)
{
    struct rlimit bound;

    assert_int_equal(prlimit(b->pid, RLIMIT_NOFILE, NULL, &bound), 0);
    bound.rlim_cur = soft != 0 ? soft : bound.rlim_max;
    assert_int_equal(prlimit(b->pid, RLIMIT_NOFILE, &bound, NULL), 0);
}

static void a_host_short_of_descriptors_does_not_blame_the_picture(void **state)
{
    struct broker b = open_broker("1", 1);
    (void)state;

    limit_descriptors(&b, 12);
    submit(&b, 1, small, small_bytes, 0);
    const struct heard *end = await(&b, PROTO_FAIL, 1);
    assert_int_equal(end->envelope.status, PROTO_STATUS_UNAVAILABLE);
    assert_int_equal(end->body.outcome.retryable, 1);
    assert_string_equal(end->body.outcome.blame, "");
    limit_descriptors(&b, 0);
    submit(&b, 2, small, small_bytes, 0);
    assert_int_equal(await(&b, PROTO_DONE, 2)->envelope.status, PROTO_STATUS_OK);
    close_broker(&b, true);
}

static void a_key_that_is_not_the_pictures_is_refused(void **state)
{
    struct broker b = open_broker("1", 1);
    struct proto_submit body = {.service = "extract",
                                .method = "features",
                                .key_bytes = 32,
                                .image_sha256_bytes = 32,
                                .params_bytes = PROTO_PARAMS_BYTES};
    struct proto_params params;
    (void)state;

    proto_params_init(&params);
    proto_params_encode(&params, body.params);
    say_payload(&b, PROTO_JOB, 1, &body, small, small_bytes, 0);
    assert_int_equal(await(&b, PROTO_DONE, 1)->envelope.status, PROTO_STATUS_BAD_REQUEST);
    close_broker(&b, true);
}

static void an_aborted_job_frees_its_slot_and_is_not_answered(void **state)
{
    struct broker b = open_broker("1", 1);
    (void)state;

    submit(&b, 1, large, large_bytes, 0);
    await(&b, PROTO_START, 1);
    b.from = b.count;
    say(&b, PROTO_ABORT, 1, NULL);
    await_ready(&b, 1, 1);
    submit(&b, 2, small, small_bytes, 0);
    await(&b, PROTO_DONE, 2);
    assert_null(find(&b, PROTO_DONE, 1));
    assert_null(find(&b, PROTO_FAIL, 1));
    close_broker(&b, true);
}

static void a_job_whose_time_is_over_ends_as_expired(void **state)
{
    struct broker b = open_broker("1", 1);
    (void)state;

    submit(&b, 1, large, large_bytes, 1);
    assert_int_equal(await(&b, PROTO_DONE, 1)->envelope.status, PROTO_STATUS_EXPIRED);
    close_broker(&b, true);
}

static void a_hung_slot_is_killed_when_its_job_is_aborted(void **state)
{
    struct broker b = open_broker("1", 1);
    (void)state;

    submit(&b, 1, large, large_bytes, 0);
    uint64_t pid = await(&b, PROTO_START, 1)->body.start.pid;
    kill((pid_t)pid, SIGSTOP);
    b.from = b.count;
    say(&b, PROTO_ABORT, 1, NULL);
    await_ready(&b, 1, 1);
    assert_false(exists(pid));
    close_broker(&b, true);
}

static void slots_follow_the_share_and_busy_ones_finish(void **state)
{
    struct broker b = open_broker("1", 1);
    struct proto_scale scale = {.target = 3, .seq = 1};
    uint64_t pids[3];
    (void)state;

    say(&b, PROTO_SCALE, 90, &scale);
    assert_int_equal(await(&b, PROTO_SCALED, 90)->body.scaled.target, 3);
    await_ready(&b, 3, 3);
    for (uint64_t id = 1; id <= 3; id++)
        submit(&b, id, large, large_bytes, 0);
    for (uint64_t id = 1; id <= 3; id++)
        pids[id - 1] = await(&b, PROTO_START, id)->body.start.pid;
    scale.target = 1;
    say(&b, PROTO_SCALE, 91, &scale);
    assert_int_equal(await(&b, PROTO_SCALED, 91)->body.scaled.running, 3);
    for (uint64_t id = 1; id <= 3; id++)
        assert_int_equal(await(&b, PROTO_DONE, id)->envelope.status, PROTO_STATUS_OK);
    await_ready(&b, 1, 1);
    time_t end = time(NULL) + PATIENCE_S;
    while (exists(pids[0]) + exists(pids[1]) + exists(pids[2]) > 1 && time(NULL) < end)
        hear(&b);
    assert_int_equal(exists(pids[0]) + exists(pids[1]) + exists(pids[2]), 1);
    close_broker(&b, true);
}

static void a_drained_slot_finishes_ends_and_is_replaced(void **state)
{
    struct broker b = open_broker("1", 1);
    struct proto_drain drain = {.slot = 1};
    (void)state;

    submit(&b, 1, large, large_bytes, 0);
    uint64_t pid = await(&b, PROTO_START, 1)->body.start.pid;
    say(&b, PROTO_DRAIN, 0, &drain);
    struct heard *drained = await(&b, PROTO_DRAINED, 0);
    assert_int_equal(drained->body.drain.slot, 1);
    assert_non_null(find(&b, PROTO_DONE, 1));
    assert_true(find(&b, PROTO_DONE, 1) < drained);
    assert_false(exists(pid));
    b.from = b.count;
    await_ready(&b, 1, 1);
    drain.slot = 999; /* there is none: it has ended */
    say(&b, PROTO_DRAIN, 0, &drain);
    assert_int_equal(await(&b, PROTO_DRAINED, 0)->body.drain.slot, 999);
    close_broker(&b, true);
}

static void jobs_beyond_the_slots_are_each_answered_once(void **state)
{
    struct broker b = open_broker("2", 2);
    enum { JOBS = 20 };
    unsigned done = 0, full = 0;
    (void)state;

    for (uint64_t id = 1; id <= JOBS; id++)
        submit(&b, id, small, small_bytes, 0);
    for (uint64_t id = 1; id <= JOBS; id++)
        while (find(&b, PROTO_DONE, id) == NULL && find(&b, PROTO_FAIL, id) == NULL)
            hear(&b);
    await_ready(&b, 2, 2);
    for (size_t i = b.from; i < b.count; i++) {
        const struct proto_envelope *envelope = &b.heard[i].envelope;
        done += envelope->verb == PROTO_DONE;
        full += envelope->verb == PROTO_FAIL && envelope->status == PROTO_STATUS_FULL;
    }
    assert_int_equal(done + full, JOBS);
    assert_true(done >= 2 && full >= 1); /* 2 run, 8 are held at most */
    close_broker(&b, true);
}

/* Of the slot with this pid. */
static unsigned jobs_started_by(const struct broker *b, uint64_t pid)
{
    unsigned jobs = 0;

    for (size_t i = b->from; i < b->count; i++)
        jobs +=
            b->heard[i].envelope.verb == PROTO_START && b->heard[i].body.start.pid == pid;
    return jobs;
}

/* Every slot that has gone did so after `limit` jobs, give or take a tenth. Returns how
 * many have gone. */
static unsigned check_recycled(const struct broker *b, unsigned limit)
{
    unsigned gone = 0;

    for (size_t i = b->from; i < b->count; i++) {
        const struct heard *heard = &b->heard[i];
        uint64_t pid = heard->body.start.pid;
        if (heard->envelope.verb != PROTO_START || exists(pid))
            continue;
        assert_in_range(jobs_started_by(b, pid), limit - limit / 10, limit + limit / 10);
        gone++;
    }
    return gone / limit;
}

static void recycling_under_load_never_leaves_less_slots_than_the_share(void **state)
{
    enum { LIMIT = 40, JOBS = 300, SLOTS = 2 };
    recycle_jobs = "40";
    struct broker b = open_broker("2", SLOTS);
    recycle_jobs = "500";
    (void)state;

    for (uint64_t id = 1; id <= JOBS; id += SLOTS) {
        for (uint64_t i = id; i < id + SLOTS; i++)
            submit(&b, i, small, small_bytes, 0);
        for (uint64_t i = id; i < id + SLOTS; i++)
            assert_int_equal(await(&b, PROTO_DONE, i)->envelope.status, PROTO_STATUS_OK);
    }
    assert_null(find(&b, PROTO_FAIL, 0));
    for (size_t i = b.from; i < b.count; i++)
        if (b.heard[i].envelope.verb == PROTO_READY)
            assert_int_equal(b.heard[i].body.ready.slots, SLOTS);
    assert_true(check_recycled(&b, LIMIT) >= JOBS / LIMIT - 2 * SLOTS);
    close_broker(&b, true);
}

static void a_new_session_forgets_the_jobs_and_keeps_the_slots(void **state)
{
    abort_grace_ms = "60000"; /* the slot gives the job up itself, however slow it is */
    struct broker b = open_broker("1", 1);
    abort_grace_ms = "1000";
    (void)state;

    submit(&b, 1, large, large_bytes, 0);
    uint64_t pid = await(&b, PROTO_START, 1)->body.start.pid;
    b.from = b.count;
    say(&b, PROTO_BYE, 0, NULL);
    await(&b, PROTO_REGISTER, 0);
    await_ready(&b, 1, 1);
    submit(&b, 2, small, small_bytes, 0);
    assert_int_equal(await(&b, PROTO_START, 2)->body.start.pid, pid);
    await(&b, PROTO_DONE, 2);
    assert_null(find(&b, PROTO_DONE, 1));
    assert_null(find(&b, PROTO_FAIL, 1));
    close_broker(&b, true);
}

static void after_sigterm_the_job_in_hand_is_answered_and_no_other_begun(void **state)
{
    struct broker b = open_broker("1", 1);
    (void)state;

    submit(&b, 1, large, large_bytes, 0);
    uint64_t pid = await(&b, PROTO_START, 1)->body.start.pid;
    kill(b.pid, SIGTERM);
    assert_int_equal(await(&b, PROTO_DRAIN, 0)->body.drain.slot, 0);
    submit(&b, 2, small, small_bytes, 0);
    assert_int_equal(await(&b, PROTO_DONE, 1)->envelope.status, PROTO_STATUS_OK);
    assert_int_equal(await(&b, PROTO_FAIL, 2)->envelope.status, PROTO_STATUS_FULL);
    close_broker(&b, false);
    assert_false(exists(pid));
}

static void no_slot_outlives_its_supervisor(void **state)
{
    struct broker b = open_broker("2", 2);
    time_t end = time(NULL) + PATIENCE_S;
    (void)state;

    submit(&b, 1, large, large_bytes, 0);
    uint64_t busy = await(&b, PROTO_START, 1)->body.start.pid;
    kill(b.pid, SIGKILL);
    waitpid(b.pid, NULL, 0);
    /* Its new parent may be slow to reap it: a zombie has no memory any more. */
    struct extractor_process orphan = {.pid = (pid_t)busy};
    struct extractor_memory memory;
    while (extractor_process_memory(&orphan, &memory) == 0 && time(NULL) < end)
        hear(&b);
    assert_true(extractor_process_memory(&orphan, &memory) < 0);
    start_process(&b, "1"); /* so that there is one to close */
    b.from = b.count;
    await_ready(&b, 1, 1);
    close_broker(&b, true);
}

static size_t make_picture(uint8_t *out, unsigned side)
{
    int head = sprintf((char *)out, "P5\n%u %u\n255\n", side, side);
    uint32_t seed = 1;

    for (size_t i = 0; i < (size_t)side * side; i++) {
        seed = seed * 1664525 + 1013904223;
        out[(size_t)head + i] = (uint8_t)(seed >> 24);
    }
    return (size_t)head + (size_t)side * side;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_is_started_and_then_done),
        cmocka_unit_test(what_is_wrong_with_the_input_is_done_not_failed),
        cmocka_unit_test(a_killed_slot_fails_its_job_and_is_replaced),
        cmocka_unit_test(a_host_short_of_descriptors_does_not_blame_the_picture),
        cmocka_unit_test(a_key_that_is_not_the_pictures_is_refused),
        cmocka_unit_test(an_aborted_job_frees_its_slot_and_is_not_answered),
        cmocka_unit_test(a_job_whose_time_is_over_ends_as_expired),
        cmocka_unit_test(a_hung_slot_is_killed_when_its_job_is_aborted),
        cmocka_unit_test(slots_follow_the_share_and_busy_ones_finish),
        cmocka_unit_test(a_drained_slot_finishes_ends_and_is_replaced),
        cmocka_unit_test(jobs_beyond_the_slots_are_each_answered_once),
        cmocka_unit_test(recycling_under_load_never_leaves_less_slots_than_the_share),
        cmocka_unit_test(a_new_session_forgets_the_jobs_and_keeps_the_slots),
        cmocka_unit_test(after_sigterm_the_job_in_hand_is_answered_and_no_other_begun),
        cmocka_unit_test(no_slot_outlives_its_supervisor),
    };
    char slot[4096];

    if (extractor_process_beside("../bin/siftmesh-extractor", program, sizeof program) <
            0 ||
        extractor_process_beside("../bin/siftmesh-slot", slot, sizeof slot) < 0 ||
        access(program, X_OK) < 0 || access(slot, X_OK) < 0) {
        fprintf(stderr, "skipped: %s or its slot is not built\n", program);
        return 77;
    }
    large_bytes = make_picture(large, 1600);
    small_bytes = make_picture(small, 120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
