/* SPDX-License-Identifier: Apache-2.0 */
/* out — see out.h. */
#include "cli/out.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"

enum { JSON_OUT_MAX = 64 * 1024 * 1024 };

void out_table_init(struct out_table *t, const char *const *heads)
{
    *t = (struct out_table){0};
    while (heads[t->n_cols] && t->n_cols < OUT_COLS_MAX) {
        t->heads[t->n_cols] = heads[t->n_cols];
        t->n_cols++;
    }
}

void out_table_row(struct out_table *t, char **cells)
{
    if (t->n_rows == t->cap_rows) {
        t->cap_rows = t->cap_rows ? t->cap_rows * 2 : 16;
        t->cells = realloc(t->cells, t->cap_rows * t->n_cols * sizeof(char *));
        BUG_ON(!t->cells);
    }
    for (size_t i = 0; i < t->n_cols; i++) {
        AUTO_FREE char *raw = cells[i];
        t->cells[t->n_rows * t->n_cols + i] = out_clean(str_from(raw && *raw ? raw : "-"));
    }
    t->n_rows++;
}

/* Code points, which is close enough to columns for names and numbers. */
static size_t width(const char *s)
{
    size_t n = 0;

    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void print_cell(const char *text, size_t pad, bool last)
{
    fputs(text, stdout);
    if (last)
        fputc('\n', stdout);
    else
        for (size_t n = width(text); n < pad + 2; n++)
            fputc(' ', stdout);
}

void out_table_print(const struct cli *cli, const struct out_table *t)
{
    size_t pads[OUT_COLS_MAX];

    for (size_t c = 0; c < t->n_cols; c++) {
        pads[c] = width(t->heads[c]);
        for (size_t r = 0; r < t->n_rows; r++) {
            size_t w = width(t->cells[r * t->n_cols + c]);
            pads[c] = w > pads[c] ? w : pads[c];
        }
    }
    fputs(out_color(cli, OUT_BOLD), stdout);
    for (size_t c = 0; c < t->n_cols; c++)
        print_cell(t->heads[c], pads[c], c + 1 == t->n_cols);
    fputs(out_color(cli, OUT_PLAIN), stdout);
    for (size_t r = 0; r < t->n_rows; r++)
        for (size_t c = 0; c < t->n_cols; c++)
            print_cell(t->cells[r * t->n_cols + c], pads[c], c + 1 == t->n_cols);
}

void out_table_release(struct out_table *t)
{
    for (size_t i = 0; i < t->n_rows * t->n_cols; i++)
        free(t->cells[i]);
    free(t->cells);
    *t = (struct out_table){0};
}

int out_message(const ProtobufCMessage *message, struct err *err)
{
    AUTO_BUF text = BUF_INIT(JSON_OUT_MAX);
    int rc = rpc_to_json(message, &text, err);

    if (rc < 0)
        return rc;
    fwrite(text.data, 1, text.len, stdout);
    fputc('\n', stdout);
    fflush(stdout);
    return 0;
}

/* C0, DEL, and C1 in UTF-8 (U+0080..U+009F), which terminals obey as well; line separators and bidirectional
 * overrides, which lie about order. */
static bool harmless(struct str seq)
{
    const unsigned char *p = (const unsigned char *)seq.p;

    if (seq.n == 1)
        return p[0] >= 0x20 && p[0] != 0x7f;
    if (seq.n == 2 && p[0] == 0xc2)
        return p[1] >= 0xa0;
    if (seq.n == 3 && p[0] == 0xe2 && p[1] == 0x80)
        return p[2] < 0xa8 || p[2] > 0xae;
    if (seq.n == 3 && p[0] == 0xe2 && p[1] == 0x81)
        return p[2] < 0xa6 || p[2] > 0xa9;
    return true;
}

char *out_clean(struct str s)
{
    AUTO_BUF out = BUF_INIT(s.n * 4 + 1);

    while (s.n > 0) {
        size_t n = str_utf8_len(s);
        if (n > 0 && harmless((struct str){s.p, n})) {
            (void)buf_append(&out, s.p, n);
        } else {
            n = n ? n : 1;
            for (size_t i = 0; i < n; i++)
                (void)buf_printf(&out, "\\x%02x", (unsigned char)s.p[i]);
        }
        s.p += n;
        s.n -= n;
    }
    return out.len ? buf_take(&out) : str_dup(STR(""));
}

char *out_age(usec_t since_us)
{
    usec_t now = clock_real();
    unsigned long long s;

    if (since_us == 0)
        return str_dup(STR("-"));
    s = since_us > now ? 0 : (now - since_us) / USEC_SEC;
    if (s < 60)
        return str_printf("%llus", s);
    if (s < 3600)
        return str_printf("%llum", s / 60);
    if (s < 86400)
        return str_printf("%lluh %llum", s / 3600, s / 60 % 60);
    return str_printf("%llud %lluh", s / 86400, s / 3600 % 24);
}

char *out_bytes(uint64_t n)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    uint64_t whole = n;
    size_t u = 0;

    if (n < 1024)
        return str_printf("%llu B", (unsigned long long)n);
    for (whole = n; whole >= 1024 * 1024 && u + 1 < ARRAY_LEN(units); u++)
        whole /= 1024;
    return str_printf("%.1f %s", (double)whole / 1024.0, units[u]);
}

char *out_time(usec_t real_us)
{
    char text[CLOCK_TEXT_SIZE];

    if (real_us == 0)
        return str_dup(STR("-"));
    clock_format(real_us, 0, text);
    text[10] = ' ';
    text[19] = 0;
    return str_dup(str_from(text));
}

const char *out_color(const struct cli *cli, enum out_color c)
{
    static const char *const codes[] = {
        [OUT_PLAIN] = "\x1b[0m", [OUT_GREEN] = "\x1b[32m", [OUT_RED] = "\x1b[31m",
        [OUT_YELLOW] = "\x1b[33m", [OUT_DIM] = "\x1b[2m", [OUT_BOLD] = "\x1b[1m",
    };

    return cli->color ? codes[c] : "";
}

static void error_json(const struct err *err)
{
    AUTO_BUF text = BUF_INIT(16384);
    struct jsonw w;

    jsonw_init(&w, &text);
    jsonw_object(&w);
    jsonw_key(&w, "error");
    jsonw_object(&w);
    jsonw_key(&w, "code");
    jsonw_string(&w, err_code_name(err->code));
    jsonw_key(&w, "message");
    jsonw_string(&w, err->msg);
    jsonw_key(&w, "hint");
    jsonw_string(&w, err->hint);
    jsonw_object_end(&w);
    jsonw_object_end(&w);
    if (jsonw_end(&w) == 0)
        fprintf(stderr, "%s\n", buf_cstr(&text));
}

void out_error(const struct cli *cli, const struct err *err)
{
    AUTO_FREE char *msg = out_clean(str_from(err->msg));
    AUTO_FREE char *hint = out_clean(str_from(err->hint));
    bool color = cli->progress && cli->color;

    if (cli->json) {
        error_json(err);
        return;
    }
    fprintf(stderr, "%sdavit:%s %s\n", color ? "\x1b[31m" : "", color ? "\x1b[0m" : "", *msg ? msg : err_code_name(err->code));
    if (*hint)
        fprintf(stderr, "  hint: %s\n", hint);
}

void out_note(const struct cli *cli, const char *fmt, ...)
{
    va_list ap;

    if (cli->json)
        return;
    (void)fflush(stdout); /* both may go into one pipe */
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}
