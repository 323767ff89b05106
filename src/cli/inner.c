/* SPDX-License-Identifier: Apache-2.0 */
/* inner — see inner.h. */
#include "cli/inner.h"

#include <stdio.h>
#include <string.h>

enum { PIECE = 64 * 1024 };

#define OPEN_WAIT  (30 * USEC_SEC)
#define SEND_WAIT  (5 * USEC_MINUTE)
#define STAT_WAIT  (2 * USEC_MINUTE)
#define TELL_FROM  USEC_SEC
#define TELL_EVERY (200 * USEC_MSEC)

static const struct rpc_service *const service = &davit_control_v1_file_service;

/* --- Operands --- */

static struct str before_colon(const char *operand)
{
    const char *colon = strstr(operand, ":/");
    return colon ? (struct str){operand, (size_t)(colon - operand)} : (struct str){NULL, 0};
}

bool inner_is(const char *operand)
{
    struct str head = before_colon(operand), project = head;
    if (!head.p)
        return false;
    if (head.n == 0)
        return true;
    if (!memchr(head.p, '/', head.n))
        return str_is_label(head);
    struct str first = str_cut(&project, '/');
    return str_is_label(first) && str_is_label(project);
}

int inner_parse(const char *operand, const struct inner_options *o, struct inner *ret, struct err *err)
{
    struct str head = before_colon(operand);
    *ret = (struct inner){.ref = DAVIT__CONTROL__V1__CONTAINER_REF__INIT};
    if (!inner_is(operand)) {
        (void)err_set(err, ERR_INVALID, "\"%.200s\" names no path in a container", operand);
        err_hint(err, "write SERVICE:/PATH or PROJECT/SERVICE:/PATH, or :/PATH with --container");
        return -ERR_INVALID;
    }
    ret->path = head.p + head.n + 1;
    ret->ref.server = (char *)(uintptr_t)(o->server ? o->server : "");
    if ((head.n == 0) != (o->container != NULL))
        return err_set(err, ERR_INVALID, "a service, or --container with :/PATH");
    if (o->container) {
        ret->ref.container = (char *)(uintptr_t)o->container;
        return 0;
    }
    AUTO_FREE char *text = str_dup(head);
    int rc = service_name_parse(text, o->project, &ret->name, err);
    ret->ref.project = ret->name.project;
    ret->ref.service = ret->name.service;
    ret->ref.replica = (uint32_t)o->replica;
    return rc;
}

struct str inner_base(const char *path)
{
    struct str s = str_from(path);
    while (s.n && s.p[s.n - 1] == '/')
        s.n--;
    size_t at = s.n;
    while (at > 0 && s.p[at - 1] != '/')
        at--;
    struct str base = {s.p + at, s.n - at};
    return str_eq(base, STR(".")) || str_eq(base, STR("..")) ? STR("") : base;
}

char *inner_join(const char *folder, struct str name)
{
    size_t n = strlen(folder);
    return str_printf("%s%s" STR_FMT, folder, n && folder[n - 1] == '/' ? "" : "/", STR_ARG(name));
}

/* --- Calls --- */

int inner_stat(struct cli *cli, const struct inner *in, const char *path, Davit__Control__V1__StatFileResponse **ret,
               struct err *err)
{
    Davit__Control__V1__StatFileRequest q = DAVIT__CONTROL__V1__STAT_FILE_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    q.target = (Davit__Control__V1__ContainerRef *)(uintptr_t)&in->ref;
    q.path = (char *)(uintptr_t)path;
    *ret = NULL;
    int rc = cli_call(cli, service, "StatFile", &q.base, STAT_WAIT, &m, err);
    *ret = (Davit__Control__V1__StatFileResponse *)m;
    if (rc == 0 && !(*ret)->entry) {
        *ret = rpc_message_free(*ret);
        rc = err_set(err, ERR_INTERNAL, "the control plane did not say what is there");
    }
    return rc;
}

int inner_read(struct cli *cli, const struct inner *in, const char *path, bool archive, inner_put_fn *put, void *arg,
               struct err *err)
{
    Davit__Control__V1__ReadFileRequest q = DAVIT__CONTROL__V1__READ_FILE_REQUEST__INIT;
    struct rpc_stream *stream = NULL;
    q.target = (Davit__Control__V1__ContainerRef *)(uintptr_t)&in->ref;
    q.path = (char *)(uintptr_t)path;
    q.archive = archive;
    int rc = cli_connect(cli, err);
    if (rc == 0)
        rc = rpc_stream_open(cli->channel, service, "ReadFile", USEC_INFINITY, &stream, err);
    if (rc == 0)
        rc = rpc_stream_put(stream, &q.base, deadline_in(OPEN_WAIT), err);
    if (rc == 0)
        rpc_stream_half_close(stream);
    while (rc == 0) {
        ProtobufCMessage *m = NULL;
        rc = rpc_stream_get(stream, USEC_INFINITY, &m, err);
        if (rc == 0) {
            const Davit__Control__V1__ReadFileResponse *a = (const void *)m;
            rc = put(arg, (struct str){(const char *)a->data.data, a->data.len}, err);
        }
        (void)rpc_message_free(m);
    }
    (void)rpc_stream_close(stream);
    return rc < 0 ? rc : 0;
}

