/* SPDX-License-Identifier: Apache-2.0 */
/* doctor_engine — checks of the Docker Engine: docker, docker_socket, docker_group, disk_space, engine_api, address_pools, log_driver. */
#include <errno.h>
#include <fcntl.h>
#include <sys/statvfs.h>

#include "base/fd.h"
#include "base/mem.h"
#include "host/link/doctor_internal.h"

enum { ACCOUNTS_MAX = 1024 * 1024, ROUTES_TEXT_MAX = 1024 * 1024 };
#define INSTALL "install Docker Engine 20.10 or later (on Debian: apt-get install docker.io)"

static void not_asked(struct doctor_check *c, const char *what)
{
    doctor_say(c, DOCTOR_WARN, "mend the docker check first", "%s is not known, since the engine does not answer", what);
}

static void judge_silence(struct doctor *d, struct doctor_check *c)
{
    const char *addr = docker_addr(d->docker);
    AUTO_FREE char *program = doctor_find(d, "dockerd");
    if (d->docker_rc == -(int)ERR_PRECONDITION || d->docker_rc == -(int)ERR_DENIED)
        doctor_say(c, DOCTOR_FAIL, *d->docker_err.hint ? d->docker_err.hint : INSTALL, "%s", d->docker_err.msg);
    else if (d->docker_rc == -(int)ERR_DEADLINE)
        doctor_say(c, DOCTOR_FAIL, "systemctl restart docker; journalctl -u docker tells why it hangs",
                   "the engine at %s takes the connection and does not answer", addr);
    else if (!program)
        doctor_say(c, DOCTOR_FAIL, INSTALL, "Docker is not installed, and nothing answers at %s", addr);
    else
        doctor_say(c, DOCTOR_FAIL, "systemctl enable --now docker; journalctl -u docker tells why it ended", "%s is installed, but: %s", program,
                   d->docker_err.msg);
}

void doctor_check_docker(struct doctor *d, struct doctor_check *c)
{
    /* Something of the time is left to find out whether it is installed. */
    usec_t deadline = d->deadline - USEC_SEC;
    d->docker_rc = docker_ping(d->docker, deadline, &d->docker_err);
    d->engine_speaks = d->docker_rc == 0 || d->docker_rc == -(int)ERR_PRECONDITION;
    if (d->docker_rc == 0)
        d->docker_rc = docker_info_get(d->docker, &d->info, deadline, &d->docker_err);
    if (d->docker_rc == 0)
        doctor_say(c, DOCTOR_OK, NULL, "Docker Engine %s answers at %s", d->info.version, docker_addr(d->docker));
    else
        judge_silence(d, c);
}

/* --- Socket and group ---- */

static int socket_job(void *arg)
{
    struct doctor *d = arg;
    struct doctor_socket *s = &d->socket;
    AUTO_BUF passwd = BUF_INIT(ACCOUNTS_MAX), group = BUF_INIT(ACCOUNTS_MAX);
    struct stat st;
    /* The agent's account is the one whose directory it is; without one, whoever asks. */
    s->account_uid = d->dir_st.st_mode ? d->dir_st.st_uid : geteuid();
    s->is_self = s->account_uid == geteuid();
    s->account_gid = s->is_self ? getegid() : (gid_t)-1;
    (void)fd_read_file("/etc/passwd", &passwd, NULL);
    (void)fd_read_file("/etc/group", &group, NULL);
    (void)doctor_account(buf_str(&passwd), s->account_uid, d->account, &s->account_gid); /* else its number stands for its name */
    if (stat(s->path, &st) != 0) {
        s->error = errno;
        return 0;
    }
    s->is_socket = S_ISSOCK(st.st_mode);
    s->mode = st.st_mode;
    s->uid = st.st_uid;
    s->gid = st.st_gid;
    s->listed = doctor_group(buf_str(&group), st.st_gid, d->account, d->group);
    s->accessible = faccessat(AT_FDCWD, s->path, R_OK | W_OK, AT_EACCESS) == 0;
    return 0;
}

/* False: it was said what hinders. */
static bool need_socket(struct doctor *d, struct doctor_check *c)
{
    const char *addr = docker_addr(d->docker);
    if (!str_starts(str_from(addr), STR("unix:"))) {
        doctor_say(c, DOCTOR_OK, NULL, "the engine is reached by TCP (%s): there is no socket", addr);
        return false;
    }
    if (!d->socket_asked) {
        d->socket = (struct doctor_socket){.path = addr + strlen("unix:"), .account = d->account, .group = d->group};
        doctor_need_config(d);
        d->socket_asked = doctor_block(d, socket_job) == 0;
    }
    if (!d->socket_asked)
        doctor_say(c, DOCTOR_WARN, "find out which file system hangs (/, /etc, /run)", "not checked: looking at files takes too long");
    return d->socket_asked;
}

