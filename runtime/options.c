#include "runtime/options.h"
#include "proto/text.h"
#include "runtime/http_listen.h"
#include "runtime/options_form.h"
#include "runtime/options_number.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A line of the file: a string value, its name and a comment of the length that
 * options_show() writes. */
#define LINE_BYTES_MAX 2048
/* A value repeated in a complaint is cut here. */
#define QUOTE_BYTES_MAX 48
#define ENV_NAME_BYTES  128
#define FORM_BYTES_MAX  128

#define SECTIONS_MAX (sizeof((struct option_origins *)0)->of / sizeof(uint8_t[128]))
#define SPECS_MAX    (sizeof((struct option_origins *)0)->of[0])

/* Where a value stands, for complaints. */
struct place {
    const char *file; /* NULL: not in a file */
    unsigned line;
    const char *name; /* as the user wrote it: lane_depth, --lane-depth, SIFTMESH_... */
};

struct load {
    const struct option_section *sections;
    size_t count;
    struct option_origins *origins;
    char *error;
    size_t error_bytes;
    bool failed; /* the first complaint is kept */

    const char *file;
    FILE *stream;
    unsigned line;
};

struct option {
    size_t section, index;
};

static const struct option_spec *spec_of(const struct load *load, struct option option)
{
    return &load->sections[option.section].specs[option.index];
}

static void *value_of(const struct load *load, struct option option)
{
    return (char *)load->sections[option.section].values + spec_of(load, option)->offset;
}

__attribute__((format(printf, 3, 4))) static void
complain(struct load *load, const struct place *place, const char *format, ...)
{
    if (load->failed)
        return;
    load->failed = true;

    FILE *out = fmemopen(load->error, load->error_bytes, "w");
    if (out == NULL)
        return;
    if (place->file != NULL && place->line > 0)
        fprintf(out, "%s:%u: ", place->file, place->line);
    else if (place->file != NULL)
        fprintf(out, "%s: ", place->file);
    if (place->name != NULL)
        fprintf(out, "%s ", place->name);
    va_list args;
    va_start(args, format);
    vfprintf(out, format, args);
    va_end(args);
    fclose(out);
    load->error[load->error_bytes - 1] = '\0';
    proto_text_clean(load->error); /* names and paths as somebody wrote them */
}

/* `text` in quotes, cut, with nothing in it that could steer a terminal. */
static void quote(const char *text, char out[QUOTE_BYTES_MAX + 8])
{
    size_t used = 0;
    out[used++] = '"';
    for (size_t i = 0; text[i] != '\0'; i++) {
        if (used > QUOTE_BYTES_MAX) {
            memcpy(out + used, "...", 3);
            used += 3;
            break;
        }
        out[used++] = isprint((unsigned char)text[i]) ? text[i] : '?';
    }
    memcpy(out + used, "\"", 2);
}

/* Of a URL that may hold a password only what is before it. */
static void quote_form(const char *text, char out[QUOTE_BYTES_MAX + 8])
{
    char shown[QUOTE_BYTES_MAX];
    const char *scheme = strstr(text, "://");

    snprintf(shown, sizeof shown, "%.*s...",
             scheme != NULL ? (int)(scheme + 3 - text) : (int)strcspn(text, "@"), text);
    quote(strchr(text, '@') != NULL ? shown : text, out);
}

static bool is_negative_number(const char *text)
{
    return text[0] == '-' && text[1] != '\0' &&
           text[1 + strspn(text + 1, "0123456789")] == '\0';
}

static void set_int(struct load *load, const struct place *place,
                    const struct option_spec *spec, const char *text, uint64_t *out)
{
    uint64_t value = 0;
    int err = options_number_parse(spec, text, &value);
    if (err == 0 && value >= spec->min && value <= spec->max) {
        *out = value;
        return;
    }

    char quoted[QUOTE_BYTES_MAX + 8];
    quote(text, quoted);
    bool number = err != -EINVAL || is_negative_number(text);
    if (number) { /* the digits without the quotes */
        memmove(quoted, quoted + 1, strlen(quoted));
        quoted[strlen(quoted) - 1] = '\0';
    }
    complain(load, place, "is %s, must be %s%s", quoted, number ? "" : "a whole number, ",
             options_number_range(spec).text);
}

