#include "proto/tags.h"

#include <string.h>

static bool is_tag_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '.' || c == '_' || c == ':' || c == '-';
}

const char *proto_tags_check(const char *tags, size_t bytes)
{
    unsigned count = 0;
    size_t length = 0;

    if (bytes == 0)
        return NULL;
    for (size_t i = 0; i <= bytes; i++) {
        if (i == bytes || tags[i] == ',') {
            if (length == 0)
                return "a tag is empty";
            if (++count > PROTO_TAGS_MAX)
                return "there are more than 8 tags";
            length = 0;
        } else if (!is_tag_byte(tags[i])) {
            return "a tag has other characters than A-Z a-z 0-9 . _ : -";
        } else if (++length > PROTO_TAG_BYTES_MAX) {
            return "a tag is longer than 63 characters";
        }
    }
    return NULL;
}

const char *proto_tags_next(const char **tags, size_t *left, size_t *bytes)
{
    const char *tag = *tags;

    if (*left == 0)
        return NULL;
    const char *comma = memchr(tag, ',', *left);
    *bytes = comma != NULL ? (size_t)(comma - tag) : *left;
    size_t skip = *bytes + (comma != NULL ? 1 : 0);
    *tags += skip;
    *left -= skip;
    return tag;
}

bool proto_tags_have(const char *tags, size_t bytes, const char *tag)
{
    const char *each;
    size_t length;

    while ((each = proto_tags_next(&tags, &bytes, &length)) != NULL)
        if (strlen(tag) == length && memcmp(each, tag, length) == 0)
            return true;
    return false;
}