void doctor_check_docker_socket(struct doctor *d, struct doctor_check *c)
{
    if (need_socket(d, c))
        doctor_judge_socket(c, &d->socket);
}

void doctor_check_docker_group(struct doctor *d, struct doctor_check *c)
{
    if (need_socket(d, c))
        doctor_judge_group(c, &d->socket);
}

/* --- Disk ---- */

static int disk_job(void *arg)
{
    struct doctor *d = arg;
    for (size_t i = 0; i < ARRAY_LEN(d->disks); i++) {
        struct doctor_disk *disk = &d->disks[i];
        struct statvfs fs;
        disk->known = disk->path && statvfs(disk->path, &fs) == 0;
        if (disk->known)
            disk->free = (uint64_t)fs.f_bavail * fs.f_frsize;
    }
    return 0;
}

void doctor_check_disk_space(struct doctor *d, struct doctor_check *c)
{
    const char *root = d->docker_rc == 0 && d->info.root_dir[0] == '/' ? d->info.root_dir : NULL;
    d->disks[0] = (struct doctor_disk){.what = "/", .path = "/"};
    d->disks[1] = (struct doctor_disk){.what = "Docker's root", .path = root};
    if (doctor_block(d, disk_job) != 0)
        doctor_say(c, DOCTOR_WARN, "find out which file system hangs (/ or that of Docker's root)", "not checked: a file system does not answer");
    else
        doctor_judge_disk(c, d->disks, ARRAY_LEN(d->disks));
}

/* --- What it says of itself ---- */

void doctor_check_engine_api(struct doctor *d, struct doctor_check *c)
{
    char min[DOCKER_API_SIZE], max[DOCKER_API_SIZE];
    struct err err = ERR_INIT;
    if (!d->engine_speaks)
        not_asked(c, "the engine's API");
    else if (docker_api_range(d->docker, min, max, d->deadline, &err) == 0)
        doctor_judge_api(c, min, max);
    else
        doctor_say(c, DOCTOR_FAIL, "systemctl restart docker", "the engine does not tell its versions: %s", err.msg);
}

static bool is_bridge(const char *interface)
{
    AUTO_FREE char *path = str_printf("/sys/class/net/%s/bridge", interface);
    return access(path, F_OK) == 0;
}

/* Subnets of IPv4, at most DOCTOR_ROUTES_MAX. */
static size_t subnets_of(const struct docker_networks *l, struct doctor_net *ret)
{
    size_t n = 0;
    for (size_t i = 0; i < l->n && n < DOCTOR_ROUTES_MAX; i++) {
        if (doctor_subnet(str_from(l->items[i].subnet), &ret[n]) != 0)
            continue;
        (void)str_copy(ret[n].name, sizeof(ret[n].name), str_from(l->items[i].name));
        n++;
    }
    return n;
}

void doctor_check_address_pools(struct doctor *d, struct doctor_check *c)
{
    AUTO_BUF text = BUF_INIT(ROUTES_TEXT_MAX);
    struct docker_networks networks = {0};
    struct err err = ERR_INIT;
    if (d->docker_rc != 0) {
        not_asked(c, "which subnets Docker uses");
        return;
    }
    if (docker_network_list(d->docker, NULL, &networks, d->deadline, &err) != 0 || fd_read_file("/proc/net/route", &text, &err) != 0) {
        doctor_say(c, DOCTOR_WARN, "run doctor again", "networks and routes could not be read: %s", err.msg);
        docker_networks_release(&networks);
        return;
    }
    AUTO_FREE struct doctor_net *subnets = mem_zalloc(DOCTOR_ROUTES_MAX, sizeof(*subnets));
    AUTO_FREE struct doctor_net *routes = mem_zalloc(DOCTOR_ROUTES_MAX, sizeof(*routes));
    size_t n_subnets = subnets_of(&networks, subnets), n_routes = doctor_routes(buf_str(&text), routes, DOCTOR_ROUTES_MAX);
    for (size_t i = 0; i < n_routes; i++)
        routes[i].bridge = is_bridge(routes[i].name);
    doctor_judge_pools(c, subnets, n_subnets, routes, n_routes);
    docker_networks_release(&networks);
}

void doctor_check_log_driver(struct doctor *d, struct doctor_check *c)
{
    if (d->docker_rc == 0)
        doctor_judge_log_driver(c, d->info.logging_driver);
    else
        not_asked(c, "the log driver");
}
