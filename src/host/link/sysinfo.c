/* SPDX-License-Identifier: Apache-2.0 */
/* sysinfo — see sysinfo.h: the collector. */
#include "host/link/sysinfo.h"

#include <ifaddrs.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "base/fd.h"
#include "base/hmap.h"
#include "base/mem.h"
#include "host/link/policy.h"
#include "loop/child.h"
#include "net/http_client.h"
#include "rpc/rpc.h"

#define ENGINE_WAIT (5 * USEC_SEC)
#define TAILSCALE_WAIT (3 * USEC_SEC)
#define LOOKUP_WAIT (5 * USEC_SEC)

struct sysinfo {
    struct loop *loop;
    struct docker *docker;
    char *tailscale, *public_ip_url, *policy;
    const char *update_method;
    bool in_container;
    Davit__Common__V1__SystemInfo *now;
    /* What the slow ones said last, and when they are asked again. */
    char *docker_version, *docker_api, *docker_error;
    Davit__Common__V1__SystemInfo *facts; /* of the machine, as the engine tells them */
    char *public_address;
    Davit__Common__V1__Tailscale *tailnet;
    usec_t engine_due, slow_due;
};

struct sysinfo *sysinfo_new(const struct sysinfo_config *config)
{
    struct sysinfo *s = NEW(struct sysinfo);
    s->loop = config->loop;
    s->docker = config->docker;
    s->tailscale = str_dup(str_from(config->tailscale));
    s->public_ip_url = str_dup(str_from(config->public_ip_url));
    s->policy = config->policy ? str_dup(str_from(config->policy)) : NULL;
    s->update_method = config->update_method;
    s->in_container = config->in_container;
    s->facts = NEW(Davit__Common__V1__SystemInfo);
    davit__common__v1__system_info__init(s->facts);
    s->now = NEW(Davit__Common__V1__SystemInfo);
    davit__common__v1__system_info__init(s->now);
    s->tailnet = NEW(Davit__Common__V1__Tailscale);
    davit__common__v1__tailscale__init(s->tailnet);
    return s;
}

struct sysinfo *sysinfo_free(struct sysinfo *s)
{
    if (!s)
        return NULL;
    (void)rpc_message_free(s->now);
    (void)rpc_message_free(s->facts);
    (void)rpc_message_free(s->tailnet);
    free(s->docker_version);
    free(s->docker_api);
    free(s->docker_error);
    free(s->public_address);
    free(s->tailscale);
    free(s->public_ip_url);
    free(s->policy);
    free(s);
    return NULL;
}

void sysinfo_touch_engine(struct sysinfo *s)
{
    s->engine_due = 0;
}

const Davit__Common__V1__SystemInfo *sysinfo_get(const struct sysinfo *s)
{
    return s->now;
}

uint64_t sysinfo_hash(const struct sysinfo *s)
{
    static const uint64_t key[2] = {0x6461766974, 1};
    AUTO_BUF wire = BUF_INIT(RPC_MESSAGE_MAX);
    if (rpc_pack(&s->now->base, &wire) != 0)
        return 0;
    return hash_siphash(key, wire.data, wire.len);
}

/* A clean copy for a message; protobuf-c knows its own empty text and does not free it. */
static void set_text(char **at, struct str value)
{
    char *text = sysinfo_clean(value);
    if (*text) {
        *at = text;
        return;
    }
    free(text);
}

static void set_file(char **at, const char *path)
{
    AUTO_BUF text = BUF_INIT(SYSINFO_FILE_MAX);
    if (fd_read_file(path, &text, NULL) != 0)
        return;
    struct str all = buf_str(&text);
    set_text(at, str_cut(&all, '\n'));
}

static void collect_host(Davit__Common__V1__SystemInfo *m)
{
    struct utsname un;
    AUTO_BUF release = BUF_INIT(SYSINFO_FILE_MAX), meminfo = BUF_INIT(SYSINFO_FILE_MAX);
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    if (uname(&un) == 0) {
        set_text(&m->hostname, str_from(un.nodename));
        set_text(&m->kernel, str_from(un.release));
        set_text(&m->arch, str_from(sysinfo_arch(un.machine)));
    }
    if (fd_read_file("/etc/os-release", &release, NULL) == 0 || fd_read_file("/usr/lib/os-release", &release, NULL) == 0) {
        AUTO_FREE char *name = sysinfo_pretty_name(buf_str(&release));
        set_text(&m->os, str_from(name));
    }
    if (fd_read_file("/proc/meminfo", &meminfo, NULL) == 0)
        m->memory_bytes = sysinfo_mem_total(buf_str(&meminfo));
    m->cpu_count = cpus > 0 && cpus < 1000000 ? (uint32_t)cpus : 0;
    set_text(&m->agent_version, STR(DAVIT_VERSION));
    set_file(&m->boot_id, "/proc/sys/kernel/random/boot_id");
    set_text(&m->cgroup, str_from(sysinfo_cgroup("/sys/fs/cgroup")));
}

