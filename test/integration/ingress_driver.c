/* SPDX-License-Identifier: Apache-2.0 */
/* ingress_driver — src/host/reach/ingress behind a pipe, for tests. Each line of stdin is "ID VERB WORDS...", run at once on a fiber of its own;
 * its end is a line "ID RC LEFT MESSAGE" on stdout.
 *   set PROJECT SERVICE NETWORK HOST,HOST [NAME=ADDR:PORT:WEIGHT ...]   a weight "drain": it drains
 *   remove PROJECT SERVICE            drained PROJECT SERVICE SERVER MS            owner HOST
 *   add ...                           as set, into a list            restore            of that list; again: of the table as it is
 * ingress_driver SOCKET FOLDER IMAGE LISTEN. End of stdin: ends, the container stays. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "host/reach/ingress.h"
#include "loop/fiber.h"
#include "loop/stream.h"

enum { LINE_BYTES = 64 * 1024, WORDS_MAX = 96, LIST_MAX = INGRESS_SERVICES_MAX + 1 };
#define WAIT (60 * USEC_SEC)

/* A service, and all that it points to. */
struct service {
    struct ingress_service s;
    const char *hosts[32];
    struct ingress_server servers[80];
};

struct driver {
    struct loop *loop;
    struct docker *docker;
    struct ingress *ingress;
    struct stream *in;
    struct buf line;
    unsigned running;
    bool ended;
    struct ingress_service *list;
    size_t n_list;
    bool restored;
    void *kept[LIST_MAX * 2];
    size_t n_kept;
};

struct run {
    struct driver *d;
    char *text;
    char *words[WORDS_MAX];
    size_t n;
};

static char *cut(char **s, char sep)
{
    char *word = *s, *end = strchr(word, sep);
    *s = end ? end + 1 : word + strlen(word);
    if (end)
        *end = '\0';
    return word;
}

static unsigned number(const char *s)
{
    uint64_t v = 0;
    return str_to_u64(str_from(s), UINT32_MAX, &v) == 0 ? (unsigned)v : UINT32_MAX;
}

static void read_service(struct run *r, struct service *out)
{
    char *hosts = r->words[5];
    out->s = (struct ingress_service){
        .project = r->words[2], .service = r->words[3], .network = r->words[4], .hosts = out->hosts, .servers = out->servers};
    while (*hosts && out->s.n_hosts < ARRAY_LEN(out->hosts))
        out->hosts[out->s.n_hosts++] = cut(&hosts, ',');
    for (size_t i = 6; i < r->n; i++) {
        char *text = r->words[i];
        struct ingress_server *v = &out->servers[out->s.n_servers++];
        v->name = cut(&text, '=');
        v->address = cut(&text, ':');
        v->port = (uint16_t)number(cut(&text, ':'));
        v->drain = strcmp(text, "drain") == 0;
        v->weight = v->drain ? 0 : number(text);
    }
}

static int restore(struct driver *d, struct err *err)
{
    bool again = d->restored;
    d->restored = true;
    struct ingress_service none = {0};
    return ingress_restore(d->ingress, again ? NULL : d->list ? d->list : &none, d->n_list, deadline_in(WAIT), err);
}

