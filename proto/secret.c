/*
 * secret.c - judges owner and mode of a file with a secret, or of one that decides.
 *
 * Called by who has opened the file (curve.c, the gateway's token), with its fstat(2): it
 * never opens a file itself, so that what is judged is what is read.
 */
#include "proto/secret.h"

#include <stddef.h>

const char *proto_secret_wrong(const struct stat *file, uid_t user)
{
    if (user != 0 && file->st_uid != user && file->st_uid != 0)
        return "belongs to another user, who may read this secret";
    mode_t others = user != 0 && file->st_uid == 0 ? 027 : 077;
    return (file->st_mode & others) != 0 ? "others may read this secret; chmod 600"
                                         : NULL;
}

const char *proto_trusted_wrong(const struct stat *file, uid_t user)
{
    if (user != 0 && file->st_uid != user && file->st_uid != 0)
        return "belongs to another user, who may write to it";
    return (file->st_mode & 022) != 0 ? "others may write to it; chmod 644" : NULL;
}
