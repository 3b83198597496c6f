/*
 * options.h - settings of a program: declared once in a table, read from four places.
 *
 * defaults < file (INI, one section a service) < environment
 * SIFTMESH_<SECTION>_<NAME> < flags --name VALUE. Each value knows where it came from.
 *
 * A table line is one of
 *   INT(field, default, min, max, "unit", "help")     uint64_t field
 *   STR(field, "default", "help")                     char field[OPTION_STR_BYTES]
 *   FORM(field, "default", "form", "help")            the same, of a form: options_form.h
 *   FLAG(field, "help")                               bool field, false by default
 * INT accepts the suffixes k, M, G (1024) where the unit is "bytes".
 *
 *     struct broker_options {
 *     #include "runtime/options_struct.h"   (defines INT, STR, FLAG as fields)
 *     #include "broker/options.tbl"
 *     #include "runtime/options_end.h"
 *     };
 *     const struct option_spec broker_option_specs[] = {
 *     #define OPTIONS_OF struct broker_options
 *     #include "runtime/options_spec.h"     (defines them as initialisers)
 *     #include "broker/options.tbl"
 *     #include "runtime/options_end.h"
 *     };
 */
#ifndef RUNTIME_OPTIONS_H
#define RUNTIME_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define OPTION_STR_BYTES 512

enum option_type { OPTION_INT = 1, OPTION_STR, OPTION_FLAG };

struct option_spec {
    const char *name; /* the field's name; the flag has '-' for '_' ; NULL ends a list */
    enum option_type type;
    const char *unit, *help;
    uint64_t def, min, max; /* INT */
    const char *def_str;    /* STR */
    size_t offset;
    const char *form; /* STR; NULL: any text */
};

/* One section: its table and the struct that it fills. */
struct option_section {
    const char *name; /* "broker" */
    const struct option_spec *specs;
    void *values;
};

enum option_origin {
    OPTION_FROM_DEFAULT,
    OPTION_FROM_FILE,
    OPTION_FROM_ENVIRONMENT,
    OPTION_FROM_FLAG
};

/* Where each value of each section came from; in the order of the tables. */
struct option_origins {
    uint8_t of[8][128];
    uint16_t line[8][128]; /* of the file */
};

/*
 * Fill every section. `file` is the INI path or NULL; sections of other services in it
 * are skipped, unknown sections and unknown names in ours are errors, and so is a name
 * given twice. Comments
 * begin with '#' or ';'; there is no quoting, so a text with " #" or " ;" in it can come
 * from the environment and the flags alone. A FLAG is true, yes, on, 1 or their contrary.
 *
 * Flags are `--lane-depth 5`, `--lane-depth=5`, `--verbose`, `--no-verbose`. Where two
 * sections have the same name, the flag belongs to the first. `argv` is permuted: what
 * is no option of ours stays in its order, from *first_left on; "--" ends options, and
 * stays too, so that the caller can tell a file's name from an unknown option.
 *
 * Returns 0 or -EINVAL with a complaint that teaches:
 * `mesh.conf:7: lane_depth is 0, must be 1 to 65536 jobs`. `origins` may be NULL.
 */
int options_load(const struct option_section *sections, size_t count, const char *file,
                 int argc, char **argv, int *first_left, struct option_origins *origins,
                 char *error, size_t error_bytes);

/* What shows at the start alone: whether each file that an option names is there (it may
 * belong to another user, so only a missing one is wrong), and whether an address is one,
 * for which a name is resolved. As options_load(). */
int options_check(const struct option_section *sections, size_t count, const char *file,
                  const struct option_origins *origins, char *error, size_t error_bytes);

/* The complaint about an option that has its form, and is wrong all the same: `FILE:LINE:
 * name is "value": why`. The last section that has the name is meant. */
void options_refuse(const struct option_section *sections, size_t count, const char *file,
                    const struct option_origins *origins, const char *name,
                    const char *why, char *error, size_t error_bytes);

/* One section's lines of --help. */
void options_help(const struct option_section *section, FILE *out);

/* "name = value   # origin (unit): help", an INI section that options_load reads. */
void options_show(const struct option_section *sections, size_t count,
                  const struct option_origins *origins, FILE *out);

/* One section as rows of a Markdown table, for docs/OPTIONS.md: name, default, range,
 * what it is for. No heading. */
void options_markdown(const struct option_section *section, FILE *out);

#endif
