/* SPDX-License-Identifier: Apache-2.0 */
/* docker_live — src/docker against the Docker Engine at $DOCKER_HOST (without it: exit status 77, skipped). Its image is the machine's static
 * busybox; nothing is pulled from anywhere. What it makes carries the label davit.test=live and is removed before and after. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fd.h"
#include "docker/docker.h"
#include "net/on_fiber.h"

#define LABEL "davit.test=live"
#define REPO  "davit-live"
#define IMAGE REPO ":1"
#define SOON  deadline_in(60 * USEC_SEC)

static struct docker *engine;
static const struct docker_pair label = {"davit.test", "live"};

/* --- A root file system with busybox alone ------------------------------------------------------------------------------------------------ */

struct tar {
    struct buf bytes;
    size_t at;
};

static void tar_add(struct tar *t, const char *name, char type, const char *link, struct str data)
{
    char h[512] = {0};
    (void)snprintf(h, 100, "%s", name);
    (void)snprintf(h + 100, 8, "0000755");
    (void)snprintf(h + 108, 8, "0000000");
    (void)snprintf(h + 116, 8, "0000000");
    (void)snprintf(h + 124, 12, "%011zo", data.n);
    (void)snprintf(h + 136, 12, "00000000000");
    memset(h + 148, ' ', 8);
    h[156] = type;
    (void)snprintf(h + 157, 100, "%s", link);
    memcpy(h + 257,
           "ustar\0"
           "00",
           8);
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof(h); i++)
        sum += (uint8_t)h[i];
    (void)snprintf(h + 148, 8, "%06o", sum);
    static const char zero[512];
    CHECK(buf_append(&t->bytes, h, sizeof(h)) == 0 && buf_append_str(&t->bytes, data) == 0);
    CHECK(buf_append(&t->bytes, zero, (512 - data.n % 512) % 512) == 0);
}

static void tar_end(struct tar *t)
{
    static const char zero[1024];
    CHECK(buf_append(&t->bytes, zero, sizeof(zero)) == 0);
}

static int tar_source(void *arg, void *dst, size_t size, size_t *ret_n)
{
    struct tar *t = arg;
    size_t n = t->bytes.len - t->at < size ? t->bytes.len - t->at : size;
    memcpy(dst, t->bytes.data + t->at, n);
    t->at += n;
    *ret_n = n;
    return 0;
}

static void import_image(void)
{
    struct err err = ERR_INIT;
    AUTO_BUF busybox = BUF_INIT(8 << 20);
    struct tar t = {.bytes = BUF_INIT(9 << 20)};
    CHECK_OK(fd_read_file("/bin/busybox", &busybox, &err));
    static const char *const links[] = {"bin/sh",  "bin/sleep", "bin/echo",   "bin/cat",
                                        "bin/seq", "bin/head",  "bin/printf", "bin/true"};
    tar_add(&t, "bin/", '5', "", STR(""));
    tar_add(&t, "tmp/", '5', "", STR(""));
    tar_add(&t, "bin/busybox", '0', "", buf_str(&busybox));
    for (size_t i = 0; i < ARRAY_LEN(links); i++)
        tar_add(&t, links[i], '2', "busybox", STR(""));
    tar_end(&t);
    CHECK_OK(docker_image_import(engine, REPO, "1", tar_source, &t, SOON, &err));
    buf_release(&t.bytes);
}

static void sweep(void)
{
    struct err err = ERR_INIT;
    struct docker_summaries l = {0};
    const char *labels[] = {LABEL};
    CHECK_OK(docker_container_list(engine, labels, 1, &l, SOON, &err));
    for (size_t i = 0; i < l.n; i++)
        CHECK_OK(docker_container_remove(engine, l.items[i].id, true, true, SOON, &err));
    docker_summaries_release(&l);
    struct docker_networks n = {0};
    CHECK_OK(docker_network_list(engine, LABEL, &n, SOON, &err));
    for (size_t i = 0; i < n.n; i++)
        CHECK_OK(docker_network_remove(engine, n.items[i].id, SOON, &err));
    docker_networks_release(&n);
    struct docker_volumes v = {0};
    CHECK_OK(docker_volume_list(engine, LABEL, &v, SOON, &err));
    for (size_t i = 0; i < v.n; i++)
        CHECK_OK(docker_volume_remove(engine, v.items[i].name, false, SOON, &err));
    docker_volumes_release(&v);
}

