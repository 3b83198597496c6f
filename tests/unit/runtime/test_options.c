#include "runtime/options.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct broker {
    uint64_t lane_depth, body_bytes;
    char listen[OPTION_STR_BYTES];
    bool verbose;
};

struct mesh {
    uint64_t lane_depth, log_level;
    bool quiet;
};

static const struct option_spec broker_specs[] = {
#define OPTIONS_OF struct broker
#include "runtime/options_spec.h"
    INT(lane_depth, 1024, 1, 65536, "jobs", "Jobs a lane holds before it refuses.") INT(
        body_bytes, 32 << 20, 1024, UINT64_MAX, "bytes", "Largest body | of a request.")
        STR(listen, "127.0.0.1:8080", "Where clients come.") FLAG(verbose, "Say more.")
#include "runtime/options_end.h"
#undef OPTIONS_OF
            {0}};

static const struct option_spec mesh_specs[] = {
#define OPTIONS_OF struct mesh
#include "runtime/options_spec.h"
    INT(lane_depth, 7, 1, 10, NULL, "The same name in another section.")
        INT(log_level, 3, 0, 4, "", "A level.") FLAG(quiet, "Say less.")
#include "runtime/options_end.h"
            {0}};

/* What one load gives. */
struct loaded {
    struct broker broker;
    struct mesh mesh;
    struct option_origins origins;
    int first_left, argc, err;
    char *argv[16];
    char error[256];
};

static struct option_section sections[2];

/* `text` becomes the file, NULL: no file; then the arguments, up to a NULL. */
static struct loaded *load(const char *text, ...)
{
    static struct loaded l;
    char path[] = "/tmp/siftmesh-options-XXXXXX";

    memset(&l, 0xee, sizeof l); /* what is not filled shows */
    sections[0] = (struct option_section){"broker", broker_specs, &l.broker};
    sections[1] = (struct option_section){"mesh", mesh_specs, &l.mesh};
    if (text != NULL) {
        int file = mkstemp(path);
        assert_true(file >= 0);
        assert_int_equal(write(file, text, strlen(text)), strlen(text));
        close(file);
    }

    va_list args;
    va_start(args, text);
    l.argv[0] = (char *)(uintptr_t) "program";
    for (l.argc = 1; (l.argv[l.argc] = va_arg(args, char *)) != NULL; l.argc++)
        assert_true(l.argc < 15);
    va_end(args);

    l.err = options_load(sections, 2, text != NULL ? path : NULL, l.argc, l.argv,
                         &l.first_left, &l.origins, l.error, sizeof l.error);
    if (text != NULL) {
        unlink(path);
        if (strncmp(l.error, path, strlen(path)) ==
            0) { /* the name changes: cut it off */
            char *rest = l.error + strlen(path);
            memmove(l.error, rest, strlen(rest) + 1);
        }
    }
    return &l;
}

#define LOAD_FAILS(complaint, ...)                                                       \
    do {                                                                                 \
        struct loaded *failed = load(__VA_ARGS__, NULL);                                 \
        assert_int_equal(failed->err, -EINVAL);                                          \
        assert_string_equal(failed->error, complaint);                                   \
    } while (0)

static void defaults_fill_everything(void **state)
{
    (void)state;
    struct loaded *l = load(NULL, NULL);
    assert_int_equal(l->err, 0);
    assert_string_equal(l->error, "");
    assert_int_equal(l->broker.lane_depth, 1024);
    assert_int_equal(l->broker.body_bytes, 32 << 20);
    assert_string_equal(l->broker.listen, "127.0.0.1:8080");
    assert_false(l->broker.verbose);
    assert_int_equal(l->mesh.lane_depth, 7);
    assert_int_equal(l->origins.of[0][0], OPTION_FROM_DEFAULT);
    assert_int_equal(l->first_left, 1);
}

