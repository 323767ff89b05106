/* SPDX-License-Identifier: Apache-2.0 */
/* secret_input — see secret_input.h. */
#include "cli/secret_input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

enum { KEY_INTERRUPT = 3, KEY_END = 4, KEY_BACK = 8, KEY_KILL = 21, KEY_DELETE = 127 };

/* One key. 0, 1: the line is complete; -ERR_CANCELLED. */
static int key(struct buf *line, unsigned char c, size_t max)
{
    switch (c) {
    case '\r':
    case '\n': return 1;
    case KEY_INTERRUPT: return -(int)ERR_CANCELLED;
    case KEY_END: return line->len ? 1 : -(int)ERR_CANCELLED;
    case KEY_KILL: buf_clear(line); return 0;
    case KEY_BACK:
    case KEY_DELETE:
        /* The whole of a character. */
        while (line->len && ((unsigned char)line->data[line->len - 1] & 0xc0) == 0x80)
            line->len--;
        line->len -= line->len > 0;
        return 0;
    default: return line->len < max ? buf_append_byte(line, c) : 0;
    }
}

/* Keys one by one: a signal that ended the program in between would leave the terminal without echo. */
static int ask(const char *prompt, size_t max, struct buf *line, struct err *err)
{
    struct termios before, quiet;
    int rc = 0;
    if (tcgetattr(STDIN_FILENO, &before) < 0)
        return err_sys(err, errno, "the terminal cannot be asked");
    quiet = before;
    quiet.c_lflag &= ~(tcflag_t)(ECHO | ICANON | ISIG);
    (void)fprintf(stderr, "%s: ", prompt);
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    while (rc == 0) {
        unsigned char c;
        ssize_t n = read(STDIN_FILENO, &c, 1);
        rc = n == 1 ? key(line, c, max) : n < 0 && errno == EINTR ? 0 : -(int)ERR_CANCELLED;
    }
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    (void)fputc('\n', stderr);
    return rc < 0 ? err_set(err, ERR_CANCELLED, "given up") : 0;
}

static int read_all(int fd, size_t max, struct buf *out, const char *what, struct err *err)
{
    for (;;) {
        /* One more than fits, and room for the newline that does not count. */
        char *to = buf_reserve(out, max + 3 - out->len);
        BUG_ON(!to);
        ssize_t n = read(fd, to, max + 3 - out->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "%s cannot be read", what);
        if (n == 0)
            return 0;
        buf_commit(out, (size_t)n);
        if (out->len >= max + 3)
            return err_set(err, ERR_EXHAUSTED, "%s is longer than %zu bytes", what, max);
    }
}

static int read_file(const char *path, size_t max, struct buf *out, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "%s cannot be opened", path);
    int rc = read_all(fd, max, out, path, err);
    (void)close(fd);
    return rc;
}

static int keep(struct str s, size_t max, struct secret **ret, struct err *err)
{
    if (s.n > max)
        return err_set(err, ERR_EXHAUSTED, "longer than %zu bytes", max);
    if (!str_is_utf8(s) || memchr(s.p, '\0', s.n))
        return err_set(err, ERR_INVALID, "it is not UTF-8 text: encode other bytes, for example with base64");
    *ret = secret_new(s);
    return 0;
}

int secret_input(const char *path, const char *prompt, size_t max, struct secret **ret, struct err *err)
{
    AUTO_SECRET_BUF text = BUF_INIT(max + 4);
    int rc;
    BUG_ON(!buf_reserve(&text, max + 4));
    if (path && strcmp(path, "-") != 0)
        rc = read_file(path, max, &text, err);
    else if (!path && isatty(STDIN_FILENO))
        rc = ask(prompt, max, &text, err);
    else
        rc = read_all(STDIN_FILENO, max, &text, "standard input", err);
    if (rc < 0)
        return rc;
    struct str s = buf_str(&text);
    if (s.n && s.p[s.n - 1] == '\n')
        s.n--;
    if (s.n && s.n < text.len && s.p[s.n - 1] == '\r')
        s.n--;
    return keep(s, max, ret, err);
}

int secret_input_whole(const char *path, size_t max, struct secret **ret, struct err *err)
{
    AUTO_SECRET_BUF text = BUF_INIT(max + 4);
    BUG_ON(!buf_reserve(&text, max + 4));
    int rc = strcmp(path, "-") == 0 ? read_all(STDIN_FILENO, max, &text, "standard input", err) : read_file(path, max, &text, err);
    return rc < 0 ? rc : keep(buf_str(&text), max, ret, err);
}