static void set_str(struct load *load, const struct place *place,
                    const struct option_spec *spec, const char *text, char *out)
{
    char quoted[QUOTE_BYTES_MAX + 8], form[FORM_BYTES_MAX];
    size_t bytes = strlen(text);

    if (spec->form != NULL && !options_form_fits(spec->form, text)) {
        quote_form(text, quoted);
        complain(load, place, "is %s, must be %s", quoted,
                 options_form_text(spec->form, form, sizeof form));
    } else if (bytes >= OPTION_STR_BYTES)
        complain(load, place, "is %zu bytes long, may be %d", bytes,
                 OPTION_STR_BYTES - 1);
    else
        memcpy(out, text, bytes + 1);
}

static void set_flag(struct load *load, const struct place *place, const char *text,
                     bool *out)
{
    static const char *const words[] = {"false", "true", "no", "yes",
                                        "off",   "on",   "0",  "1"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcasecmp(text, words[i]) == 0) {
            *out = i % 2 == 1;
            return;
        }

    char quoted[QUOTE_BYTES_MAX + 8];
    quote(text, quoted);
    complain(load, place, "is %s, must be true or false", quoted);
}

static void set(struct load *load, struct option option, const struct place *place,
                const char *text, enum option_origin origin)
{
    const struct option_spec *spec = spec_of(load, option);
    void *value = value_of(load, option);

    if (spec->type == OPTION_INT)
        set_int(load, place, spec, text, value);
    else if (spec->type == OPTION_STR)
        set_str(load, place, spec, text, value);
    else
        set_flag(load, place, text, value);
    load->origins->of[option.section][option.index] = (uint8_t)origin;
    load->origins->line[option.section][option.index] = (uint16_t)place->line;
}

/* Calls `visit` for every option of every section, in order. */
typedef void visit_fn(struct load *load, struct option option);

static void each_option(struct load *load, visit_fn *visit)
{
    for (size_t s = 0; s < load->count; s++)
        for (size_t i = 0; load->sections[s].specs[i].name != NULL; i++)
            visit(load, (struct option){s, i});
}

static void set_default(struct load *load, struct option option)
{
    const struct option_spec *spec = spec_of(load, option);
    void *value = value_of(load, option);

    /* A table that our own code has wrong. */
    assert(option.section < SECTIONS_MAX && option.index < SPECS_MAX);
    load->origins->of[option.section][option.index] = OPTION_FROM_DEFAULT;
    if (spec->type == OPTION_INT) {
        assert(spec->def >= spec->min && spec->def <= spec->max);
        *(uint64_t *)value = spec->def;
    } else if (spec->type == OPTION_STR) {
        assert(strlen(spec->def_str) < OPTION_STR_BYTES);
        strcpy(value, spec->def_str);
    } else {
        *(bool *)value = false;
    }
}

/* ---- file ---- */

/* All there are: a file serves every service, and each reads its own. */
static const char *const known_sections[] = {"mesh",      "broker", "gateway",
                                             "extractor", "cacher", "monitor"};

/* A line that begins a section. inih would pass its entries on, or pass an empty one by.
 */
static void check_section(struct load *load, const struct place *place, const char *text)
{
    const char *bracket = text + strspn(text, " \t"), *name = bracket + 1;
    const char *end = *bracket == '[' ? strchr(name, ']') : NULL;
    char shown[QUOTE_BYTES_MAX];

    if (end == NULL)
        return;
    snprintf(shown, sizeof shown, "%.*s", (int)(end - name), name);
    for (size_t i = 0; i < sizeof known_sections / sizeof known_sections[0]; i++)
        if (strcmp(shown, known_sections[i]) == 0)
            return;
    complain(load, place,
             "[%s] is no section, must be [mesh], [broker], [gateway], [extractor], "
             "[cacher] or [monitor]",
             shown);
}

/* One line a call, like fgets, but it refuses what inih would misread: a longer line
 * comes back in pieces, and a NUL hides the rest of its line. */
static char *read_line(char *text, int size, void *arg)
{
    struct load *load = arg;
    int used = 0, byte;

    load->line++;
    const struct place place = {load->file, load->line, NULL};
    while ((byte = getc(load->stream)) != EOF) {
        if (byte == '\0')
            complain(load, &place, "the line has a NUL byte");
        else if (used == size - 1)
            complain(load, &place, "the line is longer than %d bytes", size - 2);
        if (load->failed)
            return NULL;
        text[used++] = (char)byte;
        if (byte == '\n')
            break;
    }
    text[used] = '\0';
    check_section(load, &place, text);
    return used > 0 && !load->failed ? text : NULL;
}

static bool find_named(const struct load *load, const char *section, const char *name,
                       bool *ours, struct option *out)
{
    *ours = false;
    for (size_t s = 0; s < load->count; s++) {
        if (strcmp(load->sections[s].name, section) != 0)
            continue;
        *ours = true;
        for (size_t i = 0; load->sections[s].specs[i].name != NULL; i++)
            if (strcmp(load->sections[s].specs[i].name, name) == 0) {
                *out = (struct option){s, i};
                return true;
            }
    }
    return false;
}

