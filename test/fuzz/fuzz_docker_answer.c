/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine answers, by each of its readers: descriptions, lists, streams of records, logs, the header that tells of a file. The
 * connection is the linker's to play. The first byte chooses the call, the second the status, the third how many bytes come at once. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "docker/docker_internal.h"

struct http_exchange {
    struct http_head head;
    struct str rest;
};

static struct {
    struct str body;
    int status;
    size_t piece;
    bool framed;   /* asked as the log of a container: what comes first describes that one */
    bool told;
    char text[512]; /* of the header */
    size_t seen;
} peer;

int __wrap_http_request(struct http_client *c, const struct http_request *req, usec_t deadline, struct http_exchange **ret, struct err *err);
const struct http_head *__wrap_http_head(const struct http_exchange *x);
int __wrap_http_read(struct http_exchange *x, void *dst, size_t size, usec_t deadline, size_t *ret_n, struct err *err);
int __wrap_http_read_all(struct http_exchange *x, struct buf *out, usec_t deadline, struct err *err);
struct http_exchange *__wrap_http_finish(struct http_exchange *x);

int __wrap_http_request(struct http_client *c, const struct http_request *req, usec_t deadline, struct http_exchange **ret, struct err *err)
{
    (void)c;
    (void)deadline;
    (void)err;
    BUG_ON(!req->target || *req->target != '/');
    struct http_exchange *x = *ret = NEW(struct http_exchange);
    x->head.status = peer.status;
    x->head.fields[0] = (struct http_field){"x-docker-container-path-stat", peer.text};
    x->head.fields[1] = (struct http_field){"api-version", peer.text};
    x->head.n_fields = 2;
    x->rest = peer.body;
    if (!peer.told && strstr(req->target, "/containers/log/json")) {
        x->head.status = 200;
        x->rest = peer.framed ? STR("{}") : STR("{\"Config\":{\"Tty\":true}}");
        peer.told = true;
    }
    return 0;
}

const struct http_head *__wrap_http_head(const struct http_exchange *x)
{
    return &x->head;
}

int __wrap_http_read(struct http_exchange *x, void *dst, size_t size, usec_t deadline, size_t *ret_n, struct err *err)
{
    (void)deadline;
    (void)err;
    size_t n = x->rest.n < peer.piece ? x->rest.n : peer.piece;
    *ret_n = n < size ? n : size;
    if (*ret_n)
        memcpy(dst, x->rest.p, *ret_n);
    x->rest = (struct str){x->rest.p + *ret_n, x->rest.n - *ret_n};
    return 0;
}

int __wrap_http_read_all(struct http_exchange *x, struct buf *out, usec_t deadline, struct err *err)
{
    (void)deadline;
    return buf_append_str(out, x->rest) == 0 ? 0 : err_set(err, ERR_EXHAUSTED, "too long");
}

struct http_exchange *__wrap_http_finish(struct http_exchange *x)
{
    free(x);
    return NULL;
}

/* --- What is read is whole ---- */

static void text(const char *s)
{
    BUG_ON(!s);
    peer.seen += strlen(s);
}

static void texts(const char *const *items, size_t n)
{
    for (size_t i = 0; i < n; i++)
        text(items[i]);
}

static void pairs(const struct docker_map *m)
{
    for (size_t i = 0; i < m->n; i++) {
        text(m->items[i].name);
        text(m->items[i].value);
    }
}

static void addresses(const struct docker_endpoint *e, size_t n_e, const struct docker_binding *b, size_t n_b)
{
    for (size_t i = 0; i < n_e; i++)
        texts((const char *const[]){e[i].network, e[i].network_id, e[i].ipv4, e[i].ipv6, e[i].gateway, e[i].mac}, 6);
    for (size_t i = 0; i < n_b; i++)
        texts((const char *const[]){b[i].proto, b[i].host_ip}, 2);
}

static void inspect(struct docker *d)
{
    struct docker_container c = {0};
    if (docker_container_inspect(d, "c", &c, 0, NULL) == 0) {
        const char *const all[] = {c.id,         c.name,   c.image,   c.image_id,     c.created,       c.merged_dir, c.error,     c.started,
                                   c.health_log, c.restart, c.finished, c.network_mode, c.cgroup_parent, c.log_path,   c.log_driver};
        texts(all, ARRAY_LEN(all));
        texts(c.env, c.n_env);
        texts(c.command, c.n_command);
        texts(c.tmpfs, c.n_tmpfs);
        addresses(c.networks, c.n_networks, c.ports, c.n_ports);
        for (size_t i = 0; i < c.n_mounts; i++)
            texts((const char *const[]){c.mounts[i].type, c.mounts[i].name, c.mounts[i].source, c.mounts[i].target}, 4);
        pairs(&c.labels);
        BUG_ON((unsigned)c.state > DOCKER_STATE_DEAD);
    }
    docker_container_release(&c);
}

static void list(struct docker *d)
{
    struct docker_summaries l = {0};
    if (docker_container_list(d, NULL, 0, &l, 0, NULL) == 0)
        for (size_t i = 0; i < l.n; i++) {
            const struct docker_summary *s = &l.items[i];
            texts((const char *const[]){s->id, s->name, s->image, s->image_id, s->status}, 5);
            texts(s->volumes, s->n_volumes);
            addresses(s->networks, s->n_networks, s->ports, s->n_ports);
            pairs(&s->labels);
            BUG_ON((unsigned)s->state > DOCKER_STATE_DEAD);
        }
    docker_summaries_release(&l);
}

