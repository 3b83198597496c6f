#include "proto/curve.h"

#include "proto/secret.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char z85[] = "0123456789abcdefghijklmnopqrstuvwxyz"
                          "ABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/* A file being read, line by line; where it is wrong, that line is told. */
struct source {
    const char *path;
    char *text, *next;
    unsigned line;
    char *error;
    size_t error_bytes;
};

static int wrong(struct source *source, int err, const char *why)
{
    if (source->line > 0)
        snprintf(source->error, source->error_bytes, "%s:%u: %s", source->path,
                 source->line, why);
    else
        snprintf(source->error, source->error_bytes, "%s: %s", source->path, why);
    return err;
}

static int read_all(struct source *source, int fd, size_t size)
{
    size_t used = 0;
    ssize_t n = 1;

    source->text = calloc(1, size + 1);
    if (source->text == NULL)
        return wrong(source, -ENOMEM, "out of memory");
    while (used < size && (n = read(fd, source->text + used, size - used)) > 0)
        used += (size_t)n;
    source->next = source->text;
    return n < 0 ? wrong(source, -errno, strerror(errno)) : 0;
}

enum guard { SECRET, TRUSTED };

static int source_open(struct source *source, enum guard guard)
{
    const char *unsafe = NULL;
    struct stat st;
    int fd = open(source->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), err = 0;

    if (fd < 0)
        return wrong(source, -errno, strerror(errno));
    if (fstat(fd, &st) < 0)
        err = wrong(source, -errno, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        err = wrong(source, -EINVAL, "is no file");
    else
        unsafe = guard == SECRET ? proto_secret_wrong(&st, geteuid())
                                 : proto_trusted_wrong(&st, geteuid());
    if (err < 0) {
        close(fd);
        return err;
    }
    if (st.st_size > PROTO_CURVE_FILE_BYTES_MAX)
        err = wrong(source, -EFBIG, "is larger than a list of keys may be, 1 MiB");
    else
        err = read_all(source, fd, (size_t)st.st_size);
    if (err == 0 && unsafe != NULL && guard == SECRET &&
        strstr(source->text, "secret ") == NULL)
        err = wrong(source, -EINVAL, "has no secret key; NAME.key has, not NAME.pub");
    else if (err == 0 && unsafe != NULL)
        err = wrong(source, -EPERM, unsafe);
    close(fd);
    return err;
}

static void source_close(struct source *source)
{
    if (source->text != NULL)
        explicit_bzero(source->text, strlen(source->text));
    free(source->text);
}

/* The next line that is no comment, without blanks at its ends; NULL: no more. */
static char *next_line(struct source *source)
{
    while (source->next != NULL && *source->next != '\0') {
        char *line = strsep(&source->next, "\n");
        source->line++;
        line += strspn(line, " \t");
        line[strcspn(line, "\r")] = '\0';
        if (*line != '\0' && *line != '#')
            return line;
    }
    return NULL;
}

/* A key, and then the end or a blank. */
static bool parse_key(const char *text, struct proto_curve_key *out)
{
    char after = '\0';

    if (strnlen(text, PROTO_CURVE_KEY_CHARS + 1) > PROTO_CURVE_KEY_CHARS)
        after = text[PROTO_CURVE_KEY_CHARS];
    if (strspn(text, z85) != PROTO_CURVE_KEY_CHARS ||
        (after != '\0' && after != ' ' && after != '\t'))
        return false;
    memcpy(out->text, text, PROTO_CURVE_KEY_CHARS);
    out->text[PROTO_CURVE_KEY_CHARS] = '\0';
    return true;
}

static int read_pair(struct source *source, struct proto_curve *out)
{
    char *line;

    while ((line = next_line(source)) != NULL) {
        struct proto_curve_key *key = NULL;
        if (strncmp(line, "public ", 7) == 0)
            key = &out->public_key;
        else if (strncmp(line, "secret ", 7) == 0)
            key = &out->secret_key;
        if (key == NULL || key->text[0] != '\0' || !parse_key(line + 7, key))
            return wrong(source, -EINVAL,
                         "must be one line \"public KEY\" and one \"secret KEY\", as "
                         "siftmesh keygen writes them");
    }
    source->line = 0;
    if (out->public_key.text[0] == '\0' || out->secret_key.text[0] == '\0')
        return wrong(source, -EINVAL, "lacks the public or the secret key");
    return 0;
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct proto_curve_key *)a)->text,
                  ((const struct proto_curve_key *)b)->text);
}

