/* A process that can write to the folder of a broker's socket can pose as the broker. */
#include "client/siftmesh.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The folder of an ipc address with a path; false: the address has none. */
static bool folder_of(const char *front, char folder[PATH_MAX])
{
    const char *path = front + strlen("ipc://");
    const char *slash = strrchr(front, '/');

    if (strncmp(front, "ipc:///", 7) != 0 || slash - path >= PATH_MAX)
        return false;
    snprintf(folder, PATH_MAX, "%.*s", slash > path ? (int)(slash - path) : 1, path);
    return true;
}

/* Whether root alone can put a folder beside this one, as in /run. */
static bool is_in_a_folder_of_root(const char *folder)
{
    char parent[PATH_MAX];
    struct stat st;

    snprintf(parent, sizeof parent, "%s", folder);
    char *slash = strrchr(parent, '/');
    slash[slash == parent ? 1 : 0] = '\0';
    return lstat(parent, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == 0 &&
           (st.st_mode & 022) == 0;
}

static bool may_own(uid_t uid, const char *folder)
{
    return uid == geteuid() || uid == 0 || is_in_a_folder_of_root(folder);
}

int siftmesh_check_front(const char *front, char *why, size_t why_bytes)
{
    char folder[PATH_MAX];
    struct stat link, st;

    if (!folder_of(front, folder))
        return 0;
    if (lstat(folder, &link) < 0 || stat(folder, &st) < 0) {
        int err = errno;
        snprintf(why, why_bytes, "%s: %s", folder, strerror(err));
        return err == ENOENT ? -ENOENT : -EPERM;
    }
    if (!S_ISDIR(st.st_mode)) {
        snprintf(why, why_bytes, "%s is no folder", folder);
    } else if (!may_own(link.st_uid, folder) || !may_own(st.st_uid, folder)) {
        uid_t owner = may_own(st.st_uid, folder) ? link.st_uid : st.st_uid;
        snprintf(why, why_bytes,
                 "%s belongs to user %u, not to this one (%u), who would get the "
                 "pictures",
                 folder, (unsigned)owner, (unsigned)geteuid());
    } else if ((st.st_mode & 077) != 0) {
        snprintf(why, why_bytes,
                 "%s has mode %04o, must have 0700: others could speak for the mesh",
                 folder, (unsigned)st.st_mode & 07777u);
    } else {
        return 0;
    }
    return -EPERM;
}
