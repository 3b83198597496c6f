#include "proto/purge.h"

#include "proto/tags.h"

#include <stdbool.h>
#include <string.h>

const char *proto_purge_check(const struct proto_purge *purge)
{
    bool key = purge->key_bytes != 0, prefix = purge->prefix[0] != '\0';
    bool tag = purge->tag[0] != '\0', older = purge->older_s != 0;

    if (key && purge->key_bytes != sizeof purge->key)
        return "a key has 32 bytes";
    if (key + prefix + tag + older > 1)
        return "a purge names one of key, prefix, tag and older_s, or none";
    if (purge->prefix[strspn(purge->prefix, "0123456789abcdef")] != '\0')
        return "a prefix is of lower-case hexadecimal digits";
    return proto_tags_check(purge->tag, strlen(purge->tag)) == NULL &&
                   strchr(purge->tag, ',') == NULL
               ? NULL
               : "a tag has up to 63 of A-Z a-z 0-9 . _ : -";
}
