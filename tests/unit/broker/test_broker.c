/* The broker as a process: real sockets, a client and workers played by this test. */
#include "broker/broker.h"
#include "tests/harness/harness.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 5000 /* longer than anything here takes */

struct mesh {
    char dir[64];
    pid_t pid;
    void *zmq, *client, *worker;
};

struct got {
    struct proto_envelope envelope;
    uint8_t body[PROTO_BODY_BYTES_MAX];
    size_t body_bytes;
    char payload[8192];
    size_t payload_bytes;
};

static pid_t run_broker(const char *dir)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    const char *words[] = {"siftmesh-broker",
                           "--runtime-dir",
                           dir,
                           "--heartbeat-ms",
                           "700",
                           "--log-level",
                           "error",
                           "--drain-timeout-ms",
                           "2000"};
    enum { WORDS = sizeof words / sizeof words[0] };
    char *argv[WORDS + 1] = {NULL};
    for (int i = 0; i < WORDS; i++)
        argv[i] = strdup(words[i]);
    _exit(service_main(&broker_spec, WORDS, argv));
}

static void *dealer(struct mesh *mesh, const char *name, const char *endpoint)
{
    char address[128];
    int linger = 0;
    void *socket = zmq_socket(mesh->zmq, ZMQ_DEALER);

    snprintf(address, sizeof address, "ipc://%s/%s.sock", mesh->dir, endpoint);
    assert_int_equal(zmq_setsockopt(socket, ZMQ_ROUTING_ID, name, strlen(name)), 0);
    assert_int_equal(zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger), 0);
    assert_int_equal(zmq_connect(socket, address), 0);
    return socket;
}

static void send_to(void *socket, struct proto_envelope envelope, const void *body,
                    const char *payload)
{
    uint8_t header[PROTO_ENVELOPE_BYTES], packed[PROTO_BODY_BYTES_MAX];
    int size = 0;

    envelope.priority = PROTO_PRIORITY_NORMAL;
    proto_envelope_encode(&envelope, header);
    if (body != NULL)
        size = proto_body_encode(proto_verb_fields(envelope.verb), body, packed,
                                 sizeof packed);
    assert_true(size >= 0);
    assert_true(zmq_send(socket, header, sizeof header, ZMQ_SNDMORE) >= 0);
    assert_true(zmq_send(socket, packed, (size_t)size, payload ? ZMQ_SNDMORE : 0) >= 0);
    if (payload != NULL)
        assert_true(zmq_send(socket, payload, strlen(payload), 0) >= 0);
}

static void receive(void *socket, struct got *got)
{
    zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
    uint8_t header[PROTO_ENVELOPE_BYTES];
    int more, n;
    size_t size = sizeof more;

    if (zmq_poll(&item, 1, WAIT_MS) != 1)
        fail_msg("no message came");
    memset(got, 0, sizeof *got);
    assert_int_equal(zmq_recv(socket, header, sizeof header, 0), sizeof header);
    assert_int_equal(proto_envelope_decode(header, sizeof header, &got->envelope), 0);
    n = zmq_recv(socket, got->body, sizeof got->body, 0);
    assert_in_range(n, 0, sizeof got->body);
    got->body_bytes = (size_t)n;
    zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size);
    if (!more)
        return;
    n = zmq_recv(socket, got->payload, sizeof got->payload - 1, 0);
    assert_in_range(n, 0, sizeof got->payload - 1);
    got->payload_bytes = (size_t)n;
}

/* The next message of this verb; others (ACCEPT, PONG, MODE) are passed over. */
static void expect(void *socket, uint8_t verb, struct got *got)
{
    do
        receive(socket, got);
    while (got->envelope.verb != verb);
}

static void outcome_of(const struct got *got, struct proto_outcome *outcome)
{
    assert_int_equal(
        proto_body_decode(proto_outcome_fields, got->body, got->body_bytes, outcome), 0);
}

static struct proto_envelope about(uint8_t verb, unsigned n)
{
    return (struct proto_envelope){.verb = verb, .request = {{(uint8_t)n, 1}}};
}