static void each_source_overrides_the_one_before_it(void **state)
{
    (void)state;
    const char *file = "[broker]\nlane_depth = 2\nbody_bytes = 2k\nlisten = file\n";
    setenv("SIFTMESH_BROKER_BODY_BYTES", "3k", 1);
    setenv("SIFTMESH_BROKER_LISTEN", "environment", 1);

    struct loaded *l = load(file, "--listen", "flag", NULL);
    unsetenv("SIFTMESH_BROKER_BODY_BYTES");
    unsetenv("SIFTMESH_BROKER_LISTEN");
    assert_int_equal(l->err, 0);
    assert_int_equal(l->broker.lane_depth, 2);
    assert_int_equal(l->broker.body_bytes, 3 * 1024);
    assert_string_equal(l->broker.listen, "flag");
    assert_int_equal(l->origins.of[0][0], OPTION_FROM_FILE);
    assert_int_equal(l->origins.of[0][1], OPTION_FROM_ENVIRONMENT);
    assert_int_equal(l->origins.of[0][2], OPTION_FROM_FLAG);
    assert_int_equal(l->origins.of[0][3], OPTION_FROM_DEFAULT);
}

static void a_file_has_comments_spaces_crlf_and_sections_of_others(void **state)
{
    (void)state;
    struct loaded *l = load("\xef\xbb\xbf# top\r\n"
                            "[gateway]\r\nno_option_of_ours = 5\r\n"
                            "[broker]  ; ours\r\n"
                            "  lane_depth=9   # nine\r\n"
                            "; listen = no\r\n"
                            "listen: ipc:///run/a#b;c   ; the rest is comment\r\n"
                            "verbose = On\r\n"
                            "[mesh]\r\nlog_level = 0\r\n[broker]\r\nbody_bytes = 1G",
                            NULL);
    assert_string_equal(l->error, "");
    assert_int_equal(l->broker.lane_depth, 9);
    assert_string_equal(l->broker.listen, "ipc:///run/a#b;c");
    assert_true(l->broker.verbose);
    assert_int_equal(l->mesh.log_level, 0);
    assert_int_equal(l->broker.body_bytes, 1 << 30);
}

static void a_complaint_about_a_file_names_the_line(void **state)
{
    (void)state;
    LOAD_FAILS(":3: lane_depth is 0, must be 1 to 65536 jobs",
               "# a\n[broker]\nlane_depth = 0\n");
    LOAD_FAILS(":2: lane_depth is 65537, must be 1 to 65536 jobs",
               "[broker]\nlane_depth = 65537\n");
    LOAD_FAILS(":2: log_level is 5, must be 0 to 4", "[mesh]\nlog_level = 5\n");
    LOAD_FAILS(":2: lane_dept is no option of [broker]", "[broker]\nlane_dept = 5\n");
    LOAD_FAILS(":3: lane_depth is given twice in [broker]",
               "[broker]\nlane_depth = 5\nlane_depth = 5\n");
    /* found by fuzz_options: it would be shown as a comment and read back as nothing */
    LOAD_FAILS(":2: listen has no value but a comment", "[broker]\nlisten =#[a\n");
    /* inih would take the indented line for more of the value above it */
    LOAD_FAILS(":3: lane_dept is no option of [broker]",
               "[broker]\nlisten = a\n  lane_dept = 5\n");
    LOAD_FAILS(":1: lane_depth stands before the first [section]", "lane_depth = 5\n");
    LOAD_FAILS(":2: neither [section], name = value nor a comment",
               "[broker]\nverbose\n");
    LOAD_FAILS(":1: neither [section], name = value nor a comment", "[broker\n");
    LOAD_FAILS(":2: verbose is \"maybe\", must be true or false",
               "[broker]\nverbose = maybe\n");
}

static void a_line_too_long_is_refused_and_not_taken_in_pieces(void **state)
{
    (void)state;
    char text[4096];
    int used = snprintf(text, sizeof text, "[broker]\nlisten = ");
    memset(text + used, 'x', 511);
    strcpy(text + used + 511, "\n");
    assert_int_equal(load(text, NULL)->err, 0);

    memset(text + used, 'x', 512);
    strcpy(text + used + 512, "\n");
    LOAD_FAILS(":2: listen is 512 bytes long, may be 511", text);

    memset(text + used, 'x', 3000);
    strcpy(text + used + 3000, "\n");
    LOAD_FAILS(":2: the line is longer than 2046 bytes", text);
}

