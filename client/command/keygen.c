/*
 * keygen.c - `siftmesh keygen`: a pair of CURVE keys in two files (proto/curve.h).
 */
#include "client/command/command.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#define TRIES_MAX 64 /* each fails once in 85 times */

static void print_usage(FILE *out)
{
    fprintf(out,
            "Usage: siftmesh keygen NAME\n"
            "Make a pair of CURVE keys: NAME.key, the secret, and NAME.pub. Neither may "
            "exist.\n"
            "One for the broker, and one for each service, host or client that "
            "connects.\n");
}

/* A new file with exactly these bytes, or none. 0 or an exit code, said on stderr. */
static int create(const char *path, mode_t mode, const char *text)
{
    size_t size = strlen(text);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

    if (fd < 0) {
        fprintf(stderr, "siftmesh keygen: %s: %s\n", path,
                errno == EEXIST ? "is there already; keys are not overwritten"
                                : strerror(errno));
        return EX_CANTCREAT;
    }
    /* The umask may have taken, and must not have left, what others need or may not. */
    bool ok =
        fchmod(fd, mode) == 0 && write(fd, text, size) == (ssize_t)size && fsync(fd) == 0;
    ok = close(fd) == 0 && ok;
    if (ok)
        return EX_OK;
    fprintf(stderr, "siftmesh keygen: %s: %s\n", path, strerror(errno));
    unlink(path);
    return EX_IOERR;
}

/* The lists of keys take a line that begins with '#' for a comment. */
static int make_pair(struct proto_curve *pair)
{
    for (int i = 0; i < TRIES_MAX; i++) {
        if (siftmesh_keypair(pair) < 0) {
            fprintf(stderr, "siftmesh keygen: this libzmq was built without CURVE\n");
            return EX_UNAVAILABLE;
        }
        if (pair->public_key.text[0] != '#')
            return EX_OK;
    }
    return EX_SOFTWARE;
}

static void explain(const char *name, const char *key)
{
    printf("%s.key  the secret: keep it on the host of whoever uses it\n"
           "%s.pub  %s\n\n"
           "For the broker:            --curve-key %s.key --curve-allowed FILE, with the "
           ".pub lines\n"
           "                           of all who may connect in FILE\n"
           "For who connects to it:    --curve-key %s.key --curve-server BROKER.pub, and "
           "append\n"
           "                           %s.pub to that FILE; the broker reads it anew\n",
           name, name, key, name, name, name);
}

int command_keygen(int argc, char **argv)
{
    char key_path[PATH_MAX], pub_path[PATH_MAX], key[256], pub[PATH_MAX + 64];
    struct proto_curve pair;

    if (argc != 2 || argv[1][0] == '-') {
        bool help = argc == 2 && strcmp(argv[1], "--help") == 0;
        print_usage(help ? stdout : stderr);
        return help ? EX_OK : EX_USAGE;
    }
    const char *name = argv[1], *slash = strrchr(name, '/');
    const char *label = slash != NULL ? slash + 1 : name;
    if (snprintf(key_path, sizeof key_path, "%s.key", name) >= PATH_MAX ||
        snprintf(pub_path, sizeof pub_path, "%s.pub", name) >= PATH_MAX ||
        *label == '\0' || strpbrk(label, "\r\n") != NULL) {
        fprintf(stderr, "siftmesh keygen: not the name of a file: '%s'\n", name);
        return EX_USAGE;
    }
    int code = make_pair(&pair);
    if (code != EX_OK)
        return code;
    snprintf(pub, sizeof pub, "%s %s\n", pair.public_key.text, label);
    snprintf(key, sizeof key,
             "# CURVE keys: who reads this can speak in its owner's "
             "name.\npublic %s\nsecret %s\n",
             pair.public_key.text, pair.secret_key.text);
    code = create(pub_path, 0644, pub);
    if (code == EX_OK) {
        code = create(key_path, 0600, key);
        if (code != EX_OK)
            unlink(pub_path); /* ours, made a moment ago */
    }
    if (code == EX_OK)
        explain(name, pair.public_key.text);
    explicit_bzero(key, sizeof key);
    proto_curve_wipe(&pair);
    return code;
}