/* Runs @script in a fresh container and starts it. */
static void run_script(const char *script, bool tty, char *ret_id)
{
    struct err err = ERR_INIT;
    const char *command[] = {"/bin/sh", "-c", script};
    struct docker_container_spec spec = {
        .image = IMAGE, .command = command, .n_command = 3, .labels = &label, .n_labels = 1, .tty = tty};
    CHECK_OK(docker_container_create(engine, &spec, ret_id, SOON, &err));
    CHECK_OK(docker_container_start(engine, ret_id, SOON, &err));
}

/* --- Tests ------------------------------------------------------------------------------------------------------------------------------- */

static void info(void)
{
    struct err err = ERR_INIT;
    struct docker_info i = {0};
    CHECK_OK(docker_info_get(engine, &i, SOON, &err));
    CHECK(*i.version && *i.os && *i.arch && *i.kernel && i.root_dir[0] == '/' && *i.storage_driver && *i.hostname && *i.id);
    CHECK(i.mem_bytes > 1000000 && i.ncpu > 0 && strncmp(i.api, "1.4", 3) == 0 &&
          (i.cgroup_version == 1 || i.cgroup_version == 2));
    docker_info_release(&i);
}

static void image(void)
{
    struct err err = ERR_INIT;
    struct docker_image i = {0};
    CHECK_OK(docker_image_inspect(engine, IMAGE, &i, SOON, &err));
    CHECK(strncmp(i.id, "sha256:", 7) == 0 && i.n_ports == 0 && !i.has_healthcheck && i.size > 100000);
    docker_image_release(&i);
    CHECK(docker_image_inspect(engine, "davit-none:1", &i, SOON, &err) == -(int)ERR_NOT_FOUND);
    CHECK_OK(docker_image_tag(engine, IMAGE, REPO, "2", SOON, &err));
    CHECK_OK(docker_image_remove(engine, REPO ":2", false, SOON, &err));
    CHECK(docker_pull(engine, "127.0.0.1:1/none:1", NULL, NULL, NULL, NULL, SOON, &err) == -(int)ERR_UNAVAILABLE);
    CHECK(*err.hint);
    CHECK(docker_pull(engine, "Bad Name", NULL, NULL, NULL, NULL, SOON, &err) < 0);
}

static void networks_and_volumes(void)
{
    struct err err = ERR_INIT;
    char id[DOCKER_ID_SIZE], again[DOCKER_ID_SIZE];
    struct docker_network_spec spec = {.name = "davit-live-net", .subnet = "10.213.7.0/24", .labels = &label, .n_labels = 1};
    CHECK_OK(docker_network_ensure(engine, &spec, id, SOON, &err));
    CHECK(docker_network_ensure(engine, &spec, again, SOON, &err) == DOCKER_UNCHANGED && strcmp(id, again) == 0);
    struct docker_networks n = {0};
    CHECK_OK(docker_network_list(engine, LABEL, &n, SOON, &err));
    CHECK(n.n == 1 && !n.items[0].internal && strcmp(n.items[0].subnet, "10.213.7.0/24") == 0);
    CHECK(strcmp(docker_map_get(&n.items[0].labels, "davit.test"), "live") == 0);
    docker_networks_release(&n);
    CHECK_OK(docker_volume_ensure(engine, "davit-live-vol", &label, 1, SOON, &err));
    CHECK_OK(docker_volume_ensure(engine, "davit-live-vol", &label, 1, SOON, &err));
    struct docker_volumes v = {0};
    CHECK_OK(docker_volume_list(engine, LABEL, &v, SOON, &err));
    CHECK(v.n == 1 && strcmp(v.items[0].name, "davit-live-vol") == 0);
    docker_volumes_release(&v);
    CHECK(docker_network_remove(engine, "davit-live-none", SOON, &err) == DOCKER_UNCHANGED);
    CHECK(docker_volume_remove(engine, "davit-live-none", false, SOON, &err) == DOCKER_UNCHANGED);
}

