#include "gateway/query.h"

#include "runtime/http.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define COMPONENT_BYTES_MAX 128u /* of a name or a value, still encoded */
#define DESCRIPTORS_BIT     (UINT64_C(1) << 63)

static const char *const descriptors_names[] = {"array", "base64", "none"};

__attribute__((format(printf, 3, 4))) static int
complain(struct proto_params_error *error, const char *name, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(error->detail, sizeof error->detail, format, args);
    va_end(args);
    snprintf(error->name, sizeof error->name, "%.31s", name);
    return -EINVAL;
}

/* A bit for each parameter, to see one that comes twice; 0 for an unknown one. */
static uint64_t bit_of(const char *name)
{
    for (unsigned i = 0; proto_param_specs[i].name != NULL; i++)
        if (strcmp(proto_param_specs[i].name, name) == 0)
            return UINT64_C(1) << i;
    return strcmp(name, "descriptors") == 0 ? DESCRIPTORS_BIT : 0;
}

static bool is_denoise_param(const char *name)
{
    return strcmp(name, "h") == 0 || strcmp(name, "template") == 0 ||
           strcmp(name, "search") == 0 || strcmp(name, "orient") == 0;
}

/* Whether the known parameter `name` means something there. */
static int check_scope(enum gateway_query_scope scope, const char *name,
                       struct proto_params_error *error)
{
    if (scope == GATEWAY_QUERY_DENOISE && !is_denoise_param(name))
        return complain(error, name,
                        "%s means nothing here; h, template, search and "
                        "orient do",
                        name);
    if (scope == GATEWAY_QUERY_LOOKUP && strcmp(name, "descriptors") != 0)
        return complain(error, name, "%s means nothing here; descriptors does", name);
    return 0;
}

static int set_descriptors(struct gateway_query *out, const char *value,
                           struct proto_params_error *error)
{
    for (unsigned i = 0; i < 3; i++)
        if (strcmp(value, descriptors_names[i]) == 0) {
            out->descriptors = (enum proto_descriptors)i;
            out->has_descriptors = true;
            return 0;
        }
    return complain(error, "descriptors", "descriptors must be array, base64 or none");
}

/* Copy an encoded component and decode it. */
static int decode(const char *from, size_t size, char out[COMPONENT_BYTES_MAX + 1],
                  struct proto_params_error *error)
{
    if (size > COMPONENT_BYTES_MAX)
        return complain(error, "", "a name or value in the query is over %u bytes",
                        COMPONENT_BYTES_MAX);
    memcpy(out, from, size);
    out[size] = '\0';
    return http_unescape(out) < 0
               ? complain(error, "", "the query holds a broken %%XX escape")
               : 0;
}

static int set_one(const char *name, const char *value, enum gateway_query_scope scope,
                   struct gateway_query *out, uint64_t *seen,
                   struct proto_params_error *error)
{
    uint64_t bit = bit_of(name);

    if (bit == 0) /* its own complaint names what there is */
        return proto_params_set(&out->params, name, value, error) < 0 ? -EINVAL : 0;
    if (check_scope(scope, name, error) < 0)
        return -EINVAL;
    if (*seen & bit)
        return complain(error, name, "%s is given twice", name);
    *seen |= bit;
    if (bit == DESCRIPTORS_BIT)
        return set_descriptors(out, value, error);
    return proto_params_set(&out->params, name, value, error) < 0 ? -EINVAL : 0;
}

int gateway_query_parse(const char *query, enum gateway_query_scope scope,
                        struct gateway_query *out, struct proto_params_error *error)
{
    char name[COMPONENT_BYTES_MAX + 1], value[COMPONENT_BYTES_MAX + 1];
    struct gateway_query parsed = {.descriptors = PROTO_DESCRIPTORS_ARRAY};
    uint64_t seen = 0;

    proto_params_init(&parsed.params);
    for (const char *at = query; *at != '\0';) {
        size_t size = strcspn(at, "&");
        size_t name_size = strcspn(at, "=&");
        size_t skip = name_size < size ? name_size + 1 : size;
        if (decode(at, name_size, name, error) < 0 ||
            decode(at + skip, size - skip, value, error) < 0)
            return -EINVAL;
        if (size > 0 && set_one(name, value, scope, &parsed, &seen, error) < 0)
            return -EINVAL;
        at += size + (at[size] == '&');
    }
    if (proto_params_check(&parsed.params, error) < 0)
        return -EINVAL;
    *out = parsed;
    return 0;
}
