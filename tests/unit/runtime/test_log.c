#include "runtime/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Standard error goes to a file while a test logs; take() gives back what came. */
static int log_file = -1, real_stderr = -1;
static char taken[64 * 1024];

static int begin_capture(void **state)
{
    (void)state;
    char path[] = "/tmp/siftmesh-log-XXXXXX";
    log_file = mkstemp(path);
    if (log_file < 0)
        return -1;
    unlink(path);
    real_stderr = dup(STDERR_FILENO);
    return dup2(log_file, STDERR_FILENO) < 0 ? -1 : log_init("broker", "info", "logfmt");
}

static int end_capture(void **state)
{
    (void)state;
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    close(log_file);
    return 0;
}

static const char *take(void)
{
    ssize_t size = pread(log_file, taken, sizeof taken - 1, 0);
    assert_true(size >= 0);
    taken[size] = '\0';
    assert_int_equal(ftruncate(log_file, 0), 0);
    lseek(STDERR_FILENO, 0, SEEK_SET);
    return taken;
}

/* What a line has from its msg on. */
static const char *take_from_msg(void)
{
    const char *text = strstr(take(), "msg=");
    assert_non_null(text);
    return text;
}

static json_t *take_json(void)
{
    json_error_t error;
    json_t *json = json_loads(take(), JSON_REJECT_DUPLICATES, &error);
    if (json == NULL)
        fail_msg("%s in %s", error.text, taken);
    return json;
}

static const char *member(json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));
    assert_non_null(text);
    return text;
}

static size_t lines(const char *text)
{
    size_t count = 0;
    for (; *text != '\0'; text++)
        count += *text == '\n';
    return count;
}

static void a_line_has_its_time_level_service_and_process(void **state)
{
    (void)state;
    char pid[32];
    int year, month, day, hour, minute, second, ms, end = 0;

    log_event(LOG_WARNING, "worker up", "worker=%s slots=%u", "w1", 4u);
    const char *text = take();
    assert_int_equal(sscanf(text, "time=%4d-%2d-%2dT%2d:%2d:%2d.%3dZ %n", &year, &month,
                            &day, &hour, &minute, &second, &ms, &end),
                     7);
    snprintf(pid, sizeof pid, "pid=%ld ", (long)getpid());
    assert_non_null(strstr(text, pid));
    assert_int_equal(strncmp(text + end, "level=warning service=broker pid=", 33), 0);
    assert_string_equal(strstr(text, "msg="), "msg=\"worker up\" worker=w1 slots=4\n");
}

static void a_level_below_the_wanted_one_is_silent(void **state)
{
    (void)state;
    assert_int_equal(log_init("broker", "notice", "logfmt"), 0);
    assert_true(log_wants(LOG_NOTICE));
    assert_false(log_wants(LOG_INFO));
    log_event(LOG_INFO, "quiet", "");
    assert_string_equal(take(), "");
    log_event(LOG_ERROR, "loud", "");
    assert_string_equal(take_from_msg(), "msg=loud\n");
}

static void unknown_levels_and_formats_are_refused_and_change_nothing(void **state)
{
    (void)state;
    assert_int_equal(log_init("x", "info", "xml"), -EINVAL);
    assert_int_equal(log_init("x", "loud", "json"), -EINVAL);
    assert_int_equal(log_init("x", "", "json"), -EINVAL);
    log_event(LOG_INFO, "still", "");
    assert_non_null(strstr(take(), "level=info service=broker"));
}

static void auto_is_json_where_there_is_no_terminal(void **state)
{
    (void)state;
    assert_int_equal(log_init("broker", "info", "auto"), 0);
    log_event(LOG_INFO, "x", "");
    json_decref(take_json());
}

static void every_conversion_finds_its_argument(void **state)
{
    (void)state;
    log_event(LOG_INFO, "x",
              "a=%d b=%5.1f c=%s d=%.*s e=%zu f=%" PRIu64 " g=%016" PRIx64
              " h=%c i=%ld j=%hhu k=%lld l=%% m=%*d n=%jd o=%s p=%+d q=%td",
              -1, 2.25, "text", 3, "cutoff", (size_t)5, UINT64_MAX, UINT64_C(0xabc), 'h',
              -9L, (unsigned char)200, -7LL, 4, 42, (intmax_t)3, "last", 8,
              (ptrdiff_t)-2);
    assert_string_equal(
        take_from_msg(),
        "msg=x a=-1 b=\"  2.2\" c=text d=cut e=5 f=18446744073709551615 "
        "g=0000000000000abc h=h i=-9 j=200 k=-7 l=% m=\"  42\" n=3 o=last "
        "p=+8 q=-2\n");
}