static void default_route(bool v6, char name[IFNAMSIZ])
{
    AUTO_BUF text = BUF_INIT(SYSINFO_FILE_MAX);
    name[0] = '\0';
    if (fd_read_file(v6 ? "/proc/net/ipv6_route" : "/proc/net/route", &text, NULL) != 0)
        return;
    if ((v6 ? sysinfo_route6 : sysinfo_route4)(buf_str(&text), name) != 0)
        name[0] = '\0';
}

/* IPv4 before IPv6, each in the kernel's order. */
static void collect_addresses(Davit__Common__V1__SystemInfo *m)
{
    char route[2][IFNAMSIZ], text[SYSINFO_ADDRESS_SIZE];
    const int families[] = {AF_INET, AF_INET6};
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) != 0)
        return;
    default_route(false, route[0]);
    default_route(true, route[1]);
    m->lan_addresses = mem_zalloc(SYSINFO_ADDRESSES_MAX, sizeof(char *));
    for (size_t f = 0; f < ARRAY_LEN(families); f++) {
        for (const struct ifaddrs *i = all; i && m->n_lan_addresses < SYSINFO_ADDRESSES_MAX; i = i->ifa_next) {
            if (!i->ifa_addr || i->ifa_addr->sa_family != families[f] || !sysinfo_own_interface(i->ifa_name, i->ifa_flags) ||
                !sysinfo_own_address(i->ifa_addr, text))
                continue;
            m->lan_addresses[m->n_lan_addresses++] = str_dup(str_from(text));
            bool set = m->default_route_address != (char *)(uintptr_t)protobuf_c_empty_string;
            if (!set && str_eq(str_from(route[f]), str_from(i->ifa_name)))
                m->default_route_address = str_dup(str_from(text));
        }
    }
    freeifaddrs(all);
}

static void collect_policy(const struct sysinfo *s, Davit__Common__V1__SystemInfo *m)
{
    const char *codes[POLICY_CODES];
    size_t n = policy_forbids(s->policy, codes);
    if (n == 0)
        return;
    m->policy_forbids = mem_zalloc(n, sizeof(char *));
    for (; m->n_policy_forbids < n; m->n_policy_forbids++)
        m->policy_forbids[m->n_policy_forbids] = str_dup(str_from(codes[m->n_policy_forbids]));
}

static void replace(char **at, struct str value)
{
    free(*at);
    *at = sysinfo_clean(value);
}

static void note_facts(struct sysinfo *s, const struct docker_info *info)
{
    Davit__Common__V1__SystemInfo *m = NEW(Davit__Common__V1__SystemInfo);
    davit__common__v1__system_info__init(m);
    set_text(&m->hostname, str_from(info->hostname));
    set_text(&m->kernel, str_from(info->kernel));
    set_text(&m->arch, str_from(sysinfo_arch(info->arch)));
    set_text(&m->os, str_from(info->os));
    set_text(&m->cgroup, str_from(info->cgroup_version == 2 ? "v2" : info->cgroup_version == 1 ? "v1" : ""));
    m->memory_bytes = info->mem_bytes;
    m->cpu_count = info->ncpu;
    (void)rpc_message_free(s->facts);
    s->facts = m;
}

/* Seen from inside a container: no address and no release of it is the machine's. */
static void collect_container(const struct sysinfo *s, Davit__Common__V1__SystemInfo *m)
{
    const Davit__Common__V1__SystemInfo *f = s->facts;
    set_text(&m->hostname, str_from(f->hostname));
    set_text(&m->kernel, str_from(f->kernel));
    set_text(&m->arch, str_from(f->arch));
    set_text(&m->os, str_from(f->os));
    set_text(&m->cgroup, str_from(f->cgroup));
    m->memory_bytes = f->memory_bytes;
    m->cpu_count = f->cpu_count;
    set_text(&m->agent_version, STR(DAVIT_VERSION));
    set_file(&m->boot_id, "/proc/sys/kernel/random/boot_id");
}

