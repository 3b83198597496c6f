/*
 * folder.c - makes, locks, looks after and gives up files of the runtime folder.
 *
 * Called by service.c, endpoint.c and `siftmesh up`. It never removes a file that is not
 * the very one which it holds, and never waits for a lock.
 */
#include "runtime/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file that is removed just when it is opened is made anew, so often. */
#define TRIES_MAX 100

int folder_make(const char *path)
{
    struct stat st;
    bool made = mkdir(path, 0700) == 0;

    if (!made && errno != EEXIST)
        return -errno;
    if (lstat(path, &st) < 0)
        return -errno;
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0)
        return -EPERM;
    return made;
}

/* 1: the path names this open file; 0: another one, or none; or -errno. */
static int is_named(int fd, const char *path)
{
    struct stat open_file, named;

    if (fstat(fd, &open_file) < 0)
        return -errno;
    if (lstat(path, &named) < 0)
        return errno == ENOENT ? 0 : -errno;
    return open_file.st_dev == named.st_dev && open_file.st_ino == named.st_ino;
}

/* Over what was there, and cut after it: a reader finds the old number or the new one. */
static int say(int fd, const char *text)
{
    size_t size = strlen(text);

    if (pwrite(fd, text, size, 0) != (ssize_t)size || ftruncate(fd, (off_t)size) < 0)
        return errno != 0 ? -errno : -EIO;
    return 0;
}

/* A new file at `path`, whole and locked when its name is there; -EEXIST: there is one
 * already; or another -errno. */
static int make_whole(const char *path, const char *text)
{
    char draft[PATH_MAX];

    if (snprintf(draft, sizeof draft, "%s.XXXXXX", path) >= (int)sizeof draft)
        return -ENAMETOOLONG;
    int fd = mkostemp(draft, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int err = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : say(fd, text);
    if (err == 0 && link(draft, path) < 0)
        err = -errno;
    unlink(draft);
    if (err == 0)
        return fd;
    close(fd);
    return err;
}

/* The file that is at `path`, where its holder is gone: locked, and saying `text`.
 * -EADDRINUSE: it is held; -EAGAIN: it was removed meanwhile; or another -errno. */
static int take_over(const char *path, const char *text)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? -EAGAIN : -errno;
    int err = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : is_named(fd, path);
    if (err == 1)
        err = say(fd, text);
    else
        err = err == -EWOULDBLOCK ? -EADDRINUSE : err == 0 ? -EAGAIN : err;
    if (err == 0)
        return fd;
    close(fd);
    return err;
}

/* Holds the file and lets it say its text; closes what was open before. 0 or -errno. */
static int hold(struct folder_file *file)
{
    int fd = -EAGAIN;

    for (int i = 0; i < TRIES_MAX && fd == -EAGAIN; i++) {
        fd = make_whole(file->path, file->text);
        if (fd == -EEXIST)
            fd = take_over(file->path, file->text);
    }
    if (fd < 0)
        return fd;
    if (file->fd >= 0)
        close(file->fd);
    file->fd = fd;
    return 0;
}

int folder_take(struct folder_file *file, const char *path, const char *text)
{
    free(file->path);
    *file = (struct folder_file){.path = strdup(path), .fd = -1};
    if (file->path == NULL)
        return -ENOMEM;
    snprintf(file->text, sizeof file->text, "%s", text);
    return hold(file);
}

int folder_look(struct folder_file *file)
{
    int named = file->fd >= 0 ? is_named(file->fd, file->path) : 0;
    if (named != 0)
        return named < 0 ? named : 0;
    int err = hold(file);
    return err < 0 ? err : 1;
}

void folder_touch(const char *path)
{
    (void)utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW); /* best effort */
}

void folder_release(struct folder_file *file, bool remove)
{
    if (file->path == NULL)
        return;
    if (remove && file->fd >= 0 && is_named(file->fd, file->path) == 1)
        unlink(file->path);
    if (file->fd >= 0)
        close(file->fd);
    free(file->path);
    *file = (struct folder_file){.fd = -1};
}

int folder_number(const char *path)
{
    char text[16] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    return n > 0 ? atoi(text) : 0;
}
