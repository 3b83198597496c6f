/*
 * How a line is made. The pairs of the caller's format are told apart before anything is
 * put into them, so that a peer whose name has a space, a quote or a "level=error" in it
 * makes one odd value and no second pair. Hence the walk over the format here, one
 * conversion at a time, instead of one vsnprintf and a split.
 */
#include "runtime/log.h"

#include "proto/text.h"
#include "runtime/log_sink.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What a line may still need when its text is cut: the end of a string, the note, the end
 * of the object and of the line. */
#define CUT_NOTE      ",\"cut\":true}\n"
#define RESERVE_BYTES 32

static const char *const level_names[] = {"error", "warning", "notice", "info", "debug"};

static struct {
    const char *service;
    enum log_level level;
    bool json;
} config = {"siftmesh", LOG_INFO, false};

static size_t tell_dropped(uint64_t count, char *out, size_t capacity);

static char kept[LOG_SINK_BYTES];
static struct log_sink sink = LOG_SINK_INIT(STDERR_FILENO, kept, tell_dropped);

int log_init(const char *service, const char *level, const char *format)
{
    unsigned found = 0;
    while (found <= LOG_DEBUG && strcmp(level, level_names[found]) != 0)
        found++;
    if (found > LOG_DEBUG)
        return -EINVAL;

    bool json = strcmp(format, "json") == 0;
    if (strcmp(format, "auto") == 0)
        json = isatty(STDERR_FILENO) == 0;
    else if (!json && strcmp(format, "logfmt") != 0)
        return -EINVAL;

    log_sink_reopen(&sink, STDERR_FILENO);
    config.service = service;
    config.level = (enum log_level)found;
    config.json = json;
    return 0;
}

bool log_wants(enum log_level level)
{
    return level <= config.level;
}

/* ---- a line ---- */

struct line {
    char text[LOG_LINE_BYTES];
    size_t used;
    bool json, cut;
};

/* 0 too when a closing quote has gone into the reserve. */
static size_t room(const struct line *line)
{
    size_t limit = sizeof line->text - RESERVE_BYTES;
    return line->used < limit ? limit - line->used : 0;
}

/* All of `bytes` or, when there is no room, nothing from here on. */
static void put(struct line *line, const char *bytes, size_t size)
{
    if (line->cut || size > room(line)) {
        line->cut = true;
        return;
    }
    memcpy(line->text + line->used, bytes, size);
    line->used += size;
}

/* The inside of a quoted string. */
static void put_escaped(struct line *line, const char *text, size_t size)
{
    for (size_t i = 0; i < size;) {
        const unsigned char *at = (const unsigned char *)text + i;
        size_t bytes = proto_text_char(text + i, size - i);
        char escape[8];

        if (*at == '"' || *at == '\\') {
            escape[0] = '\\';
            escape[1] = (char)*at;
            put(line, escape, 2);
        } else if (bytes > 0) {
            put(line, text + i, bytes);
        } else {
            int used =
                snprintf(escape, sizeof escape, line->json ? "\\u%04x" : "\\x%02x", *at);
            put(line, escape, (size_t)used);
        }
        i += bytes > 0 ? bytes : 1;
    }
}

/* Whether logfmt may leave the quotes off. */
static bool is_bare(const char *text, size_t size)
{
    for (size_t i = 0; i < size;) {
        size_t bytes = proto_text_char(text + i, size - i);
        if (bytes == 0 || memchr(" \"=\\", text[i], 4) != NULL)
            return false;
        i += bytes;
    }
    return size > 0;
}

static void put_pair(struct line *line, const char *key, size_t key_bytes,
                     const char *value, size_t value_bytes, bool number)
{
    char start[96];
    /* What will be cut is quoted, since only a string can be. */
    bool bare = is_bare(value, value_bytes) && sizeof start + value_bytes < room(line);
    bool quoted = line->json ? !number : !bare;
    int used =
        snprintf(start, sizeof start, line->json ? "%s\"%.*s\":%s" : "%s%.*s=%s",
                 line->used == 0 ? (line->json ? "{" : "") : (line->json ? "," : " "),
                 (int)key_bytes, key, quoted ? "\"" : "");

    /* A key without its value, or a number without its end, would be no JSON. */
    size_t whole = (size_t)used + (quoted ? 0 : value_bytes);
    if (used >= (int)sizeof start || whole > room(line))
        line->cut = true;
    if (line->cut)
        return;

    put(line, start, (size_t)used);
    if (quoted) {
        put_escaped(line, value, value_bytes);
        line->text[line->used++] = '"'; /* from the reserve */
    } else {
        put(line, value, value_bytes);
    }
}

static void put_text(struct line *line, const char *key, const char *value)
{
    put_pair(line, key, strlen(key), value, strlen(value), false);
}

