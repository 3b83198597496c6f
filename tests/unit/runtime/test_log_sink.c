/* A sink on a pipe, a socket or a file, whose reader is this test. */
#include "runtime/log_sink.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define LINE_BYTES 1000

static char buffer[LOG_SINK_BYTES];

static size_t tell(uint64_t count, char *out, size_t capacity)
{
    return (size_t)snprintf(out, capacity, "dropped %llu\n", (unsigned long long)count);
}

static void write_line(struct log_sink *sink, int number)
{
    char line[LINE_BYTES];

    memset(line, '.', sizeof line);
    line[snprintf(line, sizeof line, "%d", number)] = '.';
    line[sizeof line - 1] = '\n';
    log_sink_write(sink, line, sizeof line);
}

/* Reads all there is, while the sink flushes; checks that numbers go on by one but where
 * lines were dropped, and returns how many lines came. */
static int read_lines(struct log_sink *sink, int fd, int first, uint64_t *told)
{
    static char text[4 << 20];
    size_t used = 0;
    int lines = 0, expected = first;

    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    for (int idle = 0; idle < 2;) {
        ssize_t n = read(fd, text + used, sizeof text - used - 1);
        idle = n > 0 || !log_sink_flush(sink) ? 0 : idle + 1;
        used += n > 0 ? (size_t)n : 0;
    }
    text[used] = '\0';
    *told = 0;
    for (char *at = text; *at != '\0'; at = strchr(at, '\n') + 1) {
        assert_non_null(strchr(at, '\n'));
        if (strncmp(at, "dropped ", 8) == 0) {
            *told += strtoull(at + 8, NULL, 10);
            expected += atoi(at + 8);
            continue;
        }
        assert_int_equal(strchr(at, '\n') - at, LINE_BYTES - 1);
        assert_int_equal(atoi(at), expected++);
        lines++;
    }
    return lines;
}

/* Twice what pipe and sink can hold, and on; then the reader comes back. */
static void stall_and_read(struct log_sink *sink, int fd)
{
    uint64_t told;
    int sent = 0;

    while (log_sink_dropped(sink) < 100)
        write_line(sink, sent++);
    assert_false(log_sink_flush(sink));
    assert_int_equal(read_lines(sink, fd, 0, &told), sent - 100);
    assert_int_equal(told, 100);
    assert_true(sent * LINE_BYTES > (int)LOG_SINK_BYTES);

    write_line(sink, sent++);
    assert_int_equal(read_lines(sink, fd, sent - 1, &told), 1);
    assert_int_equal(told, 0);
}

static void a_pipe_that_nobody_reads_holds_up_nothing(void **state)
{
    int fds[2];
    (void)state;

    assert_int_equal(pipe(fds), 0);
    struct log_sink sink = LOG_SINK_INIT(fds[1], buffer, tell);
    stall_and_read(&sink, fds[0]);
    /* Others may share it. */
    assert_int_equal(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
    close(fds[0]);
    close(fds[1]);
    close(sink.fd);
}

static void so_it_is_where_a_pipe_cannot_be_opened_again(void **state)
{
    int fds[2];
    (void)state;

    assert_int_equal(pipe(fds), 0);
    struct log_sink sink = LOG_SINK_INIT(fds[1], buffer, tell);
    sink.how = LOG_SINK_ASKED;
    stall_and_read(&sink, fds[0]);
    close(fds[0]);
    close(fds[1]);
}

static void so_it_is_with_a_socket(void **state)
{
    int fds[2];
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    struct log_sink sink = LOG_SINK_INIT(fds[1], buffer, tell);
    stall_and_read(&sink, fds[0]);
    close(fds[0]);
    close(fds[1]);
}

static void a_reader_that_is_gone_is_counted(void **state)
{
    int fds[2];
    (void)state;

    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pipe(fds), 0);
    struct log_sink sink = LOG_SINK_INIT(fds[1], buffer, tell);
    close(fds[0]);
    for (int i = 0; i < 1000; i++)
        write_line(&sink, i);
    assert_true(log_sink_flush(&sink));
    assert_true(log_sink_dropped(&sink) >= 1000);
    log_sink_finish(&sink, 1000);
    close(fds[1]);
}

static void a_file_gets_every_line_at_once(void **state)
{
    FILE *file = tmpfile();
    (void)state;

    struct log_sink sink = LOG_SINK_INIT(fileno(file), buffer, tell);
    for (int i = 0; i < 1000; i++)
        write_line(&sink, i);
    assert_int_equal(lseek(fileno(file), 0, SEEK_END), 1000 * LINE_BYTES);
    assert_int_equal(log_sink_dropped(&sink), 0);
    fclose(file);
}

static void the_end_waits_a_moment_for_its_reader(void **state)
{
    int fds[2];
    (void)state;

    assert_int_equal(pipe(fds), 0);
    struct log_sink sink = LOG_SINK_INIT(fds[1], buffer, tell);
    for (int i = 0; i < 100; i++)
        write_line(&sink, i);
    log_sink_finish(&sink, 20); /* it returns */
    assert_false(log_sink_flush(&sink));
    assert_int_equal(log_sink_dropped(&sink), 0);
    close(fds[0]);
    close(fds[1]);
    close(sink.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pipe_that_nobody_reads_holds_up_nothing),
        cmocka_unit_test(so_it_is_where_a_pipe_cannot_be_opened_again),
        cmocka_unit_test(so_it_is_with_a_socket),
        cmocka_unit_test(a_reader_that_is_gone_is_counted),
        cmocka_unit_test(a_file_gets_every_line_at_once),
        cmocka_unit_test(the_end_waits_a_moment_for_its_reader)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
