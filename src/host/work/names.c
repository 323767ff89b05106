/* SPDX-License-Identifier: Apache-2.0 */
/* names — labels, names, reasons and texts that all files of this module agree on. */
#include "host/work/work_internal.h"

#include <errno.h>
#include <string.h>

enum { TAIL_LINES = 20, TAIL_BYTES = 4096, TAIL_GATHER = 128 * 1024 };

bool labels_ours(const struct docker_map *labels, const char *project, const char *service)
{
    const char *managed = docker_map_get(labels, LABEL_MANAGED);
    const char *p = docker_map_get(labels, LABEL_PROJECT);
    const char *s = docker_map_get(labels, LABEL_SERVICE);

    return managed && strcmp(managed, "true") == 0 && (!project || (p && strcmp(p, project) == 0)) &&
           (!service || (s && strcmp(s, service) == 0));
}

static bool of_this_server(const struct work *w, const struct docker_map *labels)
{
    const char *server = docker_map_get(labels, LABEL_SERVER);

    return server && strcmp(server, w->server_id) == 0;
}

const char *labels_role(const struct work *w, const struct docker_map *labels)
{
    const char *purpose = docker_map_get(labels, LABEL_PURPOSE), *service = docker_map_get(labels, LABEL_SERVICE);

    if (!of_this_server(w, labels))
        return "";
    if (docker_map_get(labels, LABEL_INGRESS))
        return "ingress";
    /* A service's image may bring the label. */
    return purpose && strcmp(purpose, "sandbox") == 0 && !(service && *service) ? "sandbox" : "";
}

bool labels_service(const struct work *w, const struct docker_map *labels)
{
    const char *project = docker_map_get(labels, LABEL_PROJECT), *service = docker_map_get(labels, LABEL_SERVICE);

    return labels_ours(labels, NULL, NULL) && of_this_server(w, labels) && project && *project && service && *service;
}

static int newer_first(const void *a, const void *b)
{
    const struct docker_summary *x = a, *y = b;

    return x->created < y->created ? 1 : x->created > y->created ? -1 : strcmp(x->id, y->id);
}

int service_containers(struct work *w, const char *project, const char *service, struct docker_summaries *ret, usec_t deadline,
                       struct err *err)
{
    AUTO_FREE char *p = str_printf(LABEL_PROJECT "=%s", project);
    AUTO_FREE char *s = str_printf(LABEL_SERVICE "=%s", service);
    AUTO_FREE char *server = str_printf(LABEL_SERVER "=%s", w->server_id);
    const char *labels[] = {LABEL_MANAGED "=true", server, p, s};

    int rc = docker_container_list(w->docker, labels, ARRAY_LEN(labels), ret, deadline, err);
    if (rc < 0)
        return rc;
    if (ret->n > 1)
        qsort(ret->items, ret->n, sizeof(ret->items[0]), newer_first);
    return 0;
}

int check_label(const char *what, const char *s, struct err *err)
{
    if (str_is_label(str_from(s)))
        return 0;
    return err_set(err, ERR_INVALID, "%s is not a name (1 to 63 of a-z, 0-9 and '-', no '-' at the ends)", what);
}

const char *reason_of(const struct err *err)
{
    switch (err->code) {
    case ERR_UNAVAILABLE: return "engine_unavailable";
    case ERR_EXHAUSTED: return err->sys == ENOSPC || strcasestr(err->msg, "no space left") ? "disk_full" : "limit";
    case ERR_DENIED: return "engine_unavailable"; /* the socket is not open to us */
    case ERR_DEADLINE: return "deadline";
    case ERR_INVALID: return "invalid";
    case ERR_ABORTED: return "interrupted";
    case ERR_CANCELLED: return "cancelled";
    case ERR_EXISTS: return "name_taken";
    case ERR_NOT_FOUND: return "not_found";
    default: return strcasestr(err->msg, "no space left") ? "disk_full" : "internal";
    }
}

/* Length of the well-formed UTF-8 sequence at @p of @n bytes, 0 if there is none. */
static size_t utf8_length(const char *p, size_t n)
{
    unsigned char c = (unsigned char)*p;
    size_t want = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;

    return want != 0 && want <= n && str_is_utf8((struct str){p, want}) ? want : 0;
}

static bool is_control(unsigned char c)
{
    return (c < 0x20 && c != '\t' && c != '\n') || c == 0x7f;
}

char *text_tail(struct str s, size_t max)
{
    if (s.n > max) {
        s.p += s.n - max;
        s.n = max;
        while (s.n > 0 && ((unsigned char)*s.p & 0xc0) == 0x80) {
            s.p++;
            s.n--;
        }
    }
    char *out = mem_alloc(s.n + 1);
    size_t n = 0;
    while (s.n > 0) {
        size_t len = utf8_length(s.p, s.n);
        if (len == 0 || (len == 1 && is_control((unsigned char)*s.p))) {
            /* One byte for one byte: the text keeps its bound. */
            out[n++] = '?';
            len = 1;
        } else {
            memcpy(out + n, s.p, len);
            n += len;
        }
        s.p += len;
        s.n -= len;
    }
    out[n] = '\0';
    return out;
}

usec_t engine_time(const char *text)
{
    usec_t t = 0;
    return clock_parse(str_from(text), &t, NULL) == 0 ? t : 0;
}

static int gather_line(void *arg, const struct docker_log *entry)
{
    struct buf *b = arg;
    struct str line = entry->line;

    if (line.n > TAIL_BYTES)
        line.n = TAIL_BYTES;
    if (buf_append_str(b, line) < 0 || (!entry->partial && buf_append_byte(b, '\n') < 0))
        return DOCKER_STOPPED;
    return 0;
}

char *log_tail(struct work *w, const char *container, usec_t deadline)
{
    AUTO_BUF b = BUF_INIT(TAIL_GATHER);
    struct docker_log_options options = {.tail = TAIL_LINES};
    struct err err = ERR_INIT;

    int rc = docker_logs(w->docker, container, &options, gather_line, &b, deadline, &err);
    if (rc < 0 && b.len == 0)
        return NULL;
    return b.len > 0 ? text_tail(buf_str(&b), TAIL_BYTES) : NULL;
}