static int on_entry(void *arg, const char *section, const char *name, const char *text)
{
    struct load *load = arg;
    const struct place place = {load->file, load->line, name};
    struct option option;
    bool ours;

    if (section[0] == '\0')
        complain(load, &place, "stands before the first [section]");
    else if (!find_named(load, section, name, &ours, &option)) {
        if (ours)
            complain(load, &place, "is no option of [%s]", section);
    } else if (load->origins->of[option.section][option.index] == OPTION_FROM_FILE)
        complain(load, &place, "is given twice in [%s]", section);
    else if (text[0] == '#' || text[0] == ';') /* "name =# why": no blank before it */
        complain(load, &place, "has no value but a comment");
    else
        set(load, option, &place, text, OPTION_FROM_FILE);
    return !load->failed;
}

static void read_file(struct load *load)
{
    static char comments[] = ";#";
    const struct place place = {load->file, 0, NULL};

    load->stream = fopen(load->file, "re");
    if (load->stream == NULL) {
        complain(load, &place, "%s", strerror(errno));
        return;
    }
    /* inih is set up by globals. Continuation lines are off: an indented name would be
     * taken for more of the value above it. */
    ini_allow_multiline = false;
    ini_max_line = LINE_BYTES_MAX;
    ini_inline_comment_prefixes = comments;
    int bad_line = ini_parse_stream(read_line, load, on_entry, load);

    if (ferror(load->stream))
        complain(load, &place, "%s", strerror(EIO));
    if (bad_line > 0)
        complain(load, &(struct place){load->file, (unsigned)bad_line, NULL},
                 "neither [section], name = value nor a comment");
    fclose(load->stream);
}

/* ---- environment ---- */

static void env_name(const char *section, const char *name, char out[ENV_NAME_BYTES])
{
    int used = snprintf(out, ENV_NAME_BYTES, "SIFTMESH_%s_%s", section, name);
    assert(used > 0 && used < ENV_NAME_BYTES);
    for (int i = 0; i < used; i++)
        out[i] = (char)toupper((unsigned char)out[i]);
}

/* Only names that we have are looked up, so an unknown one is no error: Kubernetes sets
 * SIFTMESH_BROKER_SERVICE_HOST and the like for a service of that name. */
static void set_from_environment(struct load *load, struct option option)
{
    char name[ENV_NAME_BYTES];
    env_name(load->sections[option.section].name, spec_of(load, option)->name, name);
    const char *text = getenv(name);
    if (text != NULL)
        set(load, option, &(struct place){NULL, 0, name}, text, OPTION_FROM_ENVIRONMENT);
}

/* ---- flags ---- */

/* "lane-depth" is lane_depth; an underscore on the command line is no match. */
static bool flag_matches(const char *name, const char *flag, size_t flag_bytes)
{
    if (strlen(name) != flag_bytes)
        return false;
    for (size_t i = 0; i < flag_bytes; i++)
        if (flag[i] != (name[i] == '_' ? '-' : name[i]))
            return false;
    return true;
}

/* Sections in order, so that the first one has the name where two share it. */
static bool find_flag(const struct load *load, const char *flag, size_t flag_bytes,
                      bool *negated, struct option *out)
{
    bool no = flag_bytes > 3 && memcmp(flag, "no-", 3) == 0;

    for (size_t s = 0; s < load->count; s++)
        for (size_t i = 0; load->sections[s].specs[i].name != NULL; i++) {
            const struct option_spec *spec = &load->sections[s].specs[i];
            *negated = no && spec->type == OPTION_FLAG &&
                       flag_matches(spec->name, flag + 3, flag_bytes - 3);
            if (*negated || flag_matches(spec->name, flag, flag_bytes)) {
                *out = (struct option){s, i};
                return true;
            }
        }
    return false;
}

/* How many arguments, beginning with argv[0], are an option of ours and its value. */
static int take_flag(struct load *load, int argc, char **argv)
{
    const char *flag = argv[0];
    if (strncmp(flag, "--", 2) != 0)
        return 0;

    size_t bytes = strcspn(flag, "=");
    const char *text = flag[bytes] == '=' ? flag + bytes + 1 : NULL;
    struct option option;
    bool negated;
    if (!find_flag(load, flag + 2, bytes - 2, &negated, &option))
        return 0;

    char name[ENV_NAME_BYTES];
    snprintf(name, sizeof name, "%.*s", (int)bytes, flag);
    const struct place place = {NULL, 0, name};
    int taken = 1;
    if (negated && text != NULL)
        complain(load, &place, "takes no value");
    else if (spec_of(load, option)->type == OPTION_FLAG && text == NULL)
        text = negated ? "false" : "true";
    else if (text == NULL && argc > 1) {
        text = argv[1];
        taken = 2;
    } else if (text == NULL)
        complain(load, &place, "needs a value");
    if (!load->failed)
        set(load, option, &place, text, OPTION_FROM_FLAG);
    return taken;
}