static void check_inspected(const char *id)
{
    struct err err = ERR_INIT;
    struct docker_container c = {0};
    CHECK_OK(docker_container_inspect(engine, id, &c, SOON, &err));
    CHECK(strcmp(c.id, id) == 0 && strcmp(c.name, "davit-live-1") == 0 && strcmp(c.image, IMAGE) == 0);
    CHECK(c.state == DOCKER_STATE_RUNNING && c.pid > 0 && c.n_networks == 1 &&
          strcmp(c.networks[0].network, "davit-live-net") == 0);
    CHECK(strcmp(c.networks[0].ipv4, "10.213.7.77") == 0 && c.memory == 64 << 20 && c.nano_cpus == 500000000 && c.pids == 50);
    CHECK(strcmp(c.restart, "on-failure") == 0 && strcmp(docker_map_get(&c.labels, "davit.test"), "live") == 0);
    bool published = false;
    for (size_t i = 0; i < c.n_ports; i++)
        published |= c.ports[i].container_port == 8080 && strcmp(c.ports[i].proto, "tcp") == 0;
    CHECK(published);
    CHECK(c.n_mounts == 1 && strcmp(c.mounts[0].target, "/data") == 0 && c.n_env >= 1 && strcmp(c.log_driver, "json-file") == 0);
    docker_container_release(&c);
}

static void await_health(const char *id, enum docker_health want)
{
    struct err err = ERR_INIT;
    for (int i = 0; i < 100; i++) {
        struct docker_container c = {0};
        CHECK_OK(docker_container_inspect(engine, id, &c, SOON, &err));
        enum docker_health health = c.health;
        bool said = strstr(c.health_log, "fine") != NULL;
        docker_container_release(&c);
        if (health == want && said)
            return;
        CHECK_OK(fiber_sleep(100 * USEC_MSEC));
    }
    CHECK(false);
}

/* The second half of the life of a running container. */
static void wind_down(const char *id)
{
    struct err err = ERR_INIT;
    struct docker_stats stats;
    CHECK(docker_network_connect(engine, "davit-live-net", id, NULL, 0, NULL, SOON, &err) == DOCKER_UNCHANGED);
    CHECK(docker_network_remove(engine, "davit-live-net", SOON, &err) == -(int)ERR_PRECONDITION);
    CHECK_OK(docker_container_restart(engine, id, 0, SOON, &err));
    CHECK_OK(docker_container_rename(engine, id, "davit-live-2", SOON, &err));
    CHECK_OK(docker_container_stop(engine, id, 0, SOON, &err));
    CHECK(docker_container_stop(engine, id, 0, SOON, &err) == DOCKER_UNCHANGED);
    CHECK(docker_container_stats(engine, id, &stats, SOON, &err) == -(int)ERR_PRECONDITION);
    CHECK(docker_container_kill(engine, id, "KILL", SOON, &err) == -(int)ERR_PRECONDITION);
    struct docker_summaries l = {0};
    const char *labels[] = {LABEL};
    CHECK_OK(docker_container_list(engine, labels, 1, &l, SOON, &err));
    CHECK(l.n == 1 && strcmp(l.items[0].name, "davit-live-2") == 0 && l.items[0].state == DOCKER_STATE_EXITED);
    docker_summaries_release(&l);
    int code = 0;
    CHECK_OK(docker_container_wait(engine, id, &code, SOON, &err));
    CHECK(code == 137);
    CHECK_OK(docker_container_remove(engine, id, false, true, SOON, &err));
    CHECK(docker_container_remove(engine, id, false, true, SOON, &err) == DOCKER_UNCHANGED);
    struct docker_container c = {0};
    CHECK(docker_container_inspect(engine, id, &c, SOON, &err) == -(int)ERR_NOT_FOUND);
}

