/*
 * The tier against a server that speaks no Redis, or speaks it badly: nothing hangs,
 * nothing crashes, each get ends once, and a good server after that is used again.
 */
#include "fixture.h"

#include <hiredis/read.h>

/* ---- a server on the test's own loop ---- */

struct fake {
    uv_tcp_t listener;
    int port;
    unsigned clients; /* open */
    unsigned commands;
    /* What is answered; NULL: as a Redis without any keys does. "" is silence. */
    const char *to_all, *to_get, *to_slots;
    size_t bytes; /* of the text, where it has NULs */
    bool then_close;
    bool drip; /* the answer to gets goes on for ever */
};

struct client {
    uv_tcp_t tcp;
    struct fake *fake;
    redisReader *reader;
    uv_buf_t space;
    char bytes[65536];
};

static void on_client_closed(uv_handle_t *handle)
{
    struct client *client = handle->data;

    client->fake->clients--;
    redisReaderFree(client->reader);
    free(client);
}

static void close_client(struct client *client)
{
    if (!uv_is_closing((uv_handle_t *)&client->tcp))
        uv_close((uv_handle_t *)&client->tcp, on_client_closed);
}

static void on_written(uv_write_t *write, int status)
{
    struct client *client = write->handle->data;
    bool drips = client->fake->drip && status == 0;

    free(write);
    if (drips && !uv_is_closing((uv_handle_t *)&client->tcp)) {
        uv_write_t *more = calloc(1, sizeof *more);
        uv_buf_t buf = uv_buf_init(client->bytes, sizeof client->bytes);
        assert_int_equal(uv_write(more, (uv_stream_t *)&client->tcp, &buf, 1, on_written),
                         0);
    }
}

static void say(struct client *client, const char *text, size_t bytes)
{
    uv_write_t *write = calloc(1, sizeof *write);
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)text, (unsigned)bytes);

    (void)uv_try_write((uv_stream_t *)&client->tcp, &buf, 1);
    buf.len = 0;
    if (uv_write(write, (uv_stream_t *)&client->tcp, &buf, 1, on_written) < 0)
        free(write);
}

static void answer(struct client *client, const char *verb)
{
    struct fake *fake = client->fake;
    bool is_get = strcmp(verb, "GETRANGE") == 0;
    const char *text = fake->to_all;

    fake->commands++;
    if (is_get && fake->to_get != NULL)
        text = fake->to_get;
    if (strcmp(verb, "CLUSTER") == 0 && fake->to_slots != NULL)
        text = fake->to_slots;
    if (text != NULL) {
        size_t bytes = fake->bytes > 0 ? fake->bytes : strlen(text);
        if (bytes > 0)
            say(client, text, bytes);
        if (fake->then_close)
            close_client(client);
    } else if (is_get) {
        say(client, "$0\r\n\r\n", 6);
    } else if (strcmp(verb, "PING") == 0) {
        say(client, "+PONG\r\n", 7);
    } else if (strcmp(verb, "INFO") == 0) {
        say(client, "$18\r\nredis_version:0\r\n\r\n", 25);
    } else if (strcmp(verb, "ASKING") == 0 || strcmp(verb, "PSETEX") == 0) {
        say(client, "+OK\r\n", 5);
    } else {
        say(client, "-ERR no\r\n", 9);
    }
}

