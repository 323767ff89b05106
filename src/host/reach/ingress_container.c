/* SPDX-License-Identifier: Apache-2.0 */
/* ingress_container — the container of the ingress, the one that only checks, and the networks that it is in. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "host/reach/ingress_internal.h"

/* One worker has a thread per processor, and those that end after a reload have theirs for a while. */
enum { PIDS_MAX = 4096, STOP_SECONDS = 10, WORDS_MAX = 4096, LISTEN_HOST_MAX = 64 };
#define EXEC_STEP (20 * USEC_MSEC)

static const char *const entrypoint[] = {"haproxy"};
static const char *const serve_command[] = {
    "-W", "-db", "-S", ROUTES_RUN_DIR "/master.sock,mode,600", "-f", ROUTES_CONFIG_DIR "/haproxy.cfg"};
static const char *const check_command[] = {"-c", "-f", ROUTES_CONFIG_DIR "/haproxy.cfg.new"};
static const char *const all[] = {"ALL"};
static const struct docker_pair log_options[] = {{"max-size", "10m"}, {"max-file", "3"}};

/* All that the container follows from; a container that says otherwise is made anew. */
static char *fingerprint(const struct ingress *in)
{
    return str_printf("1 %s %s %u:%u %s", in->image, in->listen, in->uid, in->gid, in->folder);
}

static bool is_ours(const struct ingress *in, const struct docker_map *labels)
{
    const char *managed = docker_map_get(labels, "davit.managed"), *server = docker_map_get(labels, "davit.server");
    return managed && strcmp(managed, "true") == 0 && server && strcmp(server, in->server_id) == 0 && docker_map_get(labels, LABEL_INGRESS);
}

/* 0, also where there is none: then *ret is empty. */
static int look(struct ingress *in, const char *name, struct docker_container *ret, usec_t deadline, struct err *err)
{
    struct err e = ERR_INIT;
    int rc = docker_container_inspect(in->docker, name, ret, deadline, &e);
    if (rc == -(int)ERR_NOT_FOUND)
        return 0;
    if (rc == 0 && !is_ours(in, &ret->labels)) {
        docker_container_release(ret);
        rc = err_set(&e, ERR_PRECONDITION, "a container %s is here that this server did not make", name);
        err_hint(&e, "rename or remove it; Davit does not touch what it did not make");
    }
    if (rc < 0 && err)
        *err = e;
    return rc;
}

int ingress_seat(struct ingress *in, enum seat *ret_seat, struct docker_container *ret, usec_t deadline, struct err *err)
{
    AUTO_FREE char *wanted = fingerprint(in);
    int rc = look(in, INGRESS_CONTAINER, ret, deadline, err);
    *ret_seat = SEAT_EMPTY;
    if (rc < 0 || !ret->pool)
        return rc;
    bool fits = str_eq(str_from(docker_map_get(&ret->labels, LABEL_INGRESS)), str_from(wanted));
    *ret_seat = fits && ret->state == DOCKER_STATE_RUNNING ? SEAT_RUNS : SEAT_UNFIT;
    return 0;
}

int ingress_image(struct ingress *in, usec_t deadline, struct err *err)
{
    struct docker_image image = {0};
    struct err e = ERR_INIT;
    int rc = docker_image_inspect(in->docker, in->image, &image, deadline, &e);
    docker_image_release(&image);
    if (rc == -(int)ERR_NOT_FOUND) {
        e = ERR_INIT;
        rc = docker_pull(in->docker, in->image, NULL, NULL, NULL, NULL, deadline, &e);
        in->unfetched = rc < 0;
        if (rc < 0)
            rc = err_wrap(&e, "the image of the ingress");
    }
    if (rc < 0 && err)
        *err = e;
    return rc;
}

/* --- Making ---- */

