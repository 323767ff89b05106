/* SPDX-License-Identifier: Apache-2.0 */
/* json — the reader: tokens first, then the typed helpers on top of them, see json.h. The writer is in jsonw.c. */
#include "base/json.h"

#include <string.h>

enum { NUMBER_MAX = 64 };

/* What may come next. */
enum state {
    WANT_VALUE,
    WANT_FIRST_ITEM, /* a value, or the end of the array */
    WANT_FIRST_KEY,  /* a key, or the end of the object */
    WANT_MORE,       /* a comma or the end of the container */
    WANT_END,        /* nothing but blanks */
    FAILED
};

void json_init(struct json *j, struct str text)
{
    /* Unescaping never makes a string longer, so the text bounds the scratch. */
    *j = (struct json){.text = text, .state = WANT_VALUE, .scratch = BUF_INIT(text.n)};
}

void json_release(struct json *j)
{
    buf_release(&j->scratch);
}

/* The first failure stays: position and reason are kept for the calls that follow. */
static int fail(struct json *j, const char *why, struct err *err)
{
    if (j->state != FAILED) {
        j->state = FAILED;
        j->why = why;
    }
    return err_set(err, ERR_INVALID, "JSON: %s at byte %zu", j->why, j->pos);
}

static void skip_blanks(struct json *j)
{
    while (j->pos < j->text.n) {
        char c = j->text.p[j->pos];
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
            break;
        j->pos++;
    }
}

/* The next byte, or -1 at the end. */
static int peek(const struct json *j)
{
    return j->pos < j->text.n ? (unsigned char)j->text.p[j->pos] : -1;
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool in_array(const struct json *j)
{
    return j->depth > 0 && j->stack[j->depth - 1] == '[';
}

static void after_value(struct json *j)
{
    j->state = j->depth > 0 ? WANT_MORE : WANT_END;
}

/* Four hex digits at @pos + @at, or -1. */
static int32_t hex4(const struct json *j, size_t at)
{
    unsigned char b[2];

    if (j->text.n - j->pos < at + 4 || str_unhex((struct str){j->text.p + j->pos + at, 4}, b, sizeof(b), NULL) < 0)
        return -1;
    return b[0] << 8 | b[1];
}

static int put_rune(struct buf *b, uint32_t c)
{
    uint8_t u[4];
    size_t n;

    if (c < 0x80) {
        u[0] = (uint8_t)c;
        n = 1;
    } else if (c < 0x800) {
        u[0] = (uint8_t)(0xc0 | c >> 6);
        n = 2;
    } else if (c < 0x10000) {
        u[0] = (uint8_t)(0xe0 | c >> 12);
        n = 3;
    } else {
        u[0] = (uint8_t)(0xf0 | c >> 18);
        n = 4;
    }
    for (size_t i = 1; i < n; i++)
        u[i] = (uint8_t)(0x80 | (c >> (6 * (n - 1 - i)) & 0x3f));
    return buf_append(b, u, n);
}

/* Behind a backslash; a surrogate must have its other half. */
static int unescape(struct json *j, struct err *err)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    int c = peek(j);
    const char *at = c > 0 ? strchr(from, c) : NULL;
    int32_t hi, lo;

    if (at != NULL) {
        j->pos++;
        return buf_append_byte(&j->scratch, (uint8_t)to[at - from]);
    }
    hi = c == 'u' ? hex4(j, 1) : -1;
    if (hi < 0)
        return fail(j, "bad escape", err);
    if (hi < 0xd800 || hi > 0xdfff) {
        j->pos += 5;
        return put_rune(&j->scratch, (uint32_t)hi);
    }
    if (hi > 0xdbff || j->text.n - j->pos < 11 || j->text.p[j->pos + 5] != '\\' || j->text.p[j->pos + 6] != 'u')
        return fail(j, "lone surrogate", err);
    lo = hex4(j, 7);
    if (lo < 0xdc00 || lo > 0xdfff)
        return fail(j, "lone surrogate", err);
    j->pos += 11;
    return put_rune(&j->scratch, 0x10000 + ((uint32_t)(hi - 0xd800) << 10) + (uint32_t)(lo - 0xdc00));
}