static void on_read(uv_stream_t *stream, ssize_t bytes, const uv_buf_t *buf)
{
    struct client *client = stream->data;
    redisReply *command;

    if (bytes < 0) {
        close_client(client);
        return;
    }
    assert_int_equal(redisReaderFeed(client->reader, buf->base, (size_t)bytes), REDIS_OK);
    while (redisReaderGetReply(client->reader, (void **)&command) == REDIS_OK &&
           command != NULL) {
        assert_int_equal(command->type, REDIS_REPLY_ARRAY);
        answer(client, command->element[0]->str);
        freeReplyObject(command);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct client *client = handle->data;

    (void)suggested;
    *buf = uv_buf_init(client->bytes, sizeof client->bytes);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct client *client = calloc(1, sizeof *client);

    assert_int_equal(status, 0);
    client->fake = listener->data;
    client->fake->clients++;
    client->reader = redisReaderCreate();
    client->tcp.data = client;
    assert_int_equal(uv_tcp_init(listener->loop, &client->tcp), 0);
    assert_int_equal(uv_accept(listener, (uv_stream_t *)&client->tcp), 0);
    assert_int_equal(uv_read_start((uv_stream_t *)&client->tcp, on_alloc, on_read), 0);
}

static void fake_listen(struct fake *fake, uv_loop_t *loop)
{
    struct sockaddr_in at;

    *fake = (struct fake){.port = free_port()};
    assert_int_equal(uv_tcp_init(loop, &fake->listener), 0);
    fake->listener.data = fake;
    assert_int_equal(uv_ip4_addr("127.0.0.1", fake->port, &at), 0);
    assert_int_equal(uv_tcp_bind(&fake->listener, (struct sockaddr *)&at, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&fake->listener, 128, on_connection), 0);
}

static void rig_open_to_fake(struct rig *rig, struct fake *fake, unsigned timeout_ms,
                             unsigned ping_ms)
{
    char url[64];

    *rig = (struct rig){0};
    assert_int_equal(uv_loop_init(&rig->loop), 0);
    assert_int_equal(uv_timer_init(&rig->loop, &rig->tick), 0);
    assert_int_equal(uv_timer_start(&rig->tick, on_tick, 5, 5), 0);
    fake_listen(fake, &rig->loop);
    snprintf(url, sizeof url, "redis://127.0.0.1:%d", fake->port);
    assert_int_equal(
        cacher_redis_open(&rig->loop,
                          &(struct cacher_redis_options){.url = url,
                                                         .connections = 2,
                                                         .timeout_ms = timeout_ms,
                                                         .ping_ms = ping_ms,
                                                         .connect_timeout_ms = 1000,
                                                         .value_bytes_max = 1 << 20},
                          &rig->tier),
        0);
}

static void rig_close_with_fake(struct rig *rig, struct fake *fake)
{
    uv_close((uv_handle_t *)&fake->listener, NULL);
    rig->tier->class->close(rig->tier, 100, on_rig_closed, rig);
    UNTIL(rig, rig->closed && fake->clients == 0);
    uv_close((uv_handle_t *)&rig->tick, NULL);
    uv_run(&rig->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&rig->loop), 0);
}

/* ---- what it says ---- */

#define TEXT(text) text, sizeof text - 1

static const struct bad {
    const char *text;
    size_t bytes;
    bool then_close;
} bads[] = {
    {TEXT(""), false}, /* silence */
    {TEXT(""), true},
    {TEXT("garbage\r\n"), false},
    {TEXT("\0\xff\xfe\r\n\0"), false},
    {TEXT("HTTP/1.1 400 Bad Request\r\n\r\n"), true},
    {TEXT("+OK\r\n"), false},                /* what is no string */
    {TEXT("$1\r\na\r\n$1\r\nb\r\n"), false}, /* a reply that nobody asked for */
    {TEXT("+OK\r\n+OK\r\n:1\r\n$-1\r\n*0\r\n-ERR x\r\n"), false},
    {TEXT("$5\r\nab"), true},  /* cut */
    {TEXT("$5\r\nab"), false}, /* and waiting */
    {TEXT("$3\r\nabcdefgh\r\n"), false},
    {TEXT("$-5\r\n"), false},
    {TEXT("$\r\n"), false},
    {TEXT("$99999999999999999999\r\n"), false},
    {TEXT("$9223372036854775807\r\nabc"), false},
    {TEXT("$2147483647\r\nabc"), false},
    {TEXT("*-7\r\n"), false},
    {TEXT("*2147483647\r\n"), false},
    {TEXT("*65537\r\n"), false},
    {TEXT("*65536\r\n*65536\r\n*65536\r\n*65536\r\n*65536\r\n*65536\r\n*65536\r\n"
          "*65536\r\n*65536\r\n*65536\r\n"),
     false},
    {TEXT("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"),
     false},
    {TEXT("*2\r\n+a\r\n:1\r\n"), false},
    {TEXT("*0\r\n"), false},
    {TEXT(":1x\r\n"), false},
    {TEXT(":\r\n"), false},
    {TEXT("$-1\r\n"), false},
    {TEXT("-\r\n"), false},
    {TEXT("-LOADING Redis is loading the dataset in memory\r\n"), false},
    {TEXT("-CLUSTERDOWN The cluster is down\r\n"), false},
    {TEXT("-ERR unknown command\r\n"), false},
    {TEXT("-ERR \xff\xfe\x80\x1b[31m\r\n"), false},
    {TEXT("-MOVED\r\n"), false},
    {TEXT("-MOVED \r\n"), false},
    {TEXT("-MOVED 1\r\n"), false},
    {TEXT("-MOVED 99999 127.0.0.1:1\r\n"), false},
    {TEXT("-MOVED -1 127.0.0.1:1\r\n"), false},
    {TEXT("-MOVED 1 127.0.0.1:0\r\n"), false},
    {TEXT("-MOVED 1 127.0.0.1:65536\r\n"), false},
    {TEXT("-MOVED 1 127.0.0.1:1x\r\n"), false},
    {TEXT("-MOVED 1 :1\r\n"), false}, /* nobody is there */
    {TEXT("-ASK 1 127.0.0.1:1\r\n"), false},
    {TEXT("%1\r\n+a\r\n+b\r\n"), false}, /* RESP 3 */
    {TEXT(">2\r\n+message\r\n+x\r\n"), false},
    {TEXT("_\r\n"), false},
};

