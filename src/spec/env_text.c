/* SPDX-License-Identifier: Apache-2.0 */
/* env_text — see env_text.h. */
#include "spec/env_text.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/hmap.h"
#include "base/secret.h"
#include "spec/spec.h"

struct parse {
    const struct env_text_sink *sink;
    struct str rest; /* behind what was read */
    unsigned line;
    unsigned complaints, taken;
    struct hmap *names; /* the line each is on */
    struct buf value;   /* reserved at once, so that growing leaves nothing behind */
};

static int complain(struct parse *p, unsigned line, const char *what, struct str name)
{
    char text[SPEC_ENV_NAME_MAX + 160];
    struct str shown = spec_is_env_name(name) ? name : STR("");
    if (p->complaints++ >= ENV_TEXT_ERRORS_MAX || !p->sink->complain)
        return 0;
    if (shown.n)
        (void)snprintf(text, sizeof(text), "line %u: " STR_FMT " %s", line, STR_ARG(shown), what);
    else
        (void)snprintf(text, sizeof(text), "line %u: %s", line, what);
    p->sink->complain(p->sink->arg, text);
    return 0;
}

static bool blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Of a value without quotes: what stands before a comment. */
static struct str bare(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '#' && (i == 0 || blank(s.p[i - 1])))
            s.n = i;
    return str_trim(s);
}

/* The next line without its end. */
static struct str next_line(struct parse *p)
{
    struct str line = str_cut(&p->rest, '\n');
    p->line++;
    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    return line;
}

static int put(struct parse *p, char c)
{
    return buf_append_byte(&p->value, (uint8_t)c);
}

static char escaped(char c)
{
    switch (c) {
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case '"':
    case '\\':
    case '$': return c;
    default: return '\0';
    }
}

/* Reads up to the closing quote of @s, which stands behind the opening one. 0 with *ret_tail behind it; 1: it stays open; negative: too long. */
static int in_quotes(struct parse *p, struct str s, char quote, struct str *ret_tail)
{
    for (size_t i = 0; i < s.n; i++) {
        int rc;
        if (s.p[i] == quote) {
            *ret_tail = (struct str){s.p + i + 1, s.n - i - 1};
            return 0;
        }
        char e = quote == '"' && s.p[i] == '\\' && i + 1 < s.n ? escaped(s.p[i + 1]) : '\0';
        rc = put(p, e ? e : s.p[i]);
        i += e != '\0';
        if (rc < 0)
            return rc;
    }
    return 1;
}

/* Value that begins with a quote. 0, or 1 with the complaint in *ret_why. */
static int quoted(struct parse *p, struct str s, const char **ret_why)
{
    char quote = s.p[0];
    struct str tail = {s.p, 0};
    struct str at = p->rest;
    unsigned line = p->line;
    s = (struct str){s.p + 1, s.n - 1};
    int rc;
    while ((rc = in_quotes(p, s, quote, &tail)) == 1 && p->rest.n) {
        if ((rc = put(p, '\n')) < 0)
            break;
        s = next_line(p);
    }
    if (rc == 0 && bare(tail).n == 0)
        return 0;
    *ret_why = rc < 0 ? "has a value that is too long" : rc == 1 ? "has a quote that is not closed" : "has something behind the closing quote";
    if (rc == 1) {
        /* One slip of the hand shall not hide what is wrong further down. */
        p->rest = at;
        p->line = line;
    }
    return 1;
}

static int take(struct parse *p, unsigned line, struct str name)
{
    void *old = NULL;
    if (p->taken++ >= SPEC_ENV_MAX)
        return p->taken == SPEC_ENV_MAX + 1 ? complain(p, line, "and what follows are more variables than the 512 that are allowed", name) : 0;
    if (p->value.len > SPEC_ENV_VALUE_MAX)
        return complain(p, line, "has a value that is longer than 64 KiB", name);
    if (memchr(buf_cstr(&p->value), '\0', p->value.len))
        return complain(p, line, "has a value with a NUL", name);
    if (hmap_get(p->names, name))
        return complain(p, line, "is there twice", name);
    (void)hmap_put(p->names, name, p, &old);
    return p->sink->take(p->sink->arg, name, (struct str){buf_cstr(&p->value), p->value.len});
}

static int read_line(struct parse *p)
{
    struct str s = str_trim(next_line(p));
    unsigned line = p->line;
    const char *why = NULL;
    if (!s.n || s.p[0] == '#')
        return 0;
    if (str_starts(s, STR("export")) && s.n > 6 && blank(s.p[6]))
        s = str_trim((struct str){s.p + 6, s.n - 6});
    size_t all = s.n;
    struct str name = str_cut(&s, '=');
    if (name.n == all)
        return complain(p, line, "it has no \"=\": write NAME=VALUE", STR(""));
    name = str_trim(name);
    if (!spec_is_env_name(name))
        return complain(p, line, "the name is not allowed: letters, digits and _.- without a digit in front, at most 256", STR(""));
    s = str_trim(s);
    explicit_bzero(p->value.data, p->value.cap);
    buf_clear(&p->value);
    if (s.n && (s.p[0] == '"' || s.p[0] == '\'')) {
        if (quoted(p, s, &why))
            return complain(p, line, why, name);
    } else if (buf_append_str(&p->value, bare(s)) < 0) {
        return complain(p, line, "has a value that is longer than 64 KiB", name);
    }
    return take(p, line, name);
}

int env_text_parse(struct str text, const struct env_text_sink *sink)
{
    struct parse p = {.sink = sink, .rest = text, .value = BUF_INIT(SPEC_ENV_VALUE_MAX + 1)};
    int rc = 0;
    p.names = hmap_new(SPEC_ENV_MAX);
    BUG_ON(!buf_reserve(&p.value, SPEC_ENV_VALUE_MAX + 1));
    if (str_starts(text, STR("\xef\xbb\xbf")))
        p.rest = (struct str){text.p + 3, text.n - 3};
    while (rc >= 0 && p.rest.n && p.complaints < ENV_TEXT_ERRORS_MAX)
        rc = read_line(&p);
    secret_buf_release(&p.value);
    p.names = hmap_free(p.names);
    return rc < 0 ? rc : p.complaints > 0;
}