/* At the opening quote. The value borrows the text as long as nothing is escaped. */
static int read_quoted(struct json *j, struct err *err)
{
    size_t start = ++j->pos, run = start; /* run: start of what is not yet in the scratch */
    bool escaped = false;
    int rc;

    buf_clear(&j->scratch);
    for (;;) {
        int c = peek(j);
        if (c == '"')
            break;
        if (c < 0x20)
            return fail(j, c < 0 ? "unfinished string" : "control character in a string", err);
        if (c == '\\') {
            escaped = true;
            rc = buf_append(&j->scratch, j->text.p + run, j->pos - run);
            j->pos++;
            if (rc == 0)
                rc = unescape(j, err);
            if (rc < 0)
                return j->state == FAILED ? rc : fail(j, "string too long", err);
            run = j->pos;
            continue;
        }
        size_t len = c < 0x80 ? 1 : str_utf8_len((struct str){j->text.p + j->pos, j->text.n - j->pos});
        if (len == 0)
            return fail(j, "invalid UTF-8", err);
        j->pos += len;
    }
    if (!escaped)
        j->value = (struct str){j->text.p + start, j->pos - start};
    else if (buf_append(&j->scratch, j->text.p + run, j->pos - run) < 0)
        return fail(j, "string too long", err);
    else
        j->value = buf_str(&j->scratch);
    j->pos++;
    return 0;
}

static size_t skip_digits(struct json *j)
{
    size_t start = j->pos;

    while (is_digit(peek(j)))
        j->pos++;
    return j->pos - start;
}

static int read_number(struct json *j, struct err *err)
{
    size_t start = j->pos;

    if (peek(j) == '-')
        j->pos++;
    if (peek(j) == '0')
        j->pos++;
    else if (skip_digits(j) == 0)
        return fail(j, "bad number", err);
    if (is_digit(peek(j)))
        return fail(j, "number with a leading zero", err);
    if (peek(j) == '.') {
        j->pos++;
        if (skip_digits(j) == 0)
            return fail(j, "bad fraction", err);
    }
    if (peek(j) == 'e' || peek(j) == 'E') {
        j->pos++;
        if (peek(j) == '+' || peek(j) == '-')
            j->pos++;
        if (skip_digits(j) == 0)
            return fail(j, "bad exponent", err);
    }
    if (j->pos - start > NUMBER_MAX)
        return fail(j, "number too long", err);
    j->value = (struct str){j->text.p + start, j->pos - start};
    return 0;
}

static int read_word(struct json *j, struct str word, struct err *err)
{
    if (!str_starts((struct str){j->text.p + j->pos, j->text.n - j->pos}, word))
        return fail(j, "unknown word", err);
    j->pos += word.n;
    return 0;
}

static int open_container(struct json *j, char c, struct err *err)
{
    if (j->depth >= JSON_DEPTH_MAX)
        return fail(j, "nested too deeply", err);
    j->stack[j->depth++] = (uint8_t)c;
    j->pos++;
    j->state = c == '[' ? WANT_FIRST_ITEM : WANT_FIRST_KEY;
    return 0;
}

static int read_value(struct json *j, enum json_type *ret, struct err *err)
{
    int c = peek(j), rc;

    if (c == '{' || c == '[') {
        *ret = c == '{' ? JSON_OBJECT : JSON_ARRAY;
        return open_container(j, (char)c, err);
    }
    if (c == '"') {
        *ret = JSON_STRING;
        rc = read_quoted(j, err);
    } else if (c == '-' || is_digit(c)) {
        *ret = JSON_NUMBER;
        rc = read_number(j, err);
    } else if (c == 't' || c == 'f') {
        *ret = JSON_BOOL;
        j->boolean = c == 't';
        rc = read_word(j, c == 't' ? STR("true") : STR("false"), err);
    } else if (c == 'n') {
        *ret = JSON_NULL;
        rc = read_word(j, STR("null"), err);
    } else {
        rc = fail(j, c < 0 ? "unexpected end" : "value expected", err);
    }
    if (rc == 0)
        after_value(j);
    return rc;
}