static void a_file_that_cannot_be_read_is_an_error(void **state)
{
    (void)state;
    struct loaded *l = load(NULL, NULL);
    int err = options_load(sections, 2, "/nowhere/mesh.conf", 0, NULL, &l->first_left,
                           NULL, l->error, sizeof l->error);
    assert_int_equal(err, -EINVAL);
    assert_string_equal(l->error, "/nowhere/mesh.conf: No such file or directory");
    err = options_load(sections, 2, "/tmp", 0, NULL, &l->first_left, NULL, l->error,
                       sizeof l->error);
    assert_int_equal(err, -EINVAL);
    assert_string_equal(l->error, "/tmp: Input/output error");
}

static void a_complaint_fits_the_space_that_it_gets(void **state)
{
    (void)state;
    struct loaded *l = load(NULL, NULL);
    for (size_t bytes = 1; bytes < 60; bytes++) {
        memset(l->error, 'e', sizeof l->error);
        int err = options_load(sections, 2, "/nowhere/mesh.conf", 0, NULL, &l->first_left,
                               NULL, l->error, bytes);
        assert_int_equal(err, -EINVAL);
        assert_true(strlen(l->error) < bytes);
        assert_int_equal(l->error[bytes], 'e');
    }
}

static void numbers_are_strict(void **state)
{
    (void)state;
    static const char *const bad[] = {"",    " 5", "5 ",     "+5",   "0x10", "5.0",
                                      "1e3", "5k", "5 jobs", "five", "-",    "--5"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char complaint[128];
        snprintf(complaint, sizeof complaint,
                 "--lane-depth is \"%s\", must be a whole number, 1 to 65536 jobs",
                 bad[i]);
        LOAD_FAILS(complaint, NULL, "--lane-depth", bad[i]);
    }
    LOAD_FAILS("--lane-depth is -5, must be 1 to 65536 jobs", NULL, "--lane-depth", "-5");
    LOAD_FAILS("--lane-depth is 18446744073709551616, must be 1 to 65536 jobs", NULL,
               "--lane-depth", "18446744073709551616");
    assert_int_equal(load(NULL, "--lane-depth", "010", NULL)->broker.lane_depth, 10);
}

static void bytes_take_suffixes_of_1024(void **state)
{
    (void)state;
    assert_int_equal(load(NULL, "--body-bytes=5k", NULL)->broker.body_bytes, 5 << 10);
    assert_int_equal(load(NULL, "--body-bytes=5M", NULL)->broker.body_bytes, 5 << 20);
    assert_int_equal(load(NULL, "--body-bytes=5G", NULL)->broker.body_bytes, 5ULL << 30);
    assert_true(
        load(NULL, "--body-bytes", "18446744073709551615", NULL)->broker.body_bytes ==
        UINT64_MAX);
    LOAD_FAILS("--body-bytes is 17179869184G, must be 1k to 18446744073709551615 bytes",
               NULL, "--body-bytes", "17179869184G"); /* 2^64 */
    LOAD_FAILS("--body-bytes is \"5kB\", must be a whole number, "
               "1k to 18446744073709551615 bytes",
               NULL, "--body-bytes", "5kB");
    LOAD_FAILS("--body-bytes is \"5K\", must be a whole number, "
               "1k to 18446744073709551615 bytes",
               NULL, "--body-bytes", "5K");
}

static void flags_of_yes_and_no(void **state)
{
    (void)state;
    assert_true(load(NULL, "--verbose", NULL)->broker.verbose);
    assert_false(load("[broker]\nverbose=yes\n", "--no-verbose", NULL)->broker.verbose);
    assert_false(load(NULL, "--verbose", "--verbose=off", NULL)->broker.verbose);
    LOAD_FAILS("--no-verbose takes no value", NULL, "--no-verbose=1");
    LOAD_FAILS("--verbose is \"\", must be true or false", NULL, "--verbose=");
    /* "no-" is for these alone */
    assert_int_equal(load(NULL, "--no-listen", NULL)->first_left, 1);
}