static void submit(struct mesh *mesh, unsigned n, const char *payload)
{
    struct proto_submit submit = {
        .service = "extract", .method = "features", .key = {9}, .key_bytes = 32};
    struct proto_envelope envelope = about(PROTO_SUBMIT, n);
    envelope.trace.bytes[3] = 33;
    envelope.cost_bytes = 4444;
    send_to(mesh->client, envelope, &submit, payload);
}

static struct proto_envelope answer_to(const struct got *job, uint8_t verb)
{
    return (struct proto_envelope){
        .verb = verb, .request = job->envelope.request, .attempt = job->envelope.attempt};
}

static void answer(void *worker, uint8_t verb, const struct got *job, const void *body,
                   const char *payload)
{
    send_to(worker, answer_to(job, verb), body, payload);
}

static void say_ready(void *worker, uint64_t credit)
{
    struct proto_ready ready = {.credit = credit, .slots = 4};
    send_to(worker, (struct proto_envelope){.verb = PROTO_READY}, &ready, NULL);
}

static int set_up(void **state)
{
    struct mesh *mesh = calloc(1, sizeof *mesh);
    struct proto_hello hello = {.role = "client", .name = "test@here:1"};
    struct proto_enlist enlist = {
        .service = "extract", .name = "fake@here:2", .slots = 2, .slots_max = 4};
    struct got got;

    strcpy(mesh->dir, "/tmp/siftmesh-test-XXXXXX");
    assert_non_null(mkdtemp(mesh->dir));
    mesh->pid = run_broker(mesh->dir);
    mesh->zmq = zmq_ctx_new();
    mesh->client = dealer(mesh, "client", "front");
    mesh->worker = dealer(mesh, "worker", "back");
    send_to(mesh->client, (struct proto_envelope){.verb = PROTO_HELLO}, &hello, NULL);
    expect(mesh->client, PROTO_WELCOME, &got);
    assert_int_not_equal(got.envelope.epoch, 0);
    send_to(mesh->worker, (struct proto_envelope){.verb = PROTO_REGISTER}, &enlist, NULL);
    expect(mesh->worker, PROTO_WELCOME, &got);
    *state = mesh;
    return 0;
}

