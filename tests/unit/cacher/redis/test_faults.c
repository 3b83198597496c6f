/* The tier against a real redis-server that is not well. */
#include "fixture.h"

static int begin(void **state)
{
    need_program("redis-server");
    return fixture_begin(state);
}

static int end(void **state)
{
    return fixture_end(state);
}

/* Short enough to wait for, long enough for a loaded machine not to reach by itself. */
static void rig_open_quick(struct rig *rig, const struct server *server)
{
    rig_open(rig, &(struct cacher_redis_options){.url = url_of(server),
                                                 .timeout_ms = 1500,
                                                 .connect_timeout_ms = 5000});
}

/* Begins `count` gets; those that were refused count as ended. */
static void begin_many(struct rig *rig, struct got *got, unsigned count)
{
    for (unsigned n = 0; n < count; n++)
        if (begin_get(rig, &got[n], n) < 0)
            got[n].calls = 1, got[n].found = CACHER_FAILED;
}

static unsigned ended(const struct got *got, unsigned count)
{
    unsigned calls = 0;

    for (unsigned n = 0; n < count; n++) {
        assert_true(got[n].calls <= 1);
        assert_true(got[n].calls == 0 || got[n].found != CACHER_FOUND || got[n].right);
        calls += got[n].calls;
    }
    return calls;
}

/* Asks until something is found, as a cacher's traffic would. */
static void until_found(struct rig *rig, unsigned n)
{
    UNTIL(rig, get(rig, n).found == CACHER_FOUND);
}

static bool is_refused(struct rig *rig)
{
    struct got got;
    int err = begin_get(rig, &got, 1);

    if (err == 0)
        UNTIL(rig, got.calls == 1);
    return err == -EHOSTDOWN;
}

/* Asks until the tier does not let itself be asked. */
static void until_refused(struct rig *rig)
{
    UNTIL(rig, is_refused(rig));
}

static void a_server_that_was_killed_is_by_passed_until_it_is_back(void **state)
{
    (void)state;
    struct server server;
    struct rig rig;
    struct got got[60];

    log_capture();
    server_start(&server, "");
    rig_open_quick(&rig, &server);
    UNTIL(&rig, ready_of(&rig) == 4);
    put_all(&rig, 0, 30, 20000, "t");
    until_found(&rig, 1);
    begin_many(&rig, got, 60);
    server_kill(&server, SIGKILL);
    UNTIL(&rig, ended(got, 60) == 60);
    until_refused(&rig);
    assert_int_equal(put(&rig, 1, 10, ""), -EHOSTDOWN);
    assert_int_not_equal(counters_of(&rig)->breaker, BREAKER_CLOSED);
    assert_true(counters_of(&rig)->breaker_opened >= 1);
    assert_true(counters_of(&rig)->disconnects >= 4);
    assert_int_equal(log_count("redis is by-passed"), 1);
    assert_int_equal(log_count("answers again"), 0);

    server_start_at(&server, "");
    UNTIL(&rig, ready_of(&rig) == 4);
    assert_int_equal(counters_of(&rig)->breaker, BREAKER_CLOSED);
    put_all(&rig, 1, 2, 10, "");
    until_found(&rig, 1);
    assert_int_equal(log_count("redis is by-passed"), 1);
    assert_int_equal(log_count("answers again"), 1);
    rig_close(&rig, 1000);
    server_kill(&server, SIGTERM);
}

static void a_server_that_is_not_there_yet_is_found_later(void **state)
{
    (void)state;
    struct server server;
    struct rig rig;

    server_start(&server, "");
    server_kill(&server, SIGTERM);
    rig_open_quick(&rig, &server);
    until_refused(&rig);
    server_start_at(&server, "");
    UNTIL(&rig, ready_of(&rig) == 4);
    put_all(&rig, 1, 2, 10, "");
    until_found(&rig, 1);
    rig_close(&rig, 1000);
    server_kill(&server, SIGTERM);
}

