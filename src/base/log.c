/* SPDX-License-Identifier: Apache-2.0 */
/* log — builds each line in a fixed buffer and writes it with one call, see log.h.
 * A line that grows too long loses the end of its last value and the pairs behind it, but stays well-formed and says `cut`. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/clock.h"
#include "base/logfile.h"
#include "base/str.h"

enum { LINE_MAX_BYTES = 4096, LINE_TAIL = 16 }; /* the tail: closing quote, mark of the cut, brace and newline */

static const char *const level_names[] = {"error", "warn", "notice", "info", "debug"};
static const char journal_priority[] = "34567"; /* sd-daemon(3) */

static struct {
    const char *program;
    _Atomic int threshold;
    enum log_format format;
    bool journal;
    struct logfile *file;
    _Atomic uint64_t lost, untold; /* lines that the file did not take; those of them that no line tells of yet */
    _Atomic uint64_t hour, aloud;  /* of the monotonic clock; copies on stderr in it */
} conf = {.program = "davit", .threshold = LOG_INFO};

struct line {
    size_t n;
    bool json;
    bool cut;
    char text[LINE_MAX_BYTES];
};

/* Is stderr the stream that the service manager connected to the journal? */
static bool stderr_is_journal(void)
{
    const char *env = getenv("JOURNAL_STREAM");
    char want[64];
    struct stat st;

    if (env == NULL || fstat(STDERR_FILENO, &st) < 0)
        return false;
    (void)snprintf(want, sizeof(want), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    return strcmp(env, want) == 0;
}

void log_setup(const char *program, enum log_level threshold, enum log_format format)
{
    conf.program = program;
    conf.format = format;
    conf.journal = stderr_is_journal();
    atomic_store_explicit(&conf.threshold, (int)threshold, memory_order_relaxed);
}

int log_level_from_name(const char *name, enum log_level *ret)
{
    for (size_t i = 0; name != NULL && i < ARRAY_LEN(level_names); i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *ret = (enum log_level)i;
            return 0;
        }
    }
    return -(int)ERR_INVALID;
}

void log_to_file(struct logfile *file)
{
    conf.file = file;
}

void log_use_options(const struct logfile_options *o)
{
    const struct logfile_conf file = {.path = o->path, .max_bytes = o->size, .max_age = o->age, .max_backups = (unsigned)o->backups};
    struct err err = ERR_INIT;

    if (!o->path || !*o->path)
        return;
    if (logfile_open(&file, &conf.file, &err) < 0)
        log_err(LOG_WARN, &err, "the log stays on stderr", NULL);
}

uint64_t log_lost(void)
{
    return atomic_load(&conf.lost);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&conf.threshold, memory_order_relaxed);
}

static bool put(struct line *l, struct str s)
{
    /* The quote that ends a value may stand in the tail: there may be less than no room. */
    if (l->cut || l->n > LINE_MAX_BYTES - LINE_TAIL || s.n > LINE_MAX_BYTES - LINE_TAIL - l->n) {
        l->cut = true;
        return false;
    }
    memcpy(l->text + l->n, s.p, s.n);
    l->n += s.n;
    return true;
}

/* The end of a line has its room kept, so it is added after a cut too. */
static void put_tail(struct line *l, const char *s)
{
    size_t n = strlen(s);

    BUG_ON(n > LINE_MAX_BYTES - l->n);
    memcpy(l->text + l->n, s, n);
    l->n += n;
}

/* One character (or stray byte) of a quoted value. */
static bool put_char(struct line *l, const char *p, size_t len)
{
    unsigned char c = (unsigned char)p[0];
    char text[16];

    if (len == 0 || str_is_trick((struct str){p, len})) {
        if (l->json)
            return put(l, STR("\\ufffd"));
        size_t at = 0;
        for (size_t i = 0; i < (len > 0 ? len : 1); i++)
            at += (size_t)snprintf(text + at, sizeof(text) - at, "\\x%02x", (unsigned char)p[i]);
        return put(l, (struct str){text, at});
    }
    if (c == '"' || c == '\\')
        return put(l, (struct str){(char[]){'\\', p[0]}, 2});
    if (c == '\n' || c == '\t' || c == '\r')
        return put(l, (struct str){(char[]){'\\', c == '\n' ? 'n' : c == '\t' ? 't' : 'r'}, 2});
    if (c < 0x20 || c == 0x7f) {
        int n = snprintf(text, sizeof(text), l->json ? "\\u%04x" : "\\x%02x", c);
        return put(l, (struct str){text, (size_t)n});
    }
    return put(l, (struct str){p, len});
}

static bool is_bare(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f || s.p[i] == '"' || s.p[i] == '\\' || s.p[i] == '=')
            return false;
    }
    return s.n > 0;
}

static void put_value(struct line *l, struct str s)
{
    if (!l->json && is_bare(s) && l->n + s.n <= LINE_MAX_BYTES - LINE_TAIL) {
        (void)put(l, s);
        return;
    }
    if (!put(l, STR("\"")))
        return;
    while (s.n > 0) {
        size_t len = str_utf8_len(s), step = len > 0 ? len : 1;
        if (!put_char(l, s.p, len))
            break;
        s.p += step;
        s.n -= step;
    }
    put_tail(l, "\"");
}