static void begin(struct line *line, enum log_level level, const char *what)
{
    struct timespec now;
    struct tm utc;
    char time[40], pid[16];

    line->used = 0;
    line->cut = false;
    line->json = config.json;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t used = strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(time + used, sizeof time - used, ".%03ldZ", now.tv_nsec / 1000000);
    int pid_bytes = snprintf(pid, sizeof pid, "%ld", (long)getpid());

    put_text(line, "time", time);
    put_text(line, "level", level_names[level]);
    put_text(line, "service", config.service);
    put_pair(line, "pid", 3, pid, (size_t)pid_bytes, true);
    put_text(line, "msg", what);
}

static void end(struct line *line)
{
    if (line->cut) {
        const char *note = line->json ? CUT_NOTE : " cut=true\n";
        memcpy(line->text + line->used, note, strlen(note));
        line->used += strlen(note);
    } else {
        if (line->json)
            line->text[line->used++] = '}';
        line->text[line->used++] = '\n';
    }
}

/* No log is worth a stopped loop: a line waits for its reader in the sink, never here. */
static void write_out(struct line *line)
{
    end(line);
    log_sink_write(&sink, line->text, line->used);
}

static size_t tell_dropped(uint64_t count, char *out, size_t capacity)
{
    struct line line;
    char text[24];
    int used = snprintf(text, sizeof text, "%llu", (unsigned long long)count);

    begin(&line, LOG_WARNING, "log lines were dropped, as their reader was too slow");
    put_pair(&line, "lines", 5, text, (size_t)used, true);
    end(&line);
    if (line.used > capacity)
        return 0;
    memcpy(out, line.text, line.used);
    return line.used;
}

bool log_flush(void)
{
    return log_sink_flush(&sink);
}

void log_finish(void)
{
    log_sink_finish(&sink, LOG_FINISH_MS);
}

uint64_t log_dropped(void)
{
    return log_sink_dropped(&sink);
}

/* ---- the caller's format ---- */

struct value {
    char text[LOG_LINE_BYTES];
    size_t used;
    bool number; /* made of decimal conversions and digits alone */
    bool cut;
};

struct arguments {
    va_list list; /* in a struct: a va_list parameter's address is not a va_list's */
    int saved_errno;
};

/* A conversion, as the compiler has checked it already: flags, width, precision,
 * length and letter. */
struct conversion {
    char text[16];
    char length[3]; /* "", "h", "hh", "l", "ll", "z", "t", "j" or "L" */
    char letter;
};

