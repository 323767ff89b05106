/* SPDX-License-Identifier: Apache-2.0 */
/* sample — takes the figures of usage.h at each interval for the host and every running container of ours, straight from /proc and the
 * cgroup files; where those are out of sight (another cgroup namespace) it asks the engine. */
#include "host/work/work_internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/fd.h"
#include "host/work/usage.h"

enum { TEXT_MAX = 256 * 1024 };

#define STATS_CALL (5 * USEC_SEC)
#define HURRY_GAP USEC_SEC

/* The reading before, for rates. */
struct before {
    int pid;
    uint64_t cpu_usec;
    usec_t at;
    struct usage_cgroup cgroup;
    bool has_cgroup;
    bool fresh;
};

struct sampler {
    struct work *w;
    struct event wake;
    struct usage_mounts mounts;
    struct hmap *before; /* container id, "" for the host -> struct before */
    struct buf text;
    char *data_root; /* of the engine, NULL while unknown */
    unsigned hurry;  /* samples that do not wait for the interval: 2 at once, 1 a second after the last */
    usec_t last;     /* monotonic, of the last sample */
};

struct target {
    char *id;
    int pid;
};

/* Reads a file of the kernel into the sampler's buffer. */
static bool read_text(struct sampler *sm, const char *path, struct str *ret)
{
    buf_clear(&sm->text);
    if (fd_read_file(path, &sm->text, NULL) < 0)
        return false;
    *ret = buf_str(&sm->text);
    return true;
}

static bool read_in(struct sampler *sm, const struct before *b, enum usage_controller c, const char *file, struct str *ret)
{
    char path[USAGE_PATH_MAX + 64];

    if (!*b->cgroup.dir[c])
        return false;
    (void)snprintf(path, sizeof(path), "%s/%s", b->cgroup.dir[c], file);
    return read_text(sm, path, ret);
}

static void read_number(struct sampler *sm, const struct before *b, enum usage_controller c, const char *file, uint64_t *ret)
{
    struct str s;

    if (read_in(sm, b, c, file, &s))
        (void)usage_number(s, ret);
}

static bool read_cgroup(struct sampler *sm, const struct before *b, struct usage *u)
{
    bool v2 = b->cgroup.v2[USAGE_MEMORY];
    struct str s;
    uint64_t ns = 0;

    if (b->cgroup.v2[USAGE_CPU]) {
        if (!read_in(sm, b, USAGE_CPU, "cpu.stat", &s))
            return false;
        usage_cpu_stat(s, u);
    } else {
        if (!read_in(sm, b, USAGE_CPU, "cpuacct.usage", &s) || usage_number(s, &ns) < 0)
            return false;
        u->cpu_usec = ns / 1000;
    }
    read_number(sm, b, USAGE_MEMORY, v2 ? "memory.current" : "memory.usage_in_bytes", &u->memory);
    read_number(sm, b, USAGE_MEMORY, v2 ? "memory.max" : "memory.limit_in_bytes", &u->memory_limit);
    if (read_in(sm, b, USAGE_MEMORY, "memory.stat", &s)) {
        uint64_t cache = usage_inactive_file(s, v2);
        u->memory = cache < u->memory ? u->memory - cache : 0;
    }
    if (b->cgroup.v2[USAGE_IO]) {
        if (read_in(sm, b, USAGE_IO, "io.stat", &s))
            usage_io_stat(s, u);
    } else if (read_in(sm, b, USAGE_IO, "blkio.throttle.io_service_bytes_recursive", &s) ||
               read_in(sm, b, USAGE_IO, "blkio.throttle.io_service_bytes", &s)) {
        usage_blkio(s, u);
    }
    read_number(sm, b, USAGE_PIDS, "pids.current", &u->pids);
    return true;
}

static void read_net(struct sampler *sm, int pid, bool host, struct usage *u)
{
    char path[64];
    struct str s;

    if (pid > 0)
        (void)snprintf(path, sizeof(path), "/proc/%d/net/dev", pid);
    else
        (void)snprintf(path, sizeof(path), "/proc/net/dev");
    if (read_text(sm, path, &s))
        usage_net_dev(s, host, u);
}

