/* Options as people read them: --help, --show-config and docs/OPTIONS.md. */
#include "runtime/options.h"
#include "runtime/options_form.h"
#include "runtime/options_number.h"

#include <string.h>

struct value_text {
    char text[OPTION_STR_BYTES];
};

static struct value_text value_text(const struct option_spec *spec, const void *value)
{
    struct value_text out;
    const char *text = value;
    struct options_number number;

    if (spec->type == OPTION_INT) {
        number = options_number_text(spec, *(const uint64_t *)value);
        text = number.text;
    } else if (spec->type == OPTION_FLAG) {
        text = *(const bool *)value ? "true" : "false";
    }
    snprintf(out.text, sizeof out.text, "%s", text);
    return out;
}

static struct value_text default_text(const struct option_spec *spec)
{
    const bool no = false;
    return value_text(spec, spec->type == OPTION_INT   ? (const void *)&spec->def
                            : spec->type == OPTION_STR ? (const void *)spec->def_str
                                                       : (const void *)&no);
}

#define FLAG_BYTES   128
#define HELP_COLUMN  28
#define HELP_COLUMNS 80

/* Words of `text`, from `column` on, wrapped to stand under HELP_COLUMN. */
static void wrap(FILE *out, const char *text, int column)
{
    while (*text != '\0') {
        int bytes = (int)strcspn(text, " ");
        if (column > HELP_COLUMN && column + 1 + bytes > HELP_COLUMNS) {
            fputc('\n', out);
            column = 0;
        }
        if (column < HELP_COLUMN)
            column += fprintf(out, "%*s", HELP_COLUMN - column, "");
        else if (column > HELP_COLUMN)
            column += fprintf(out, " ");
        column += fprintf(out, "%.*s", bytes, text);
        text += bytes;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

static void help_line(const struct option_spec *spec, FILE *out)
{
    static const char *const operands[] = {
        [OPTION_INT] = " N", [OPTION_STR] = " TEXT", [OPTION_FLAG] = ""};
    char flag[FLAG_BYTES], text[2 * OPTION_STR_BYTES + 128];

    snprintf(flag, sizeof flag, "%s", spec->name);
    for (char *c = flag; *c != '\0'; c++)
        if (*c == '_')
            *c = '-';
    int column = fprintf(out, "  --%s%s%s", spec->type == OPTION_FLAG ? "[no-]" : "",
                         flag, operands[spec->type]);
    if (column >= HELP_COLUMN - 1) {
        fputc('\n', out);
        column = 0;
    }

    if (spec->type == OPTION_INT)
        snprintf(text, sizeof text, "%s [%s; %s]", spec->help, default_text(spec).text,
                 options_number_range(spec).text);
    else if (spec->type == OPTION_STR && spec->def_str[0] != '\0')
        snprintf(text, sizeof text, "%s [%s]", spec->help, spec->def_str);
    else
        snprintf(text, sizeof text, "%s", spec->help);
    wrap(out, text, column);
}

void options_help(const struct option_section *section, FILE *out)
{
    fprintf(out, "Options of [%s]:\n", section->name);
    for (const struct option_spec *spec = section->specs; spec->name != NULL; spec++)
        help_line(spec, out);
}

/* Of a URL with a password: "redis://user:***@host", since what is printed is
 * kept in logs and tickets. */
static void show_value(const char *text, FILE *out)
{
    const char *scheme = strstr(text, "://");
    const char *end = scheme != NULL ? strrchr(scheme, '@') : NULL;
    const char *colon = end != NULL ? strchr(scheme + 3, ':') : NULL;

    if (colon == NULL || colon > end)
        fputs(text, out);
    else
        fprintf(out, "%.*s:***%s", (int)(colon - text), text, end);
}

static void show_line(const struct option_spec *spec, const void *values,
                      const uint8_t *origin, FILE *out)
{
    static const char *const origins[] = {[OPTION_FROM_DEFAULT] = "default",
                                          [OPTION_FROM_FILE] = "file",
                                          [OPTION_FROM_ENVIRONMENT] = "environment",
                                          [OPTION_FROM_FLAG] = "flag"};
    struct value_text value = value_text(spec, (const char *)values + spec->offset);

    fprintf(out, "%s = ", spec->name);
    show_value(value.text, out);
    fputs("   #", out);
    if (origin != NULL)
        fprintf(out, " %s", origins[*origin]);
    if (spec->unit != NULL && spec->unit[0] != '\0')
        fprintf(out, " (%s)", spec->unit);
    fprintf(out, ": %s\n", spec->help);
}

void options_show(const struct option_section *sections, size_t count,
                  const struct option_origins *origins, FILE *out)
{
    for (size_t s = 0; s < count; s++) {
        fprintf(out, "%s[%s]\n", s > 0 ? "\n" : "", sections[s].name);
        for (size_t i = 0; sections[s].specs[i].name != NULL; i++)
            show_line(&sections[s].specs[i], sections[s].values,
                      origins != NULL ? &origins->of[s][i] : NULL, out);
    }
}

/* A bar would end the cell. */
static void cell(FILE *out, const char *text)
{
    for (; *text != '\0'; text++)
        fprintf(out, *text == '|' ? "\\%c" : "%c", *text);
}

void options_markdown(const struct option_section *section, FILE *out)
{
    for (const struct option_spec *spec = section->specs; spec->name != NULL; spec++) {
        struct value_text def = default_text(spec);
        char form[128];

        fprintf(out, "| `%s` | ", spec->name);
        if (def.text[0] != '\0')
            fprintf(out, "`%s`", def.text);
        fprintf(out, " | ");
        if (spec->type == OPTION_INT)
            fputs(options_number_range(spec).text, out);
        else if (spec->form != NULL)
            cell(out, options_form_text(spec->form, form, sizeof form));
        else
            fputs(spec->type == OPTION_STR ? "text" : "true or false", out);
        fprintf(out, " | ");
        cell(out, spec->help);
        fprintf(out, " |\n");
    }
}
