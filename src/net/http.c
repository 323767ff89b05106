/* SPDX-License-Identifier: Apache-2.0 */
/* http — the strict HTTP/1.1 message parser.
 * A head is collected byte by byte (which refuses stray CR, LF and control bytes at once) and taken apart when it is complete; bodies are
 * passed on as they come.  Nothing that two readers could understand differently is accepted: one Host, Content-Length or chunked
 * and never both, no folding, no space around names, no bare line ends. */
#include "net/http.h"

#include <string.h>

#include "base/mem.h"

enum state {
    ST_HEAD,
    ST_LENGTH, /* `left` bytes of body */
    ST_UNTIL_EOF,
    ST_CHUNK_SIZE,
    ST_CHUNK_EXT,
    ST_CHUNK_LF, /* after the CR of a chunk's head */
    ST_CHUNK_DATA,
    ST_CHUNK_CR, /* after its data */
    ST_CHUNK_CRLF,
    ST_TRAILER,
    ST_DONE,
    ST_FAILED
};

struct http_parser {
    bool request;
    struct http_parser_handler handler;
    void *arg;
    enum state state;
    struct http_head head;
    struct buf lines; /* head or trailer as received */
    size_t line_start;
    unsigned n_lines;
    bool cr; /* the last byte was CR */
    bool no_body;
    bool last; /* the message said that none follows */
    uint64_t left;
    unsigned digits;
    unsigned ext;
    bool ext_value; /* behind the = of a parameter */
    bool ext_needs; /* a name or a value has not begun yet */
    struct err failure;
};

static bool is_token(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c && strchr("!#$%&'*+-.^_`|~", c));
}