/* Where the cgroup of @pid is, once per process. */
static bool find_cgroup(struct sampler *sm, struct before *b, int pid)
{
    char path[64];
    struct str s;

    if (b->pid == pid)
        return b->has_cgroup;
    b->pid = pid;
    (void)snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
    b->has_cgroup = read_text(sm, path, &s) && usage_parse_cgroup(s, &sm->mounts, &b->cgroup) == 0;
    return b->has_cgroup;
}

/* Asks the engine. Waits. */
static bool ask_engine(struct sampler *sm, const char *id, struct usage *u)
{
    struct docker_stats st = {0};

    if (docker_container_stats(sm->w->docker, id, &st, deadline_in(STATS_CALL), NULL) < 0)
        return false;
    *u = (struct usage){
        .cpu_usec = st.cpu_ns / 1000,
        .memory = st.mem_bytes,
        .memory_limit = st.mem_limit,
        .read_bytes = st.blk_read_bytes,
        .write_bytes = st.blk_write_bytes,
        .rx_bytes = st.net_rx_bytes,
        .tx_bytes = st.net_tx_bytes,
        .pids = st.pids,
    };
    return true;
}

static struct before *before_of(struct sampler *sm, const char *id)
{
    struct before *b = hmap_get(sm->before, str_from(id));

    if (!b) {
        b = NEW(struct before);
        if (hmap_put(sm->before, str_from(id), b, NULL) < 0) {
            free(b);
            return NULL;
        }
    }
    b->fresh = true;
    return b;
}

static void fill(Davit__Common__V1__Usage *m, const char *id, const struct usage *u, struct before *b)
{
    usec_t now = clock_mono();

    davit__common__v1__usage__init(m);
    m->container_id = (char *)id;
    m->at_us = clock_real();
    m->cpu_usec = u->cpu_usec;
    m->memory_bytes = u->memory;
    m->memory_limit_bytes = u->memory_limit;
    m->disk_read_bytes = u->read_bytes;
    m->disk_write_bytes = u->write_bytes;
    m->net_rx_bytes = u->rx_bytes;
    m->net_tx_bytes = u->tx_bytes;
    m->pids = u->pids > UINT32_MAX ? UINT32_MAX : (uint32_t)u->pids;
    if (b->at != 0)
        m->cpu_milli = usage_cpu_milli(b->cpu_usec, u->cpu_usec, now - b->at);
    b->cpu_usec = u->cpu_usec;
    b->at = now;
}

static void sample_host(struct sampler *sm, Davit__Common__V1__Usage *m)
{
    struct before *b = before_of(sm, "");
    struct usage u = {0};
    struct str s;
    struct statvfs fs;

    if (read_text(sm, "/proc/stat", &s))
        usage_proc_stat(s, (uint64_t)sysconf(_SC_CLK_TCK), &u);
    if (read_text(sm, "/proc/meminfo", &s))
        usage_meminfo(s, &u);
    if (read_text(sm, "/proc/diskstats", &s))
        usage_diskstats(s, &u);
    read_net(sm, 0, true, &u);
    fill(m, "", &u, b);
    if (sm->data_root && statvfs(sm->data_root, &fs) == 0) {
        m->disk_total_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
        m->disk_free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    }
}

static bool sample_container(struct sampler *sm, const struct target *t, Davit__Common__V1__Usage *m)
{
    struct before *b = before_of(sm, t->id);
    struct usage u = {0};

    if (!b)
        return false;
    bool had = b->has_cgroup;
    /* From within a container the engine's numbers of processes mean others, or nobody. */
    if (!sm->w->sandboxes_only && find_cgroup(sm, b, t->pid) && read_cgroup(sm, b, &u)) {
        read_net(sm, t->pid, false, &u);
    } else {
        /* The process may be another one by now. */
        b->pid = 0;
        if (had)
            watch_touch(sm->w, t->id);
        if (!ask_engine(sm, t->id, &u))
            return false;
    }
    fill(m, t->id, &u, b);
    return true;
}

/* Drops what was remembered of containers that are no more. */
static void sweep(struct sampler *sm)
{
    struct hmap_entry *next;

    for (struct hmap_entry *e = hmap_first(sm->before); e; e = next) {
        struct before *b = hmap_value(e);
        next = hmap_next(e);
        if (b->fresh) {
            b->fresh = false;
            continue;
        }
        free(hmap_remove(sm->before, hmap_key(e)));
    }
}

