/*
 * procfile.h - the small text files of procfs and cgroupfs.
 *
 * What cannot be read as expected is an error with the file's name, never a guess. One
 * thread.
 */
#ifndef RUNTIME_PROCFILE_H
#define RUNTIME_PROCFILE_H

#include <stddef.h>
#include <stdint.h>

#define PROCFILE_BYTES      16384 /* more of a file is not read */
#define PROCFILE_PATH_BYTES 1024
#define PROCFILE_NO_LIMIT   UINT64_MAX

/*
 * Read the file of the printf-made path into `out`, with a NUL. The length, -ENOENT,
 * or another -errno; -ENAMETOOLONG when the path does not fit.
 */
int procfile_read(char out[PROCFILE_BYTES], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A decimal number that ends at white space or the text's end. 0 with `out` and, unless
 * NULL, `end` after it; -EINVAL, also for one above 2^63. */
int procfile_number(const char *text, uint64_t *out, const char **end);

/* "max" is PROCFILE_NO_LIMIT, else as above. */
int procfile_limit(const char *text, uint64_t *out, const char **end);

/* The number of the line that begins with `name` and white space or a colon.
 * 0, -ENOENT for no such line, -EINVAL. */
int procfile_line(const char *text, const char *name, uint64_t *out);

/*
 * The path of a controller ("memory") in the text of /proc/self/cgroup, or of the
 * unified hierarchy (""). 0; -ENOENT; -EINVAL when it leads out of what is mounted
 * ("/..": a cgroup namespace begun further down).
 */
int procfile_cgroup(const char *text, const char *controller,
                    char out[PROCFILE_PATH_BYTES]);

#endif
