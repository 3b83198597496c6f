/* options_end.h - ends options_struct.h or options_spec.h. No guard: see options.h. */
#undef INT
#undef STR
#undef FORM
#undef FLAG