static struct target *targets(struct sampler *sm, size_t *ret_n)
{
    const struct hmap *known = watch_known(sm->w);
    struct target *t = mem_zalloc(hmap_count(known) + 1, sizeof(*t));
    size_t n = 0;

    for (struct hmap_entry *e = hmap_first(known); e; e = hmap_next(e)) {
        const struct seen *s = hmap_value(e);
        if (s->state == DOCKER_STATE_RUNNING && s->pid > 0)
            t[n++] = (struct target){str_dup(str_from(s->id)), s->pid};
    }
    *ret_n = n;
    return t;
}

static void sample(struct sampler *sm)
{
    Davit__Link__V1__AgentMessage msg = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__UsageBatch batch = DAVIT__LINK__V1__USAGE_BATCH__INIT;
    size_t n_targets = 0, n = 0;
    struct target *t = targets(sm, &n_targets);
    Davit__Common__V1__Usage *items = mem_zalloc(n_targets + 1, sizeof(*items));
    Davit__Common__V1__Usage **list = mem_zalloc(n_targets + 1, sizeof(*list));

    sample_host(sm, &items[n++]);
    for (size_t i = 0; i < n_targets && !fiber_cancelled(); i++)
        n += sample_container(sm, &t[i], &items[n]);
    for (size_t i = 0; i < n; i++)
        list[i] = &items[i];
    batch.samples = list;
    batch.n_samples = n;
    msg.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_USAGE;
    msg.usage = &batch;
    work_send(sm->w, &msg);
    sweep(sm);
    for (size_t i = 0; i < n_targets; i++)
        free(t[i].id);
    free(t);
    free(items);
    free(list);
}

static void find_data_root(struct sampler *sm)
{
    struct docker_info info = {0};

    if (sm->data_root || docker_info_get(sm->w->docker, &info, deadline_in(STATS_CALL), NULL) < 0)
        return;
    sm->data_root = str_dup(str_from(info.root_dir));
    docker_info_release(&info);
}

static usec_t next_due(const struct sampler *sm)
{
    const struct work *w = sm->w;
    usec_t interval = w->usage_interval;

    if (sm->hurry > 1)
        return 0;
    if (sm->hurry == 1)
        interval = HURRY_GAP;
    else if (clock_mono() < w->usage_until && w->usage_watch < interval)
        interval = w->usage_watch;
    return clock_add(sm->last, interval);
}

static void sampler_run(void *arg)
{
    struct sampler *sm = arg;
    struct str s;

    if (read_text(sm, "/proc/self/mountinfo", &s))
        usage_parse_mountinfo(s, &sm->mounts);
    while (!fiber_cancelled()) {
        if (event_wait(&sm->wake, next_due(sm)) == 0)
            event_reset(&sm->wake);
        if (fiber_cancelled() || clock_mono() < next_due(sm))
            continue;
        if (sm->hurry > 0)
            sm->hurry--;
        sm->last = clock_mono();
        find_data_root(sm);
        sample(sm);
    }
}

int sampler_start(struct work *w)
{
    struct sampler *sm = NEW(struct sampler);

    *sm = (struct sampler){.w = w, .before = hmap_new(WORK_CONTAINERS_MAX + 1), .text = BUF_INIT(TEXT_MAX)};
    event_init(&sm->wake, w->loop);
    sm->last = clock_mono();
    w->sampler = sm;
    return work_spawn(w, "usage", sampler_run, sm) ? 0 : -ERR_EXHAUSTED;
}

void sampler_free(struct work *w)
{
    struct sampler *sm = w->sampler;

    for (struct hmap_entry *e = hmap_first(sm->before); e; e = hmap_next(e))
        free(hmap_value(e));
    hmap_free(sm->before);
    event_release(&sm->wake);
    buf_release(&sm->text);
    free(sm->data_root);
    free(sm);
    w->sampler = NULL;
}

void sampler_wake(struct work *w)
{
    event_signal(&w->sampler->wake);
}

void sampler_hurry(struct work *w, unsigned n)
{
    if (w->sampler->hurry < n)
        w->sampler->hurry = n;
    event_signal(&w->sampler->wake);
}
