#include "runtime/options_number.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool in_bytes(const struct option_spec *spec)
{
    return spec->unit != NULL && strcmp(spec->unit, "bytes") == 0;
}

struct options_number options_number_text(const struct option_spec *spec, uint64_t value)
{
    static const char suffixes[] = {'\0', 'k', 'M', 'G'};
    struct options_number out;
    size_t power = 0;

    while (in_bytes(spec) && value != 0 && value % 1024 == 0 && power < 3) {
        value /= 1024;
        power++;
    }
    int used = snprintf(out.text, sizeof out.text, "%" PRIu64, value);
    out.text[used] = suffixes[power];
    out.text[used + 1] = '\0';
    return out;
}

struct options_range options_number_range(const struct option_spec *spec)
{
    const char *unit = spec->unit != NULL ? spec->unit : "";
    struct options_range out;

    snprintf(out.text, sizeof out.text, "%s to %s%s%s",
             options_number_text(spec, spec->min).text,
             options_number_text(spec, spec->max).text, unit[0] != '\0' ? " " : "", unit);
    return out;
}

int options_number_parse(const struct option_spec *spec, const char *text, uint64_t *out)
{
    if (!isdigit((unsigned char)text[0]))
        return -EINVAL; /* strtoull would take spaces and signs */

    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    bool too_large = errno == ERANGE;

    uint64_t factor = 1;
    if (in_bytes(spec) && *end != '\0') {
        factor = *end == 'k'   ? 1u << 10
                 : *end == 'M' ? 1u << 20
                 : *end == 'G' ? 1u << 30
                               : 0;
        end++;
    }
    if (*end != '\0' || factor == 0)
        return -EINVAL;
    if (too_large || value > UINT64_MAX / factor)
        return -ERANGE;
    *out = value * factor;
    return 0;
}
