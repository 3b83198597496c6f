/* Files that are held: by this process, and by a child in another's place. */
#include "runtime/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[32], path[64];

static int set_up(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/folder-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/file", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

/* A child that was killed in between may leave the draft of a file. */
static int tear_down_drafts(void **state)
{
    char command[64];

    (void)state;
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

/* A child that holds the file until it is killed. */
static pid_t hold_elsewhere(void)
{
    int ready[2];
    char byte;

    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct folder_file file = {0};
        if (folder_take(&file, path, "7\n") == 0 && write(ready[1], "", 1) == 1)
            pause();
        _exit(1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void a_file_says_what_its_holder_wants(void **state)
{
    struct folder_file file = {0};
    (void)state;

    FILE *stale = fopen(path, "w");
    fputs("123456789012\n", stale);
    fclose(stale);
    assert_int_equal(folder_take(&file, path, "80\n"), 0);
    assert_int_equal(folder_number(path), 80);
    assert_int_equal(folder_look(&file), 0);
    folder_release(&file, true);
    assert_int_equal(access(path, F_OK), -1);
    folder_release(&file, true);
}

static void what_another_process_holds_is_not_touched(void **state)
{
    struct folder_file file = {0};
    pid_t holder = hold_elsewhere();
    (void)state;

    assert_int_equal(folder_take(&file, path, "8\n"), -EADDRINUSE);
    assert_int_equal(folder_look(&file), -EADDRINUSE);
    assert_int_equal(folder_number(path), 7);
    end(holder); /* and is free as soon as that one is gone, however */
    assert_int_equal(folder_look(&file), 1);
    assert_int_equal(folder_number(path), 8);
    folder_release(&file, false);
    assert_int_equal(folder_number(path), 8);
}

static void a_file_that_is_removed_is_held_again(void **state)
{
    struct folder_file file = {0};
    (void)state;

    assert_int_equal(folder_take(&file, path, "80\n"), 0);
    unlink(path);
    assert_int_equal(folder_look(&file), 1);
    assert_int_equal(folder_number(path), 80);
    assert_int_equal(folder_look(&file), 0);
    folder_release(&file, true);
}

static void a_place_that_was_taken_is_the_others(void **state)
{
    struct folder_file file = {0};
    (void)state;

    assert_int_equal(folder_take(&file, path, "80\n"), 0);
    unlink(path);
    pid_t other = hold_elsewhere();
    assert_int_equal(folder_look(&file), -EADDRINUSE);
    folder_release(&file, true);
    assert_int_equal(folder_number(path), 7);
    end(other);
}

static void a_link_is_not_followed(void **state)
{
    struct folder_file file = {0};
    (void)state;

    assert_int_equal(symlink("/dev/null", path), 0);
    assert_int_equal(folder_take(&file, path, "80\n"), -ELOOP);
    folder_release(&file, true);
    assert_int_equal(folder_number(path), 0);
}

/* A child takes and removes it again and again; whoever opens it finds its text. */
static void a_reader_finds_a_file_whole_or_not_at_all(void **state)
{
    unsigned seen = 0, cut = 0;
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        struct folder_file file = {0};
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (folder_take(&file, path, "65432\n") == 0)
            folder_release(&file, true);
        _exit(1);
    }
    while (seen < 2000 && waitpid(pid, NULL, WNOHANG) == 0) {
        char text[16];
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        cut += read(fd, text, sizeof text) != 6;
        close(fd);
        seen++;
    }
    end(pid);
    assert_int_equal(seen, 2000);
    assert_int_equal(cut, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_says_what_its_holder_wants, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_another_process_holds_is_not_touched, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_is_removed_is_held_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_place_that_was_taken_is_the_others, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_reader_finds_a_file_whole_or_not_at_all, set_up,
                                        tear_down_drafts),
        cmocka_unit_test_setup_teardown(a_link_is_not_followed, set_up, tear_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