static void put_pair(struct line *l, const char *key, const char *value)
{
    struct str k = str_from(key);
    size_t before = l->n;

    /* Keys are ours; one that could break the shape of the line is a bug, but not one worth dying for. */
    if (l->cut || !is_bare(k))
        return;
    if (l->n > 0 && l->text[l->n - 1] != '{')
        (void)put(l, l->json ? STR(",") : STR(" "));
    if (l->json)
        (void)put(l, STR("\""));
    (void)put(l, k);
    /* The key goes only with room for a value, however short. */
    if (!put(l, l->json ? STR("\":") : STR("=")) || l->n + 2 > LINE_MAX_BYTES - LINE_TAIL) {
        l->n = before;
        l->cut = true;
        return;
    }
    put_value(l, str_from(value != NULL ? value : "-"));
}

static void put_pairs(struct line *l, va_list ap)
{
    const char *key;

    while ((key = va_arg(ap, const char *)) != NULL)
        put_pair(l, key, va_arg(ap, const char *));
}

static void begin(struct line *l, enum log_level level, const char *message)
{
    char when[CLOCK_TEXT_SIZE];

    l->n = 0;
    l->cut = false;
    l->json = conf.format == LOG_FORMAT_JSON;
    if ((size_t)level >= ARRAY_LEN(level_names))
        level = LOG_ERROR;
    bool journal = conf.journal && !conf.file;
    if (journal)
        (void)put(l, (struct str){(char[]){'<', journal_priority[level], '>'}, 3});
    if (l->json)
        (void)put(l, STR("{"));
    size_t prefix = l->n;
    put_pair(l, "program", conf.program);
    /* Without braces the first pair must not start with the blank that sets pairs apart. */
    if (!l->json && prefix > 0 && l->text[prefix] == ' ') {
        memmove(l->text + prefix, l->text + prefix + 1, l->n - prefix - 1);
        l->n--;
    }
    if (!journal) {
        clock_format(clock_real(), 3, when);
        put_pair(l, "time", when);
    }
    put_pair(l, "level", level_names[level]);
    put_pair(l, "msg", message);
}

static void to_stderr(const struct line *l)
{
    ssize_t n;

    /* One call per line, so that lines of several threads do not mix; a log that cannot be written is lost. */
    do {
        n = write(STDERR_FILENO, l->text, l->n);
    } while (n < 0 && errno == EINTR);
}

static void end_line(struct line *l)
{
    if (l->cut)
        put_tail(l, l->json ? ",\"cut\":true" : " cut=true");
    put_tail(l, l->json ? "}\n" : "\n");
}

/* What makes the copies many is in the file. */
static bool may_copy(void)
{
    uint64_t hour = clock_mono() / USEC_HOUR;

    if (atomic_exchange(&conf.hour, hour) != hour)
        atomic_store(&conf.aloud, 0);
    return atomic_fetch_add(&conf.aloud, 1) < LOG_ALOUD_MAX;
}

static void tell_lost(void)
{
    uint64_t n = atomic_exchange(&conf.untold, 0);
    char text[24];
    struct line l;

    if (!n)
        return;
    (void)snprintf(text, sizeof(text), "%ju", (uintmax_t)n);
    begin(&l, LOG_WARN, "log lines were lost: the file could not be written");
    put_pair(&l, "lines", text);
    end_line(&l);
    if (logfile_put(conf.file, l.text, l.n) < 0)
        atomic_fetch_add(&conf.untold, n);
}

static void finish(struct line *l, bool aloud)
{
    end_line(l);
    if (!conf.file) {
        to_stderr(l);
        return;
    }
    if (logfile_put(conf.file, l->text, l->n) == 0) {
        tell_lost();
    } else {
        atomic_fetch_add(&conf.lost, 1);
        atomic_fetch_add(&conf.untold, 1);
    }
    if (aloud && may_copy())
        to_stderr(l);
}

void log_event(enum log_level level, const char *message, ...)
{
    struct line l;
    va_list ap;

    if (!log_enabled(level))
        return;
    begin(&l, level, message);
    va_start(ap, message);
    put_pairs(&l, ap);
    va_end(ap);
    finish(&l, level == LOG_ERROR);
}

void log_aloud(enum log_level level, const char *message, ...)
{
    struct line l;
    va_list ap;

    if (!log_enabled(level))
        return;
    begin(&l, level, message);
    va_start(ap, message);
    put_pairs(&l, ap);
    va_end(ap);
    finish(&l, true);
}

void log_err(enum log_level level, const struct err *err, const char *message, ...)
{
    char origin[128];
    struct line l;
    va_list ap;

    if (!log_enabled(level))
        return;
    begin(&l, level, message);
    if (err != NULL) {
        put_pair(&l, "code", err_code_name(err->code));
        put_pair(&l, "error", err->msg);
        if (err->hint[0] != '\0')
            put_pair(&l, "hint", err->hint);
        if (err->file != NULL) {
            (void)snprintf(origin, sizeof(origin), "%s:%d", err->file, err->line);
            put_pair(&l, "origin", origin);
        }
    }
    va_start(ap, message);
    put_pairs(&l, ap);
    va_end(ap);
    finish(&l, level == LOG_ERROR);
}

void log_printf(enum log_level level, const char *fmt, ...)
{
    char message[2048];
    va_list ap;

    if (!log_enabled(level))
        return;
    va_start(ap, fmt);
    if (vsnprintf(message, sizeof(message), fmt, ap) < 0)
        message[0] = '\0';
    va_end(ap);
    log_event(level, message, NULL);
}