static void lifecycle(void)
{
    struct err err = ERR_INIT;
    char id[DOCKER_ID_SIZE], other[DOCKER_ID_SIZE];
    const char *command[] = {"/bin/sleep", "1000"};
    const char *alias[] = {"web"}, *drop[] = {"ALL"}, *add[] = {"NET_BIND_SERVICE"}, *test[] = {"CMD-SHELL", "echo fine"};
    struct docker_pair env[] = {{"A", "1=2"}}, log_options[] = {{"max-size", "1m"}};
    struct docker_mount mount = {.type = DOCKER_MOUNT_VOLUME, .source = "davit-live-vol", .target = "/data"};
    struct docker_port ports[] = {{.container_port = 8080, .publish = true, .host_ip = "127.0.0.1"},
                                  {.container_port = 53, .proto = "udp"}};
    struct docker_container_spec spec = {
        .name = "davit-live-1",
        .image = IMAGE,
        .command = command,
        .n_command = 2,
        .env = env,
        .n_env = 1,
        .labels = &label,
        .n_labels = 1,
        .nano_cpus = 500000000,
        .memory = 64 << 20,
        .pids = 50,
        .mounts = &mount,
        .n_mounts = 1,
        .ports = ports,
        .n_ports = 2,
        .network = "davit-live-net",
        .aliases = alias,
        .n_aliases = 1,
        .ipv4 = "10.213.7.77",
        .restart = "on-failure",
        .restart_max = 3,
        .cap_drop = drop,
        .n_cap_drop = 1,
        .cap_add = add,
        .n_cap_add = 1,
        .no_new_privileges = true,
        .read_only = true,
        .log_driver = "json-file",
        .log_options = log_options,
        .n_log_options = 1,
        .init = false,
        .health = {.test = test, .n_test = 2, .interval = USEC_SEC, .timeout = 2 * USEC_SEC, .retries = 2},
    };
    CHECK_OK(docker_container_create(engine, &spec, id, SOON, &err));
    CHECK(docker_container_create(engine, &spec, other, SOON, &err) == -(int)ERR_EXISTS);
    CHECK_OK(docker_container_start(engine, id, SOON, &err));
    CHECK(docker_container_start(engine, id, SOON, &err) == DOCKER_UNCHANGED);
    check_inspected(id);
    await_health(id, DOCKER_HEALTH_HEALTHY);
    struct docker_stats stats;
    CHECK_OK(docker_container_stats(engine, id, &stats, SOON, &err));
    CHECK(stats.mem_limit == 64 << 20 && stats.pids >= 1 && stats.cpu_ns > 0);
    wind_down(id);
}

static void taken_port(void)
{
    struct err err = ERR_INIT;
    char a[DOCKER_ID_SIZE], b[DOCKER_ID_SIZE];
    const char *command[] = {"/bin/sleep", "1000"};
    struct docker_port port = {.container_port = 80, .publish = true, .host_ip = "127.0.0.1", .host_port = 38471};
    struct docker_container_spec spec = {
        .image = IMAGE, .command = command, .n_command = 2, .labels = &label, .n_labels = 1, .ports = &port, .n_ports = 1};
    CHECK_OK(docker_container_create(engine, &spec, a, SOON, &err));
    CHECK_OK(docker_container_create(engine, &spec, b, SOON, &err));
    CHECK_OK(docker_container_start(engine, a, SOON, &err));
    CHECK(docker_container_start(engine, b, SOON, &err) == -(int)ERR_PRECONDITION && *err.hint);
    CHECK_OK(docker_container_remove(engine, a, true, true, SOON, &err));
    CHECK_OK(docker_container_remove(engine, b, true, true, SOON, &err));
    spec.image = "davit-none:1";
    CHECK(docker_container_create(engine, &spec, a, SOON, &err) == -(int)ERR_NOT_FOUND);
}