/* "ADDR:PORT", checked when the options were read. */
static int read_listen(const struct ingress *in, char host[LISTEN_HOST_MAX], uint16_t *ret_port, struct err *err)
{
    const char *colon = strrchr(in->listen, ':');
    uint64_t port = 0;
    struct str h = {in->listen, colon ? (size_t)(colon - in->listen) : 0};
    if (h.n >= 2 && h.p[0] == '[' && h.p[h.n - 1] == ']')
        h = (struct str){h.p + 1, h.n - 2};
    if (h.n == 0 || str_copy(host, LISTEN_HOST_MAX, h) != 0 || str_to_u64(str_from(colon ? colon + 1 : ""), UINT16_MAX, &port) != 0 || port == 0)
        return err_set(err, ERR_INVALID, "the ingress cannot listen on \"%s\": ADDR:PORT is expected", in->listen);
    *ret_port = (uint16_t)port;
    return 0;
}

/* What both have: nothing but the folder. */
static void harden(struct docker_container_spec *s)
{
    s->entrypoint = entrypoint;
    s->n_entrypoint = ARRAY_LEN(entrypoint);
    s->cap_drop = all;
    s->n_cap_drop = ARRAY_LEN(all);
    s->no_new_privileges = true;
    s->read_only = true;
    s->pids = PIDS_MAX;
    s->log_driver = "json-file";
    s->log_options = log_options;
    s->n_log_options = ARRAY_LEN(log_options);
}

static int ensure_network(struct ingress *in, usec_t deadline, struct err *err)
{
    const struct docker_pair labels[] = {{"davit.managed", "true"}, {"davit.server", in->server_id}, {LABEL_INGRESS, "network"}};
    const struct docker_network_spec spec = {.name = INGRESS_NETWORK, .labels = labels, .n_labels = ARRAY_LEN(labels)};
    if (in->make_network)
        return in->make_network(in->network_arg, &spec, deadline, err);
    int rc = docker_network_ensure(in->docker, &spec, NULL, deadline, err);
    return rc < 0 ? rc : 0;
}

static int create(struct ingress *in, char id[DOCKER_ID_SIZE], usec_t deadline, struct err *err)
{
    char host[LISTEN_HOST_MAX];
    uint16_t port = 0;
    AUTO_FREE char *user = str_printf("%u:%u", in->uid, in->gid), *mark = fingerprint(in);
    AUTO_FREE char *config = str_printf("%s/config", in->folder), *run = str_printf("%s/run", in->folder);
    int rc = read_listen(in, host, &port, err);
    if (rc < 0)
        return rc;
    const struct docker_pair labels[] = {{"davit.managed", "true"}, {"davit.server", in->server_id}, {LABEL_INGRESS, mark}};
    const struct docker_mount mounts[] = {
        {.type = DOCKER_MOUNT_BIND, .source = config, .target = ROUTES_CONFIG_DIR, .read_only = true},
        {.type = DOCKER_MOUNT_BIND, .source = run, .target = ROUTES_RUN_DIR},
    };
    const struct docker_port published = {.container_port = ROUTES_PORT, .publish = true, .host_ip = host, .host_port = port};
    struct docker_container_spec spec = {
        .name = INGRESS_CONTAINER,
        .image = in->image,
        .command = serve_command,
        .n_command = ARRAY_LEN(serve_command),
        .user = user,
        .labels = labels,
        .n_labels = ARRAY_LEN(labels),
        .stop_signal = "SIGUSR1", /* connections end in peace */
        .stop_timeout_s = STOP_SECONDS,
        .mounts = mounts,
        .n_mounts = ARRAY_LEN(mounts),
        .ports = &published,
        .n_ports = 1,
        .network = INGRESS_NETWORK,
        .restart = "unless-stopped",
    };
    harden(&spec);
    return docker_container_create(in->docker, &spec, id, deadline, err);
}

static bool is_listed(char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

int ingress_join(struct ingress *in, const struct docker_container *c, const struct routes *t, usec_t deadline, struct err *err)
{
    AUTO_FREE char **done = mem_zalloc(t->n + (c ? c->n_networks : 0) + 1, sizeof(*done));
    size_t n = 0;
    for (size_t i = 0; c && i < c->n_networks; i++)
        done[n++] = (char *)(uintptr_t)c->networks[i].network;
    for (size_t i = 0; i < t->n; i++) {
        struct err e = ERR_INIT;
        if (is_listed(done, n, t->items[i]->network))
            continue;
        done[n++] = t->items[i]->network;
        int rc = docker_network_connect(in->docker, t->items[i]->network, INGRESS_CONTAINER, NULL, 0, NULL, deadline, &e);
        if (rc < 0 && rc != -(int)ERR_NOT_FOUND) {
            if (err)
                *err = e;
            return rc;
        }
    }
    return 0;
}

static bool is_needed(const struct routes *t, const char *network)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->items[i]->network, network) == 0)
            return true;
    return strcmp(network, INGRESS_NETWORK) == 0;
}

