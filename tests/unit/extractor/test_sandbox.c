/* Each try is made in a child that has closed its sandbox. */
#include "extractor/sandbox.h"
#include "tests/harness/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define SOCK       3 /* a descriptor that is the slot's own */
#define FILE_BYTES (1 << 20)

typedef int try_fn(void);

/* The child's wait status after `try`, whose result is its exit code. */
static int status_of(try_fn *try)
{
    const struct extractor_sandbox sandbox = {.address_bytes_max = 4ull << 30};
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        if (extractor_sandbox_limit(&sandbox, FILE_BYTES) < 0)
            _exit(100);
        if (extractor_sandbox_seal(SOCK) < 0)
            _exit(101);
        _exit(try());
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void is_killed(const char *what, try_fn *try)
{
    int status = status_of(try);

    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
        fail_msg("%s ended with status %#x", what, (unsigned)status);
}

static int exit_of(try_fn *try)
{
    int status = status_of(try);

    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* ---- what a slot must not do ---- */

static int open_to_write(void)
{
    return open("/tmp/test_sandbox", O_WRONLY | O_CREAT, 0600) >= 0;
}

static int open_to_read(void)
{
    return open("/etc/passwd", O_RDONLY) >= 0;
}

static int make_socket(void)
{
    return socket(AF_INET, SOCK_STREAM, 0) >= 0;
}

static int run_program(void)
{
    char *argv[] = {NULL};
    return execve("/bin/true", argv, argv);
}

static int fork_off(void)
{
    return fork() >= 0;
}

static int make_code(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
           MAP_FAILED;
}

static int turn_to_code(void)
{
    void *page =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mprotect(page, 4096, PROT_READ | PROT_EXEC);
}

static int signal_parent(void)
{
    return kill(getppid(), SIGWINCH);
}

static int send_elsewhere(void)
{
    struct msghdr message = {0};
    return (int)sendmsg(1, &message, MSG_NOSIGNAL);
}

static int trace(void)
{
    return (int)syscall(SYS_ptrace, 0, 0, 0, 0);
}

/* Its memory would be nobody's: no limit counts it. */
static int make_memfd(void)
{
    return memfd_create("test", 0) >= 0;
}

/* With it a slot could go back in a log that it inherits, and write over it. */
static int seek_in_the_log(void)
{
    return (int)lseek(STDERR_FILENO, 0, SEEK_SET);
}

static int raise_own_limits(void)
{
    return (int)syscall(SYS_prlimit64, 0, 0, NULL, NULL);
}

static void what_would_lead_out_ends_the_process(void **state)
{
    (void)state;
    is_killed("open for writing", open_to_write);
    is_killed("socket", make_socket);
    is_killed("exec", run_program);
    if (SANITIZED)
        return; /* its filter lets the sanitizer do the rest */
    is_killed("open", open_to_read);
    is_killed("fork", fork_off);
    is_killed("mmap of code", make_code);
    is_killed("mprotect to code", turn_to_code);
    is_killed("kill", signal_parent);
    is_killed("sendmsg", send_elsewhere);
    is_killed("ptrace", trace);
    is_killed("prlimit", raise_own_limits);
    is_killed("memfd_create", make_memfd);
    is_killed("lseek", seek_in_the_log);
}

/* ---- what it needs ---- */

static int use_memory(void)
{
    enum { COUNT = 64 };
    char *blocks[COUNT];

    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = malloc(i << 16 | 1);
        if (blocks[i] == NULL)
            return 1;
        memset(blocks[i], 1, i << 16 | 1);
    }
    for (size_t i = 0; i < COUNT; i++) {
        char *longer = realloc(blocks[i], i << 17 | 1);
        free(longer != NULL ? longer : blocks[i]);
    }
    return 0;
}

static int compare(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* glibc's qsort asks once how much memory the system has. */
static int sort_much(void)
{
    enum { COUNT = 100000 };
    int *numbers = calloc(COUNT, sizeof *numbers);

    for (int i = 0; i < COUNT; i++)
        numbers[i] = COUNT - i;
    qsort(numbers, COUNT, sizeof *numbers, compare);
    int first = numbers[0];
    free(numbers);
    return first == 1 ? 0 : 1;
}

static int file_fd; /* open since before the sandbox closed */

static int write_beyond_the_limit(void)
{
    static uint8_t block[FILE_BYTES];

    if (write(file_fd, block, sizeof block) != (ssize_t)sizeof block)
        return 1;
    return write(file_fd, block, 1) == -1 && errno == EFBIG ? 0 : 2;
}

static int give_up(void)
{
    abort();
}

static void what_a_job_needs_works(void **state)
{
    (void)state;
    assert_int_equal(exit_of(use_memory), 0);
    assert_int_equal(exit_of(sort_much), 0);
}

static void files_are_bounded_without_a_signal(void **state)
{
    (void)state;
    file_fd = memfd_create("test", MFD_CLOEXEC);
    assert_int_equal(exit_of(write_beyond_the_limit), 0);
    close(file_fd);
}

static void an_abort_ends_by_its_own_signal(void **state)
{
    (void)state;
    int status = status_of(give_up);

    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void the_mode_is_one_of_three_words(void **state)
{
    enum extractor_sandbox_mode mode = EXTRACTOR_SANDBOX_AUTO;
    (void)state;

    assert_int_equal(extractor_sandbox_parse("require", &mode), 0);
    assert_int_equal(mode, EXTRACTOR_SANDBOX_REQUIRE);
    assert_int_equal(extractor_sandbox_parse("off", &mode), 0);
    assert_int_equal(mode, EXTRACTOR_SANDBOX_OFF);
    assert_int_equal(extractor_sandbox_parse("auto", &mode), 0);
    assert_int_equal(mode, EXTRACTOR_SANDBOX_AUTO);
    assert_int_equal(extractor_sandbox_parse("Auto", &mode), -EINVAL);
    assert_int_equal(extractor_sandbox_parse("", &mode), -EINVAL);
}

static int nothing(void)
{
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_would_lead_out_ends_the_process),
        cmocka_unit_test(what_a_job_needs_works),
        cmocka_unit_test(files_are_bounded_without_a_signal),
        cmocka_unit_test(an_abort_ends_by_its_own_signal),
        cmocka_unit_test(the_mode_is_one_of_three_words),
    };
    int status = status_of(nothing);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 101) {
        fprintf(stderr, "skipped: this system forbids seccomp filters\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