struct lines {
    unsigned n, partial, errors;
    size_t bytes;
    uint64_t last_ns;
    unsigned stop_at;
    char last[64];
};

static int on_line(void *arg, const struct docker_log *e)
{
    struct lines *l = arg;
    l->n++;
    l->partial += e->partial;
    l->errors += e->is_stderr;
    l->bytes += e->line.n;
    CHECK(e->time_ns >= 1500000000000000000ULL && e->line.n <= DOCKER_LINE_MAX);
    l->last_ns = e->time_ns;
    str_copy(l->last, sizeof(l->last), e->line);
    return l->stop_at && l->n == l->stop_at ? DOCKER_STOPPED : 0;
}

static void logs(void)
{
    struct err err = ERR_INIT;
    char id[DOCKER_ID_SIZE];
    struct lines l = {0};
    struct docker_log_options follow = {.follow = true, .tail = -1};
    run_script("seq 1 1000; echo oops >&2; head -c 200000 /dev/zero | /bin/busybox tr '\\0' x; echo; printf 'no end'", false, id);
    CHECK_OK(docker_logs(engine, id, &follow, on_line, &l, SOON, &err));
    CHECK(l.n == 1000 + 1 + 4 + 1 && l.partial == 3 && l.errors == 1 && strcmp(l.last, "no end") == 0);
    l = (struct lines){0};
    struct docker_log_options tail = {.tail = 1};
    CHECK_OK(docker_logs(engine, id, &tail, on_line, &l, SOON, &err));
    CHECK(l.n == 1);
    l = (struct lines){.stop_at = 10};
    CHECK(docker_logs(engine, id, &follow, on_line, &l, SOON, &err) == DOCKER_STOPPED && l.n == 10);
    struct docker_log_options since = {.tail = -1, .since_ns = l.last_ns + 3600000000000ULL};
    l = (struct lines){0};
    CHECK_OK(docker_logs(engine, id, &since, on_line, &l, SOON, &err));
    CHECK(l.n == 0);
    CHECK_OK(docker_container_remove(engine, id, true, true, SOON, &err));
    run_script("echo one; head -c 40000 /dev/zero | /bin/busybox tr '\\0' y; echo; echo three", true, id);
    l = (struct lines){0};
    CHECK_OK(docker_logs(engine, id, &follow, on_line, &l, SOON, &err));
    CHECK(l.n == 3 && l.bytes == 3 + 40000 + 5 && strcmp(l.last, "three") == 0);
    CHECK_OK(docker_container_remove(engine, id, true, true, SOON, &err));
    CHECK(docker_logs(engine, id, &follow, on_line, &l, SOON, &err) == -(int)ERR_NOT_FOUND);
    run_script("sleep 1000", false, id);
    CHECK(docker_logs(engine, id, &follow, on_line, &l, deadline_in(200 * USEC_MSEC), &err) == -(int)ERR_DEADLINE);
    CHECK_OK(docker_container_remove(engine, id, true, true, SOON, &err));
}

struct watch {
    struct event ready;
    unsigned create, start, die, exec;
    int exit_code;
};

static int on_event(void *arg, const struct docker_event *e)
{
    struct watch *w = arg;
    CHECK(strcmp(e->type, "container") == 0 && e->time_ns > 0 && strlen(e->id) == 64);
    w->create += strcmp(e->action, "create") == 0;
    w->start += strcmp(e->action, "start") == 0;
    w->exec += strncmp(e->action, "exec", 4) == 0;
    if (strcmp(e->action, "die") != 0)
        return 0;
    w->die++;
    uint64_t code = 0;
    CHECK(str_to_u64(str_from(docker_map_get(e->attributes, "exitCode")), 255, &code) == 0);
    w->exit_code = (int)code;
    return DOCKER_STOPPED;
}