static size_t parse_conversion(const char *format, struct conversion *out)
{
    size_t flags = 1 + strspn(format + 1, "-+ #0123456789.*'");
    size_t length = strspn(format + flags, "hlzjtL");
    size_t bytes = flags + length + 1;

    *out = (struct conversion){.letter = format[flags + length]};
    if (out->letter == '\0' || length >= sizeof out->length || bytes >= sizeof out->text)
        return 0;
    memcpy(out->length, format + flags, length);
    memcpy(out->text, format, bytes);
    return bytes;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* pieces of a format it has seen   \
                                                      */

/* The stars, if any, are `stars` ints before the argument. */
#define PRINT(arg)                                                                       \
    (stars == 0   ? snprintf(at, left, c->text, arg)                                     \
     : stars == 1 ? snprintf(at, left, c->text, star[0], arg)                            \
                  : snprintf(at, left, c->text, star[0], star[1], arg))

static int print_integer(char *at, size_t left, const struct conversion *c, int stars,
                         const int *star, struct arguments *args)
{
    if (strcmp(c->length, "ll") == 0 || strcmp(c->length, "j") == 0)
        return PRINT(va_arg(args->list, long long));
    if (c->length[0] == 'l' || c->length[0] == 'z' || c->length[0] == 't')
        return PRINT(va_arg(args->list, long));
    return PRINT(va_arg(args->list, int));
}

static int print_one(char *at, size_t left, const struct conversion *c,
                     struct arguments *args)
{
    int star[2] = {0, 0}, stars = 0;
    for (const char *s = strchr(c->text, '*'); s != NULL; s = strchr(s + 1, '*'))
        if (stars < 2)
            star[stars++] = va_arg(args->list, int);

    if (strchr("cs", c->letter) != NULL && c->length[0] != '\0')
        return -1; /* wide characters: nobody here has any */
    if (strchr("diuxXoc", c->letter) != NULL)
        return print_integer(at, left, c, stars, star, args);
    if (strchr("fFeEgGaA", c->letter) != NULL)
        return c->length[0] == 'L' ? PRINT(va_arg(args->list, long double))
                                   : PRINT(va_arg(args->list, double));
    if (c->letter == 's') {
        const char *text = va_arg(args->list, const char *);
        if (text == NULL)
            text = "(null)";
        return PRINT(text);
    }
    if (c->letter == 'm')
        return snprintf(at, left, "%s", strerror(args->saved_errno));
    if (c->letter == 'p')
        return PRINT(va_arg(args->list, void *));
    return -1;
}

#pragma GCC diagnostic pop

static void value_put(struct value *value, char byte)
{
    if (value->used + 1 < sizeof value->text)
        value->text[value->used++] = byte;
    else
        value->cut = true;
}

/* Returns the conversion's length in the format; 0 for one that this file does not know:
 * the arguments behind it cannot be found any more. */
static size_t value_convert(struct value *value, const char *format,
                            struct arguments *args)
{
    struct conversion c;
    size_t bytes = parse_conversion(format, &c);
    size_t left = sizeof value->text - value->used;

    if (bytes == 0)
        return 0;
    if (c.letter == '%') {
        value->number = false;
        value_put(value, '%');
        return bytes;
    }
    int used = print_one(value->text + value->used, left, &c, args);
    if (used < 0)
        return 0;
    value->cut |= (size_t)used >= left;
    value->used += (size_t)used < left ? (size_t)used : left - 1;
    value->number &= strchr("diufFeEgG", c.letter) != NULL;
    return bytes;
}

/* Whether JSON takes it as it is: no sign '+', no padding, no inf, no nan. */
static bool is_json_number(const char *text, size_t size)
{
    size_t at = size > 0 && text[0] == '-';
    size_t digits = strspn(text + at, "0123456789");

    if (digits == 0 || (digits > 1 && text[at] == '0'))
        return false;
    at += digits;
    if (at < size && text[at] == '.') {
        digits = strspn(text + at + 1, "0123456789");
        if (digits == 0)
            return false;
        at += 1 + digits;
    }
    if (at < size && (text[at] | 0x20) == 'e') {
        at += 1 + (text[at + 1] == '+' || text[at + 1] == '-');
        digits = strspn(text + at, "0123456789");
        if (digits == 0)
            return false;
        at += digits;
    }
    return at == size;
}

/* The value that begins at `format`; where it ends, or NULL where nothing more is to be
 * had. */
static const char *read_value(const char *format, struct arguments *args,
                              struct value *value)
{
    bool quoted = *format == '"';

    *value = (struct value){.number = !quoted};
    format += quoted;
    while (*format != '\0' && *format != (quoted ? '"' : ' ')) {
        if (*format == '%') {
            size_t bytes = value_convert(value, format, args);
            if (bytes == 0)
                return NULL;
            format += bytes;
        } else {
            value_put(value, *format++);
        }
    }
    value->text[value->used] = '\0';
    value->number = value->number && is_json_number(value->text, value->used);
    return format + (quoted && *format == '"');
}

static void put_pairs(struct line *line, const char *pairs, struct arguments *args)
{
    struct value value;

    while (pairs != NULL && !line->cut) {
        pairs += strspn(pairs, " ");
        size_t key_bytes = strcspn(pairs, "= ");
        if (key_bytes == 0 || pairs[key_bytes] != '=')
            return;
        const char *key = pairs;
        pairs = read_value(pairs + key_bytes + 1, args, &value);
        put_pair(line, key, key_bytes, value.text, value.used, value.number);
        line->cut |= value.cut || pairs == NULL;
    }
}

void log_event(enum log_level level, const char *what, const char *pairs, ...)
{
    if (!log_wants(level))
        return;

    struct line line;
    struct arguments args = {.saved_errno = errno};
    begin(&line, level, what);
    va_start(args.list, pairs);
    put_pairs(&line, pairs, &args);
    va_end(args.list);
    write_out(&line);
    errno = args.saved_errno;
}

void log_limited(enum log_level level, struct log_limit *limit, uint64_t now_us,
                 const char *what, const char *pairs, ...)
{
    if (!log_wants(level))
        return;

    uint64_t period = now_us / (LOG_PERIOD_S * UINT64_C(1000000));
    if (period != limit->period) {
        limit->period = period;
        limit->count = 0;
    }
    if (limit->count >= LOG_BURST) {
        limit->suppressed++;
        return;
    }
    limit->count++;

    struct line line;
    struct arguments args = {.saved_errno = errno};
    begin(&line, level, what);
    if (limit->suppressed > 0) {
        char text[24];
        int used =
            snprintf(text, sizeof text, "%llu", (unsigned long long)limit->suppressed);
        put_pair(&line, "suppressed", 10, text, (size_t)used, true);
        limit->suppressed = 0;
    }
    va_start(args.list, pairs);
    put_pairs(&line, pairs, &args);
    va_end(args.list);
    write_out(&line);
    errno = args.saved_errno;
}
