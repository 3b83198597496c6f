/* The tier against a real Redis Cluster: three masters on loopback. */
#include "cacher/redis/slot.h"
#include "fixture.h"

#define NODES 3

static struct server nodes[NODES], fourth;

static bool knows(struct server *server, unsigned count)
{
    redisReply *reply = redisCommand(server->client, "CLUSTER INFO");
    char known[40];

    snprintf(known, sizeof known, "cluster_known_nodes:%u\r", count);
    bool ok = reply != NULL && reply->type == REDIS_REPLY_STRING &&
              strstr(reply->str, "cluster_state:ok") != NULL &&
              strstr(reply->str, known) != NULL &&
              strstr(reply->str, "cluster_slots_ok:16384") != NULL;
    if (reply != NULL)
        freeReplyObject(reply);
    return ok;
}

static bool is_formed(void)
{
    unsigned count = fourth.pid > 0 ? NODES + 1 : NODES;

    for (unsigned i = 0; i < NODES; i++)
        if (!knows(&nodes[i], count))
            return false;
    return fourth.pid <= 0 || knows(&fourth, count);
}

static void until_formed(void)
{

    double end = seconds() + FIXTURE_S;

    while (!is_formed()) {
        usleep(20000);
        if (seconds() > end)
            fail_msg("the cluster does not form");
    }
}

static void start_node(struct server *node)
{
    char more[160];
    int bus = free_port();

    snprintf(more, sizeof more,
             "--cluster-enabled yes --cluster-config-file nodes.conf --cluster-port %d "
             "--cluster-node-timeout 2000 --cluster-require-full-coverage no",
             bus);
    server_start(node, more);
    node->bus = bus;
}

static int begin(void **state)
{
    char command[512];

    need_program("redis-server");
    need_program("redis-cli");
    if (fixture_begin(state) < 0)
        return -1;
    for (unsigned i = 0; i < NODES; i++)
        start_node(&nodes[i]);
    snprintf(command, sizeof command,
             "redis-cli --cluster create 127.0.0.1:%d 127.0.0.1:%d 127.0.0.1:%d "
             "--cluster-yes >%s/create 2>&1",
             nodes[0].port, nodes[1].port, nodes[2].port, fixture_dir);
    if (system(command) != 0) {
        snprintf(command, sizeof command, "cat %s/create >&2", fixture_dir);
        (void)!system(command);
        return -1;
    }
    until_formed();
    return 0;
}

static int end(void **state)
{
    for (unsigned i = 0; i < NODES; i++)
        server_kill(&nodes[i], SIGKILL);
    server_kill(&fourth, SIGKILL);
    return fixture_end(state);
}

static int flush(void **state)
{
    (void)state;
    for (unsigned i = 0; i < NODES; i++)
        ask(&nodes[i], "FLUSHALL");
    return 0;
}

static void open_cluster(struct rig *rig, unsigned timeout_ms)
{
    rig_open(rig, &(struct cacher_redis_options){.url = url_of(&nodes[0]),
                                                 .connections = 2,
                                                 .timeout_ms = timeout_ms,
                                                 .connect_timeout_ms = timeout_ms});
    UNTIL(rig, ready_of(rig) == 2 * NODES);
}

static json_t *described(struct rig *rig)
{
    json_t *object = json_object();

    rig->tier->class->describe(rig->tier, object);
    return object;
}

static void our_slots_are_those_of_the_server(void **state)
{
    (void)state;
    static const char *const keys[] = {"foo", "foo{bar}", "{}foo", "a{{b}c}", "{x", ""};

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        assert_int_equal(ask(&nodes[0], "CLUSTER KEYSLOT %s", keys[i]),
                         redis_slot(keys[i], strlen(keys[i])));
    for (unsigned n = 0; n < 100; n++)
        assert_int_equal(ask(&nodes[0], "CLUSTER KEYSLOT %s", name_of(n)),
                         redis_slot(name_of(n), strlen(name_of(n))));
}

