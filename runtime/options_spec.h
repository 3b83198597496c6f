/* options_spec.h - makes an options table into specs. No guard: see options.h. */
#define INT(field, def, min, max, unit, help)                                            \
    {#field, OPTION_INT, unit, help, def, min, max, NULL, offsetof(OPTIONS_OF, field),   \
     NULL},
#define STR(field, def, help)                                                            \
    {#field, OPTION_STR, NULL, help, 0, 0, 0, def, offsetof(OPTIONS_OF, field), NULL},
#define FORM(field, def, form, help)                                                     \
    {#field, OPTION_STR, NULL, help, 0, 0, 0, def, offsetof(OPTIONS_OF, field), form},
#define FLAG(field, help)                                                                \
    {#field, OPTION_FLAG, NULL, help, 0, 0, 0, NULL, offsetof(OPTIONS_OF, field), NULL},