static void images(struct docker *d)
{
    struct docker_image m = {0};
    struct docker_images l = {0};
    char digest[DOCKER_DIGEST_SIZE];
    if (docker_image_inspect(d, "i", &m, 0, NULL) == 0) {
        texts((const char *const[]){m.id, m.user, m.os, m.arch}, 4);
        texts(m.repo_digests, m.n_repo_digests);
        texts(m.repo_tags, m.n_repo_tags);
        texts(m.ports, m.n_ports);
        texts(m.volumes, m.n_volumes);
        pairs(&m.labels);
    }
    docker_image_release(&m);
    if (docker_image_list(d, &l, 0, NULL) == 0)
        for (size_t i = 0; i < l.n; i++) {
            text(l.items[i].id);
            texts(l.items[i].repo_tags, l.items[i].n_repo_tags);
            texts(l.items[i].repo_digests, l.items[i].n_repo_digests);
        }
    docker_images_release(&l);
    if (docker_image_remote(d, "i", NULL, digest, 0, NULL) == 0)
        BUG_ON(strlen(digest) != 71);
}

static void networks_and_volumes(struct docker *d)
{
    struct docker_networks n = {0};
    struct docker_volumes v = {0};
    if (docker_network_list(d, "l", &n, 0, NULL) == 0)
        for (size_t i = 0; i < n.n; i++) {
            texts((const char *const[]){n.items[i].id, n.items[i].name, n.items[i].driver, n.items[i].subnet, n.items[i].gateway}, 5);
            pairs(&n.items[i].labels);
        }
    docker_networks_release(&n);
    if (docker_volume_list(d, "l", &v, 0, NULL) == 0)
        for (size_t i = 0; i < v.n; i++) {
            texts((const char *const[]){v.items[i].name, v.items[i].driver, v.items[i].mountpoint, v.items[i].created}, 4);
            pairs(&v.items[i].labels);
        }
    docker_volumes_release(&v);
}

static void engine(struct docker *d)
{
    char min[DOCKER_API_SIZE], max[DOCKER_API_SIZE];
    struct docker_info i = {0};
    struct docker_stats stats;
    int code;
    if (docker_info_get(d, &i, 0, NULL) == 0) {
        const char *const all[] = {i.id,     i.version,  i.api,           i.os,             i.arch,          i.kernel,
                                   i.root_dir, i.hostname, i.cgroup_driver, i.storage_driver, i.logging_driver};
        texts(all, ARRAY_LEN(all));
    }
    docker_info_release(&i);
    if (docker_api_range(d, min, max, 0, NULL) == 0)
        BUG_ON(strlen(min) >= sizeof(min) || strlen(max) >= sizeof(max));
    (void)docker_container_stats(d, "c", &stats, 0, NULL);
    (void)docker_container_wait(d, "c", &code, 0, NULL);
    if (docker_ping(d, 0, NULL) == 0)
        BUG_ON(strncmp(d->api, "1.", 2) != 0);
}

static int on_progress(void *arg, const struct docker_progress *p)
{
    (void)arg;
    texts((const char *const[]){p->layer, p->status}, 2);
    return 0;
}

static int on_event(void *arg, const struct docker_event *e)
{
    (void)arg;
    texts((const char *const[]){e->type, e->action, e->id}, 3);
    pairs(e->attributes);
    return 0;
}

static int on_log(void *arg, const struct docker_log *e)
{
    (void)arg;
    BUG_ON(e->line.n > DOCKER_LINE_MAX);
    for (size_t i = 0; i < e->line.n; i++)
        peer.seen += (unsigned char)e->line.p[i];
    return 0;
}

static void streams(struct docker *d, unsigned which)
{
    const struct docker_log_options options = {.tail = -1};
    char digest[DOCKER_DIGEST_SIZE];
    peer.framed = which == 0;
    if (which == 2 && docker_pull(d, "i", NULL, on_progress, NULL, digest, 0, NULL) == 0)
        BUG_ON(*digest && strlen(digest) != 71);
    if (which == 3)
        (void)docker_events(d, "l", 0, on_event, NULL, 0, NULL);
    if (which < 2)
        (void)docker_logs(d, "log", &options, on_log, NULL, 0, NULL);
}

static void file(struct docker *d)
{
    struct docker_path_stat st = {0};
    if (docker_archive_stat(d, "c", "/f", &st, 0, NULL) == 0) {
        texts((const char *const[]){st.name, st.modified, st.target}, 3);
        BUG_ON(!strchr("fdlo", st.kind) || st.mode > 07777);
    }
    docker_path_stat_release(&st);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int statuses[] = {200, 200, 200, 201, 304, 400, 404, 409, 500, 503};
    struct docker d = {.addr = (char *)(uintptr_t)"unix:/none", .api = "1.41"};
    if (size < 3)
        return 0;
    peer.body = (struct str){(const char *)data + 3, size - 3};
    peer.status = statuses[data[1] % ARRAY_LEN(statuses)];
    peer.piece = (size_t)data[2] * data[2] + 1;
    peer.told = false;
    (void)str_copy(peer.text, sizeof(peer.text), (struct str){peer.body.p, peer.body.n < sizeof(peer.text) ? peer.body.n : sizeof(peer.text) - 1});
    switch (data[0] % 10) {
    case 0: inspect(&d); break;
    case 1: list(&d); break;
    case 2: images(&d); break;
    case 3: networks_and_volumes(&d); break;
    case 4: engine(&d); break;
    case 5: file(&d); break;
    default: streams(&d, data[0] % 10 - 6U);
    }
    return 0;
}