static void each_key_goes_to_its_server_without_a_redirection(void **state)
{
    (void)state;
    struct rig rig;

    open_cluster(&rig, 10000);
    json_t *object = described(&rig);
    assert_true(json_is_true(json_object_get(object, "cluster")));
    assert_int_equal(json_array_size(json_object_get(object, "nodes")), NODES);
    json_decref(object);
    put_all(&rig, 0, 300, 1000, "red");
    for (unsigned i = 0; i < NODES; i++) {
        assert_in_range(ask(&nodes[i], "DBSIZE"), 50, 200);
        /* MOVED is counted by the server as an error reply. */
        redisReply *reply = redisCommand(nodes[i].client, "INFO errorstats");
        assert_null(strstr(reply->str, "MOVED"));
        freeReplyObject(reply);
    }
    for (unsigned n = 0; n < 300; n++)
        assert_int_equal(get(&rig, n).found, CACHER_FOUND);
    assert_int_equal(get(&rig, 300).found, CACHER_MISSING);
    rig_close(&rig, 1000);
}

static void purges_walk_over_all_servers_and_leave_what_is_not_ours(void **state)
{
    (void)state;
    struct rig rig;
    struct cacher_filter filter = {.kind = CACHER_FILTER_TAG, .tag = "red"};
    unsigned others = 0;

    open_cluster(&rig, 10000);
    for (unsigned i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof name, "other:%u", i);
        for (unsigned k = 0; k < NODES; k++) {
            redisReply *reply = redisCommand(nodes[k].client, "SET %s 1", name);
            others += reply->type == REDIS_REPLY_STATUS ? 1 : 0;
            freeReplyObject(reply);
        }
    }
    assert_int_equal(others, 300);
    put_all(&rig, 0, 200, 100, "red");
    put_all(&rig, 200, 500, 100, "blue");
    assert_int_equal(purge(&rig, &filter).removed, 200);
    filter = (struct cacher_filter){.kind = CACHER_FILTER_OLDER, .before_s = 1000250};
    assert_int_equal(purge(&rig, &filter).removed, 50);
    filter = (struct cacher_filter){.kind = CACHER_FILTER_KEY};
    memcpy(filter.key, key_of(499), sizeof filter.key);
    assert_int_equal(purge(&rig, &filter).removed, 1);
    filter = (struct cacher_filter){.kind = CACHER_FILTER_ALL, .dry_run = true};
    assert_int_equal(purge(&rig, &filter).matched, 249);
    filter.dry_run = false;
    struct purged purged = purge(&rig, &filter);
    assert_int_equal(purged.matched, 249);
    assert_true(purged.calls >= NODES);
    long long left = 0;
    for (unsigned i = 0; i < NODES; i++)
        left += ask(&nodes[i], "DBSIZE");
    assert_int_equal(left, 300);
    rig_close(&rig, 1000);
}

/* ---- a slot moves ---- */

struct move {
    unsigned slot;
    struct server *from, *to;
    char from_id[64], to_id[64];
};

static void read_id(struct server *server, char out[64])
{
    redisReply *reply = redisCommand(server->client, "CLUSTER MYID");

    assert_int_equal(reply->type, REDIS_REPLY_STRING);
    snprintf(out, 64, "%s", reply->str);
    freeReplyObject(reply);
}

static void begin_move_to(struct move *move, unsigned n, struct server *to)
{
    *move = (struct move){.slot = redis_slot(name_of(n), strlen(name_of(n)))};
    for (unsigned i = 0; i < NODES; i++) {
        redisReply *reply = redisCommand(nodes[i].client, "EXISTS %s", name_of(n));
        if (reply->type == REDIS_REPLY_INTEGER) {
            move->from = &nodes[i];
            move->to = to != NULL ? to : &nodes[(i + 1) % NODES];
        }
        freeReplyObject(reply);
    }
    assert_non_null(move->from);
    read_id(move->from, move->from_id);
    read_id(move->to, move->to_id);
    ask(move->to, "CLUSTER SETSLOT %u IMPORTING %s", move->slot, move->from_id);
    ask(move->from, "CLUSTER SETSLOT %u MIGRATING %s", move->slot, move->to_id);
}

