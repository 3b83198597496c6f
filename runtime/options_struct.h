/* options_struct.h - makes an options table into fields. No guard: see options.h. */
#define INT(field, def, min, max, unit, help) uint64_t field;
#define STR(field, def, help)                 char field[OPTION_STR_BYTES];
#define FORM(field, def, form, help)          char field[OPTION_STR_BYTES];
#define FLAG(field, help)                     bool field;