/* Field values and reasons: visible bytes, space, tab, and what is beyond ASCII. */
static bool is_text(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = (uint8_t)s.p[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

void http_head_release(struct http_head *h)
{
    buf_release(&h->store);
    *h = (struct http_head){0};
}

const char *http_field(const struct http_head *h, const char *name)
{
    for (size_t i = 0; i < h->n_fields; i++) {
        if (strcmp(h->fields[i].name, name) == 0)
            return h->fields[i].value;
    }
    return NULL;
}

const char *http_field_once(const struct http_head *h, const char *name)
{
    const char *value = NULL;
    for (size_t i = 0; i < h->n_fields; i++) {
        if (strcmp(h->fields[i].name, name) != 0)
            continue;
        if (value)
            return NULL;
        value = h->fields[i].value;
    }
    return value;
}

struct http_parser *http_parser_new(bool request, const struct http_parser_handler *h, void *arg)
{
    struct http_parser *p = NEW(struct http_parser);
    p->request = request;
    p->handler = *h;
    p->arg = arg;
    buf_init(&p->lines, HTTP_HEAD_MAX);
    return p;
}

struct http_parser *http_parser_free(struct http_parser *p)
{
    if (!p)
        return NULL;
    buf_release(&p->lines);
    http_head_release(&p->head);
    free(p);
    return NULL;
}

void http_parser_no_body(struct http_parser *p)
{
    p->no_body = true;
}

void http_parser_reset(struct http_parser *p)
{
    if (p->state == ST_FAILED)
        return;
    p->state = ST_HEAD;
    buf_release(&p->lines);
    http_head_release(&p->head);
    p->line_start = 0;
    p->n_lines = 0;
    p->cr = p->no_body = false;
}

/* --- Heads ---------------------------------------------------------------------------------------------------------------------- */

static int parse_version(struct str v, int *ret_minor)
{
    if (str_eq(v, STR("HTTP/1.1")))
        *ret_minor = 1;
    else if (str_eq(v, STR("HTTP/1.0")))
        *ret_minor = 0;
    else
        return -(int)ERR_INVALID;
    return 0;
}

static int parse_request_line(struct http_head *h, char *line, size_t n, struct err *err)
{
    char *sp = memchr(line, ' ', n);
    size_t n_method = sp ? (size_t)(sp - line) : n;
    if (!sp || n_method == 0 || n_method >= sizeof(h->method))
        return err_set(err, ERR_INVALID, "malformed request line");
    for (size_t i = 0; i < n_method; i++) {
        if ((line[i] < 'A' || line[i] > 'Z') && line[i] != '-')
            return err_set(err, ERR_INVALID, "malformed request method");
    }
    memcpy(h->method, line, n_method);
    if (strcmp(h->method, "PRI") == 0) /* reserved: the preface of HTTP/2 */
        return err_set(err, ERR_INVALID, "malformed request method");
    char *target = sp + 1;
    char *end = memchr(target, ' ', (size_t)(line + n - target));
    if (!end || end == target)
        return err_set(err, ERR_INVALID, "malformed request line");
    for (char *c = target; c < end; c++) {
        if ((uint8_t)*c <= 0x20 || (uint8_t)*c >= 0x7f)
            return err_set(err, ERR_INVALID, "malformed request target");
    }
    if (parse_version((struct str){end + 1, (size_t)(line + n - end - 1)}, &h->minor) != 0)
        return err_set(err, ERR_INVALID, "unsupported HTTP version");
    *end = '\0';
    h->target = target;
    return 0;
}

static int parse_status_line(struct http_head *h, const char *line, size_t n, struct err *err)
{
    struct str rest = {line, n};
    if (parse_version(str_cut(&rest, ' '), &h->minor) != 0)
        return err_set(err, ERR_INVALID, "malformed or unsupported status line");
    struct str code = str_cut(&rest, ' ');
    uint64_t status = 0;
    if (code.n != 3 || str_to_u64(code, 599, &status) != 0 || status < 100 || !is_text(rest))
        return err_set(err, ERR_INVALID, "malformed status line");
    h->is_response = true;
    h->status = (int)status;
    return 0;
}

static int parse_field(struct http_head *h, char *line, size_t n, struct err *err)
{
    if (h->n_fields == HTTP_FIELDS_MAX)
        return err_set(err, ERR_EXHAUSTED, "more than %d header fields", HTTP_FIELDS_MAX);
    char *colon = memchr(line, ':', n);
    if (!colon || colon == line)
        return err_set(err, ERR_INVALID, "malformed header field");
    for (char *c = line; c < colon; c++) {
        if (!is_token((uint8_t)*c))
            return err_set(err, ERR_INVALID, "malformed header field name");
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    }
    *colon = '\0';
    struct str value = str_trim((struct str){colon + 1, (size_t)(line + n - colon - 1)});
    if (!is_text(value))
        return err_set(err, ERR_INVALID, "control byte in a header field value");
    line[value.p + value.n - line] = '\0'; /* at most the CR that ended the line */
    h->fields[h->n_fields++] = (struct http_field){line, value.p};
    return 0;
}

bool http_lists(const struct http_head *h, const char *name, struct str word, bool (*same)(struct str, struct str))
{
    for (size_t i = 0; i < h->n_fields; i++) {
        if (strcmp(h->fields[i].name, name) != 0)
            continue;
        struct str rest = str_from(h->fields[i].value);
        while (rest.n) {
            if (same(str_trim(str_cut(&rest, ',')), word))
                return true;
        }
    }
    return false;
}

static bool connection_says(const struct http_head *h, struct str option)
{
    return http_lists(h, "connection", option, str_eq_ci);
}

static int check_host(struct str host, struct err *err)
{
    for (size_t i = 0; i < host.n; i++) {
        uint8_t c = (uint8_t)host.p[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        if (!alnum && !(c && strchr(".-_~:[]%", c)))
            return err_set(err, ERR_INVALID, "malformed Host");
    }
    return 0;
}

/* Framing: the part where readers must not differ. */
static int parse_framing(struct http_head *h, struct err *err)
{
    unsigned hosts = 0, encodings = 0;
    for (size_t i = 0; i < h->n_fields; i++) {
        struct str value = str_from(h->fields[i].value);
        if (strcmp(h->fields[i].name, "host") == 0) {
            hosts++;
            if (check_host(value, err) != 0)
                return -(int)ERR_INVALID;
        } else if (strcmp(h->fields[i].name, "content-length") == 0) {
            if (h->has_length || value.n == 0 || str_to_u64(value, INT64_MAX, &h->length) != 0)
                return err_set(err, ERR_INVALID, "malformed or repeated Content-Length");
            h->has_length = true;
        } else if (strcmp(h->fields[i].name, "transfer-encoding") == 0) {
            if (encodings++ || !str_eq_ci(value, STR("chunked")) || h->minor == 0)
                return err_set(err, ERR_INVALID, "unsupported Transfer-Encoding");
            h->chunked = true;
        }
    }
    if (h->chunked && h->has_length)
        return err_set(err, ERR_INVALID, "both Content-Length and Transfer-Encoding");
    if (h->is_response && (h->status / 100 == 1 || h->status == 204) && (h->chunked || h->length))
        return err_set(err, ERR_INVALID, "a body where there is none");
    if (!h->is_response && (hosts > 1 || (hosts == 0 && h->minor == 1)))
        return err_set(err, ERR_INVALID, "exactly one Host is needed");
    h->keep_alive = !connection_says(h, STR("close")) && (h->minor == 1 || connection_says(h, STR("keep-alive")));
    h->upgrade = h->is_response ? h->status == 101 : connection_says(h, STR("upgrade")) && http_field(h, "upgrade");
    return 0;
}

static int finish_message(struct http_parser *p)
{
    p->state = ST_DONE;
    if (!p->head.keep_alive)
        p->last = true;
    return p->handler.on_end(p->arg);
}

static int begin_body(struct http_parser *p)
{
    struct http_head *h = &p->head;
    bool chunked = h->chunked, has_length = h->has_length;
    uint64_t length = h->length;
    bool none = h->is_response && (p->no_body || h->status / 100 == 1 || h->status == 204 || h->status == 304);
    bool until_eof = h->is_response && !none && !chunked && !has_length;
    if (until_eof)
        h->keep_alive = false;
    bool keep_alive = h->keep_alive;
    int rc = p->handler.on_head(p->arg, h);
    h->keep_alive = keep_alive; /* the handler may have moved the head away */
    if (rc < 0)
        return rc;
    if (none || (!chunked && !until_eof && length == 0))
        return finish_message(p);
    p->left = length;
    p->digits = 0;
    p->state = chunked ? ST_CHUNK_SIZE : until_eof ? ST_UNTIL_EOF : ST_LENGTH;
    if (chunked)
        p->left = 0;
    return 0;
}

/* All lines are in `lines`, each ended by CRLF, the empty one included. */
static int parse_head(struct http_parser *p, struct err *err)
{
    struct http_head *h = &p->head;
    h->store = p->lines;
    buf_init(&p->lines, HTTP_HEAD_MAX);
    char *line = h->store.data;
    for (unsigned i = 0; i + 1 < p->n_lines; i++) {
        char *end = strchr(line, '\r'); /* there is no NUL in it */
        size_t n = (size_t)(end - line);
        *end = '\0';
        int rc = i            ? parse_field(h, line, n, err)
                 : p->request ? parse_request_line(h, line, n, err)
                              : parse_status_line(h, line, n, err);
        if (rc < 0)
            return rc;
        line = end + 2;
    }
    int rc = parse_framing(h, err);
    return rc < 0 ? rc : begin_body(p);
}

static int parse_trailer(struct http_parser *p, struct err *err)
{
    struct http_head scratch = {.store = p->lines};
    buf_init(&p->lines, HTTP_HEAD_MAX);
    char *line = scratch.store.data;
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i + 1 < p->n_lines; i++) {
        char *end = strchr(line, '\r');
        *end = '\0';
        rc = parse_field(&scratch, line, (size_t)(end - line), err);
        line = end + 2;
    }
    static const char *const framing[] = {"content-length", "transfer-encoding", "host", "connection", "upgrade"};
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(framing); i++) {
        if (http_field(&scratch, framing[i]))
            rc = err_set(err, ERR_INVALID, "a trailer with %s", framing[i]);
    }
    http_head_release(&scratch);
    return rc < 0 ? rc : finish_message(p);
}

/* Takes bytes of a head or trailer until its empty line. */
static int feed_lines(struct http_parser *p, struct str bytes, size_t *used, struct err *err)
{
    for (size_t i = 0; i < bytes.n; i++) {
        uint8_t c = (uint8_t)bytes.p[i];
        if (p->cr != (c == '\n') || (c < 0x20 && c != '\t' && c != '\r' && c != '\n') || c == 0x7f)
            return err_set(err, ERR_INVALID, "stray control byte in a header");
        if (p->lines.len - p->line_start > HTTP_LINE_MAX + 1)
            return err_set(err, ERR_EXHAUSTED, "header line over %d bytes", HTTP_LINE_MAX);
        if (buf_append_byte(&p->lines, c) != 0)
            return err_set(err, ERR_EXHAUSTED, "header over %d bytes", HTTP_HEAD_MAX);
        p->cr = c == '\r';
        if (c != '\n')
            continue;
        bool empty = p->lines.len - p->line_start == 2;
        p->line_start = p->lines.len;
        if (++p->n_lines > HTTP_FIELDS_MAX + 2)
            return err_set(err, ERR_EXHAUSTED, "more than %d header fields", HTTP_FIELDS_MAX);
        if (!empty)
            continue;
        *used = i + 1;
        if (p->state == ST_TRAILER)
            return parse_trailer(p, err);
        return p->n_lines > 1 ? parse_head(p, err) : err_set(err, ERR_INVALID, "empty line where a message begins");
    }
    *used = bytes.n;
    return 0;
}

/* --- Bodies --------------------------------------------------------------------------------------------------------------------- */

static int bad_chunk(struct err *err)
{
    return err_set(err, ERR_INVALID, "malformed chunk");
}

/* Of "name=value;name": tokens only, and none of them empty. */
static bool extension_byte(struct http_parser *p, uint8_t c)
{
    if (is_token(c)) {
        p->ext_needs = false;
        return true;
    }
    bool ok = !p->ext_needs && (c == ';' || (c == '=' && !p->ext_value));
    p->ext_value = c == '=';
    p->ext_needs = true;
    return ok;
}

static void begin_trailer(struct http_parser *p)
{
    buf_clear(&p->lines);
    p->line_start = 0;
    p->n_lines = 0;
    p->cr = false;
    p->state = ST_TRAILER;
}

/* One byte of a chunk's framing. */
static int chunk_byte(struct http_parser *p, uint8_t c, struct err *err)
{
    int digit;
    switch (p->state) {
    case ST_CHUNK_SIZE:
        digit = str_hex_digit((char)c);
        if (digit >= 0) {
            if (++p->digits > 15)
                return err_set(err, ERR_INVALID, "chunk size too large");
            p->left = p->left * 16 + (unsigned)digit;
        } else if (p->digits == 0) {
            return bad_chunk(err);
        } else if (c == ';') {
            p->ext = 0;
            p->ext_value = false;
            p->ext_needs = true;
            p->state = ST_CHUNK_EXT;
        } else if (c == '\r') {
            p->state = ST_CHUNK_LF;
        } else {
            return bad_chunk(err);
        }
        return 0;
    case ST_CHUNK_EXT:
        if (c == '\r' && !p->ext_needs)
            p->state = ST_CHUNK_LF;
        else if (!extension_byte(p, c))
            return bad_chunk(err);
        else if (++p->ext > HTTP_CHUNK_EXT_MAX)
            return err_set(err, ERR_EXHAUSTED, "chunk extension over %d bytes", HTTP_CHUNK_EXT_MAX);
        return 0;
    case ST_CHUNK_LF:
        if (c != '\n')
            return bad_chunk(err);
        if (p->left)
            p->state = ST_CHUNK_DATA;
        else
            begin_trailer(p);
        return 0;
    case ST_CHUNK_CR:
        if (c != '\r')
            return bad_chunk(err);
        p->state = ST_CHUNK_CRLF;
        return 0;
    default:
        if (c != '\n')
            return bad_chunk(err);
        p->digits = 0;
        p->state = ST_CHUNK_SIZE;
        return 0;
    }
}

static int feed_data(struct http_parser *p, struct str bytes, size_t *used)
{
    size_t n = bytes.n;
    if (p->state != ST_UNTIL_EOF && n > p->left)
        n = (size_t)p->left;
    *used = n;
    int rc = p->handler.on_body(p->arg, (struct str){bytes.p, n});
    if (rc < 0 || p->state == ST_UNTIL_EOF)
        return rc;
    p->left -= n;
    if (p->left)
        return 0;
    if (p->state == ST_CHUNK_DATA) {
        p->state = ST_CHUNK_CR;
        return 0;
    }
    return finish_message(p);
}

static int feed_step(struct http_parser *p, struct str bytes, size_t *used, struct err *err)
{
    switch (p->state) {
    case ST_HEAD:
        if (p->last)
            return err_set(err, ERR_INVALID, "bytes after the last message");
        return feed_lines(p, bytes, used, err);
    case ST_TRAILER: return feed_lines(p, bytes, used, err);
    case ST_LENGTH:
    case ST_UNTIL_EOF:
    case ST_CHUNK_DATA: return feed_data(p, bytes, used);
    case ST_FAILED:
        if (err)
            *err = p->failure;
        return -(int)p->failure.code;
    default: *used = 1; return chunk_byte(p, (uint8_t)bytes.p[0], err);
    }
}

int http_parser_feed(struct http_parser *p, struct str bytes, size_t *ret_used, struct err *err)
{
    *ret_used = 0;
    while (bytes.n && p->state != ST_DONE) {
        size_t used = 0;
        struct err e = ERR_INIT;
        int rc = feed_step(p, bytes, &used, &e);
        if (rc < 0) {
            if (e.code == ERR_OK) /* a handler's own */
                err_set(&e, (enum err_code) - rc, "message refused");
            p->failure = e;
            p->state = ST_FAILED;
            if (err)
                *err = e;
            return rc;
        }
        *ret_used += used;
        bytes.p += used;
        bytes.n -= used;
    }
    return 0;
}

int http_parser_eof(struct http_parser *p, struct err *err)
{
    if (p->state == ST_DONE || (p->state == ST_HEAD && p->lines.len == 0))
        return 0;
    if (p->state == ST_UNTIL_EOF)
        return finish_message(p);
    return err_set(err, ERR_DATA_LOSS, "connection ended inside a message");
}

int http_escape(struct buf *out, struct str s)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = (uint8_t)s.p[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c && strchr("-._~", c));
        char esc[3] = {'%', hex[c >> 4], hex[c & 15]};
        int rc = plain ? buf_append_byte(out, c) : buf_append(out, esc, 3);
        if (rc < 0)
            return rc;
    }
    return 0;
}
