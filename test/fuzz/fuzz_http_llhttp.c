/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/1.1 parser beside llhttp in its strict mode: every message that ours accepts, llhttp must have accepted too, with the same start line,
 * fields and body, at the same place in the stream.  The other way round there is no promise: ours refuses more.
 * What differs by design is named in `differs`. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <llhttp.h>

#include "base/buf.h"
#include "base/err.h"
#include "net/http.h"

enum { MESSAGES_MAX = 16, TEXT_MAX = 1 << 20 };

/* What one reader has seen: each message as text. */
struct seen {
    struct buf text[MESSAGES_MAX];
    size_t n; /* complete ones */
    bool stop; /* what follows is another protocol */
    bool proxy_connection;
    /* llhttp only */
    struct buf name, value;
};

static struct buf *now(struct seen *s)
{
    return &s->text[s->n];
}

static void add(struct buf *b, const char *p, size_t n)
{
    BUG_ON(buf_append(b, p, n) != 0);
}

static void add_field(struct seen *s, struct str name, struct str value)
{
    struct buf *b = now(s);
    size_t at = b->len;
    add(b, name.p, name.n);
    for (char *c = b->data + at; c < b->data + b->len; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    s->proxy_connection = s->proxy_connection || str_eq_ci(name, STR("proxy-connection"));
    value = str_trim(value);
    add(b, ":", 1);
    add(b, value.p, value.n);
    add(b, "\n", 1);
}

static void seen_init(struct seen *s)
{
    *s = (struct seen){.name = BUF_INIT(TEXT_MAX), .value = BUF_INIT(TEXT_MAX)};
    for (size_t i = 0; i < MESSAGES_MAX; i++)
        s->text[i] = BUF_INIT(TEXT_MAX);
}

static void seen_release(struct seen *s)
{
    for (size_t i = 0; i < MESSAGES_MAX; i++)
        buf_release(&s->text[i]);
    buf_release(&s->name);
    buf_release(&s->value);
}

/* --- Ours ---------------------------------------------------------------------------------------------------------------------------- */

static int on_head(void *arg, struct http_head *head)
{
    struct seen *s = arg;
    struct buf *b = now(s);
    if (head->is_response)
        BUG_ON(buf_printf(b, "%d 1.%d\n", head->status, head->minor) != 0);
    else
        BUG_ON(buf_printf(b, "%s %s 1.%d\n", head->method, head->target, head->minor) != 0);
    for (size_t i = 0; i < head->n_fields; i++)
        add_field(s, str_from(head->fields[i].name), str_from(head->fields[i].value));
    add(b, "\n", 1);
    s->stop = head->upgrade || strcmp(head->method, "CONNECT") == 0;
    /* llhttp knows of no request that a response belongs to, and takes the length of a 304 for that of a body. */
    return head->status == 304 && (head->length || head->chunked) ? -(int)ERR_CANCELLED : 0;
}

static int on_body(void *arg, struct str bytes)
{
    add(now(arg), bytes.p, bytes.n);
    return 0;
}

static int on_end(void *arg)
{
    struct seen *s = arg;
    s->n++;
    return 0;
}

static void read_ours(bool request, const char *data, size_t size, struct seen *s)
{
    static const struct http_parser_handler handler = {on_head, on_body, on_end};
    struct http_parser *p = http_parser_new(request, &handler, s);
    int rc = 0;
    while (size && rc == 0 && s->n < MESSAGES_MAX - 1 && !(s->stop && s->n)) {
        size_t used = 0, n = s->n;
        rc = http_parser_feed(p, (struct str){data, size}, &used, NULL);
        if (s->n > n && !s->stop)
            http_parser_reset(p);
        data += used;
        size -= used;
        if (s->stop)
            break;
    }
    if (rc == 0 && size == 0)
        (void)http_parser_eof(p, NULL);
    http_parser_free(p);
}

/* --- llhttp -------------------------------------------------------------------------------------------------------------------------- */

static int ll_url(llhttp_t *p, const char *at, size_t n)
{
    struct seen *s = p->data;
    add(&s->name, at, n);
    return 0;
}

static int ll_name(llhttp_t *p, const char *at, size_t n)
{
    struct seen *s = p->data;
    add(&s->name, at, n);
    return 0;
}

static int ll_value(llhttp_t *p, const char *at, size_t n)
{
    struct seen *s = p->data;
    add(&s->value, at, n);
    return 0;
}

static int ll_url_complete(llhttp_t *p)
{
    struct seen *s = p->data;
    BUG_ON(buf_printf(now(s), "%s %.*s ", llhttp_method_name((llhttp_method_t)p->method), (int)s->name.len, buf_cstr(&s->name)) != 0);
    buf_clear(&s->name);
    return 0;
}

/* The version is known when the first field or the end of the head comes. */
static void start_line_ends(llhttp_t *p)
{
    struct seen *s = p->data;
    struct buf *b = now(s);
    if (memchr(b->data ? b->data : "", '\n', b->len))
        return;
    if (p->type == HTTP_RESPONSE)
        BUG_ON(buf_printf(b, "%d %u.%u\n", p->status_code, p->http_major, p->http_minor) != 0);
    else
        BUG_ON(buf_printf(b, "%u.%u\n", p->http_major, p->http_minor) != 0);
}

static bool in_trailer(const llhttp_t *p)
{
    return p->flags & F_TRAILING;
}

static int ll_value_complete(llhttp_t *p)
{
    struct seen *s = p->data;
    start_line_ends(p);
    if (!in_trailer(p))
        add_field(s, buf_str(&s->name), buf_str(&s->value));
    buf_clear(&s->name);
    buf_clear(&s->value);
    return 0;
}

static int ll_headers_complete(llhttp_t *p)
{
    start_line_ends(p);
    add(now(p->data), "\n", 1);
    return 0;
}

static int ll_body(llhttp_t *p, const char *at, size_t n)
{
    add(now(p->data), at, n);
    return 0;
}

static int ll_message_complete(llhttp_t *p)
{
    struct seen *s = p->data;
    s->n++;
    return s->n < MESSAGES_MAX - 1 ? 0 : HPE_PAUSED;
}

static llhttp_errno_t read_llhttp(bool request, const char *data, size_t size, struct seen *s)
{
    llhttp_t p;
    llhttp_settings_t settings;
    llhttp_settings_init(&settings);
    settings.on_url = ll_url;
    settings.on_url_complete = ll_url_complete;
    settings.on_header_field = ll_name;
    settings.on_header_value = ll_value;
    settings.on_header_value_complete = ll_value_complete;
    settings.on_headers_complete = ll_headers_complete;
    settings.on_body = ll_body;
    settings.on_message_complete = ll_message_complete;
    llhttp_init(&p, request ? HTTP_REQUEST : HTTP_RESPONSE, &settings);
    p.data = s;
    llhttp_errno_t rc = llhttp_execute(&p, data, size);
    return rc == HPE_OK ? llhttp_finish(&p) : rc;
}

/* --- Both ---------------------------------------------------------------------------------------------------------------------------- */

/* Where ours accepts more, on purpose:
 * - any method of capital letters: who serves decides, and llhttp has a list of them, some for other protocols only;
 * - any target of visible characters, for the same reason;
 * - Proxy-Connection is a field like any other, not a word about this connection;
 * - more of a message that llhttp has passed to another protocol. */
static bool differs(llhttp_errno_t rc, const struct seen *ours)
{
    switch (rc) {
    case HPE_INVALID_METHOD:
    case HPE_INVALID_CONSTANT:
    case HPE_INVALID_URL:
    case HPE_PAUSED:
    case HPE_PAUSED_UPGRADE: return true;
    case HPE_CLOSED_CONNECTION: return ours->proxy_connection;
    default: return false;
    }
}

static void compare(bool request, const char *data, size_t size)
{
    struct seen ours, theirs;
    seen_init(&ours);
    seen_init(&theirs);
    read_ours(request, data, size, &ours);
    llhttp_errno_t rc = read_llhttp(request, data, size, &theirs);
    for (size_t i = 0; i < ours.n; i++) {
        if (i >= theirs.n && differs(rc, &ours))
            break;
        if (i < theirs.n && str_eq(buf_str(&ours.text[i]), buf_str(&theirs.text[i])))
            continue;
        (void)fprintf(stderr, "message %zu\n-- ours:\n%s\n-- llhttp (%s, %zu messages):\n%s\n", i, buf_cstr(&ours.text[i]), llhttp_errno_name(rc),
                      theirs.n, i < theirs.n ? buf_cstr(&theirs.text[i]) : "");
        abort();
    }
    seen_release(&ours);
    seen_release(&theirs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 100000)
        return 0;
    compare(true, (const char *)data, size);
    compare(false, (const char *)data, size);
    return 0;
}
