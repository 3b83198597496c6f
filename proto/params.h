/*
 * params.h - the parameters of an extraction: text in, checked struct, canonical bytes.
 *
 * Two requests with equal meaning have equal canonical bytes, because defaults are
 * filled in, the order is fixed and numbers are stored as values, not as text (-0 as 0).
 * The content key (key.h) stands on that. Pure: no allocation, thread-safe.
 */
#ifndef PROTO_PARAMS_H
#define PROTO_PARAMS_H

#include <stddef.h>
#include <stdint.h>

struct proto_params {
#define INT(field, def, min, max, help) int32_t field;
#define NUM(field, def, min, max, help) double field;
#define CHOICE(field, def, help, ...)   uint8_t field; /* index of the choice */
#include "proto/params.tbl"
};

enum { PROTO_DENOISE_NLM, PROTO_DENOISE_NONE };
enum { PROTO_NORM_L2, PROTO_NORM_ROOT };
enum { PROTO_ORIENT_EXIF, PROTO_ORIENT_STORED };
enum { PROTO_SIFT_NATIVE, PROTO_SIFT_VLFEAT };

/* Canonical size: 1 version byte, then 4 bytes an INT, 8 a NUM, 1 a CHOICE. */
enum {
    PROTO_PARAMS_BYTES = 1
#define INT(field, def, min, max, help) +4
#define NUM(field, def, min, max, help) +8
#define CHOICE(field, def, help, ...)   +1
#include "proto/params.tbl"
};

/* What is wrong with a parameter, ready for a problem document. Both are printable
 * ASCII without quotes that JSON must escape, whatever the caller sent. */
struct proto_params_error {
    char detail[256]; /* name, value, what is allowed and means */
    char name[32];    /* the parameter as the caller spelled it, cut to fit */
};

enum proto_param_type { PROTO_PARAM_INT, PROTO_PARAM_NUM, PROTO_PARAM_CHOICE };

/* One parameter, for help pages and generated docs. */
struct proto_param_spec {
    const char *name; /* NULL ends the list */
    enum proto_param_type type;
    size_t offset;              /* in struct proto_params */
    double def, min, max;       /* of a CHOICE: indexes into choices */
    const char *const *choices; /* CHOICE: texts, ended by NULL */
    const char *help;           /* a sentence, with the unit */
};

/* In the order of params.tbl, which is that of the canonical bytes. */
extern const struct proto_param_spec proto_param_specs[];

/* The value of one parameter as a number, exactly; of a CHOICE the index. */
double proto_param_value(const struct proto_param_spec *spec,
                         const struct proto_params *params);

/* All defaults. */
void proto_params_init(struct proto_params *params);

/*
 * Set one parameter from text ("h" = "12.5"). Returns 0; -ENOENT when there is no such
 * parameter; -EINVAL when the text is no number or choice; -ERANGE when it is outside
 * its bounds. On error `params` is unchanged and `error` says why.
 */
int proto_params_set(struct proto_params *params, const char *name, const char *text,
                     struct proto_params_error *error);

/* Check what no single field shows: odd windows. 0, or -EINVAL with `error` filled. */
int proto_params_check(const struct proto_params *params,
                       struct proto_params_error *error);

/* Little-endian canonical bytes. */
void proto_params_encode(const struct proto_params *params,
                         uint8_t out[PROTO_PARAMS_BYTES]);

/* The inverse for bytes from a peer. 0, or -EPROTO when anything is out of bounds, not
 * canonical, or refused by proto_params_check(). */
int proto_params_decode(const uint8_t *bytes, size_t size, struct proto_params *out);

#define PROTO_PARAMS_JSON_BYTES_MAX 512 /* no text of proto_params_json is longer */

/*
 * Write the parameters as a JSON object, braces and a NUL included, fixed order:
 * {"denoise":"nlm","h":10,...}. A choice between digits is a number. Returns the length
 * without the NUL, or -ENOSPC.
 */
int proto_params_json(const struct proto_params *params, char *out, size_t capacity);

#endif
