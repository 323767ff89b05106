/* SPDX-License-Identifier: Apache-2.0 */
/* opt_help — the option table as --help and as man page, see opt.h. */
#include <inttypes.h>
#include <string.h>

#include "base/buf.h"
#include "base/opt.h"
#include "base/str.h"

enum { LEFT_MAX = 34, LEFT_SIZE = 160 };

/* @v in the largest unit that divides it, as the parser would read it back. */
static void format_value(enum opt_type type, int64_t v, char dst[32])
{
    static const struct {
        const char *name;
        int64_t size;
    } times[] = {{"d", 86400000000}, {"h", 3600000000}, {"m", 60000000}, {"s", 1000000}, {"ms", 1000}},
      sizes[] = {{"p", (int64_t)1 << 50}, {"t", (int64_t)1 << 40}, {"g", 1 << 30}, {"m", 1 << 20}, {"k", 1 << 10}};

    for (size_t i = 0; i < ARRAY_LEN(times) && (type == OPT_USEC || type == OPT_BYTES); i++) {
        int64_t size = type == OPT_USEC ? times[i].size : sizes[i].size;
        if (v != 0 && v % size == 0) {
            (void)snprintf(dst, 32, "%" PRId64 "%s", v / size, type == OPT_USEC ? times[i].name : sizes[i].name);
            return;
        }
    }
    if (type == OPT_MILLI && v % 1000 != 0)
        (void)snprintf(dst, 32, "%" PRId64 ".%03" PRId64, v / 1000, v % 1000);
    else
        (void)snprintf(dst, 32, "%" PRId64 "%s", type == OPT_MILLI ? v / 1000 : v, type == OPT_USEC && v != 0 ? "us" : "");
}

void opt_bounds(const struct opt *o, char dst[OPT_BOUNDS_MAX])
{
    char min[32], max[32];

    dst[0] = '\0';
    if (o->type == OPT_BOOL || o->type == OPT_STRING || o->type == OPT_LIST || o->type == OPT_ENUM ||
        (o->min == 0 && o->max == 0))
        return;
    format_value(o->type, o->min, min);
    format_value(o->type, o->max, max);
    (void)snprintf(dst, OPT_BOUNDS_MAX, "%s..%s", min, max);
}

static const char *value_word(const struct opt *o)
{
    if (o->type == OPT_BOOL)
        return NULL;
    if (o->arg != NULL)
        return o->arg;
    if (o->type == OPT_ENUM)
        return o->choices;
    if (o->type == OPT_USEC)
        return "TIME";
    return o->type == OPT_BYTES ? "SIZE" : o->type == OPT_INT || o->type == OPT_MILLI ? "NUMBER" : "TEXT";
}

static void left_column(const struct opt *o, char dst[LEFT_SIZE])
{
    const char *word = value_word(o);
    bool on = o->type == OPT_BOOL && o->def != NULL && strcmp(o->def, "true") == 0;
    char letter[] = {'-', o->letter, ',', ' ', '\0'};

    (void)snprintf(dst, LEFT_SIZE, "  %s--%s%s%s%s", o->letter != 0 ? letter : "    ", on ? "[no-]" : "", o->name,
                   word != NULL ? " " : "", word != NULL ? word : "");
}

/* "default 30s; 1s..1h; one of a|b; DAVIT_NAME", or "". */
static char *facts(const struct opt *o)
{
    struct buf b = BUF_INIT(1024);
    char bounds[OPT_BOUNDS_MAX], env[OPT_ENV_MAX];
    int rc = 0;

    opt_bounds(o, bounds);
    if (o->def != NULL && o->def[0] != '\0')
        rc |= buf_printf(&b, "; default %s", o->def);
    if (bounds[0] != '\0')
        rc |= buf_printf(&b, "; %s", bounds);
    if (o->type == OPT_ENUM && o->arg != NULL)
        rc |= buf_printf(&b, "; one of %s", o->choices);
    if (o->type == OPT_LIST)
        rc |= buf_append_cstr(&b, "; repeatable");
    if (o->env)
        rc |= buf_printf(&b, "; %s", opt_env_name(o, env));
    BUG_ON(rc < 0);
    buf_consume(&b, 2);
    return buf_take(&b);
}

