/* SPDX-License-Identifier: Apache-2.0 */
/* takeover — see takeover.h. */
#include "host/link/takeover.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "loop/stream.h"

struct takeover {
    struct stream *stream;
    struct buf in; /* what was not heard yet */
    bool gone, flooded;
    struct event changed;
};

static void on_read(void *arg, const void *p, size_t n)
{
    struct takeover *t = arg;
    if (buf_append(&t->in, p, n) < 0) {
        t->flooded = true;
        stream_read_stop(t->stream);
    }
    event_pulse(&t->changed);
}

static void on_eof(void *arg)
{
    struct takeover *t = arg;
    t->gone = true;
    event_pulse(&t->changed);
}

static void on_error(void *arg, int rc)
{
    (void)rc;
    on_eof(arg);
}

static const struct stream_handler handler = {.on_read = on_read, .on_eof = on_eof, .on_error = on_error};

int takeover_open(struct loop *loop, int fd, struct takeover **ret, struct err *err)
{
    struct stream *stream = NULL;
    int flags = fcntl(fd, F_GETFL);
    int rc = flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0
                 ? stream_from_fd(loop, fd, &stream, err)
                 : err_set(err, ERR_INVALID, "descriptor %d is not that of an agent that is to be followed", fd);
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    struct takeover *t = NEW(struct takeover);
    t->stream = stream;
    buf_init(&t->in, 4 * TAKEOVER_LINE_MAX);
    event_init(&t->changed, loop);
    stream_set_handler(stream, &handler, t);
    stream_read_start(stream);
    *ret = t;
    return 0;
}

struct takeover *takeover_close(struct takeover *t)
{
    if (!t)
        return NULL;
    (void)stream_close(t->stream);
    event_release(&t->changed);
    buf_release(&t->in);
    free(t);
    return NULL;
}

void takeover_say(struct takeover *t, const char *word, const char *text)
{
    AUTO_BUF line = BUF_INIT(TAKEOVER_LINE_MAX);
    int rc = buf_printf(&line, "%s%s%.400s", word, text ? " " : "", text ? text : "");
    for (size_t i = 0; i < line.len; i++)
        if (line.data[i] == '\n')
            line.data[i] = ' ';
    if (rc == 0 && buf_append_byte(&line, '\n') == 0)
        (void)stream_write(t->stream, line.data, line.len);
}

/* The next whole line is taken out: 0, or 1: none yet. */
static int next_line(struct takeover *t, char ret[TAKEOVER_LINE_MAX], struct err *err)
{
    struct str rest = buf_str(&t->in);
    if (!rest.n || !memchr(rest.p, '\n', rest.n)) {
        if (t->flooded || rest.n >= TAKEOVER_LINE_MAX)
            return err_set(err, ERR_INVALID, "the other agent says what is no line");
        return 1;
    }
    struct str line = str_cut(&rest, '\n');
    size_t used = line.n + 1;
    if (str_copy(ret, TAKEOVER_LINE_MAX, line) != 0 || memchr(line.p, '\0', line.n))
        return err_set(err, ERR_INVALID, "the other agent says what is no line");
    buf_consume(&t->in, used);
    return 0;
}

int takeover_hear(struct takeover *t, const char *word, usec_t deadline, char ret_text[TAKEOVER_LINE_MAX], struct err *err)
{
    char line[TAKEOVER_LINE_MAX];
    int rc;
    ret_text[0] = '\0';
    while ((rc = next_line(t, line, err)) == 1) {
        if (t->gone)
            return err_set(err, ERR_UNAVAILABLE, "the other agent is gone");
        rc = event_wait(&t->changed, deadline);
        if (rc < 0)
            return err_set(err, (enum err_code)-rc, "the other agent did not say \"%s\" in time", word);
    }
    if (rc < 0)
        return rc;
    struct str text = str_from(line), said = str_cut(&text, ' ');
    if (str_eq(said, STR("failed")))
        return err_set(err, ERR_ABORTED, "%s", text.n ? text.p : "it gave no reason");
    if (!str_eq(said, str_from(word)))
        return err_set(err, ERR_INVALID, "the other agent said \"%.64s\" where \"%s\" was expected", line, word);
    (void)str_copy(ret_text, TAKEOVER_LINE_MAX, text);
    return 0;
}

void takeover_hang_up(struct takeover *t)
{
    on_eof(t);
}

bool takeover_gone(const struct takeover *t)
{
    return t->gone;
}