static void a_server_that_is_stopped_costs_time_outs_and_then_nothing(void **state)
{
    (void)state;
    struct server server;
    struct rig rig;
    struct got got[40];

    log_capture();
    server_start(&server, "");
    rig_open_quick(&rig, &server);
    UNTIL(&rig, ready_of(&rig) == 4);
    put_all(&rig, 0, 40, 1000, "");
    kill(server.pid, SIGSTOP);
    begin_many(&rig, got, 40);
    assert_int_equal(put(&rig, 50, 10, "t"), 0);
    UNTIL(&rig, ended(got, 40) == 40);
    for (unsigned n = 0; n < 40; n++)
        assert_int_equal(got[n].found, CACHER_FAILED);
    assert_true(counters_of(&rig)->timeouts > 0);
    assert_true(counters_of(&rig)->errors >= 40);
    until_refused(&rig);
    UNTIL(&rig, counters_of(&rig)->queued_bytes == 0); /* lost: nobody waits for it */
    assert_int_equal(log_count("redis is by-passed"), 1);
    kill(server.pid, SIGCONT);
    until_found(&rig, 1);
    UNTIL(&rig, ready_of(&rig) == 4);
    assert_int_equal(log_count("redis is by-passed"), 1);
    assert_int_equal(log_count("answers again"), 1);
    rig_close(&rig, 1000);
    server_kill(&server, SIGKILL);
}

static void paused_clients_are_the_same(void **state)
{
    (void)state;
    struct server server;
    struct rig rig;
    struct got got[40];

    server_start(&server, "");
    rig_open_quick(&rig, &server);
    UNTIL(&rig, ready_of(&rig) == 4);
    put_all(&rig, 0, 40, 1000, "");
    ask(&server, "CLIENT PAUSE 5000 ALL");
    begin_many(&rig, got, 40);
    UNTIL(&rig, ended(got, 40) == 40);
    until_found(&rig, 1);
    rig_close(&rig, 1000);
    server_kill(&server, SIGKILL);
}

/* What CLIENT KILL ends is asked again over new connections: nobody notices. */
static void lost_connections_cost_no_get(void **state)
{
    (void)state;
    struct server server;
    struct rig rig;
    struct got got[300];
    redisReply *reply;
    int done;

    log_capture();
    server_start(&server, "");
    rig_open_to(&rig, &server);
    put_all(&rig, 0, 300, 1000, "");
    /* The killing arrives before the gets, all while the server looks away. */
    kill(server.pid, SIGSTOP);
    redisAppendCommand(server.client, "CLIENT KILL TYPE normal SKIPME yes");
    assert_int_equal(redisBufferWrite(server.client, &done), REDIS_OK);
    begin_many(&rig, got, 300);
    for (unsigned i = 0; i < 5; i++)
        uv_run(&rig.loop, UV_RUN_ONCE);
    assert_int_equal(ended(got, 300), 0);
    kill(server.pid, SIGCONT);
    assert_int_equal(redisGetReply(server.client, (void **)&reply), REDIS_OK);
    assert_int_equal(reply->integer, 4);
    freeReplyObject(reply);
    UNTIL(&rig, ended(got, 300) == 300);
    for (unsigned n = 0; n < 300; n++)
        assert_int_equal(got[n].found, CACHER_FOUND);
    assert_true(counters_of(&rig)->retries >= 300);
    assert_int_equal(counters_of(&rig)->errors, 0);
    assert_int_equal(counters_of(&rig)->breaker_opened, 0);
    assert_int_equal(log_count("by-passed"), 0);
    rig_close(&rig, 1000);
    server_kill(&server, SIGKILL);
}

static bool was_put(struct rig *rig, struct server *server)
{
    if (put(rig, 1, 30000000, "") < 0)
        return false;
    UNTIL(rig, counters_of(rig)->queued_bytes == 0);
    return ask(server, "EXISTS %s", name_of(1)) == 1;
}

