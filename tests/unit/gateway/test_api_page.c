/*
 * docs/API.md has a row for each parameter, status and format, as the tables say it. A
 * failure prints the row to put there.
 */
#include "proto/params.h"
#include "proto/render.h"
#include "proto/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *page;

static int read_page(void **state)
{
    const char *source = getenv("SIFTMESH_SOURCE");
    char path[1024];
    size_t size = 0;

    (void)state;
    snprintf(path, sizeof path, "%s/docs/API.md", source != NULL ? source : ".");
    FILE *in = fopen(path, "r");
    if (in == NULL)
        return -1;
    ssize_t got = getdelim(&page, &size, '\0', in);
    fclose(in);
    return got > 0 ? 0 : -1;
}

static int free_page(void **state)
{
    (void)state;
    free(page);
    return 0;
}

static void expect(const char *row)
{
    if (strstr(page, row) == NULL)
        fail_msg("docs/API.md lacks: %s", row);
}

static void put_bounds(const struct proto_param_spec *spec, char *out, size_t capacity)
{
    size_t size = 0;

    if (spec->type != PROTO_PARAM_CHOICE) {
        snprintf(out, capacity, "%.10g to %.10g", spec->min, spec->max);
        return;
    }
    for (size_t i = 0; spec->choices[i] != NULL; i++)
        size += (size_t)snprintf(out + size, capacity - size, "%s`%s`",
                                 i == 0 ? "" : ", ", spec->choices[i]);
}

static void every_parameter_has_its_row(void **state)
{
    (void)state;
    for (const struct proto_param_spec *spec = proto_param_specs; spec->name != NULL;
         spec++) {
        char row[512], bounds[128], def[64];
        put_bounds(spec, bounds, sizeof bounds);
        if (spec->type == PROTO_PARAM_CHOICE)
            snprintf(def, sizeof def, "`%s`", spec->choices[(size_t)spec->def]);
        else
            snprintf(def, sizeof def, "%.10g", spec->def);
        snprintf(row, sizeof row, "| `%s` | %s | %s | %s |", spec->name, def, bounds,
                 spec->help);
        expect(row);
    }
}

static void every_status_but_internal_ones_has_its_row(void **state)
{
    (void)state;
    for (unsigned status = 0; status < PROTO_STATUS_COUNT; status++) {
        char row[256];
        if (status == PROTO_STATUS_OK || status == PROTO_STATUS_MISS)
            continue;
        snprintf(row, sizeof row, "| %d | `%s` | %s |", proto_status_http(status),
                 proto_status_code(status), proto_status_title(status));
        expect(row);
    }
}

static void every_format_has_its_row(void **state)
{
    (void)state;
    for (unsigned format = 0; format < PROTO_FORMAT_COUNT; format++) {
        char row[128];
        snprintf(row, sizeof row, "| `%s` | `%s` |",
                 proto_format_media((enum proto_format)format),
                 proto_format_name((enum proto_format)format));
        expect(row);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_parameter_has_its_row),
        cmocka_unit_test(every_status_but_internal_ones_has_its_row),
        cmocka_unit_test(every_format_has_its_row),
    };
    return cmocka_run_group_tests(tests, read_page, free_page);
}