static void what_is_not_ours_stays_in_its_order(void **state)
{
    (void)state;
    static const char *const want[] = {
        "program", "--lane-depth",   "5",  "--verbose", "extract",  "--format", "json",
        "a.jpg",   "--lane_depth=3", "-v", "--",        "--verbose"};
    struct loaded *l =
        load(NULL, "extract", "--lane-depth", "5", "--format", "json", "--verbose",
             "a.jpg", "--lane_depth=3", "-v", "--", "--verbose", NULL);
    assert_int_equal(l->err, 0);
    assert_int_equal(l->first_left, 4);
    for (int i = 0; i < l->argc; i++)
        assert_string_equal(l->argv[i], want[i]);
    assert_int_equal(l->broker.lane_depth, 5);
}

static void a_flag_without_its_value_is_an_error(void **state)
{
    (void)state;
    LOAD_FAILS("--lane-depth needs a value", NULL, "--lane-depth");
    LOAD_FAILS("--listen needs a value", NULL, "a", "--listen");
    assert_string_equal(load(NULL, "--listen=", NULL)->broker.listen, "");
    assert_string_equal(load(NULL, "--listen", "--verbose", NULL)->broker.listen,
                        "--verbose");
}

static void a_shared_flag_belongs_to_the_first_section(void **state)
{
    (void)state;
    setenv("SIFTMESH_MESH_LANE_DEPTH", "3", 1);
    struct loaded *l = load(NULL, "--lane-depth", "500", "--log-level=1", NULL);
    unsetenv("SIFTMESH_MESH_LANE_DEPTH");
    assert_int_equal(l->broker.lane_depth, 500);
    assert_int_equal(l->mesh.lane_depth, 3);
    assert_int_equal(l->mesh.log_level, 1);
}

static void a_complaint_about_the_environment_names_the_variable(void **state)
{
    (void)state;
    setenv("SIFTMESH_BROKER_LANE_DEPTH", "many", 1);
    LOAD_FAILS("SIFTMESH_BROKER_LANE_DEPTH is \"many\", must be a whole number, "
               "1 to 65536 jobs",
               NULL, NULL);
    unsetenv("SIFTMESH_BROKER_LANE_DEPTH");
    setenv("SIFTMESH_BROKER_SERVICE_HOST", "10.0.0.1", 1); /* Kubernetes does this */
    assert_int_equal(load(NULL, NULL)->err, 0);
    unsetenv("SIFTMESH_BROKER_SERVICE_HOST");
}

static void a_complaint_cuts_and_cleans_what_it_quotes(void **state)
{
    (void)state;
    char text[200];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    text[0] = '\033';
    text[1] = '\n';
    LOAD_FAILS("--lane-depth is \"??xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...\", "
               "must be a whole number, 1 to 65536 jobs",
               NULL, "--lane-depth", text);
}

/* ---- print ---- */

static char *printed(void (*print)(FILE *out, const void *arg), const void *arg)
{
    static char text[8192];
    FILE *out = fmemopen(text, sizeof text, "w");
    assert_non_null(out);
    print(out, arg);
    fclose(out);
    return text;
}

static void print_show(FILE *out, const void *arg)
{
    const struct loaded *l = arg;
    options_show(sections, 2, &l->origins, out);
}

static void print_help(FILE *out, const void *arg)
{
    options_help(arg, out);
}

static void print_markdown(FILE *out, const void *arg)
{
    options_markdown(arg, out);
}

static void a_password_in_a_url_is_not_shown(void **state)
{
    (void)state;
    static const char *const urls[][2] = {
        {"redis://:secret@host:6379/0", "redis://:***@host:6379/0   #"},
        {"postgres://me:se:cr@t@host/db", "postgres://me:***@host/db   #"},
        {"redis://host:6379/0", "redis://host:6379/0   #"},
        {"ipc:///run/a:b@c", "ipc:///run/a:***@c   #"},
        {"me:word@host", "me:word@host   #"}};
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        struct loaded loaded = *load("", "--listen", urls[i][0], NULL);
        const char *text = printed(print_show, &loaded);
        assert_non_null(strstr(text, urls[i][1]));
    }
}

