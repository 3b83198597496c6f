/*
 * text.h - text of others, made fit to be shown: well-formed UTF-8 of one line, with
 * nothing in it that steers a terminal or turns the direction of what is around it.
 *
 * Every text of a body is cleaned where it is decoded (body.h), so what a process knows
 * of its peers may be printed, logged and put into JSON as it is. Other bytes of others
 * (a file's name, an answer over HTTP, statistics in PING) are cleaned where they are
 * printed.
 */
#ifndef PROTO_TEXT_H
#define PROTO_TEXT_H

#include <stddef.h>

/*
 * The length of the character at `text`, of which `size` bytes (at least 1) are there; 0
 * when it is malformed, a control (also C1: some terminals obey them), a line's end
 * (U+2028, U+2029) or a mark of direction (U+202A to U+202E, U+2066 to U+2069).
 */
size_t proto_text_char(const char *text, size_t size);

/* Each byte of what is none becomes '?'. */
void proto_text_clean(char *text);

/* A cleaned copy; one that does not fit ends in "...". `capacity` at least 4. Returns
 * `out`. */
const char *proto_text_copy(const char *text, char *out, size_t capacity);

#endif