static void a_server_killed_in_mid_reply_ends_the_get_once(void **state)
{
    (void)state;
    struct server server;
    struct rig rig;
    struct got got;

    for (unsigned turns = 0; turns < 40; turns += 8) {
        server_start(&server, "");
        rig_open_quick(&rig, &server);
        UNTIL(&rig, ready_of(&rig) == 4);
        UNTIL(&rig, was_put(&rig, &server));
        if (begin_get(&rig, &got, 1) < 0)
            got.calls = 1;
        for (unsigned i = 0; i < turns; i++)
            uv_run(&rig.loop, UV_RUN_ONCE);
        server_kill(&server, SIGKILL);
        UNTIL(&rig, got.calls == 1);
        rig_close(&rig, 1000);
        assert_int_equal(got.calls, 1);
    }
}

static void a_full_server_loses_puts_says_so_once_and_answers_gets(void **state)
{
    (void)state;
    struct server server;
    struct rig rig;

    log_capture();
    server_start(&server, "--maxmemory-policy noeviction");
    rig_open_to(&rig, &server);
    put_all(&rig, 0, 10, 1000, "t");
    ask(&server, "CONFIG SET maxmemory 1");
    put_all(&rig, 10, 30, 1000, "t");
    assert_int_equal(counters_of(&rig)->puts, 10);
    assert_int_equal(counters_of(&rig)->puts_lost, 20);
    assert_int_equal(counters_of(&rig)->breaker, BREAKER_CLOSED);
    for (unsigned n = 0; n < 10; n++)
        assert_int_equal(get(&rig, n).found, CACHER_FOUND);
    assert_int_equal(get(&rig, 10).found, CACHER_MISSING);
    assert_int_equal(log_count("redis refuses writes"), 1);
    ask(&server, "CONFIG SET maxmemory 0");
    put_all(&rig, 10, 30, 1000, "t");
    assert_int_equal(get(&rig, 10).found, CACHER_FOUND);
    assert_int_equal(counters_of(&rig)->puts_lost, 20);
    assert_int_equal(log_count("redis refuses writes"), 1);
    assert_int_equal(log_count("redis takes writes again"), 1);
    rig_close(&rig, 1000);
    server_kill(&server, SIGTERM);
}

static const char *last_error(struct rig *rig)
{
    static char text[512];
    json_t *object = json_object();

    rig->tier->class->describe(rig->tier, object);
    snprintf(text, sizeof text, "%s",
             json_string_value(json_object_get(object, "last_error")));
    json_decref(object);
    return text;
}

static void a_wrong_password_is_said_once_and_clearly(void **state)
{
    (void)state;
    struct server server;
    struct rig rig;
    char url[128];

    log_capture();
    server_start(&server, "--requirepass richtig");
    rig_open_quick(&rig, &server);
    until_refused(&rig);
    assert_non_null(strstr(last_error(&rig), "wants a password, and the URL has none"));
    rig_close(&rig, 1000);
    assert_int_equal(log_count("redis is by-passed"), 1);

    snprintf(url, sizeof url, "redis://:falsch@127.0.0.1:%d/2", server.port);
    rig_open(&rig, &(struct cacher_redis_options){.url = url});
    until_refused(&rig);
    assert_non_null(strstr(last_error(&rig), "refuses the user or password of the URL"));
    rig_close(&rig, 1000);
    assert_int_equal(log_count("redis is by-passed"), 2);
    assert_int_equal(log_count("falsch"), 0);
    server_kill(&server, SIGTERM);
}

static void what_cannot_be_is_refused_with_its_reason(void **state)
{
    (void)state;
    struct server server;
    struct rig rig;
    char url[128];
    static const struct {
        const char *before, *after, *why;
    } wrong[] = {
        {"redis://127.0.0.1:", "/99", "refuses database 99 of the URL"},
        {"redis://:none@127.0.0.1:", "", "refuses the user or password of the URL"},
        {"redis://ann:none@127.0.0.1:", "", "refuses the user or password of the URL"},
        {"redis://no-such-host.invalid:", "", "cannot be resolved"},
    };

    server_start(&server, "");
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        snprintf(url, sizeof url, "%s%d%s", wrong[i].before, server.port, wrong[i].after);
        rig_open(&rig,
                 &(struct cacher_redis_options){.url = url, .connect_timeout_ms = 20000});
        until_refused(&rig);
        if (strstr(last_error(&rig), wrong[i].why) == NULL)
            fail_msg("%s: %s", url, last_error(&rig));
        rig_close(&rig, 1000);
    }
    server_kill(&server, SIGTERM);
    /* One connection is taken by the test; the tier gets one of four. */
    server_start(&server, "--maxclients 2");
    rig_open_quick(&rig, &server);
    UNTIL(&rig, counters_of(&rig)->breaker_opened > 0 || ready_of(&rig) == 1);
    UNTIL(&rig, strstr(last_error(&rig), "max number of clients") != NULL);
    rig_close(&rig, 1000);
    server_kill(&server, SIGTERM);
}