static void set_bad(struct fake *fake, const struct bad *bad)
{
    fake->to_get = bad->text;
    fake->bytes = bad->bytes;
    fake->then_close = bad->then_close;
}

static void set_good(struct fake *fake)
{
    fake->to_all = fake->to_get = fake->to_slots = NULL;
    fake->bytes = 0;
    fake->then_close = fake->drip = false;
}

static bool is_missing(struct rig *rig)
{
    return get(rig, 1).found == CACHER_MISSING;
}

static void bad_answers_to_gets_end_them_and_do_no_more_harm(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bads / sizeof bads[0]; i++) {
        struct rig rig;
        struct fake fake;
        struct got got[3];

        rig_open_to_fake(&rig, &fake, 100, 0);
        UNTIL(&rig, is_missing(&rig));
        set_bad(&fake, &bads[i]);
        for (unsigned n = 0; n < 3; n++) {
            if (begin_get(&rig, &got[n], n) < 0)
                got[n] = (struct got){.calls = 1, .found = CACHER_FAILED};
        }
        UNTIL(&rig, got[0].calls + got[1].calls + got[2].calls == 3);
        for (unsigned n = 0; n < 3; n++) {
            assert_int_equal(got[n].calls, 1);
            assert_int_not_equal(got[n].found, CACHER_FOUND);
        }
        /* It comes right again, whatever it was; what says MOVED may have moved. */
        set_good(&fake);
        if (strncmp(bads[i].text, "-MOVED 1 ", 9) != 0)
            UNTIL(&rig, is_missing(&rig));
        rig_close_with_fake(&rig, &fake);
        for (unsigned n = 0; n < 3; n++)
            assert_int_equal(got[n].calls, 1);
    }
}

static void bad_answers_to_all_keep_it_by_passed(void **state)
{
    (void)state;
    log_capture();
    for (size_t i = 0; i < sizeof bads / sizeof bads[0]; i++) {
        struct rig rig;
        struct fake fake;

        rig_open_to_fake(&rig, &fake, 100, 0);
        set_bad(&fake, &bads[i]);
        fake.to_all = fake.to_get;
        UNTIL(&rig, counters_of(&rig)->breaker == BREAKER_OPEN);
        assert_int_equal(get(&rig, 1).found, CACHER_FAILED);
        assert_int_equal(ready_of(&rig), 0);
        set_good(&fake);
        if (i % 8 == 0) /* the pauses between two tries are long for some */
            UNTIL(&rig, is_missing(&rig));
        rig_close_with_fake(&rig, &fake);
    }
    /* Once each; those that came right may have failed again on a loaded machine. */
    assert_in_range(log_count("redis is by-passed"), sizeof bads / sizeof bads[0],
                    2 * sizeof bads / sizeof bads[0]);
}

/* 64 KiB at a time, for ever: no line, no reply, no end. */
static void an_answer_without_an_end_is_cut_off(void **state)
{
    (void)state;
    static const char *const begins[] = {"$100000000\r\n", "+", "*60000\r\n$1000000\r\n"};

    for (size_t i = 0; i < sizeof begins / sizeof begins[0]; i++) {
        struct rig rig;
        struct fake fake;
        struct got got;

        rig_open_to_fake(&rig, &fake, 100, 0);
        UNTIL(&rig, is_missing(&rig));
        fake.to_get = begins[i];
        fake.drip = true;
        uint64_t lost = counters_of(&rig)->disconnects;
        UNTIL(&rig, begin_get(&rig, &got, 1) == 0);
        UNTIL(&rig, got.calls == 1);
        assert_int_not_equal(got.found, CACHER_FOUND);
        UNTIL(&rig, counters_of(&rig)->disconnects > lost);
        set_good(&fake);
        UNTIL(&rig, is_missing(&rig));
        rig_close_with_fake(&rig, &fake);
    }
}