static int read_keys(struct source *source, size_t max, struct proto_curve_keys *out)
{
    size_t capacity = 0;
    char *line;

    while ((line = next_line(source)) != NULL) {
        if (out->count == max)
            return wrong(source, -EFBIG,
                         max == 1 ? "one public key is enough here"
                                  : "more than 4096 keys");
        if (out->count == capacity) {
            capacity = capacity == 0 ? 16 : 2 * capacity;
            void *more = realloc(out->all, capacity * sizeof out->all[0]);
            if (more == NULL)
                return wrong(source, -ENOMEM, "out of memory");
            out->all = more;
        }
        if (!parse_key(line, &out->all[out->count]))
            return wrong(source, -EINVAL,
                         "must begin with a public key, 40 characters of Z85");
        out->count++;
    }
    if (out->count > 0)
        qsort(out->all, out->count, sizeof out->all[0], compare);
    return 0;
}

static int load_keys(const char *file, size_t max, enum guard guard,
                     struct proto_curve_keys *out, char *error, size_t error_bytes)
{
    struct source source = {.path = file, .error = error, .error_bytes = error_bytes};
    struct proto_curve_keys keys = {0};
    int err = source_open(&source, guard);

    if (err == 0) {
        size_t size = strlen(source.text);
        keys.whole = size > 0 && source.text[size - 1] == '\n';
        err = read_keys(&source, max, &keys);
    }
    source_close(&source);
    if (err < 0) {
        proto_curve_keys_free(&keys);
        return err;
    }
    proto_curve_keys_free(out);
    *out = keys;
    return 0;
}

int proto_curve_keys_load(const char *file, struct proto_curve_keys *out, char *error,
                          size_t error_bytes)
{
    return load_keys(file, PROTO_CURVE_KEYS_MAX, TRUSTED, out, error, error_bytes);
}

static int load_server(const char *file, struct proto_curve_key *out, char *error,
                       size_t error_bytes)
{
    struct proto_curve_keys keys = {0};
    int err = load_keys(file, 1, TRUSTED, &keys, error, error_bytes);

    if (err == 0 && keys.count == 0) {
        snprintf(error, error_bytes, "%s: holds no public key", file);
        err = -EINVAL;
    }
    if (err == 0)
        *out = keys.all[0];
    proto_curve_keys_free(&keys);
    return err;
}

int proto_curve_load(const char *key_file, const char *server_file,
                     struct proto_curve *out, char *error, size_t error_bytes)
{
    struct source source = {.path = key_file, .error = error, .error_bytes = error_bytes};
    struct proto_curve curve = {0};
    int err = source_open(&source, SECRET);

    if (err == 0)
        err = read_pair(&source, &curve);
    source_close(&source);
    if (err == 0 && server_file != NULL && server_file[0] != '\0')
        err = load_server(server_file, &curve.server, error, error_bytes);
    if (err == 0)
        *out = curve;
    proto_curve_wipe(&curve);
    return err;
}

void proto_curve_wipe(struct proto_curve *curve)
{
    explicit_bzero(curve, sizeof *curve);
}

void proto_curve_keys_free(struct proto_curve_keys *keys)
{
    free(keys->all);
    *keys = (struct proto_curve_keys){0};
}

bool proto_curve_keys_has(const struct proto_curve_keys *keys,
                          const struct proto_curve_key *key)
{
    return keys->count > 0 &&
           bsearch(key, keys->all, keys->count, sizeof keys->all[0], compare) != NULL;
}

bool proto_curve_required(const char *address)
{
    char host[64];
    struct in_addr ip;
    const char *colon = strrchr(address, ':');

    if (strncmp(address, "ipc://", 6) == 0 || strncmp(address, "inproc://", 9) == 0)
        return false;
    if (strncmp(address, "tcp://", 6) != 0 || colon < address + 6 ||
        (size_t)(colon - address) - 6 >= sizeof host)
        return true;
    snprintf(host, sizeof host, "%.*s", (int)(colon - address) - 6, address + 6);
    if (strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
        return false;
    return inet_pton(AF_INET, host, &ip) != 1 || ntohl(ip.s_addr) >> 24 != 127;
}