static int read_key(struct json *j, enum json_type *ret, struct err *err)
{
    int rc;

    if (peek(j) != '"')
        return fail(j, peek(j) < 0 ? "unexpected end" : "key expected", err);
    rc = read_quoted(j, err);
    if (rc < 0)
        return rc;
    skip_blanks(j);
    if (peek(j) != ':')
        return fail(j, "':' expected", err);
    j->pos++;
    j->state = WANT_VALUE;
    *ret = JSON_KEY;
    return 0;
}

static int close_container(struct json *j, enum json_type *ret)
{
    *ret = in_array(j) ? JSON_ARRAY_END : JSON_OBJECT_END;
    j->pos++;
    j->depth--;
    after_value(j);
    return 0;
}

int json_next(struct json *j, enum json_type *ret, struct err *err)
{
    char close = in_array(j) ? ']' : '}';

    j->value = STR("");
    if (j->state == FAILED)
        return fail(j, NULL, err);
    skip_blanks(j);
    switch ((enum state)j->state) {
    case WANT_FIRST_ITEM:
        return peek(j) == close ? close_container(j, ret) : read_value(j, ret, err);
    case WANT_FIRST_KEY:
        return peek(j) == close ? close_container(j, ret) : read_key(j, ret, err);
    case WANT_MORE:
        if (peek(j) == close)
            return close_container(j, ret);
        if (peek(j) != ',')
            return fail(j, peek(j) < 0 ? "unexpected end" : "',' or end expected", err);
        j->pos++;
        skip_blanks(j);
        return in_array(j) ? read_value(j, ret, err) : read_key(j, ret, err);
    case WANT_END:
        if (peek(j) >= 0)
            return fail(j, "text after the value", err);
        *ret = JSON_END;
        return 0;
    case WANT_VALUE:
    case FAILED:
        break;
    }
    return read_value(j, ret, err);
}

