/* SPDX-License-Identifier: Apache-2.0 */
/* docker_log_reader — see docker_log_reader.h. */
#include "docker/docker_log_reader.h"

#include <string.h>

#include "base/clock.h"
#include "docker/docker_internal.h"

void docker_log_reader_init(struct docker_log_reader *r, bool tty, docker_log_fn *fn, void *arg)
{
    *r = (struct docker_log_reader){.tty = tty, .fn = fn, .arg = arg, .want_stamp = true};
    buf_init(&r->lines[0].text, DOCKER_LINE_MAX);
    buf_init(&r->lines[1].text, DOCKER_LINE_MAX);
}

void docker_log_reader_release(struct docker_log_reader *r)
{
    buf_release(&r->lines[0].text);
    buf_release(&r->lines[1].text);
}

static int emit(struct docker_log_reader *r, struct docker_log_line *l, struct str text, bool partial, struct err *err)
{
    if (r->tty && !partial && text.n && text.p[text.n - 1] == '\r')
        text.n--;
    struct docker_log entry = {l->time_ns, l == &r->lines[1], partial, text};
    int rc = r->fn(r->arg, &entry);
    return rc < 0 ? err_set(err, (enum err_code) - rc, "log reading given up") : rc;
}

/* Content of one line, its end excluded. */
static int add_text(struct docker_log_reader *r, struct docker_log_line *l, struct str text, struct err *err)
{
    l->open = true;
    while (text.n) {
        size_t room = DOCKER_LINE_MAX - l->text.len;
        if (room == 0) {
            int rc = emit(r, l, buf_str(&l->text), true, err);
            buf_clear(&l->text);
            if (rc != 0)
                return rc;
            continue;
        }
        size_t n = text.n < room ? text.n : room;
        if (buf_append(&l->text, text.p, n) != 0)
            return err_set(err, ERR_INTERNAL, "log line buffer");
        text.p += n;
        text.n -= n;
    }
    return 0;
}

static int end_line(struct docker_log_reader *r, struct docker_log_line *l, struct err *err)
{
    int rc = emit(r, l, buf_str(&l->text), false, err);
    buf_release(&l->text);
    l->open = false;
    return rc;
}

/* The whole of a short line that lies in one piece goes without a copy. */
static int whole_line(struct docker_log_reader *r, struct docker_log_line *l, struct str text, struct err *err)
{
    if (!l->open && text.n <= DOCKER_LINE_MAX)
        return emit(r, l, text, false, err);
    int rc = add_text(r, l, text, err);
    return rc != 0 ? rc : end_line(r, l, err);
}

/* Bytes of a stamp up to the space behind it. What turns out to be none is content: an engine may leave it out. */
static int take_stamp(struct docker_log_reader *r, struct docker_log_line *l, struct str *bytes, struct err *err)
{
    while (bytes->n && r->n_stamp < DOCKER_STAMP_MAX) {
        char c = *bytes->p;
        if (c == '\n')
            break;
        bytes->p++;
        bytes->n--;
        r->stamp[r->n_stamp++] = c;
        if (c == ' ')
            break;
    }
    bool complete = r->n_stamp && r->stamp[r->n_stamp - 1] == ' ';
    if (!complete && r->n_stamp < DOCKER_STAMP_MAX && bytes->n == 0)
        return 0;
    usec_t usec = 0;
    uint64_t nsec = 0;
    bool stamp = complete && clock_parse((struct str){r->stamp, r->n_stamp - 1}, &usec, &nsec) == 0;
    r->want_stamp = false;
    r->since_stamp = 0;
    if (stamp && !l->open)
        l->time_ns = nsec;
    else if (!stamp && !l->open)
        l->time_ns = 0;
    return stamp ? 0 : add_text(r, l, (struct str){r->stamp, r->n_stamp}, err);
}

static int take_content(struct docker_log_reader *r, struct docker_log_line *l, struct str *bytes, struct err *err)
{
    size_t n = bytes->n;
    /* A terminal's stream has no frames: a part of exactly this size without an end is followed by the stamp of the next part. */
    if (r->tty && n > DOCKER_PART_SIZE - r->since_stamp)
        n = DOCKER_PART_SIZE - r->since_stamp;
    const char *lf = n ? memchr(bytes->p, '\n', n) : NULL;
    struct str text = {bytes->p, lf ? (size_t)(lf - bytes->p) : n};
    if (r->tty && !lf && n == 0 && *bytes->p == '\n') { /* the end right behind a full part */
        lf = bytes->p;
        text.n = 0;
    }
    size_t used = text.n + (lf ? 1 : 0);
    bytes->p += used;
    bytes->n -= used;
    r->since_stamp += used;
    if (lf) {
        if (r->tty) {
            r->want_stamp = true;
            r->n_stamp = 0;
        }
        return whole_line(r, l, text, err);
    }
    if (r->tty && n == 0) {
        r->want_stamp = true;
        r->n_stamp = 0;
        return 0;
    }
    return add_text(r, l, text, err);
}

static int feed_stream(struct docker_log_reader *r, struct docker_log_line *l, struct str bytes, struct err *err)
{
    int rc = 0;
    while (bytes.n && rc == 0)
        rc = r->want_stamp ? take_stamp(r, l, &bytes, err) : take_content(r, l, &bytes, err);
    return rc;
}

int docker_log_reader_feed(struct docker_log_reader *r, struct str bytes, struct err *err)
{
    if (r->tty)
        return feed_stream(r, &r->lines[0], bytes, err);
    int stream, rc;
    struct str piece;
    bool end;
    while ((rc = docker_demux_next(&r->demux, &bytes, &stream, &piece, &end, err)) == 1) {
        struct docker_log_line *l = &r->lines[stream == 2 ? 1 : 0];
        if (stream == 3)
            return docker_engine_error(500, piece, err);
        if (!r->in_frame) {
            r->want_stamp = true;
            r->n_stamp = 0;
        }
        r->in_frame = !end;
        rc = feed_stream(r, l, piece, err);
        if (rc == 0 && end && r->want_stamp && r->n_stamp)
            rc = add_text(r, l, (struct str){r->stamp, r->n_stamp}, err);
        if (rc != 0)
            return rc;
    }
    return rc;
}

int docker_log_reader_end(struct docker_log_reader *r, struct err *err)
{
    if (r->tty && r->want_stamp && r->n_stamp) {
        int rc = add_text(r, &r->lines[0], (struct str){r->stamp, r->n_stamp}, err);
        if (rc != 0)
            return rc;
    }
    for (size_t i = 0; i < ARRAY_LEN(r->lines); i++) {
        int rc = r->lines[i].open ? end_line(r, &r->lines[i], err) : 0;
        if (rc != 0)
            return rc;
    }
    return 0;
}