static int run_verb(struct run *r, unsigned *ret_left, const char **ret_text, struct err *err)
{
    struct driver *d = r->d;
    const char *verb = r->n > 1 ? r->words[1] : "", *project = "", *service = "";
    int rc = -(int)ERR_INVALID;
    if (strcmp(verb, "set") == 0 && r->n >= 6) {
        AUTO_FREE struct service *s = NEW(struct service);
        read_service(r, s);
        rc = ingress_set(d->ingress, &s->s, deadline_in(WAIT), err);
    } else if (strcmp(verb, "add") == 0 && r->n >= 6 && d->n_list < LIST_MAX) {
        struct service *s = NEW(struct service);
        read_service(r, s);
        d->list = mem_resize(d->list, d->n_list + 1, sizeof(*d->list));
        d->list[d->n_list++] = s->s;
        d->kept[d->n_kept++] = s;
        d->kept[d->n_kept++] = TAKE(r->text);
        rc = 0;
    } else if (strcmp(verb, "remove") == 0 && r->n == 4) {
        rc = ingress_remove(d->ingress, r->words[2], r->words[3], deadline_in(WAIT), err);
    } else if (strcmp(verb, "drained") == 0 && r->n == 6) {
        rc = ingress_drained(d->ingress, r->words[2], r->words[3], r->words[4], number(r->words[5]) * USEC_MSEC, ret_left, err);
    } else if (strcmp(verb, "owner") == 0 && r->n == 3) {
        rc = ingress_owner(d->ingress, r->words[2], &project, &service);
        *ret_text = rc == 0 ? service : "";
    } else if (strcmp(verb, "restore") == 0) {
        rc = restore(d, err);
    }
    return rc;
}

static void run_main(void *arg)
{
    struct run *r = arg;
    struct driver *d = r->d;
    struct err err = ERR_INIT;
    unsigned left = 0;
    const char *text = "";
    int rc = run_verb(r, &left, &text, &err);
    printf("%s %d %u %s%s%s%s\n", r->words[0], rc, left, rc < 0 ? err.msg : text, *err.hint ? " (" : "", err.hint, *err.hint ? ")" : "");
    (void)fflush(stdout);
    free(r->text);
    free(r);
    if (--d->running == 0 && d->ended)
        loop_stop(d->loop);
}

static void take_line(struct driver *d, struct str line)
{
    struct run *r = NEW(struct run);
    r->d = d;
    r->text = str_dup(line);
    char *rest = r->text;
    while (*rest && r->n < WORDS_MAX)
        r->words[r->n++] = cut(&rest, ' ');
    d->running++;
    BUG_ON(fiber_spawn(d->loop, "run", run_main, r, NULL) < 0);
}

static void on_read(void *arg, const void *p, size_t n)
{
    struct driver *d = arg;
    BUG_ON(buf_append(&d->line, p, n) < 0);
    for (;;) {
        const char *end = memchr(d->line.data, '\n', d->line.len);
        if (!end)
            return;
        struct str line = {d->line.data, (size_t)(end - d->line.data)};
        take_line(d, line);
        buf_consume(&d->line, line.n + 1);
    }
}

static void on_eof(void *arg)
{
    struct driver *d = arg;
    d->ended = true;
    stream_read_stop(d->in);
    if (d->running == 0)
        loop_stop(d->loop);
}

static void on_error(void *arg, int rc)
{
    (void)rc;
    on_eof(arg);
}

int main(int argc, char **argv)
{
    static const struct stream_handler handler = {.on_read = on_read, .on_eof = on_eof, .on_error = on_error};
    struct driver d = {.line = BUF_INIT(LINE_BYTES)};
    struct err err = ERR_INIT;
    if (argc != 5)
        return 2;
    d.loop = loop_new();
    AUTO_FREE char *addr = str_printf("unix:%s", argv[1]);
    if (docker_new(d.loop, addr, &d.docker, &err) < 0 || fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK) < 0 ||
        stream_from_fd(d.loop, 0, &d.in, &err) < 0) {
        (void)fprintf(stderr, "ingress_driver: %s\n", err.msg);
        return 1;
    }
    const struct ingress_config config = {
        .loop = d.loop, .docker = d.docker, .server_id = "srv-test", .folder = argv[2], .image = argv[3], .listen = argv[4]};
    d.ingress = ingress_new(&config);
    stream_set_handler(d.in, &handler, &d);
    stream_read_start(d.in);
    loop_run(d.loop);
    d.in = stream_close(d.in);
    d.ingress = ingress_free(d.ingress);
    d.docker = docker_free(d.docker);
    for (size_t i = 0; i < d.n_kept; i++)
        free(d.kept[i]);
    free(d.list);
    buf_release(&d.line);
    d.loop = loop_free(d.loop);
    return 0;
}