static void end_move(struct move *move)
{
    ask(move->to, "CLUSTER SETSLOT %u NODE %s", move->slot, move->to_id);
    ask(move->from, "CLUSTER SETSLOT %u NODE %s", move->slot, move->to_id);
    for (unsigned i = 0; i < NODES; i++)
        ask(&nodes[i], "CLUSTER SETSLOT %u NODE %s", move->slot, move->to_id);
}

static long long redirections(const char *kind)
{
    long long sum = 0;
    char name[64];

    snprintf(name, sizeof name, "errorstat_%s:count=", kind);
    for (unsigned i = 0; i < NODES; i++) {
        redisReply *reply = redisCommand(nodes[i].client, "INFO errorstats");
        const char *at = strstr(reply->str, name);
        sum += at != NULL ? atoll(at + strlen(name)) : 0;
        freeReplyObject(reply);
    }
    return sum;
}

static void a_slot_that_moves_is_followed_all_the_way(void **state)
{
    (void)state;
    struct rig rig;
    struct move move;

    open_cluster(&rig, 10000);
    put_all(&rig, 0, 100, 1000, "red");
    begin_move_to(&move, 7, NULL);
    for (unsigned i = 0; i < NODES; i++)
        ask(&nodes[i], "CONFIG RESETSTAT");

    /* Not moved yet: where it was. Once moved: ASK, and ASKING at the other. */
    assert_int_equal(get(&rig, 7).found, CACHER_FOUND);
    assert_int_equal(redirections("ASK"), 0);
    ask(move.from, "MIGRATE 127.0.0.1 %d %s 0 5000", move.to->port, name_of(7));
    assert_int_equal(get(&rig, 7).found, CACHER_FOUND);
    assert_int_equal(get(&rig, 7).found, CACHER_FOUND);
    assert_int_equal(redirections("ASK"), 2); /* the map is not changed by it */
    put_all(&rig, 7, 8, 2000, "red");
    assert_int_equal(get(&rig, 7).bytes, 2000);
    assert_int_equal(redirections("MOVED"), 0);

    /* The move ends: MOVED once, and the map knows. */
    end_move(&move);
    assert_int_equal(get(&rig, 7).found, CACHER_FOUND);
    assert_int_equal(redirections("MOVED"), 1);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(get(&rig, 7).bytes, 2000);
    put_all(&rig, 7, 8, 3000, "red");
    assert_int_equal(get(&rig, 7).bytes, 3000);
    assert_int_equal(redirections("MOVED"), 1);
    struct cacher_filter filter = {.kind = CACHER_FILTER_TAG, .tag = "red"};
    assert_int_equal(purge(&rig, &filter).removed, 100);
    assert_int_equal(counters_of(&rig)->errors, 0);
    assert_int_equal(counters_of(&rig)->puts_lost, 0);
    rig_close(&rig, 1000);
}

static void all_slots_of_a_server_may_move_under_load(void **state)
{
    (void)state;
    struct rig rig;
    struct got got[200];
    char command[512];
    int status;

    open_cluster(&rig, 10000);
    put_all(&rig, 0, 200, 1000, "red");
    snprintf(command, sizeof command,
             "redis-cli --cluster rebalance 127.0.0.1:%d --cluster-weight $(redis-cli -p "
             "%d cluster myid)=0.5 --cluster-threshold 1 >%s/rebalance 2>&1",
             nodes[0].port, nodes[0].port, fixture_dir);
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    unsigned rounds = 0;
    for (bool done = false; !done || rounds < 3; rounds++) {
        done = done || waitpid(pid, &status, WNOHANG) == pid;
        for (unsigned n = 0; n < 200; n++)
            assert_int_equal(begin_get(&rig, &got[n], n), 0);
        for (unsigned n = 0; n < 200; n++)
            UNTIL(&rig, got[n].calls == 1);
        for (unsigned n = 0; n < 200; n++)
            assert_int_equal(got[n].found, CACHER_FOUND);
    }
    assert_int_equal(status, 0);
    assert_true(redirections("MOVED") > 0);
    assert_int_equal(counters_of(&rig)->errors, 0);
    rig_close(&rig, 1000);
}