static void help_line(FILE *out, const struct opt *o, int width)
{
    char left[LEFT_SIZE];
    AUTO_FREE char *more = facts(o);

    left_column(o, left);
    /* A long left column stands on its own line instead of pushing all others to the right. */
    if (strlen(left) > (size_t)width)
        (void)fprintf(out, "%s\n%*s", left, width, "");
    else
        (void)fprintf(out, "%-*s", width, left);
    (void)fprintf(out, "  %s%s%s%s\n", o->help, more[0] != '\0' ? " (" : "", more, more[0] != '\0' ? ")" : "");
}

static const struct opt help_opt = {.name = "help", .letter = 'h', .type = OPT_BOOL, .help = "show this text"};

/* @table may bring an -h or a --help of its own. */
static struct opt help_entry(const struct opt *table)
{
    struct opt ret = help_opt;

    for (const struct opt *o = table; o->name != NULL; o++) {
        if (o->letter == 'h')
            ret.letter = 0;
        if (strcmp(o->name, "help") == 0)
            ret.name = NULL;
    }
    return ret;
}

void opt_help(FILE *out, const char *usage, const char *about, const struct opt *table, const char *example)
{
    struct opt help = help_entry(table);
    char left[LEFT_SIZE];
    size_t width = 0;

    left_column(&help_opt, left);
    width = strlen(left);
    for (const struct opt *o = table; o->name != NULL; o++) {
        left_column(o, left);
        if (strlen(left) > width && strlen(left) <= LEFT_MAX)
            width = strlen(left);
    }
    (void)fprintf(out, "Usage: %s\n", usage);
    if (about != NULL)
        (void)fprintf(out, "\n%s\n", about);
    (void)fputs("\nOptions:\n", out);
    for (const struct opt *o = table; o->name != NULL; o++)
        help_line(out, o, (int)width);
    if (help.name != NULL)
        help_line(out, &help, (int)width);
    if (example == NULL)
        return;
    (void)fputs("\nExample:\n", out);
    for (struct str rest = str_from(example), line; rest.n > 0;) {
        line = str_cut(&rest, '\n');
        (void)fprintf(out, "  " STR_FMT "\n", STR_ARG(line));
    }
}

/* Text for roff: no escapes, no hyphens that may be broken, no line that starts with a control character. */
static void roff(FILE *out, const char *s)
{
    if (*s == '.' || *s == '\'')
        (void)fputs("\\&", out);
    for (; *s != '\0'; s++) {
        if (*s == '\\')
            (void)fputs("\\e", out);
        else if (*s == '-')
            (void)fputs("\\-", out);
        else
            (void)fputc(*s, out);
    }
}

void opt_man(FILE *out, const struct opt *table)
{
    for (const struct opt *o = table; o->name != NULL; o++) {
        AUTO_FREE char *more = facts(o);
        const char *word = value_word(o);
        (void)fputs(".TP\n", out);
        if (o->letter != 0)
            (void)fprintf(out, "\\fB\\-%c\\fR, ", o->letter);
        (void)fputs("\\fB\\-\\-", out);
        roff(out, o->name);
        (void)fputs("\\fR", out);
        if (word != NULL) {
            (void)fputs(" \\fI", out);
            roff(out, word);
            (void)fputs("\\fR", out);
        }
        (void)fputc('\n', out);
        roff(out, o->help);
        if (more[0] != '\0') {
            (void)fputs("\n(", out);
            roff(out, more);
            (void)fputc(')', out);
        }
        (void)fputc('\n', out);
    }
}