int ingress_leave(struct ingress *in, const struct routes *t, usec_t deadline, struct err *err)
{
    struct docker_container c = {0};
    int rc = look(in, INGRESS_CONTAINER, &c, deadline, err);
    for (size_t i = 0; rc >= 0 && i < c.n_networks; i++)
        if (!is_needed(t, c.networks[i].network))
            rc = docker_network_disconnect(in->docker, c.networks[i].network, INGRESS_CONTAINER, false, deadline, err);
    docker_container_release(&c);
    return rc < 0 ? rc : 0;
}

int ingress_start(struct ingress *in, const struct routes *t, usec_t deadline, struct err *err)
{
    char id[DOCKER_ID_SIZE];
    int rc = ensure_network(in, deadline, err);
    if (rc == 0)
        rc = create(in, id, deadline, err);
    if (rc < 0)
        return rc;
    rc = ingress_join(in, NULL, t, deadline, err);
    if (rc == 0)
        rc = docker_container_start(in->docker, id, deadline, err);
    if (rc >= 0)
        return 0;
    if (rc == -(int)ERR_PRECONDITION)
        err_hint(err, "the ingress listens on %s of this server; another address is set by --ingress-listen", in->listen);
    (void)docker_container_remove(in->docker, id, true, true, deadline_in(INGRESS_CALL), NULL);
    return rc;
}

int ingress_remove_container(struct ingress *in, usec_t deadline, struct err *err)
{
    struct docker_container c = {0};
    int rc = look(in, INGRESS_CONTAINER, &c, deadline, err);
    if (rc == 0 && c.pool)
        rc = docker_container_remove(in->docker, c.id, true, true, deadline, err);
    docker_container_release(&c);
    return rc < 0 ? rc : 0;
}

int ingress_remove_network(struct ingress *in, usec_t deadline, struct err *err)
{
    struct docker_networks l = {0};
    int rc = docker_network_list(in->docker, LABEL_INGRESS, &l, deadline, err);
    for (size_t i = 0; rc >= 0 && i < l.n; i++)
        if (strcmp(l.items[i].name, INGRESS_NETWORK) == 0 && is_ours(in, &l.items[i].labels))
            rc = docker_network_remove(in->docker, INGRESS_NETWORK, deadline, err);
    docker_networks_release(&l);
    return rc < 0 ? rc : 0;
}

/* --- Checking ---- */

static int keep_line(void *arg, const struct docker_log *entry)
{
    struct buf *b = arg;
    struct str line = str_trim(entry->line);
    if (line.n == 0)
        return 0;
    buf_clear(b);
    line.n = line.n < 200 ? line.n : 200;
    for (size_t i = 0; i < line.n; i++) {
        unsigned char ch = (unsigned char)line.p[i];
        if (buf_append_byte(b, ch >= 0x20 && ch < 0x7f ? ch : '?') < 0)
            break;
    }
    return 0;
}

void ingress_last_words(struct ingress *in, const char *container, struct err *err)
{
    AUTO_BUF words = BUF_INIT(WORDS_MAX);
    const struct docker_log_options options = {.tail = 3};
    (void)docker_logs(in->docker, container, &options, keep_line, &words, deadline_in(INGRESS_ASK), NULL);
    if (words.len > 0)
        err_hint(err, "HAProxy's last words: %s", buf_cstr(&words));
}