int json_skip(struct json *j, struct err *err)
{
    enum json_type type;
    unsigned depth = j->depth;
    int rc = json_next(j, &type, err);

    if (rc < 0)
        return rc;
    if (type == JSON_KEY || type == JSON_END || type == JSON_OBJECT_END || type == JSON_ARRAY_END)
        return fail(j, "value expected", err);
    while (j->depth > depth) {
        rc = json_next(j, &type, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int json_enter(struct json *j, enum json_type object_or_array, struct err *err)
{
    enum json_type type;
    int rc = json_next(j, &type, err);

    if (rc < 0)
        return rc;
    if (type != object_or_array)
        return fail(j, object_or_array == JSON_OBJECT ? "object expected" : "array expected", err);
    return 0;
}

int json_key(struct json *j, struct str *ret_key, struct err *err)
{
    enum json_type type;
    int rc = json_next(j, &type, err);

    if (rc < 0)
        return rc;
    if (type == JSON_OBJECT_END)
        return 0;
    if (type != JSON_KEY)
        return fail(j, "key expected", err);
    *ret_key = j->value;
    return 1;
}

int json_item(struct json *j, struct err *err)
{
    enum json_type type;

    if (j->state == FAILED || !in_array(j))
        return fail(j, "not in an array", err);
    skip_blanks(j);
    if (j->state == WANT_VALUE)
        return 1;
    if (peek(j) == ']') {
        int rc = json_next(j, &type, err);
        return rc < 0 ? rc : 0;
    }
    if (j->state == WANT_MORE) {
        if (peek(j) != ',')
            return fail(j, peek(j) < 0 ? "unexpected end" : "',' or end expected", err);
        j->pos++;
    }
    j->state = WANT_VALUE;
    return 1;
}

/* A scalar of @want; `null` is reported as 1. */
static int scalar(struct json *j, enum json_type want, const char *why, struct err *err)
{
    enum json_type type = JSON_NULL;
    int rc = json_next(j, &type, err);

    if (rc < 0)
        return rc;
    if (type == JSON_NULL)
        return 1;
    return type == want ? 0 : fail(j, why, err);
}

int json_read_str(struct json *j, struct str *ret, struct err *err)
{
    int rc = scalar(j, JSON_STRING, "string expected", err);

    if (rc < 0)
        return rc;
    *ret = j->value;
    return 0;
}

int json_read_string(struct json *j, char **ret, struct err *err)
{
    struct str s;
    int rc = json_read_str(j, &s, err);

    if (rc < 0)
        return rc;
    /* A C string would end at the first NUL: what is checked and what is used must not differ. */
    if (s.n > 0 && memchr(s.p, '\0', s.n) != NULL)
        return fail(j, "NUL in a string", err);
    *ret = str_dup(s);
    return 0;
}

/* Magnitude of an integral number in any spelling ("1e3", "12.0"). */
static bool integral(struct str s, uint64_t *ret, bool *ret_negative)
{
    uint64_t v = 0, e = 0;
    size_t i = 0, shift = 0, zeros = 0; /* zeros: seen but not yet multiplied in */
    bool fraction = false, down = false;

    *ret_negative = s.p[0] == '-';
    for (i = *ret_negative; i < s.n && (is_digit(s.p[i]) || s.p[i] == '.'); i++) {
        if (s.p[i] == '.') {
            fraction = true;
            continue;
        }
        shift += fraction;
        zeros++;
        if (s.p[i] == '0')
            continue;
        for (; zeros > 0; zeros--) {
            if (__builtin_mul_overflow(v, 10u, &v))
                return false;
        }
        if (__builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v))
            return false;
    }
    if (v == 0) {
        *ret = 0;
        return true;
    }
    if (i < s.n) {
        down = s.p[++i] == '-';
        i += down || s.p[i] == '+';
        if (str_to_u64((struct str){s.p + i, s.n - i}, 100, &e) < 0)
            return false;
    }
    /* The value is v * 10^(zeros - shift + e). */
    if (zeros + (down ? 0 : e) < shift + (down ? e : 0))
        return false;
    for (e = zeros + (down ? 0 : e) - shift - (down ? e : 0); e > 0; e--) {
        if (__builtin_mul_overflow(v, 10u, &v))
            return false;
    }
    *ret = v;
    return true;
}

int json_read_i64(struct json *j, int64_t *ret, struct err *err)
{
    uint64_t v = 0;
    bool negative = false;
    int rc = scalar(j, JSON_NUMBER, "number expected", err);

    if (rc < 0)
        return rc;
    if (rc == 0 && (!integral(j->value, &v, &negative) || v > (uint64_t)INT64_MAX + negative))
        return fail(j, "number is not a 64-bit integer", err);
    *ret = negative ? (int64_t)(0 - v) : (int64_t)v;
    return 0;
}

int json_read_u64(struct json *j, uint64_t *ret, struct err *err)
{
    uint64_t v = 0;
    bool negative = false;
    int rc = scalar(j, JSON_NUMBER, "number expected", err);

    if (rc < 0)
        return rc;
    if (rc == 0 && (!integral(j->value, &v, &negative) || (negative && v > 0)))
        return fail(j, "number is not an unsigned 64-bit integer", err);
    *ret = v;
    return 0;
}

int json_read_bool(struct json *j, bool *ret, struct err *err)
{
    int rc = scalar(j, JSON_BOOL, "true or false expected", err);

    if (rc < 0)
        return rc;
    *ret = rc == 0 && j->boolean;
    return 0;
}

int json_read_raw(struct json *j, struct str *ret, struct err *err)
{
    size_t start;
    int rc;

    /* Past the comma, which is no part of the value. */
    if (in_array(j) && j->state != FAILED) {
        rc = json_item(j, err);
        if (rc <= 0)
            return rc < 0 ? rc : fail(j, "value expected", err);
    }
    skip_blanks(j);
    start = j->pos;
    rc = json_skip(j, err);
    if (rc < 0)
        return rc;
    *ret = (struct str){j->text.p + start, j->pos - start};
    return 0;
}