/* The slot's new server is not in any map yet: it has no other slot. */
static void a_slot_may_move_to_a_server_that_had_none(void **state)
{
    (void)state;
    struct rig rig;
    struct move move;

    start_node(&fourth);
    ask(&fourth, "CLUSTER MEET 127.0.0.1 %d %d", nodes[0].port, nodes[0].bus);
    until_formed();
    open_cluster(&rig, 10000);
    put_all(&rig, 0, 100, 1000, "red");
    begin_move_to(&move, 7, &fourth);
    ask(move.from, "MIGRATE 127.0.0.1 %d %s 0 5000", move.to->port, name_of(7));
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(get(&rig, 7).found, CACHER_FOUND);
    put_all(&rig, 7, 8, 2000, "red");
    assert_int_equal(get(&rig, 7).bytes, 2000);
    end_move(&move);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(get(&rig, 7).found, CACHER_FOUND);
    UNTIL(&rig, ready_of(&rig) == 2 * (NODES + 1));
    /* A purge finds it there, too. */
    struct cacher_filter all = {.kind = CACHER_FILTER_ALL};
    assert_int_equal(purge(&rig, &all).matched, 100);
    assert_int_equal(ask(&fourth, "DBSIZE"), 0);
    assert_int_equal(counters_of(&rig)->errors, 0);
    rig_close(&rig, 1000);
}

/* ---- a server dies ---- */

static bool is_back(struct rig *rig)
{
    unsigned found = 0;

    for (unsigned n = 0; n < 100; n++) {
        (void)put(rig, n, 100, "");
        found += get(rig, n).found == CACHER_FOUND ? 1 : 0;
    }
    return found == 100;
}

static void a_dead_server_takes_its_own_keys_alone(void **state)
{
    (void)state;
    struct rig rig;
    unsigned found = 0, refused = 0;

    open_cluster(&rig, 1000);
    put_all(&rig, 0, 100, 100, "");
    kill(nodes[2].pid, SIGSTOP);
    for (unsigned round = 0; round < 20; round++)
        for (unsigned n = 0; n < 100; n++) {
            struct got got;
            int err = begin_get(&rig, &got, n);
            refused += err == -EHOSTDOWN ? 1 : 0;
            if (err == 0)
                UNTIL(&rig, got.calls == 1);
            found += err == 0 && got.found == CACHER_FOUND ? 1 : 0;
        }
    assert_true(found > 100 && refused > 100);
    assert_int_equal(counters_of(&rig)->breaker != BREAKER_CLOSED, 1);
    kill(nodes[2].pid, SIGCONT);
    until_formed();
    UNTIL(&rig, is_back(&rig));
    UNTIL(&rig, counters_of(&rig)->breaker == BREAKER_CLOSED);
    rig_close(&rig, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(our_slots_are_those_of_the_server, flush),
        cmocka_unit_test_setup(each_key_goes_to_its_server_without_a_redirection, flush),
        cmocka_unit_test_setup(purges_walk_over_all_servers_and_leave_what_is_not_ours,
                               flush),
        cmocka_unit_test_setup(a_slot_that_moves_is_followed_all_the_way, flush),
        cmocka_unit_test_setup(all_slots_of_a_server_may_move_under_load, flush),
        cmocka_unit_test_setup(a_dead_server_takes_its_own_keys_alone, flush),
        cmocka_unit_test_setup(a_slot_may_move_to_a_server_that_had_none, flush),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