static void what_is_shown_reads_back_the_same(void **state)
{
    (void)state;
    struct loaded first = *load("[mesh]\nquiet = true\n", "--lane-depth", "77",
                                "--body-bytes", "96M", "--listen", "ipc:///a#b", NULL);
    const char *text = printed(print_show, &first);
    assert_non_null(strstr(text, "lane_depth = 77   # flag (jobs): Jobs a lane holds"));
    assert_non_null(strstr(text, "body_bytes = 96M   # flag (bytes): Largest"));
    assert_non_null(strstr(text, "quiet = true   # file: Say less."));
    assert_non_null(strstr(text, "log_level = 3   # default: A level."));

    struct loaded *again = load(text, NULL);
    assert_string_equal(again->error, "");
    assert_int_equal(again->broker.lane_depth, 77);
    assert_int_equal(again->broker.body_bytes, 96 << 20);
    assert_string_equal(again->broker.listen, "ipc:///a#b");
    assert_true(again->mesh.quiet);
}

static void the_help_has_every_option_in_80_columns(void **state)
{
    (void)state;
    static const struct option_spec specs[] = {
        {.name = "a_name_that_is_longer_than_the_column",
         .type = OPTION_INT,
         .unit = "ms",
         .help =
             "A help that goes on for so many words that it can only stand on several "
             "lines, which all begin in the same column.",
         .def = 1,
         .max = 9},
        {0}};
    const char *text = printed(print_help, &(struct option_section){"wide", specs, NULL});
    for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= 80);
    assert_non_null(strstr(text, "  --a-name-that-is-longer-than-the-column N\n"));
    assert_non_null(strstr(text, "[1; 0 to 9 ms]\n"));

    load(NULL, NULL);
    text = printed(print_help, &sections[0]);
    assert_non_null(
        strstr(text, "Options of [broker]:\n  --lane-depth N            Jobs a"));
    assert_non_null(strstr(text, "\n  --[no-]verbose            Say more.\n"));
    assert_non_null(strstr(text, "\n  --listen TEXT             Where clients come. "
                                 "[127.0.0.1:8080]\n"));
}

static void the_markdown_rows_hold_four_cells(void **state)
{
    (void)state;
    load(NULL, NULL);
    assert_string_equal(printed(print_markdown, &sections[0]),
                        "| `lane_depth` | `1024` | 1 to 65536 jobs | Jobs a lane holds "
                        "before it refuses. |\n"
                        "| `body_bytes` | `32M` | 1k to 18446744073709551615 bytes | "
                        "Largest body \\| of a request. |\n"
                        "| `listen` | `127.0.0.1:8080` | text | Where clients come. |\n"
                        "| `verbose` | `false` | true or false | Say more. |\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_fill_everything),
        cmocka_unit_test(each_source_overrides_the_one_before_it),
        cmocka_unit_test(a_file_has_comments_spaces_crlf_and_sections_of_others),
        cmocka_unit_test(a_complaint_about_a_file_names_the_line),
        cmocka_unit_test(a_line_too_long_is_refused_and_not_taken_in_pieces),
        cmocka_unit_test(a_file_that_cannot_be_read_is_an_error),
        cmocka_unit_test(a_complaint_fits_the_space_that_it_gets),
        cmocka_unit_test(numbers_are_strict),
        cmocka_unit_test(bytes_take_suffixes_of_1024),
        cmocka_unit_test(flags_of_yes_and_no),
        cmocka_unit_test(what_is_not_ours_stays_in_its_order),
        cmocka_unit_test(a_flag_without_its_value_is_an_error),
        cmocka_unit_test(a_shared_flag_belongs_to_the_first_section),
        cmocka_unit_test(a_complaint_about_the_environment_names_the_variable),
        cmocka_unit_test(a_complaint_cuts_and_cleans_what_it_quotes),
        cmocka_unit_test(a_password_in_a_url_is_not_shown),
        cmocka_unit_test(what_is_shown_reads_back_the_same),
        cmocka_unit_test(the_help_has_every_option_in_80_columns),
        cmocka_unit_test(the_markdown_rows_hold_four_cells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
