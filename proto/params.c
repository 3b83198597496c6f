#include "proto/params.h"

#include "proto/bytes.h"
#include "proto/number.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first byte of the canonical form. */
#define CANONICAL_VERSION 1

#define CHOICES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define CHOICE_COUNT(...)                                                                \
    (sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

const struct proto_param_spec proto_param_specs[] = {
#define INT(field, def, min, max, help)                                                  \
    {#field, PROTO_PARAM_INT, offsetof(struct proto_params, field), def, min, max, NULL, \
     help},
#define NUM(field, def, min, max, help)                                                  \
    {#field, PROTO_PARAM_NUM, offsetof(struct proto_params, field), def, min, max, NULL, \
     help},
#define CHOICE(field, def, help, ...)                                                    \
    {#field,                                                                             \
     PROTO_PARAM_CHOICE,                                                                 \
     offsetof(struct proto_params, field),                                               \
     def,                                                                                \
     0,                                                                                  \
     CHOICE_COUNT(__VA_ARGS__) - 1,                                                      \
     CHOICES(__VA_ARGS__),                                                               \
     help},
#include "proto/params.tbl"
    {.name = NULL},
};

/* ---- one field, as a number ---- */

/* Every INT and every CHOICE is exact in a double. */
double proto_param_value(const struct proto_param_spec *spec,
                         const struct proto_params *params)
{
    const char *at = (const char *)params + spec->offset;
    int32_t number;
    double real;

    switch (spec->type) {
    case PROTO_PARAM_INT:
        memcpy(&number, at, sizeof number);
        return number;
    case PROTO_PARAM_NUM:
        memcpy(&real, at, sizeof real);
        return real;
    case PROTO_PARAM_CHOICE:
        return *(const uint8_t *)at;
    }
    return 0;
}

/* `value` is inside the bounds of `spec`, and whole but for a NUM. */
static void set_value(const struct proto_param_spec *spec, double value,
                      struct proto_params *params)
{
    char *at = (char *)params + spec->offset;
    int32_t number;

    switch (spec->type) {
    case PROTO_PARAM_INT:
        number = (int32_t)value;
        memcpy(at, &number, sizeof number);
        break;
    case PROTO_PARAM_NUM:
        value += 0.0; /* -0 becomes 0: equal meaning, equal bytes */
        memcpy(at, &value, sizeof value);
        break;
    case PROTO_PARAM_CHOICE:
        *(uint8_t *)at = (uint8_t)value;
        break;
    }
}

static bool in_bounds(const struct proto_param_spec *spec, double value)
{
    return value >= spec->min && value <= spec->max; /* false for a NaN */
}

void proto_params_init(struct proto_params *params)
{
    memset(params, 0, sizeof *params); /* the padding too */
    for (const struct proto_param_spec *spec = proto_param_specs; spec->name; spec++)
        set_value(spec, spec->def, params);
}

/* ---- complaints ---- */

/* A text being written; what does not fit is cut. */
struct sentence {
    char *out;
    size_t length, capacity;
};

static void say(struct sentence *sentence, const char *text)
{
    size_t room = sentence->capacity - sentence->length - 1, size = strlen(text);

    if (size > room)
        size = room;
    memcpy(sentence->out + sentence->length, text, size);
    sentence->length += size;
    sentence->out[sentence->length] = '\0';
}

/* Text from a peer: printable ASCII stays, but for quotes, backslashes and what
 * begins markup; the rest becomes "?". At most `limit` bytes, then "...". */
static void say_foreign(struct sentence *sentence, const char *text, size_t limit)
{
    for (size_t i = 0; text[i] != '\0'; i++) {
        char c[2] = {text[i], '\0'};
        if (i == limit) {
            say(sentence, "...");
            return;
        }
        if (c[0] < ' ' || c[0] > '~' || strchr("\"\\<>&'", c[0]) != NULL)
            c[0] = '?';
        say(sentence, c);
    }
}

static void say_number(struct sentence *sentence, double value)
{
    char text[PROTO_NUMBER_BYTES];

    proto_number_double(value, text);
    say(sentence, text);
}

static void say_allowed(struct sentence *sentence, const struct proto_param_spec *spec)
{
    if (spec->type == PROTO_PARAM_CHOICE) {
        for (size_t i = 0; spec->choices[i] != NULL; i++) {
            say(sentence, i == 0 ? "" : " or ");
            say(sentence, spec->choices[i]);
        }
        return;
    }
    say(sentence, spec->type == PROTO_PARAM_INT ? "a whole number" : "a number");
    say(sentence, " from ");
    say_number(sentence, spec->min);
    say(sentence, " to ");
    say_number(sentence, spec->max);
}

/* "h is '999', must be a number from 0.1 to 255: Strength of ..., in grey levels." */
static void complain(struct proto_params_error *error,
                     const struct proto_param_spec *spec, const char *text,
                     const char *extra)
{
    struct sentence name = {error->name, 0, sizeof error->name};
    struct sentence detail = {error->detail, 0, sizeof error->detail};

    say(&name, spec->name);
    say(&detail, spec->name);
    say(&detail, " is '");
    say_foreign(&detail, text, 32);
    say(&detail, "', must be ");
    say_allowed(&detail, spec);
    say(&detail, extra);
    say(&detail, ": ");
    say(&detail, spec->help);
}

static void complain_unknown(struct proto_params_error *error, const char *name)
{
    struct sentence cut = {error->name, 0, sizeof error->name};
    struct sentence detail = {error->detail, 0, sizeof error->detail};

    say(&cut, "");
    say_foreign(&cut, name, sizeof error->name - 4);
    say(&detail, "There is no parameter '");
    say_foreign(&detail, name, 32);
    say(&detail, "'; there are ");
    for (const struct proto_param_spec *spec = proto_param_specs; spec->name; spec++) {
        say(&detail, spec == proto_param_specs ? "" : ", ");
        say(&detail, spec->name);
    }
    say(&detail, ".");
}

/* ---- text in ---- */

/* Digits with an optional minus; what no int32 holds comes out as far outside. */
static int parse_int(const char *text, double *out)
{
    const char *at = text + (*text == '-');
    double value = 0;

    if (*at == '\0')
        return -EINVAL;
    for (; *at != '\0'; at++) {
        if (*at < '0' || *at > '9')
            return -EINVAL;
        value = value * 10 + (*at - '0'); /* at worst infinite, which is no error */
    }
    *out = *text == '-' ? -value : value;
    return 0;
}

static int parse_choice(const struct proto_param_spec *spec, const char *text,
                        double *out)
{
    for (size_t i = 0; spec->choices[i] != NULL; i++) {
        if (strcmp(spec->choices[i], text) == 0) {
            *out = (double)i;
            return 0;
        }
    }
    return -EINVAL;
}

static int parse(const struct proto_param_spec *spec, const char *text, double *out)
{
    int err = -EINVAL;

    switch (spec->type) {
    case PROTO_PARAM_INT:
        err = parse_int(text, out);
        break;
    case PROTO_PARAM_NUM:
        err = proto_number_parse(text, out);
        break;
    case PROTO_PARAM_CHOICE:
        err = parse_choice(spec, text, out);
        break;
    }
    if (err < 0)
        return err;
    return in_bounds(spec, *out) ? 0 : -ERANGE;
}

int proto_params_set(struct proto_params *params, const char *name, const char *text,
                     struct proto_params_error *error)
{
    const struct proto_param_spec *spec = proto_param_specs;
    double value = 0;

    while (spec->name != NULL && strcmp(spec->name, name) != 0)
        spec++;
    if (spec->name == NULL) {
        complain_unknown(error, name);
        return -ENOENT;
    }

    int err = parse(spec, text, &value);
    if (err < 0)
        complain(error, spec, text, "");
    else
        set_value(spec, value, params);
    return err;
}

static int check_odd(const char *name, int32_t value, struct proto_params_error *error)
{
    const struct proto_param_spec *spec = proto_param_specs;
    char text[PROTO_NUMBER_BYTES];

    if (value % 2 != 0)
        return 0;
    while (strcmp(spec->name, name) != 0)
        spec++;
    proto_number_double(value, text);
    complain(error, spec, text, " and odd");
    return -EINVAL;
}

int proto_params_check(const struct proto_params *params,
                       struct proto_params_error *error)
{
    /* A window has its pixel in the middle. */
    int err = check_odd("template", params->template, error);
    return err < 0 ? err : check_odd("search", params->search, error);
}

/* ---- bytes and JSON ---- */

void proto_params_encode(const struct proto_params *params,
                         uint8_t out[PROTO_PARAMS_BYTES])
{
    uint8_t *at = out;

    *at++ = CANONICAL_VERSION;
    for (const struct proto_param_spec *spec = proto_param_specs; spec->name; spec++) {
        double value = proto_param_value(spec, params);
        switch (spec->type) {
        case PROTO_PARAM_INT:
            proto_put_u32(at, (uint32_t)(int32_t)value);
            at += 4;
            break;
        case PROTO_PARAM_NUM:
            proto_put_f64(at, value + 0.0);
            at += 8;
            break;
        case PROTO_PARAM_CHOICE:
            *at++ = (uint8_t)value;
            break;
        }
    }
}

/* Read one number and step over it. */
static double take_value(const struct proto_param_spec *spec, const uint8_t **at)
{
    const uint8_t *from = *at;

    switch (spec->type) {
    case PROTO_PARAM_INT:
        *at += 4;
        return (int32_t)proto_get_u32(from);
    case PROTO_PARAM_NUM:
        *at += 8;
        return proto_get_f64(from);
    case PROTO_PARAM_CHOICE:
        *at += 1;
        return *from;
    }
    return 0;
}

int proto_params_decode(const uint8_t *bytes, size_t size, struct proto_params *out)
{
    struct proto_params params;
    struct proto_params_error error;
    const uint8_t *at = bytes + 1;

    if (size != PROTO_PARAMS_BYTES || bytes[0] != CANONICAL_VERSION)
        return -EPROTO;
    proto_params_init(&params);
    for (const struct proto_param_spec *spec = proto_param_specs; spec->name; spec++) {
        double value = take_value(spec, &at);
        if (!in_bounds(spec, value) || (value == 0 && signbit(value)))
            return -EPROTO;
        set_value(spec, value, &params);
    }
    if (proto_params_check(&params, &error) < 0)
        return -EPROTO;
    *out = params;
    return 0;
}

static void say_value(struct sentence *json, const struct proto_param_spec *spec,
                      const struct proto_params *params)
{
    double value = proto_param_value(spec, params);

    if (spec->type != PROTO_PARAM_CHOICE) {
        say_number(json, value);
        return;
    }
    const char *choice = spec->choices[(size_t)value];
    const char *quote = choice[0] >= '0' && choice[0] <= '9' ? "" : "\"";
    say(json, quote);
    say(json, choice);
    say(json, quote);
}

int proto_params_json(const struct proto_params *params, char *out, size_t capacity)
{
    char text[PROTO_PARAMS_JSON_BYTES_MAX + 1];
    struct sentence json = {text, 0, sizeof text};

    for (const struct proto_param_spec *spec = proto_param_specs; spec->name; spec++) {
        say(&json, spec == proto_param_specs ? "{\"" : ",\"");
        say(&json, spec->name);
        say(&json, "\":");
        say_value(&json, spec, params);
    }
    say(&json, "}");
    if (json.length >= capacity)
        return -ENOSPC;
    memcpy(out, text, json.length + 1);
    return (int)json.length;
}