static void errno_is_printed_and_kept(void **state)
{
    (void)state;
    errno = ENOENT;
    log_event(LOG_INFO, "x", "why=\"%m\"");
    assert_int_equal(errno, ENOENT);
    assert_string_equal(take_from_msg(), "msg=x why=\"No such file or directory\"\n");
}

static void a_hostile_value_adds_no_pair_and_no_line(void **state)
{
    (void)state;
    const char *peer = "w1 level=error\nmsg=\"root\"\t\x1b[31m\\ \x7f";
    log_event(LOG_INFO, "x", "peer=%s n=%d", peer, 1);
    assert_string_equal(take_from_msg(),
                        "msg=x peer=\"w1 level=error\\x0amsg=\\\"root\\\"\\x09\\x1b[31m"
                        "\\\\ \\x7f\" n=1\n");

    assert_int_equal(log_init("broker", "info", "json"), 0);
    log_event(LOG_INFO, "x", "peer=%s n=%d", peer, 1);
    json_t *json = take_json();
    assert_string_equal(member(json, "peer"), peer);
    assert_string_equal(member(json, "level"), "info");
    assert_int_equal(json_object_size(json), 7);
    json_decref(json);
}

static void utf8_passes_and_what_is_none_is_escaped(void **state)
{
    (void)state;
    /* well-formed; then a lone byte, an overlong slash, a surrogate, a C1 control, a cut
     * character, one above U+10FFFF */
    const char *good = "\xc3\xa4\xe2\x82\xac\xf0\x9f\x93\xb7";
    static const char *const bad[] = {
        "\xff",     "\xc0\xaf",         "\xed\xa0\x80", "\xc2\x85",
        "\xe2\x82", "\xf4\x90\x80\x80", "\xe0\x80\xaf", "\xf0\x80\x80\xaf"};
    log_event(LOG_INFO, "x", "good=%s", good);
    char want[64];
    snprintf(want, sizeof want, "msg=x good=%s\n", good);
    assert_string_equal(take_from_msg(), want);

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(log_init("broker", "info", "logfmt"), 0);
        log_event(LOG_INFO, "x", "bad=%s", bad[i]);
        for (const char *c = take(); *c != '\0'; c++)
            assert_true((unsigned char)*c < 0x7f);
        assert_int_equal(log_init("broker", "info", "json"), 0);
        log_event(LOG_INFO, "x", "bad=%s", bad[i]);
        json_decref(take_json());
        for (const char *c = taken; *c != '\0'; c++)
            assert_true((unsigned char)*c < 0x7f);
    }
}

static void logfmt_quotes_what_needs_it(void **state)
{
    (void)state;
    log_event(LOG_INFO, "x",
              "empty=%s equals=%s plain=%s spaced=\"%s b\" text=\"in %d ms\"", "", "a=b",
              "a:b/c", "a", 5);
    assert_string_equal(take_from_msg(),
                        "msg=x empty=\"\" equals=\"a=b\" plain=a:b/c spaced=\"a b\" "
                        "text=\"in 5 ms\"\n");
}

static void json_numbers_follow_the_format_and_not_the_value(void **state)
{
    (void)state;
    assert_int_equal(log_init("broker", "info", "json"), 0);
    log_event(LOG_INFO, "x",
              "u=%u d=%d f=%.3f e=%g lit=12 s=%s x=%x ms=%dms inf=%f pad=%03d "
              "q=\"%d\" neg=-1 dash=- dot=1. exp=1e",
              3u, -4, 1.5, 1e30, "5", 0x10u, 7, 1.0 / 0.0, 5, 6);
    json_t *json = take_json();
    assert_int_equal(json_integer_value(json_object_get(json, "u")), 3);
    assert_int_equal(json_integer_value(json_object_get(json, "d")), -4);
    assert_true(json_real_value(json_object_get(json, "f")) == 1.5);
    assert_true(json_real_value(json_object_get(json, "e")) == 1e30);
    assert_int_equal(json_integer_value(json_object_get(json, "lit")), 12);
    assert_int_equal(json_integer_value(json_object_get(json, "neg")), -1);
    assert_string_equal(member(json, "s"), "5");
    assert_string_equal(member(json, "x"), "10");
    assert_string_equal(member(json, "ms"), "7ms");
    assert_string_equal(member(json, "inf"), "inf");
    assert_string_equal(member(json, "pad"), "005");
    assert_string_equal(member(json, "q"), "6");
    assert_string_equal(member(json, "dash"), "-");
    assert_string_equal(member(json, "dot"), "1.");
    assert_string_equal(member(json, "exp"), "1e");
    json_decref(json);
}

