/*
 * folder.h - files in the runtime folder that are somebody's for as long as it lives: the
 * mesh's lock, the locks beside sockets, the files with a port.
 *
 * A file is held by a lock on its open descriptor (flock(2)), which goes with the
 * process, however it ends; what the file says is never trusted beyond that. A file may
 * be removed from under its holder (by a cleaner of /tmp, by hand): then it names nothing
 * any more, and whoever comes next would take its place. So holders look after theirs
 * every FOLDER_LOOK_MS: one that is gone is made and held again, and touched now and
 * then, since cleaners go by age.
 */
#ifndef RUNTIME_FOLDER_H
#define RUNTIME_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FOLDER_LOOK_MS  2000
#define FOLDER_TOUCH_MS 600000

/* Makes the folder at `path` where it is missing. 0: it was there; 1: it was made;
 * -EPERM: it is not ours alone (a folder, this user's, 0700), so that whoever can write
 * there could speak for a service; or another -errno. */
int folder_make(const char *path);

struct folder_file {
    char *path;    /* malloc'd; NULL: not wanted */
    int fd;        /* -1: not held */
    char text[32]; /* what it says */
};

/* Makes or opens the file at `path`, holds it and lets it say `text`; who reads it finds
 * it whole or not at all. `file` is zeroed, or one that was refused. 0; -EADDRINUSE:
 * another process holds it; or another -errno.
 */
int folder_take(struct folder_file *file, const char *path, const char *text);
/* Looks after it. 0: as it was; 1: it was gone, or refused, and is held now; -EADDRINUSE:
 * another process holds it; or another -errno. */
int folder_look(struct folder_file *file);
void folder_touch(const char *path);
/* Gives it up; with `remove` its path too, if it still names this very file. Zeroed and
 * already released ones are fine. */
void folder_release(struct folder_file *file, bool remove);
/* The number that the file at `path` begins with: a process id, a port; 0: none. */
int folder_number(const char *path);

#endif
