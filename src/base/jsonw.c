/* SPDX-License-Identifier: Apache-2.0 */
/* jsonw — the streaming JSON writer, see json.h. */
#include <string.h>

#include "base/json.h"

void jsonw_init(struct jsonw *w, struct buf *out)
{
    *w = (struct jsonw){.out = out, .first = true};
}

static bool in_object(const struct jsonw *w)
{
    return w->depth > 0 && (w->objects >> (w->depth - 1) & 1) != 0;
}

static void put(struct jsonw *w, struct str s)
{
    if (w->rc == 0)
        w->rc = buf_append_str(w->out, s);
}

/* Before each value: the comma, and the checks for misuse. False when the writer has failed already. */
static bool begin_value(struct jsonw *w)
{
    if (w->rc < 0)
        return false;
    BUG_ON(in_object(w) && !w->after_key);
    BUG_ON(w->depth == 0 && !w->first);
    if (!w->first && !w->after_key)
        put(w, STR(","));
    w->first = false;
    w->after_key = false;
    return w->rc == 0;
}

static void open_container(struct jsonw *w, bool object)
{
    if (!begin_value(w))
        return;
    if (w->depth >= JSON_DEPTH_MAX) {
        w->rc = -(int)ERR_EXHAUSTED;
        return;
    }
    w->objects &= ~((uint64_t)1 << w->depth);
    w->objects |= (uint64_t)object << w->depth;
    w->depth++;
    w->first = true;
    put(w, object ? STR("{") : STR("["));
}

static void close_container(struct jsonw *w, bool object)
{
    if (w->rc < 0)
        return;
    BUG_ON(w->depth == 0 || in_object(w) != object || w->after_key);
    w->depth--;
    w->first = false;
    put(w, object ? STR("}") : STR("]"));
}

void jsonw_object(struct jsonw *w)
{
    open_container(w, true);
}

void jsonw_object_end(struct jsonw *w)
{
    close_container(w, true);
}

void jsonw_array(struct jsonw *w)
{
    open_container(w, false);
}

void jsonw_array_end(struct jsonw *w)
{
    close_container(w, false);
}

/* The escape of one byte that may not stand in a string. */
static void put_escape(struct jsonw *w, unsigned char c)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *at = c != 0 ? strchr(from, c) : NULL;

    if (at != NULL)
        put(w, (struct str){(char[]){'\\', to[at - from]}, 2});
    else if (w->rc == 0)
        w->rc = buf_printf(w->out, "\\u%04x", c);
}

static void put_quoted(struct jsonw *w, struct str s)
{
    struct str run = {s.p, 0}; /* bytes that go out as they are */

    put(w, STR("\""));
    while (s.n > 0 && w->rc == 0) {
        unsigned char c = (unsigned char)s.p[0];
        size_t len = c < 0x80 ? 1 : str_utf8_len(s);
        bool plain = len > 0 && c >= 0x20 && c != '"' && c != '\\';
        size_t step = len > 0 ? len : 1;

        s.p += step;
        s.n -= step;
        if (plain) {
            run.n += step;
            continue;
        }
        put(w, run);
        if (len == 0)
            put(w, STR("\xef\xbf\xbd"));
        else
            put_escape(w, c);
        run = (struct str){s.p, 0};
    }
    put(w, run);
    put(w, STR("\""));
}

void jsonw_key(struct jsonw *w, const char *key)
{
    jsonw_key_str(w, str_from(key));
}

void jsonw_key_str(struct jsonw *w, struct str key)
{
    if (w->rc < 0)
        return;
    BUG_ON(!in_object(w) || w->after_key);
    if (!w->first)
        put(w, STR(","));
    w->first = false;
    put_quoted(w, key);
    put(w, STR(":"));
    w->after_key = true;
}

void jsonw_str(struct jsonw *w, struct str s)
{
    if (begin_value(w))
        put_quoted(w, s);
}

void jsonw_string(struct jsonw *w, const char *s)
{
    if (s == NULL)
        jsonw_null(w);
    else
        jsonw_str(w, str_from(s));
}

void jsonw_u64(struct jsonw *w, uint64_t v)
{
    if (begin_value(w))
        w->rc = buf_printf(w->out, "%ju", (uintmax_t)v);
}

void jsonw_i64(struct jsonw *w, int64_t v)
{
    if (begin_value(w))
        w->rc = buf_printf(w->out, "%jd", (intmax_t)v);
}

void jsonw_bool(struct jsonw *w, bool v)
{
    if (begin_value(w))
        put(w, v ? STR("true") : STR("false"));
}

void jsonw_null(struct jsonw *w)
{
    if (begin_value(w))
        put(w, STR("null"));
}

void jsonw_raw(struct jsonw *w, struct str json)
{
    BUG_ON(json.n == 0);
    if (begin_value(w))
        put(w, json);
}

int jsonw_end(struct jsonw *w)
{
    BUG_ON(w->rc == 0 && (w->depth > 0 || w->first));
    return w->rc;
}