static void redirections_in_a_circle_end(void **state)
{
    (void)state;
    static const char *const kinds[] = {"MOVED", "ASK"};

    for (unsigned i = 0; i < 2; i++) {
        struct rig rig;
        struct fake fake;
        char text[64];
        struct got got;

        rig_open_to_fake(&rig, &fake, 10000, 0);
        UNTIL(&rig, is_missing(&rig));
        snprintf(text, sizeof text, "-%s 1 127.0.0.1:%d\r\n", kinds[i], fake.port);
        fake.to_get = text;
        unsigned before = fake.commands;
        assert_int_equal(begin_get(&rig, &got, 1), 0);
        UNTIL(&rig, got.calls == 1);
        assert_int_equal(got.found, CACHER_FAILED);
        /* 1 and 5 redirections, each with ASKING; and the map is asked for. */
        assert_in_range(fake.commands - before, 6, 40);
        set_good(&fake);
        UNTIL(&rig, is_missing(&rig));
        rig_close_with_fake(&rig, &fake);
    }
}

static void slot_maps_that_lie_are_survived(void **state)
{
    (void)state;
    static char many[600 * 64], long_host[2000];
    static const char *const maps[] = {
        "*0\r\n",
        "*1\r\n:1\r\n",
        "*1\r\n*0\r\n",
        "*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$9\r\n127.0.0.1\r\n:1\r\n",
        "*1\r\n*3\r\n:-1\r\n:5\r\n*2\r\n$9\r\n127.0.0.1\r\n:1\r\n",
        "*1\r\n*3\r\n:9\r\n:5\r\n*2\r\n$9\r\n127.0.0.1\r\n:1\r\n",
        "*1\r\n*3\r\n$1\r\n0\r\n:5\r\n*2\r\n$9\r\n127.0.0.1\r\n:1\r\n",
        "*1\r\n*3\r\n:0\r\n:5\r\n*2\r\n$9\r\n127.0.0.1\r\n:0\r\n",
        "*1\r\n*3\r\n:0\r\n:5\r\n*2\r\n$9\r\n127.0.0.1\r\n:65536\r\n",
        "*1\r\n*3\r\n:0\r\n:5\r\n*1\r\n$9\r\n127.0.0.1\r\n",
        "*1\r\n*3\r\n:0\r\n:5\r\n:1\r\n",
        "*1\r\n*3\r\n:0\r\n:5\r\n*2\r\n:1\r\n:1\r\n",
        "*1\r\n*3\r\n:0\r\n:5\r\n*2\r\n$1\r\n?\r\n:1\r\n",
        many,
        long_host,
    };
    size_t at = (size_t)snprintf(many, sizeof many, "*500\r\n");

    for (int i = 0; i < 500; i++)
        at += (size_t)snprintf(many + at, sizeof many - at,
                               "*3\r\n:%d\r\n:%d\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n", i,
                               i, i + 1);
    snprintf(long_host, sizeof long_host,
             "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$1000\r\n%01000d\r\n:1\r\n", 1);
    for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++) {
        struct rig rig;
        struct fake fake;

        rig_open_to_fake(&rig, &fake, 100, 0);
        fake.to_slots = maps[i];
        UNTIL(&rig, ready_of(&rig) > 0);
        for (unsigned n = 0; n < 20; n++)
            assert_int_not_equal(get(&rig, n).found, CACHER_FOUND);
        json_t *object = json_object();
        rig.tier->class->describe(rig.tier, object);
        assert_in_range(json_array_size(json_object_get(object, "nodes")), 1, 128);
        json_decref(object);
        rig_close_with_fake(&rig, &fake);
    }
}

static void pings_keep_idle_connections_and_find_dead_ones(void **state)
{
    (void)state;
    struct rig rig;
    struct fake fake;

    rig_open_to_fake(&rig, &fake, 2000, 20);
    UNTIL(&rig, ready_of(&rig) == 2);
    unsigned before = fake.commands;
    UNTIL(&rig, fake.commands >= before + 5);
    assert_int_equal(counters_of(&rig)->connects, 2);
    fake.to_all = ""; /* silence */
    UNTIL(&rig, counters_of(&rig)->breaker == BREAKER_OPEN);
    set_good(&fake);
    UNTIL(&rig, ready_of(&rig) == 2);
    rig_close_with_fake(&rig, &fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_answers_to_gets_end_them_and_do_no_more_harm),
        cmocka_unit_test_teardown(bad_answers_to_all_keep_it_by_passed, log_release),
        cmocka_unit_test(an_answer_without_an_end_is_cut_off),
        cmocka_unit_test(redirections_in_a_circle_end),
        cmocka_unit_test(slot_maps_that_lie_are_survived),
        cmocka_unit_test(pings_keep_idle_connections_and_find_dead_ones),
    };
    return cmocka_run_group_tests(tests, fixture_begin, fixture_end);
}