static int exit_status(struct mesh *mesh)
{
    int status = -1;
    if (mesh->pid > 0)
        waitpid(mesh->pid, &status, 0);
    mesh->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int tear_down(void **state)
{
    struct mesh *mesh = *state;
    char command[128];

    if (mesh->pid > 0) {
        kill(mesh->pid, SIGTERM);
        assert_int_equal(exit_status(mesh), 0);
    }
    zmq_close(mesh->client);
    zmq_close(mesh->worker);
    zmq_ctx_term(mesh->zmq);
    snprintf(command, sizeof command, "rm -rf %s", mesh->dir);
    assert_int_equal(system(command), 0);
    free(mesh);
    return 0;
}

static void a_request_and_its_result_go_through_untouched(void **state)
{
    struct mesh *mesh = *state;
    struct proto_outcome outcome = {.sift_us = 70, .count = 3, .slot = 2, .cache = "hit"};
    struct proto_submit asked;
    struct got got;

    say_ready(mesh->worker, 1);
    submit(mesh, 1, "a picture");
    expect(mesh->client, PROTO_ACCEPT, &got);
    expect(mesh->worker, PROTO_JOB, &got);
    assert_string_equal(got.payload, "a picture");
    assert_int_equal(got.envelope.trace.bytes[3], 33);
    assert_int_equal(got.envelope.cost_bytes, 4444);
    assert_int_equal(got.envelope.attempt, 1);
    assert_in_range(got.envelope.budget_ms, 59000, 60000);
    assert_int_equal(
        proto_body_decode(proto_submit_fields, got.body, got.body_bytes, &asked), 0);
    assert_string_equal(asked.method, "features");
    assert_int_equal(asked.key[0], 9);

    answer(mesh->worker, PROTO_DONE, &got, &outcome, "a result");
    expect(mesh->client, PROTO_FINAL, &got);
    assert_string_equal(got.payload, "a result");
    assert_int_equal(got.envelope.request.bytes[0], 1);
    assert_int_equal(got.envelope.trace.bytes[3], 33);
    outcome_of(&got, &outcome);
    assert_int_equal(outcome.sift_us, 70);
    assert_int_equal(outcome.slot, 2);
    assert_string_equal(outcome.cache, "hit");
}

static void a_failed_job_is_sent_again_with_the_same_payload(void **state)
{
    struct mesh *mesh = *state;
    struct proto_outcome failure = {.retryable = 1, .detail = "no memory for a slot"};
    struct proto_outcome outcome;
    struct got got;

    say_ready(mesh->worker, 2);
    submit(mesh, 1, "a picture");
    expect(mesh->worker, PROTO_JOB, &got);
    answer(mesh->worker, PROTO_FAIL, &got, &failure, NULL);
    expect(mesh->worker, PROTO_JOB, &got);
    assert_int_equal(got.envelope.attempt, 2);
    assert_string_equal(got.payload, "a picture");
    answer(mesh->worker, PROTO_FAIL, &got, &failure, NULL);
    expect(mesh->client, PROTO_FINAL, &got);
    assert_int_equal(got.envelope.status, PROTO_STATUS_UNAVAILABLE);
    outcome_of(&got, &outcome);
    assert_string_equal(outcome.code, "unavailable");
    assert_true(outcome.retry_after_ms > 0);
    assert_true(outcome.detail[0] != '\0');
}

static void an_input_that_killed_two_slots_is_refused_until_it_is_purged(void **state)
{
    struct mesh *mesh = *state;
    struct proto_outcome failure = {.retryable = 1, .blame = "worker"}, outcome;
    struct proto_purge all = {.key_bytes = 0};
    struct got got;

    say_ready(mesh->worker, 3);
    submit(mesh, 1, "a bomb");
    for (int i = 0; i < 2; i++) {
        expect(mesh->worker, PROTO_JOB, &got);
        struct proto_envelope fail = answer_to(&got, PROTO_FAIL);
        fail.status = PROTO_STATUS_WORKER_LOST;
        send_to(mesh->worker, fail, &failure, NULL);
    }
    expect(mesh->client, PROTO_FINAL, &got);
    assert_int_equal(got.envelope.status, PROTO_STATUS_POISON_INPUT);
    submit(mesh, 2, "a bomb");
    expect(mesh->client, PROTO_REJECT, &got);
    outcome_of(&got, &outcome);
    assert_string_equal(outcome.code, "poison_input");
    send_to(mesh->client, about(PROTO_PURGE, 3), &all, NULL);
    expect(mesh->client, PROTO_PURGE, &got);
    submit(mesh, 4, "a bomb");
    expect(mesh->client, PROTO_ACCEPT, &got);
}

static void who_has_no_session_is_told_so(void **state)
{
    struct mesh *mesh = *state;
    void *stranger = dealer(mesh, "stranger", "front");
    struct got got;

    send_to(stranger, (struct proto_envelope){.verb = PROTO_PING}, NULL, NULL);
    expect(stranger, PROTO_BYE, &got);
    zmq_close(stranger);
    stranger = dealer(mesh, "stranger-at-the-back", "back");
    say_ready(stranger, 9);
    expect(stranger, PROTO_BYE, &got);
    zmq_close(stranger);
}

static void bad_messages_are_refused_and_a_hundred_end_the_session(void **state)
{
    struct mesh *mesh = *state;
    struct got got;

    send_to(mesh->client, about(PROTO_JOB, 7), NULL, NULL); /* no client's verb */
    expect(mesh->client, PROTO_REJECT, &got);
    assert_int_equal(got.envelope.status, PROTO_STATUS_BAD_REQUEST);
    assert_int_equal(got.envelope.request.bytes[0], 7);
    for (int i = 1; i < 99; i++)
        assert_true(zmq_send(mesh->client, "noise", 5, 0) == 5);
    send_to(mesh->client, (struct proto_envelope){.verb = PROTO_PING}, NULL, NULL);
    expect(mesh->client, PROTO_PONG, &got); /* still there */
    assert_true(zmq_send(mesh->client, "noise", 5, 0) == 5);
    expect(mesh->client, PROTO_BYE, &got);
    send_to(mesh->client, (struct proto_envelope){.verb = PROTO_PING}, NULL, NULL);
    expect(mesh->client, PROTO_BYE, &got);
}

static void a_malformed_body_is_refused(void **state)
{
    struct mesh *mesh = *state;
    uint8_t header[PROTO_ENVELOPE_BYTES];
    struct proto_envelope envelope = about(PROTO_SUBMIT, 5);
    struct got got;

    envelope.priority = PROTO_PRIORITY_NORMAL;
    proto_envelope_encode(&envelope, header);
    assert_true(zmq_send(mesh->client, header, sizeof header, ZMQ_SNDMORE) > 0);
    assert_true(zmq_send(mesh->client, "\xc1", 1, 0) == 1);
    expect(mesh->client, PROTO_REJECT, &got);
    assert_int_equal(got.envelope.request.bytes[0], 5);
}

static void silence_ends_the_session_and_aborts_the_job(void **state)
{
    struct mesh *mesh = *state;
    struct got got, job;

    say_ready(mesh->worker, 1);
    submit(mesh, 1, "a picture");
    expect(mesh->worker, PROTO_JOB, &job);
    for (int i = 0; i < 100; i++) { /* until the client's three heartbeats are over */
        zmq_pollitem_t item = {.socket = mesh->worker, .events = ZMQ_POLLIN};
        answer(mesh->worker, PROTO_PROGRESS, &job, NULL, NULL);
        if (zmq_poll(&item, 1, 100) == 1)
            break;
    }
    expect(mesh->worker, PROTO_ABORT, &got);
    assert_memory_equal(&got.envelope.request, &job.envelope.request,
                        sizeof job.envelope.request);
    expect(mesh->client, PROTO_ACCEPT, &got);
    expect(mesh->client, PROTO_BYE, &got);
}

static void sigterm_refuses_new_work_and_finishes_what_is_in_hand(void **state)
{
    struct mesh *mesh = *state;
    struct proto_outcome outcome = {0};
    struct got job, got;

    say_ready(mesh->worker, 1);
    submit(mesh, 1, "first");
    expect(mesh->client, PROTO_ACCEPT, &got);
    submit(mesh, 2, "second");
    expect(mesh->client, PROTO_ACCEPT, &got);
    expect(mesh->worker, PROTO_JOB, &job);
    kill(mesh->pid, SIGTERM);
    answer(mesh->worker, PROTO_DONE, &job, &outcome, "one");
    expect(mesh->client, PROTO_FINAL, &got);
    assert_string_equal(got.payload, "one");
    say_ready(mesh->worker, 3);
    expect(mesh->worker, PROTO_JOB, &job);
    assert_string_equal(job.payload, "second");
    submit(mesh, 3, "too late"); /* the signal came before the DONE of the first */
    expect(mesh->client, PROTO_REJECT, &got);
    assert_int_equal(got.envelope.status, PROTO_STATUS_DRAINING);
    answer(mesh->worker, PROTO_DONE, &job, &outcome, "two");
    expect(mesh->client, PROTO_FINAL, &got);
    assert_string_equal(got.payload, "two");
    expect(mesh->worker, PROTO_BYE, &got);
    assert_int_equal(exit_status(mesh), 0);
}

static void a_second_sigterm_ends_what_is_open_with_draining(void **state)
{
    struct mesh *mesh = *state;
    struct got got;

    say_ready(mesh->worker, 1);
    submit(mesh, 1, "first");
    expect(mesh->worker, PROTO_JOB, &got);
    kill(mesh->pid, SIGTERM);
    for (unsigned n = 2;; n++) { /* until it was seen: equal signals may merge */
        submit(mesh, n, "late");
        receive(mesh->client, &got);
        if (got.envelope.verb == PROTO_REJECT)
            break;
    }
    kill(mesh->pid, SIGTERM);
    expect(mesh->client, PROTO_FINAL, &got);
    assert_int_equal(got.envelope.status, PROTO_STATUS_DRAINING);
    assert_int_equal(exit_status(mesh), 0);
}

static void stats_show_services_peers_and_endings(void **state)
{
    struct mesh *mesh = *state;
    struct proto_outcome outcome = {0};
    struct got got;

    say_ready(mesh->worker, 2);
    send_to(mesh->worker, (struct proto_envelope){.verb = PROTO_PING}, NULL,
            "{\"hits\":12}");
    send_to(mesh->client, (struct proto_envelope){.verb = PROTO_PING}, NULL, "not JSON");
    submit(mesh, 1, "12345");
    expect(mesh->worker, PROTO_JOB, &got);
    answer(mesh->worker, PROTO_DONE, &got, &outcome, NULL);
    expect(mesh->client, PROTO_FINAL, &got);
    send_to(mesh->client, about(PROTO_STATS, 8), NULL, NULL);
    expect(mesh->client, PROTO_STATS, &got);
    assert_int_equal(got.envelope.request.bytes[0], 8);

    json_t *stats = json_loadb(got.payload, got.payload_bytes, 0, NULL);
    const char *service, *worker;
    int target, hits, ended, jobs = -1;
    assert_non_null(stats);
    assert_int_equal(
        json_unpack(stats, "{s:{s:{s:i}}}", "services", "extract", "target", &target), 0);
    assert_int_equal(target, 2);
    assert_int_equal(json_unpack(stats, "{s:[{s:s, s:s, s:{s:i}}]}", "workers", "name",
                                 &worker, "service", &service, "stats", "hits", &hits),
                     0);
    assert_string_equal(worker, "fake@here:2");
    assert_int_equal(hits, 12);
    assert_int_equal(json_unpack(stats, "{s:{s:{s:{s:i}}}}", "counters",
                                 "requests_ended_total", "status", "ok", &ended),
                     0);
    assert_int_equal(ended, 1);
    assert_int_equal(json_unpack(stats, "{s:i}", "jobs", &jobs), 0);
    assert_int_equal(jobs, 0);
    json_decref(stats);
}

static void control_verbs_are_answered_and_reach_the_worker(void **state)
{
    struct mesh *mesh = *state;
    struct proto_scale scale = {.service = "extract",
                                .source = "operator",
                                .target = 1,
                                .seq = 5,
                                .ttl_ms = 60000,
                                .reason = "by hand"};
    struct proto_mode mode = {.level = "forced", .reason = "memory", .ttl_ms = 60000};
    struct proto_drain drain = {.slot = 3};
    struct proto_scaled scaled;
    struct got got;

    send_to(mesh->client, about(PROTO_SCALE, 1), &scale, NULL);
    expect(mesh->client, PROTO_SCALED, &got);
    assert_int_equal(
        proto_body_decode(proto_scaled_fields, got.body, got.body_bytes, &scaled), 0);
    assert_int_equal(scaled.target, 1);
    assert_int_equal(scaled.slots_max, 4);
    expect(mesh->worker, PROTO_SCALE, &got);
    send_to(mesh->client, about(PROTO_MODE, 2), &mode, NULL);
    expect(mesh->client, PROTO_MODE, &got);
    expect(mesh->worker, PROTO_MODE, &got);
    assert_int_equal(
        proto_body_decode(proto_mode_fields, got.body, got.body_bytes, &mode), 0);
    assert_string_equal(mode.level, "forced");
    assert_in_range(mode.ttl_ms, 50000, 60000);
    send_to(mesh->client, about(PROTO_DRAIN, 3), &drain, NULL);
    expect(mesh->client, PROTO_DRAIN, &got);
    expect(mesh->worker, PROTO_DRAIN, &got);
    drain.slot = 2003;
    send_to(mesh->client, about(PROTO_DRAIN, 4), &drain, NULL);
    expect(mesh->client, PROTO_REJECT, &got);
    assert_int_equal(got.envelope.status, PROTO_STATUS_NOT_FOUND);
}

#define WITH_MESH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_MESH(a_request_and_its_result_go_through_untouched),
        WITH_MESH(a_failed_job_is_sent_again_with_the_same_payload),
        WITH_MESH(an_input_that_killed_two_slots_is_refused_until_it_is_purged),
        WITH_MESH(who_has_no_session_is_told_so),
        WITH_MESH(bad_messages_are_refused_and_a_hundred_end_the_session),
        WITH_MESH(a_malformed_body_is_refused),
        WITH_MESH(silence_ends_the_session_and_aborts_the_job),
        WITH_MESH(sigterm_refuses_new_work_and_finishes_what_is_in_hand),
        WITH_MESH(a_second_sigterm_ends_what_is_open_with_draining),
        WITH_MESH(stats_show_services_peers_and_endings),
        WITH_MESH(control_verbs_are_answered_and_reach_the_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