static int create_checker(struct ingress *in, char id[DOCKER_ID_SIZE], usec_t deadline, struct err *err)
{
    AUTO_FREE char *user = str_printf("%u:%u", in->uid, in->gid), *config = str_printf("%s/config", in->folder);
    const struct docker_pair labels[] = {{"davit.managed", "true"}, {"davit.server", in->server_id}, {LABEL_INGRESS, "check"}};
    const struct docker_mount mount = {.type = DOCKER_MOUNT_BIND, .source = config, .target = ROUTES_CONFIG_DIR, .read_only = true};
    struct docker_container_spec spec = {
        .name = INGRESS_CHECKER,
        .image = in->image,
        .command = check_command,
        .n_command = ARRAY_LEN(check_command),
        .user = user,
        .labels = labels,
        .n_labels = ARRAY_LEN(labels),
        .mounts = &mount,
        .n_mounts = 1,
        .network = "none",
    };
    harden(&spec);
    struct docker_container left = {0};
    int rc = docker_container_create(in->docker, &spec, id, deadline, err);
    if (rc != -(int)ERR_EXISTS)
        return rc;
    /* One that a crash left behind. */
    rc = look(in, INGRESS_CHECKER, &left, deadline, err);
    if (rc == 0 && left.pool)
        rc = docker_container_remove(in->docker, left.id, true, true, deadline, err);
    docker_container_release(&left);
    return rc < 0 ? rc : docker_container_create(in->docker, &spec, id, deadline, err);
}

static int refused(int status, struct err *err)
{
    return err_set(err, ERR_PRECONDITION, "HAProxy refuses the configuration of the ingress (exit status %d)", status);
}

/* In a container of its own, without a network. */
static int check_apart(struct ingress *in, usec_t deadline, struct err *err)
{
    char id[DOCKER_ID_SIZE];
    int status = 0, rc = create_checker(in, id, deadline, err);
    if (rc < 0)
        return rc;
    rc = docker_container_start(in->docker, id, deadline, err);
    if (rc >= 0)
        rc = docker_container_wait(in->docker, id, &status, deadline, err);
    if (rc >= 0 && status != 0) {
        rc = refused(status, err);
        ingress_last_words(in, id, err);
    }
    (void)docker_container_remove(in->docker, id, true, true, deadline_in(INGRESS_CALL), NULL);
    return rc < 0 ? rc : 0;
}

/* The last line of what @c says until it ends. */
static int read_words(struct conn *c, struct buf *words, usec_t deadline, struct err *err)
{
    char piece[1024];
    struct docker_demux m = {0};
    size_t n = 0;
    int rc;
    while ((rc = conn_read(c, piece, sizeof(piece), deadline, &n, err)) == 0 && n > 0) {
        struct str bytes = {piece, n}, part = STR("");
        int stream = 0;
        bool end = false;
        while ((rc = docker_demux_next(&m, &bytes, &stream, &part, &end, err)) == 1)
            while (part.n > 0)
                (void)keep_line(words, &(struct docker_log){.line = str_cut(&part, '\n')});
        if (rc < 0)
            break;
    }
    return rc;
}

/* Within the one that runs, which is sooner done. */
static int check_within(struct ingress *in, usec_t deadline, struct err *err)
{
    static const char *const command[] = {"haproxy", "-c", "-f", ROUTES_CONFIG_DIR "/haproxy.cfg.new"};
    const struct docker_exec_spec spec = {.command = command, .n_command = ARRAY_LEN(command)};
    AUTO_BUF words = BUF_INIT(WORDS_MAX);
    char id[DOCKER_ID_SIZE];
    struct conn *c = NULL;
    bool running = true;
    int status = 0, rc = docker_exec_start(in->docker, INGRESS_CONTAINER, &spec, id, &c, deadline, err);
    if (rc < 0)
        return rc;
    rc = read_words(c, &words, deadline, err);
    (void)conn_close(c);
    while (rc == 0 && running) {
        rc = docker_exec_inspect(in->docker, id, &running, &status, deadline, err);
        if (rc == 0 && running)
            rc = fiber_sleep(EXEC_STEP);
    }
    if (rc == 0 && status != 0) {
        rc = refused(status, err);
        err_hint(err, "HAProxy's last words: %s", buf_cstr(&words));
    }
    return rc;
}

int ingress_check(struct ingress *in, bool runs, usec_t deadline, struct err *err)
{
    return runs ? check_within(in, deadline, err) : check_apart(in, deadline, err);
}
