/*
 * text.c - which characters may be shown, and texts made of these alone.
 *
 * Called by body.c for every text of a peer, by the log, and by commands for what they
 * print. It never makes a text longer, and knows no locale.
 */
#include "proto/text.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static bool steers(uint32_t code)
{
    return (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) ||
           (code >= 0xd800 && code <= 0xdfff);
}

size_t proto_text_char(const char *text, size_t size)
{
    static const uint32_t smallest[] = {0, 0, 0xa0, 0x800, 0x10000};
    unsigned char first = (unsigned char)text[0];
    size_t bytes = first < 0x80             ? 1
                   : (first & 0xe0) == 0xc0 ? 2
                   : (first & 0xf0) == 0xe0 ? 3
                   : (first & 0xf8) == 0xf0 ? 4
                                            : 0;
    if (bytes == 1)
        return first >= 0x20 && first != 0x7f;
    if (bytes == 0 || bytes > size)
        return 0;

    uint32_t code = first & (0x7fu >> bytes);
    for (size_t i = 1; i < bytes; i++) {
        unsigned char next = (unsigned char)text[i];
        if ((next & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (next & 0x3fu);
    }
    return code < smallest[bytes] || code > 0x10ffff || steers(code) ? 0 : bytes;
}

void proto_text_clean(char *text)
{
    size_t left = strlen(text);

    while (left > 0) {
        size_t bytes = proto_text_char(text, left);
        if (bytes == 0) {
            *text = '?';
            bytes = 1;
        }
        text += bytes;
        left -= bytes;
    }
}

const char *proto_text_copy(const char *text, char *out, size_t capacity)
{
    size_t size = strlen(text), kept = size < capacity ? size : capacity - 4;

    /* Not in the middle of a character. */
    while (kept < size && kept > 0 && ((unsigned char)text[kept] & 0xc0) == 0x80)
        kept--;
    memcpy(out, text, kept);
    strcpy(out + kept, kept < size ? "..." : "");
    proto_text_clean(out);
    return out;
}