/* A stream that takes no more was ended by the other side, which says why. */
static int why(struct inner_writer *w, int rc, struct err *err)
{
    ProtobufCMessage *m = NULL;
    struct err said = ERR_INIT;
    int got = rc == -(int)ERR_CANCELLED ? 0 : rpc_stream_get(w->stream, deadline_in(OPEN_WAIT), &m, &said);
    (void)rpc_message_free(m);
    if (got >= 0 || said.code == ERR_DEADLINE)
        return rc;
    if (err)
        *err = said;
    return got;
}

int inner_write_begin(struct cli *cli, const struct inner *in, Davit__Control__V1__WriteFileStart *start,
                      struct inner_writer *ret, struct err *err)
{
    Davit__Control__V1__WriteFileRequest q = DAVIT__CONTROL__V1__WRITE_FILE_REQUEST__INIT;
    start->target = (Davit__Control__V1__ContainerRef *)(uintptr_t)&in->ref;
    q.start = start;
    int rc = cli_connect(cli, err);
    if (rc == 0)
        rc = rpc_stream_open(cli->channel, service, "WriteFile", USEC_INFINITY, &ret->stream, err);
    if (rc == 0)
        rc = rpc_stream_put(ret->stream, &q.base, deadline_in(OPEN_WAIT), err);
    return rc;
}

int inner_write(struct inner_writer *w, struct str bytes, struct err *err)
{
    while (bytes.n) {
        Davit__Control__V1__WriteFileRequest q = DAVIT__CONTROL__V1__WRITE_FILE_REQUEST__INIT;
        size_t n = bytes.n < PIECE ? bytes.n : PIECE;
        q.data = (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)bytes.p};
        int rc = rpc_stream_put(w->stream, &q.base, deadline_in(SEND_WAIT), err);
        if (rc < 0)
            return why(w, rc, err);
        w->bytes += n;
        if (w->progress)
            inner_progress_add(w->progress, n);
        bytes = (struct str){bytes.p + n, bytes.n - n};
    }
    return 0;
}

int inner_write_end(struct inner_writer *w, struct err *err)
{
    ProtobufCMessage *m = NULL;
    rpc_stream_half_close(w->stream);
    int rc = rpc_stream_get(w->stream, USEC_INFINITY, &m, err);
    (void)rpc_message_free(m);
    if (rc == 0) {
        m = NULL;
        rc = rpc_stream_get(w->stream, USEC_INFINITY, &m, err);
        (void)rpc_message_free(m);
        rc = rc == 0 ? err_set(err, ERR_INTERNAL, "the control plane answered twice") : rc;
    } else if (rc == 1) {
        return err_set(err, ERR_INTERNAL, "the control plane did not say that the bytes are there");
    }
    return rc < 0 ? rc : 0;
}

void inner_write_drop(struct inner_writer *w)
{
    w->stream = rpc_stream_close(w->stream);
}

/* --- Progress --- */

void inner_progress_begin(struct inner_progress *p, const struct cli *cli, uint64_t total)
{
    *p = (struct inner_progress){.cli = cli, .total = total, .began = clock_mono()};
}

void inner_progress_add(struct inner_progress *p, uint64_t bytes)
{
    usec_t now = clock_mono();
    p->done += bytes;
    if (!p->cli->progress || p->cli->json || now - p->began < TELL_FROM || now - p->told < TELL_EVERY)
        return;
    p->told = now;
    p->shown = true;
    AUTO_FREE char *done = out_bytes(p->done);
    AUTO_FREE char *total = p->total ? out_bytes(p->total) : str_dup(STR("?"));
    AUTO_FREE char *rate = out_bytes(p->done * USEC_SEC / (now - p->began));
    fprintf(stderr, "\r\033[K  %s of %s, %s/s", done, total, rate);
    (void)fflush(stderr);
}

void inner_progress_end(struct inner_progress *p)
{
    if (p->shown)
        fputs("\r\033[K", stderr);
    p->shown = false;
}
