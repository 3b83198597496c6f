/*
 * options_form.h - forms of options that are text: alternatives joined by '|', each
 *
 *   HOST:PORT    any text here; options_check() asks http_listen.h
 *   FILE         any path; options_check() looks whether it is there
 *   word...      texts that begin so, as redis://...
 *   word         this word
 *
 * An empty text has every form: it means "not set".
 */
#ifndef RUNTIME_OPTIONS_FORM_H
#define RUNTIME_OPTIONS_FORM_H

#include <stdbool.h>
#include <stddef.h>

bool options_form_fits(const char *form, const char *text);
/* "HOST:PORT", "redis://... or unix://...", "auto, logfmt or json"; returns `out`. */
const char *options_form_text(const char *form, char *out, size_t capacity);
bool options_form_is_file(const char *form); /* NULL is none */
bool options_form_is_address(const char *form);

#endif