/* What is ours moves to the front, the rest behind it, both in their order. */
static int read_flags(struct load *load, int argc, char **argv, int *first_left)
{
    if (argc < 2) {
        *first_left = argc;
        return 0;
    }
    char **rest = calloc((size_t)argc, sizeof rest[0]);
    if (rest == NULL)
        return -ENOMEM;

    int ours = 1, left = 0, i = 1;
    while (i < argc && strcmp(argv[i], "--") != 0 && !load->failed) {
        int taken = take_flag(load, argc - i, argv + i);
        if (taken == 0)
            rest[left++] = argv[i++];
        for (; taken > 0; taken--)
            argv[ours++] = argv[i++];
    }
    while (i < argc)
        rest[left++] = argv[i++];
    memcpy(argv + ours, rest, (size_t)left * sizeof rest[0]);
    free(rest);
    *first_left = ours;
    return 0;
}

int options_load(const struct option_section *sections, size_t count, const char *file,
                 int argc, char **argv, int *first_left, struct option_origins *origins,
                 char *error, size_t error_bytes)
{
    struct option_origins unasked;
    struct load load = {.sections = sections,
                        .count = count,
                        .origins = origins != NULL ? origins : &unasked,
                        .error = error,
                        .error_bytes = error_bytes,
                        .file = file};
    assert(error_bytes > 0);
    error[0] = '\0';

    each_option(&load, set_default);
    if (file != NULL)
        read_file(&load);
    if (!load.failed)
        each_option(&load, set_from_environment);
    if (!load.failed && read_flags(&load, argc, argv, first_left) < 0)
        complain(&load, &(struct place){0}, "out of memory");
    return load.failed ? -EINVAL : 0;
}

static void refuse(struct load *load, struct option option, const char *why)
{
    const struct option_spec *spec = spec_of(load, option);
    unsigned line = load->origins->line[option.section][option.index];
    const struct place place = {line > 0 ? load->file : NULL, line, spec->name};
    const void *value = value_of(load, option);
    char shown[QUOTE_BYTES_MAX + 8];

    if (spec->type == OPTION_INT)
        snprintf(shown, sizeof shown, "%" PRIu64, *(const uint64_t *)value);
    else if (spec->type == OPTION_STR)
        quote_form(value, shown);
    else
        snprintf(shown, sizeof shown, "%s", *(const bool *)value ? "true" : "false");
    complain(load, &place, "is %s: %s", shown, why);
}

void options_refuse(const struct option_section *sections, size_t count, const char *file,
                    const struct option_origins *origins, const char *name,
                    const char *why, char *error, size_t error_bytes)
{
    struct option_origins copy = *origins;
    struct load load = {.sections = sections,
                        .count = count,
                        .origins = &copy,
                        .error = error,
                        .error_bytes = error_bytes,
                        .file = file};

    for (size_t s = count; s-- > 0;)
        for (size_t i = 0; sections[s].specs[i].name != NULL; i++)
            if (strcmp(sections[s].specs[i].name, name) == 0)
                refuse(&load, (struct option){s, i}, why); /* the first one is kept */
}

static void check_option(struct load *load, struct option option)
{
    const struct option_spec *spec = spec_of(load, option);
    const char *text = value_of(load, option), *why = NULL;
    struct http_listen ignored;

    if (spec->form == NULL || text[0] == '\0')
        return;
    if (options_form_is_address(spec->form))
        why = http_listen_parse(text, &ignored);
    if (options_form_is_file(spec->form) && access(text, F_OK) < 0 && errno == ENOENT)
        why = "there is no such file";
    if (why != NULL)
        refuse(load, option, why);
}

int options_check(const struct option_section *sections, size_t count, const char *file,
                  const struct option_origins *origins, char *error, size_t error_bytes)
{
    struct option_origins copy = *origins; /* a load may write them; this one does not */
    struct load load = {.sections = sections,
                        .count = count,
                        .origins = &copy,
                        .error = error,
                        .error_bytes = error_bytes,
                        .file = file};

    each_option(&load, check_option);
    return load.failed ? -EINVAL : 0;
}
