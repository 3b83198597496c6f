#include "runtime/procfile.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int procfile_read(char out[PROCFILE_BYTES], const char *format, ...)
{
    char path[3 * PROCFILE_PATH_BYTES];
    va_list args;

    va_start(args, format);
    int length = vsnprintf(path, sizeof path, format, args);
    va_end(args);
    if (length < 0 || length >= (int)sizeof path)
        return -ENAMETOOLONG;

    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOTDIR ? -ENOENT : -errno;
    size_t size = 0;
    ssize_t n;
    while ((n = read(fd, out + size, PROCFILE_BYTES - 1 - size)) > 0)
        size += (size_t)n;
    int err = n < 0 ? -errno : 0;
    close(fd);
    if (err < 0)
        return err;
    out[size] = '\0';
    return (int)size;
}

int procfile_number(const char *text, uint64_t *out, const char **end)
{
    uint64_t value = 0;

    if (!isdigit((unsigned char)*text))
        return -EINVAL;
    for (; isdigit((unsigned char)*text); text++) {
        if (value > (INT64_MAX - 9) / 10)
            return -EINVAL;
        value = value * 10 + (uint64_t)(*text - '0');
    }
    if (*text != '\0' && !isspace((unsigned char)*text))
        return -EINVAL;
    *out = value;
    if (end != NULL)
        *end = text;
    return 0;
}

int procfile_limit(const char *text, uint64_t *out, const char **end)
{
    if (strncmp(text, "max", 3) != 0 ||
        (text[3] != '\0' && !isspace((unsigned char)text[3])))
        return procfile_number(text, out, end);
    *out = PROCFILE_NO_LIMIT;
    if (end != NULL)
        *end = text + 3;
    return 0;
}

static const char *next_line(const char *text)
{
    text += strcspn(text, "\n");
    return *text == '\n' ? text + 1 : text;
}

int procfile_line(const char *text, const char *name, uint64_t *out)
{
    size_t length = strlen(name);

    for (; *text != '\0'; text = next_line(text)) {
        if (strncmp(text, name, length) != 0 || strchr(" \t:", text[length]) == NULL ||
            text[length] == '\0')
            continue;
        text += length;
        text += strspn(text, ": \t");
        return procfile_number(text, out, NULL);
    }
    return -ENOENT;
}

/* Whether `name` is one of the comma-separated words before the colon. */
static bool has_word(const char *words, size_t length, const char *name)
{
    size_t size = strlen(name);

    while (length >= size) {
        size_t word = 0;
        while (word < length && words[word] != ',')
            word++;
        if (word == size && memcmp(words, name, size) == 0)
            return true;
        if (word == length)
            break;
        words += word + 1;
        length -= word + 1;
    }
    return false;
}

static int copy_path(const char *path, char out[PROCFILE_PATH_BYTES])
{
    size_t length = strcspn(path, "\n");

    if (length == 0 || path[0] != '/' || length >= PROCFILE_PATH_BYTES)
        return -EINVAL;
    memcpy(out, path, length);
    out[length] = '\0';
    if (strstr(out, "/..") != NULL)
        return -EINVAL;
    if (length == 1)
        out[0] = '\0'; /* the root: nothing to append */
    return 0;
}

/* Lines are "id:controller,controller:path". */
int procfile_cgroup(const char *text, const char *controller,
                    char out[PROCFILE_PATH_BYTES])
{
    for (; *text != '\0'; text = next_line(text)) {
        const char *words = text + strspn(text, "0123456789");
        if (*words++ != ':')
            continue;
        size_t length = strcspn(words, ":\n");
        if (words[length] == ':' && has_word(words, length, controller))
            return copy_path(words + length + 1, out);
    }
    return -ENOENT;
}
