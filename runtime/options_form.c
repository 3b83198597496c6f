/*
 * options_form.c - reads the form of a text option: words, beginnings of URLs, FILE,
 * HOST:PORT.
 *
 * Called by options.c for each value, and by the pages that list options. It never opens
 * a file or resolves a name: options_check() does.
 */
#include "runtime/options_form.h"

#include <stdio.h>
#include <string.h>

static bool is(const char *one, size_t bytes, const char *word)
{
    return bytes == strlen(word) && memcmp(one, word, bytes) == 0;
}

static bool is_prefix(const char *one, size_t bytes)
{
    return bytes > 3 && memcmp(one + bytes - 3, "...", 3) == 0;
}

/* One alternative, `bytes` long. */
static bool fits_one(const char *one, size_t bytes, const char *text)
{
    if (is(one, bytes, "FILE") || is(one, bytes, "HOST:PORT"))
        return true;
    if (is_prefix(one, bytes))
        return strncmp(text, one, bytes - 3) == 0;
    return is(one, bytes, text);
}

bool options_form_fits(const char *form, const char *text)
{
    bool fits = text[0] == '\0';

    while (!fits && *form != '\0') {
        size_t bytes = strcspn(form, "|");
        fits = fits_one(form, bytes, text);
        form += bytes + (form[bytes] == '|');
    }
    return fits;
}

const char *options_form_text(const char *form, char *out, size_t capacity)
{
    size_t used = 0;

    while (*form != '\0' && used < capacity) {
        size_t bytes = strcspn(form, "|");
        const char *rest = form + bytes + (form[bytes] == '|');
        const char *join = *rest == '\0' ? "" : strchr(rest, '|') != NULL ? ", " : " or ";
        used += (size_t)snprintf(out + used, capacity - used, "%.*s%s", (int)bytes, form,
                                 join);
        form = rest;
    }
    return out;
}

bool options_form_is_file(const char *form)
{
    return form != NULL && strcmp(form, "FILE") == 0;
}

bool options_form_is_address(const char *form)
{
    return form != NULL && strcmp(form, "HOST:PORT") == 0;
}