/* Every length around the bound, for what is escaped to 1, 2 and 6 bytes. */
static void a_long_line_is_cut_at_the_bound_and_says_so(void **state)
{
    (void)state;
    static const char fills[] = {'x', '"', '\x01'};
    static char text[LOG_LINE_BYTES + 100];

    for (size_t f = 0; f < sizeof fills; f++)
        for (size_t size = 250; size < sizeof text;
             size += size < 1800 && f == 0 ? 97 : 1) {
            memset(text, fills[f], size);
            text[size] = '\0';
            for (int json = 0; json < 2; json++) {
                assert_int_equal(log_init("broker", "info", json ? "json" : "logfmt"), 0);
                log_event(LOG_INFO, "x", "text=%s n=%d last=%s", text, 12345,
                          "longer-than-the-reserve-for-the-tail-of-a-line-end");
                const char *line = take();
                size_t bytes = strlen(line);
                bool cut = strstr(line, "cut") != NULL;
                assert_true(bytes <= LOG_LINE_BYTES);
                assert_int_equal(lines(line), 1);
                assert_int_equal(line[bytes - 1], '\n');
                assert_int_equal(cut, strstr(line, "end") == NULL);
                if (size > LOG_LINE_BYTES)
                    assert_true(cut && bytes > LOG_LINE_BYTES - 64);
                if (json) {
                    json_t *whole = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
                    assert_non_null(whole);
                    assert_int_equal(json_is_true(json_object_get(whole, "cut")), cut);
                    json_decref(whole);
                } else if (cut) {
                    assert_string_equal(line + bytes - 10, " cut=true\n");
                }
            }
        }
}

static void a_long_message_is_cut_too(void **state)
{
    (void)state;
    static char text[3 * LOG_LINE_BYTES];
    memset(text, 'm', sizeof text - 1);
    assert_int_equal(log_init("broker", "info", "json"), 0);
    log_event(LOG_INFO, text, "a=1");
    assert_true(strlen(take()) <= LOG_LINE_BYTES);
    json_t *json = json_loads(taken, 0, NULL);
    assert_true(json_is_true(json_object_get(json, "cut")));
    json_decref(json);
}

static void repeats_are_limited_and_then_counted(void **state)
{
    (void)state;
    const uint64_t second = 1000000;
    struct log_limit limit = {0};

    for (unsigned i = 0; i < 20; i++)
        log_limited(LOG_INFO, &limit, 5 * second + i, "again", "i=%u", i);
    assert_int_equal(lines(take()), LOG_BURST);
    assert_null(strstr(taken, "suppressed"));
    assert_non_null(strstr(taken, "i=4\n"));

    log_limited(LOG_INFO, &limit, LOG_PERIOD_S * second - 1, "again", "i=%u", 20u);
    assert_string_equal(take(), "");
    log_limited(LOG_INFO, &limit, LOG_PERIOD_S * second, "again", "i=%u", 21u);
    assert_string_equal(take_from_msg(), "msg=again suppressed=16 i=21\n");
    log_limited(LOG_INFO, &limit, LOG_PERIOD_S * second, "again", "i=%u", 22u);
    assert_string_equal(take_from_msg(), "msg=again i=22\n");
}

static void what_no_one_wants_is_not_counted_as_suppressed(void **state)
{
    (void)state;
    struct log_limit limit = {0};
    for (int i = 0; i < 20; i++)
        log_limited(LOG_DEBUG, &limit, 0, "again", "");
    log_limited(LOG_INFO, &limit, 0, "again", "");
    assert_string_equal(take_from_msg(), "msg=again\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin_capture, end_capture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_line_has_its_time_level_service_and_process),
        TEST(a_level_below_the_wanted_one_is_silent),
        TEST(unknown_levels_and_formats_are_refused_and_change_nothing),
        TEST(auto_is_json_where_there_is_no_terminal),
        TEST(every_conversion_finds_its_argument),
        TEST(errno_is_printed_and_kept),
        TEST(a_hostile_value_adds_no_pair_and_no_line),
        TEST(utf8_passes_and_what_is_none_is_escaped),
        TEST(logfmt_quotes_what_needs_it),
        TEST(json_numbers_follow_the_format_and_not_the_value),
        TEST(a_long_line_is_cut_at_the_bound_and_says_so),
        TEST(a_long_message_is_cut_too),
        TEST(repeats_are_limited_and_then_counted),
        TEST(what_no_one_wants_is_not_counted_as_suppressed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
