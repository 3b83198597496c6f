/*
 * secret.h - who else may read a file that holds a secret, or write one that decides.
 *
 * Secrets as PostgreSQL takes its keys: of this user with mode 0600 or less; or of root
 * with 0640 or less, as systemd's credentials and Kubernetes' volumes are made for a
 * process that is not root. Root may read and trust the files of others. Pure.
 */
#ifndef PROTO_SECRET_H
#define PROTO_SECRET_H

#include <sys/stat.h>

/* NULL, or what is wrong with a secret's file for a process of `user`. */
const char *proto_secret_wrong(const struct stat *file, uid_t user);
/* NULL, or what is wrong with a file whose content decides who may do what. */
const char *proto_trusted_wrong(const struct stat *file, uid_t user);

#endif