static void the_right_user_and_password_are_let_in(void **state)
{
    (void)state;
    struct server server;
    struct rig rig;
    char url[128];
    redisReply *reply;

    server_start(&server, "--requirepass richtig");
    reply = redisCommand(server.client, "AUTH richtig");
    freeReplyObject(reply);
    /* Only what docs/OPERATIONS.md would give: our own keys, and no way to flush. */
    ask(&server, "ACL SETUSER ann on >p%%40ss ~siftmesh:* +@all -@dangerous +info "
                 "+cluster|slots");
    const char *const logins[] = {":richtig", "default:richtig", "ann:p%2540ss"};
    for (unsigned i = 0; i < 3; i++) {
        snprintf(url, sizeof url, "redis://%s@127.0.0.1:%d", logins[i], server.port);
        rig_open(&rig, &(struct cacher_redis_options){
                           .url = url, .timeout_ms = 10000, .connect_timeout_ms = 10000});
        UNTIL(&rig, ready_of(&rig) == 4);
        put_all(&rig, i, i + 1, 100, "tag");
        assert_int_equal(get(&rig, i).found, CACHER_FOUND);
        struct purged purged =
            purge(&rig, &(struct cacher_filter){.kind = CACHER_FILTER_TAG, .tag = "tag"});
        assert_int_equal(purged.removed, 1);
        purged = purge(&rig, &(struct cacher_filter){.kind = CACHER_FILTER_ALL});
        assert_int_equal(purged.matched, 0);
        rig_close(&rig, 1000);
    }
    server_kill(&server, SIGTERM);
}

static void closing_does_not_wait_for_a_server_that_is_stopped(void **state)
{
    (void)state;
    struct server server;
    struct rig rig;
    struct got got[20];

    server_start(&server, "");
    rig_open_to(&rig, &server);
    kill(server.pid, SIGSTOP);
    begin_many(&rig, got, 20);
    for (unsigned n = 0; n < 20; n++)
        assert_int_equal(put(&rig, n, 1000000, "t"), 0);
    rig_close(&rig, 50); /* time-outs are 10 s here */
    assert_int_equal(ended(got, 20), 20);
    kill(server.pid, SIGCONT);
    server_kill(&server, SIGKILL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_server_that_was_killed_is_by_passed_until_it_is_back,
                                  log_release),
        cmocka_unit_test_teardown(a_server_that_is_not_there_yet_is_found_later,
                                  log_release),
        cmocka_unit_test_teardown(
            a_server_that_is_stopped_costs_time_outs_and_then_nothing, log_release),
        cmocka_unit_test_teardown(paused_clients_are_the_same, log_release),
        cmocka_unit_test_teardown(lost_connections_cost_no_get, log_release),
        cmocka_unit_test_teardown(a_server_killed_in_mid_reply_ends_the_get_once,
                                  log_release),
        cmocka_unit_test_teardown(a_full_server_loses_puts_says_so_once_and_answers_gets,
                                  log_release),
        cmocka_unit_test_teardown(a_wrong_password_is_said_once_and_clearly, log_release),
        cmocka_unit_test_teardown(what_cannot_be_is_refused_with_its_reason, log_release),
        cmocka_unit_test_teardown(the_right_user_and_password_are_let_in, log_release),
        cmocka_unit_test_teardown(closing_does_not_wait_for_a_server_that_is_stopped,
                                  log_release),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