static void events(void)
{
    struct err err = ERR_INIT;
    char id[DOCKER_ID_SIZE];
    struct watch w = {.exit_code = -1};
    uint64_t since = clock_real() * 1000;
    run_script("exit 7", false, id);
    CHECK(docker_events(engine, LABEL, since, on_event, &w, SOON, &err) == DOCKER_STOPPED);
    CHECK(w.create == 1 && w.start == 1 && w.die == 1 && w.exec == 0 && w.exit_code == 7);
    CHECK(docker_events(engine, LABEL, 0, on_event, &w, deadline_in(100 * USEC_MSEC), &err) == -(int)ERR_DEADLINE);
    CHECK_OK(docker_container_remove(engine, id, true, true, SOON, &err));
}

static int on_piece(void *arg, struct str bytes)
{
    return buf_append_str(arg, bytes);
}

/* Of a container that does not run, by a way that the engine has not: whatever it is called, whatever it is, and nothing beside it. */
static void removals(const char *id)
{
    static const char *const names[] = {"-f", "two\nlines", "caf\xc3\xa9 %", "link", "full"};
    struct err err = ERR_INIT;
    struct docker_path_stat st = {0};
    struct tar t = {.bytes = BUF_INIT(1 << 20)};
    char longest[256];
    memset(longest, 'n', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    for (size_t i = 0; i < 3; i++)
        tar_add(&t, names[i], '0', "", STR("x"));
    tar_add(&t, "link", '2', "/bin", STR(""));
    tar_add(&t, "full", '5', "", STR(""));
    tar_add(&t, "full/a", '0', "", STR("x"));
    tar_end(&t);
    CHECK_OK(docker_archive_put(engine, id, "/tmp", tar_source, &t, SOON, &err));
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        AUTO_FREE char *path = str_printf("/tmp/%s", names[i]);
        CHECK_OK(docker_archive_remove(engine, id, "/tmp", names[i], SOON, &err));
        CHECK(docker_archive_stat(engine, id, path, &st, SOON, &err) == -(int)ERR_NOT_FOUND);
        CHECK(docker_archive_remove(engine, id, "/tmp", names[i], SOON, &err) == -(int)ERR_NOT_FOUND);
    }
    CHECK_OK(docker_archive_stat(engine, id, "/bin/busybox", &st, SOON, &err));
    docker_path_stat_release(&st);
    CHECK(docker_archive_remove(engine, id, "/tmp", longest, SOON, &err) == -(int)ERR_NOT_FOUND);
    CHECK(docker_archive_remove(engine, id, "/", "volume", SOON, &err) == -(int)ERR_PRECONDITION && strstr(err.msg, "busy"));
    CHECK_OK(docker_archive_remove(engine, id, "/", "tmp", SOON, &err));
    buf_release(&t.bytes);
}

