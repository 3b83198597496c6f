/* Results to be forgotten: who is told, and what is tried again. */
#include "gateway/purges.h"
#include "tests/unit/gateway/fake_broker.h"

#define S UINT64_C(1000000)

static const uint8_t key[PROTO_DIGEST_BYTES] = {7};
static const char whole[] = "{\"cursor\":\"\"}", part[] = "{\"cursor\":\"store:1:1:x\"}";

struct bench {
    struct fake_broker fake;
    struct gateway_purges *purges;
    uint64_t now_us;
    unsigned told, done;
};

static void on_purged(bool done, void *waiter)
{
    struct bench *bench = waiter;

    bench->told++;
    bench->done += done;
}

static int begin(struct bench *bench, struct gateway_purge **purge)
{
    return gateway_purges_begin(bench->purges, key, &(struct proto_id){{9}}, on_purged,
                                bench, bench->now_us, purge);
}

static void open_bench(struct bench *bench)
{
    *bench = (struct bench){.now_us = 100 * S};
    fake_open(&bench->fake);
    struct gateway_link link = {fake_send, fake_id, &bench->fake};
    bench->purges = gateway_purges_new(bench->fake.mesh, &link);
    assert_non_null(bench->purges);
    fake_up(&bench->fake, true, bench->now_us);
}

static void close_bench(struct bench *bench)
{
    gateway_purges_free(bench->purges);
    gateway_mesh_free(bench->fake.mesh);
}

static void sweep(struct bench *bench, uint64_t after_us)
{
    bench->now_us += after_us;
    gateway_mesh_sweep(bench->fake.mesh, bench->now_us);
    gateway_purges_sweep(bench->purges, bench->now_us);
}

static void is_sent(const struct bench *bench, size_t index, enum proto_verb verb)
{
    assert_int_equal(bench->fake.count, index + 1);
    assert_int_equal(bench->fake.sent[index].envelope.verb, verb);
}

static void answer_tiers(struct bench *bench, size_t index, enum proto_status status,
                         const char *json)
{
    is_sent(bench, index, PROTO_SUBMIT);
    assert_string_equal(bench->fake.sent[index].submit.method, "purge");
    fake_answer(&bench->fake, index, PROTO_FINAL, status, NULL, json,
                json == NULL ? 0 : strlen(json), bench->now_us);
}

static void echo(struct bench *bench, size_t index)
{
    is_sent(bench, index, PROTO_PURGE);
    assert_true(gateway_purges_on_message(
        bench->purges, &bench->fake.sent[index].envelope.request, bench->now_us));
}

static void it_is_done_when_tiers_and_memories_were_told(void **state)
{
    struct bench bench;
    struct gateway_purge *purge;

    (void)state;
    open_bench(&bench);
    assert_int_equal(begin(&bench, &purge), 0);
    answer_tiers(&bench, 0, PROTO_STATUS_OK, whole);
    assert_int_equal(bench.told, 0);
    echo(&bench, 1);
    assert_true(bench.told == 1 && bench.done == 1);
    assert_int_equal(gateway_purges_count(bench.purges), 0);
    close_bench(&bench);
}

static void what_fails_is_told_once_and_tried_until_it_is_done(void **state)
{
    static const struct {
        enum proto_status status;
        const char *json;
    } ends[] = {{PROTO_STATUS_UNAVAILABLE, NULL},
                {PROTO_STATUS_INTERNAL, whole},
                {PROTO_STATUS_OK, part},
                {PROTO_STATUS_OK, NULL}};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct bench bench;
        struct gateway_purge *purge;
        open_bench(&bench);
        assert_int_equal(begin(&bench, &purge), 0);
        answer_tiers(&bench, 0, ends[i].status, ends[i].json);
        echo(&bench, 1); /* memories are told all the same */
        assert_true(bench.told == 1 && bench.done == 0);
        assert_int_equal(gateway_purges_kept(bench.purges), 1);
        sweep(&bench, S / 2);
        assert_int_equal(bench.fake.count, 2);
        sweep(&bench, S / 2);
        answer_tiers(&bench, 2, ends[i].status, ends[i].json);
        echo(&bench, 3);
        sweep(&bench, S);
        answer_tiers(&bench, 4, PROTO_STATUS_OK, whole);
        echo(&bench, 5);
        assert_true(bench.told == 1);
        assert_int_equal(gateway_purges_kept(bench.purges), 0);
        assert_int_equal(gateway_purges_count(bench.purges), 0);
        close_bench(&bench);
    }
}

static void a_broker_that_goes_in_the_middle_is_waited_for(void **state)
{
    struct bench bench;
    struct gateway_purge *purge;

    (void)state;
    open_bench(&bench);
    assert_int_equal(begin(&bench, &purge), 0);
    answer_tiers(&bench, 0, PROTO_STATUS_OK, whole);
    is_sent(&bench, 1, PROTO_PURGE);
    sweep(&bench, 5 * S); /* no echo */
    assert_true(bench.told == 1 && bench.done == 0);
    bench.fake.fail = -EAGAIN;
    sweep(&bench, S);
    sweep(&bench, S);
    bench.fake.fail = 0;
    sweep(&bench, S);
    answer_tiers(&bench, 2, PROTO_STATUS_OK, whole);
    echo(&bench, 3);
    assert_int_equal(gateway_purges_count(bench.purges), 0);
    close_bench(&bench);
}

static void without_a_broker_nothing_is_kept(void **state)
{
    struct bench bench;
    struct gateway_purge *purge;

    (void)state;
    open_bench(&bench);
    bench.fake.fail = -EAGAIN;
    assert_int_equal(begin(&bench, &purge), -EAGAIN);
    assert_int_equal(gateway_purges_count(bench.purges), 0);
    assert_int_equal(bench.told, 0);
    close_bench(&bench);
}

static void it_goes_on_without_who_asked_and_for_who_asks_again(void **state)
{
    struct bench bench;
    struct gateway_purge *purge;

    (void)state;
    open_bench(&bench);
    assert_int_equal(begin(&bench, &purge), 0);
    gateway_purge_leave(purge);
    answer_tiers(&bench, 0, PROTO_STATUS_UNAVAILABLE, NULL);
    echo(&bench, 1);
    assert_int_equal(bench.told, 0);
    assert_int_equal(gateway_purges_kept(bench.purges), 1);
    assert_int_equal(begin(&bench, &purge), 0); /* at once, and not twice */
    assert_int_equal(gateway_purges_count(bench.purges), 1);
    answer_tiers(&bench, 2, PROTO_STATUS_OK, whole);
    echo(&bench, 3);
    assert_true(bench.told == 1 && bench.done == 1);
    assert_int_equal(gateway_purges_kept(bench.purges), 0);
    close_bench(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_done_when_tiers_and_memories_were_told),
        cmocka_unit_test(what_fails_is_told_once_and_tried_until_it_is_done),
        cmocka_unit_test(a_broker_that_goes_in_the_middle_is_waited_for),
        cmocka_unit_test(without_a_broker_nothing_is_kept),
        cmocka_unit_test(it_goes_on_without_who_asked_and_for_who_asks_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