static int ask_engine(struct sysinfo *s)
{
    struct docker_info info = {0};
    struct err err = ERR_INIT;
    if (!s->docker || clock_mono() < s->engine_due)
        return 0;
    int rc = docker_info_get(s->docker, &info, deadline_in(ENGINE_WAIT), &err);
    if (rc == -(int)ERR_CANCELLED)
        return rc;
    replace(&s->docker_version, rc == 0 ? str_from(info.version) : STR(""));
    replace(&s->docker_api, rc == 0 ? str_from(info.api) : STR(""));
    replace(&s->docker_error, rc == 0 ? STR("") : str_from(err.msg));
    if (rc == 0)
        note_facts(s, &info);
    /* An engine that does not answer is asked each time, so that its return is seen. */
    s->engine_due = rc == 0 ? deadline_in(SYSINFO_SLOW) : 0;
    docker_info_release(&info);
    return 0;
}

char *sysinfo_find_program(struct str dirs, const char *name)
{
    while (dirs.n > 0) {
        struct str dir = str_cut(&dirs, ':');
        AUTO_FREE char *path = str_printf(STR_FMT "/%s", STR_ARG(dir), name);
        struct stat st;
        if (path[0] == '/' && stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0)
            return TAKE(path);
    }
    return NULL;
}

static char *tailscale_path(const struct sysinfo *s)
{
    if (!*s->tailscale)
        return sysinfo_find_program(STR("/usr/bin:/usr/sbin:/usr/local/bin"), "tailscale");
    return access(s->tailscale, X_OK) == 0 ? str_dup(str_from(s->tailscale)) : NULL;
}

static int ask_tailscale(struct sysinfo *s)
{
    AUTO_FREE char *path = tailscale_path(s);
    const char *const argv[] = {path, "status", "--json", NULL};
    struct child_spec spec = {.argv = argv, .output_max = SYSINFO_TAILSCALE_MAX};
    struct child_result result = {0};
    int rc = 0;
    (void)rpc_message_free(s->tailnet);
    s->tailnet = NEW(Davit__Common__V1__Tailscale);
    davit__common__v1__tailscale__init(s->tailnet);
    if (!path)
        return 0;
    s->tailnet->installed = true;
    rc = child_run(s->loop, &spec, deadline_in(TAILSCALE_WAIT), &result, NULL);
    if (rc == 0) {
        /* It may end with 1 where it is logged out and still say so in JSON. */
        if (!result.truncated)
            (void)sysinfo_tailscale(buf_str(&result.out), s->tailnet, NULL);
        child_result_release(&result);
    }
    return rc == -(int)ERR_CANCELLED ? rc : 0;
}

static int ask_lookup(struct sysinfo *s)
{
    AUTO_BUF answer = BUF_INIT(256);
    char address[SYSINFO_ADDRESS_SIZE] = "";
    if (!*s->public_ip_url)
        return 0;
    int rc = http_get_url(s->loop, s->public_ip_url, &answer, deadline_in(LOOKUP_WAIT), NULL);
    if (rc == 0 && sysinfo_public_address(buf_str(&answer), address, NULL) != 0)
        address[0] = '\0';
    if (rc == -(int)ERR_CANCELLED)
        return rc;
    replace(&s->public_address, str_from(address));
    return 0;
}

static int ask_slow(struct sysinfo *s)
{
    int rc = ask_engine(s);
    if (rc < 0 || clock_mono() < s->slow_due)
        return rc;
    if ((rc = ask_tailscale(s)) < 0 || (rc = ask_lookup(s)) < 0)
        return rc;
    s->slow_due = deadline_in(SYSINFO_SLOW);
    return 0;
}

int sysinfo_collect(struct sysinfo *s)
{
    ProtobufCMessage *tailnet = NULL;
    int rc = ask_slow(s);
    if (rc < 0)
        return rc;
    Davit__Common__V1__SystemInfo *m = NEW(Davit__Common__V1__SystemInfo);
    davit__common__v1__system_info__init(m);
    if (s->in_container) {
        collect_container(s, m);
    } else {
        collect_host(m);
        collect_addresses(m);
    }
    set_text(&m->role, str_from(s->in_container ? "sandbox" : "server"));
    collect_policy(s, m);
    set_text(&m->docker_version, str_from(s->docker_version));
    set_text(&m->docker_api, str_from(s->docker_api));
    set_text(&m->docker_error, str_from(s->docker_error));
    set_text(&m->update_method, str_from(s->update_method));
    set_text(&m->looked_up_address, str_from(s->public_address));
    if (rpc_copy(&s->tailnet->base, &tailnet) == 0)
        m->tailscale = (Davit__Common__V1__Tailscale *)tailnet;
    (void)rpc_message_free(s->now);
    s->now = m;
    return 0;
}