static void archives(void)
{
    struct err err = ERR_INIT;
    char id[DOCKER_ID_SIZE];
    const char *command[] = {"/bin/true"};
    const struct docker_mount mount = {.type = DOCKER_MOUNT_VOLUME, .source = "davit-live-removals", .target = "/volume"};
    struct docker_container_spec spec = {
        .image = IMAGE, .command = command, .n_command = 1, .labels = &label, .n_labels = 1, .mounts = &mount, .n_mounts = 1};
    CHECK_OK(docker_container_create(engine, &spec, id, SOON, &err));
    struct tar t = {.bytes = BUF_INIT(1 << 20)};
    tar_add(&t, "hello", '0', "", STR("from outside"));
    tar_end(&t);
    CHECK_OK(docker_archive_put(engine, id, "/tmp", tar_source, &t, SOON, &err));
    AUTO_BUF out = BUF_INIT(1 << 20);
    CHECK_OK(docker_archive_get(engine, id, "/tmp/hello", on_piece, &out, SOON, &err));
    CHECK(out.len >= 1024 && memmem(out.data, out.len, "from outside", 12));
    CHECK(docker_archive_get(engine, id, "/none", on_piece, &out, SOON, &err) == -(int)ERR_NOT_FOUND);
    struct docker_path_stat st = {0};
    CHECK_OK(docker_archive_stat(engine, id, "/tmp/hello", &st, SOON, &err));
    CHECK(st.kind == 'f' && st.size == strlen("from outside") && strcmp(st.name, "hello") == 0);
    docker_path_stat_release(&st);
    CHECK_OK(docker_archive_stat(engine, id, "/tmp", &st, SOON, &err));
    CHECK(st.kind == 'd' && st.mode == 0755);
    docker_path_stat_release(&st);
    CHECK_OK(docker_archive_stat(engine, id, "/bin/sh", &st, SOON, &err));
    CHECK(st.kind == 'l' && strcmp(st.target, "/bin/busybox") == 0);
    docker_path_stat_release(&st);
    CHECK(docker_archive_stat(engine, id, "/none", &st, SOON, &err) == -(int)ERR_NOT_FOUND);
    t.at = 0;
    CHECK(docker_archive_put(engine, id, "/none", tar_source, &t, SOON, &err) == -(int)ERR_NOT_FOUND);
    buf_release(&t.bytes);
    removals(id);
    CHECK_OK(docker_container_remove(engine, id, true, true, SOON, &err));
    CHECK_OK(docker_volume_remove(engine, mount.source, true, SOON, &err));
}

static void execs(void)
{
    struct err err = ERR_INIT;
    char id[DOCKER_ID_SIZE], exec[DOCKER_ID_SIZE], b[256];
    struct conn *c = NULL;
    size_t n = 0, have = 0;
    run_script("sleep 1000", false, id);
    const char *command[] = {"/bin/sh", "-c", "cat; echo $X >&2; exit 5"};
    struct docker_pair env = {"X", "y"};
    struct docker_exec_spec spec = {.command = command, .n_command = 3, .env = &env, .n_env = 1, .stdin_open = true};
    CHECK_OK(docker_exec_start(engine, id, &spec, exec, &c, SOON, &err));
    CHECK_OK(conn_write(c, "in\n", 3));
    conn_shutdown(c);
    do {
        CHECK_OK(conn_read(c, b + have, sizeof(b) - have, SOON, &n, &err));
        have += n;
    } while (n);
    conn_close(c);
    struct docker_demux m = {0};
    struct str bytes = {b, have}, piece;
    int stream;
    bool end;
    CHECK(docker_demux_next(&m, &bytes, &stream, &piece, &end, &err) == 1 && stream == 1 && str_eq(piece, STR("in\n")) && end);
    CHECK(docker_demux_next(&m, &bytes, &stream, &piece, &end, &err) == 1 && stream == 2 && str_eq(piece, STR("y\n")));
    bool running = true;
    int code = 0;
    for (int i = 0; i < 50 && running; i++) {
        CHECK_OK(docker_exec_inspect(engine, exec, &running, &code, SOON, &err));
        CHECK_OK(fiber_sleep(20 * USEC_MSEC));
    }
    CHECK(!running && code == 5);
    CHECK_OK(docker_container_remove(engine, id, true, true, SOON, &err));
}

static void everything(struct loop *loop)
{
    struct err err = ERR_INIT;
    CHECK_OK(docker_new(loop, NULL, &engine, &err));
    CHECK_OK(docker_ping(engine, SOON, &err));
    sweep();
    import_image();
    static const struct {
        const char *name;
        void (*fn)(void);
    } steps[] = {{"info", info},           {"image", image},           {"networks_and_volumes", networks_and_volumes},
                 {"lifecycle", lifecycle}, {"taken_port", taken_port}, {"logs", logs},
                 {"events", events},       {"archives", archives},     {"execs", execs}};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        (void)fprintf(stderr, "# %s\n", steps[i].name);
        steps[i].fn();
    }
    sweep();
    engine = docker_free(engine);
}

static void test_live(void **state)
{
    (void)state;
    on_fiber(everything);
}

int main(void)
{
    if (!getenv("DOCKER_HOST"))
        return 77;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_live)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
