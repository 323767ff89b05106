/* SPDX-License-Identifier: Apache-2.0 */
/* haproxy — see haproxy.h. */
#include "host/reach/haproxy.h"

#include <string.h>

#include "net/conn.h"

/* --- Asking ---- */

static int read_all(struct conn *c, struct buf *out, usec_t deadline, struct err *err)
{
    for (;;) {
        size_t n = 0;
        char *at = buf_reserve(out, 1);
        size_t room = at ? out->cap - out->len : 0;
        if (!at)
            return err_set(err, ERR_EXHAUSTED, "HAProxy's answer is longer than %zu bytes", out->max);
        int rc = conn_read(c, at, room, deadline, &n, err);
        if (rc < 0 || n == 0)
            return rc;
        buf_commit(out, n);
    }
}

int haproxy_ask(struct loop *loop, const char *socket, const char *command, struct buf *out, usec_t deadline, struct err *err)
{
    AUTO_FREE char *line = str_printf("%s\n", command);
    struct conn *c = NULL;
    if (strchr(command, '\n'))
        return err_set(err, ERR_INVALID, "a command to HAProxy is one line");
    int rc = conn_dial(loop, socket, NULL, NULL, deadline, &c, err);
    if (rc < 0)
        return rc;
    rc = conn_write(c, line, strlen(line));
    if (rc < 0)
        (void)err_set(err, (enum err_code)-rc, "HAProxy takes no command");
    conn_shutdown(c);
    if (rc == 0)
        rc = read_all(c, out, deadline, err);
    (void)conn_close(c);
    return rc;
}

/* --- Tables ---- */

/* Cuts the next cell off @line. */
static struct str cell(struct str *line, char sep)
{
    if (line->n == 0 || line->p[0] != '"')
        return str_cut(line, sep);
    size_t end = 1;
    while (end < line->n && (line->p[end] != '"' || (end + 1 < line->n && line->p[end + 1] == '"')))
        end += line->p[end] == '"' ? 2 : 1;
    struct str out = {line->p + 1, (end < line->n ? end : line->n) - 1};
    size_t used = end < line->n ? end + 1 : line->n;
    *line = (struct str){line->p + used, line->n - used};
    (void)str_cut(line, sep); /* what may stand behind the mark */
    return out;
}

static int bad(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "HAProxy's answer is not understood: %s", what);
}

int haproxy_table_begin(struct haproxy_table *t, struct str answer, char sep, const char *const *columns, size_t n, struct err *err)
{
    BUG_ON(n == 0 || n > HAPROXY_COLUMNS_MAX);
    *t = (struct haproxy_table){.rest = answer, .sep = sep, .n_columns = n};
    struct str line = STR("");
    while (t->rest.n > 0 && !str_starts(line, STR("# ")))
        line = str_cut(&t->rest, '\n');
    if (!str_starts(line, STR("# ")) || line.n > HAPROXY_LINE_MAX)
        return bad(err, "it is no table");
    line = (struct str){line.p + 2, line.n - 2};
    size_t found = 0;
    for (unsigned i = 0; line.n > 0; i++) {
        struct str name = cell(&line, sep);
        for (size_t k = 0; k < n; k++)
            if (str_eq(name, str_from(columns[k]))) {
                t->at[k] = i;
                found |= (size_t)1 << k;
            }
    }
    return found + 1 == (size_t)1 << n ? 0 : bad(err, "a column is missing");
}

int haproxy_table_next(struct haproxy_table *t, struct str *cells, struct err *err)
{
    struct str line = STR("");
    while (t->rest.n > 0 && line.n == 0)
        line = str_trim(str_cut(&t->rest, '\n'));
    if (line.n == 0)
        return 0;
    if (line.n > HAPROXY_LINE_MAX)
        return bad(err, "a line is too long");
    size_t found = 0;
    for (unsigned i = 0; line.n > 0; i++) {
        struct str c = cell(&line, t->sep);
        for (size_t k = 0; k < t->n_columns; k++)
            if (t->at[k] == i) {
                cells[k] = c;
                found |= (size_t)1 << k;
            }
    }
    return found + 1 == (size_t)1 << t->n_columns ? 1 : bad(err, "a row is too short");
}

/* --- Single answers ---- */

int haproxy_info(struct str answer, const char *key, struct str *ret)
{
    while (answer.n > 0) {
        struct str value = str_cut(&answer, '\n'), name = str_cut(&value, ':');
        if (!str_eq(name, str_from(key)))
            continue;
        *ret = str_trim(value);
        return 0;
    }
    return 1;
}

int haproxy_old_workers(struct str answer, uint32_t ret[HAPROXY_OLD_MAX], size_t *ret_n, struct err *err)
{
    bool old = false, is_answer = false;
    *ret_n = 0;
    while (answer.n > 0) {
        struct str line = str_cut(&answer, '\n');
        uint64_t pid = 0;
        is_answer = is_answer || str_starts(line, STR("#<PID>"));
        if (line.n > 0 && line.p[0] == '#') {
            old = str_starts(line, STR("# old workers"));
            continue;
        }
        struct str first = str_word(&line), type = str_word(&line);
        if (!old || !str_eq(type, STR("worker")))
            continue;
        if (str_to_u64(first, INT32_MAX, &pid) != 0 || *ret_n == HAPROXY_OLD_MAX)
            return bad(err, "too many old workers, or one without a number");
        ret[(*ret_n)++] = (uint32_t)pid;
    }
    return is_answer ? 0 : bad(err, "it is no list of processes");
}

int haproxy_servers_begin(struct haproxy_table *t, struct str answer, struct err *err)
{
    static const char *const columns[] = {"srv_name", "srv_addr", "srv_port", "srv_uweight", "srv_admin_state"};
    return haproxy_table_begin(t, answer, ' ', columns, ARRAY_LEN(columns), err);
}

int haproxy_servers_next(struct haproxy_table *t, struct haproxy_server *ret, struct err *err)
{
    struct str c[HAPROXY_COLUMNS_MAX] = {{0}};
    uint64_t port = 0, weight = 0, state = 0;
    int rc = haproxy_table_next(t, c, err);
    if (rc <= 0)
        return rc;
    if (str_to_u64(c[2], UINT16_MAX, &port) != 0 || str_to_u64(c[3], 65535, &weight) != 0 || str_to_u64(c[4], 65535, &state) != 0)
        return bad(err, "a number is expected");
    /* 1 forced, 2 inherited, 4 by configuration; 32 by name resolution, which is not used */
    *ret = (struct haproxy_server){
        .name = c[0], .address = c[1], .port = (uint16_t)port, .weight = (unsigned)weight, .maintenance = (state & 7) != 0};
    return 1;
}

int haproxy_load(struct str answer, const char *server, unsigned *ret, struct err *err)
{
    static const char *const columns[] = {"svname", "scur", "qcur"};
    struct haproxy_table t;
    struct str c[HAPROXY_COLUMNS_MAX] = {{0}};
    int rc = haproxy_table_begin(&t, answer, ',', columns, ARRAY_LEN(columns), err);
    *ret = 0;
    while (rc >= 0 && (rc = haproxy_table_next(&t, c, err)) == 1) {
        uint64_t sessions = 0, queued = 0;
        if (!str_eq(c[0], str_from(server)))
            continue;
        if (str_to_u64(c[1], INT32_MAX, &sessions) != 0 || str_to_u64(c[2], INT32_MAX, &queued) != 0)
            return bad(err, "a number is expected");
        *ret = (unsigned)(sessions + queued);
    }
    return rc;
}
