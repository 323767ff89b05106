/* SPDX-License-Identifier: Apache-2.0 */
/* spec — see spec.h. */
#include "spec/spec_internal.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/str.h"

#define MIN_MEMORY ((uint64_t)6 << 20)

/* Capabilities of Linux as the engine names them. */
static const char *const capabilities[] = {
    "AUDIT_CONTROL",   "AUDIT_READ",   "AUDIT_WRITE",
    "BLOCK_SUSPEND",   "BPF",          "CHECKPOINT_RESTORE",
    "CHOWN",           "DAC_OVERRIDE", "DAC_READ_SEARCH",
    "FOWNER",          "FSETID",       "IPC_LOCK",
    "IPC_OWNER",       "KILL",         "LEASE",
    "LINUX_IMMUTABLE", "MAC_ADMIN",    "MAC_OVERRIDE",
    "MKNOD",           "NET_ADMIN",    "NET_BIND_SERVICE",
    "NET_BROADCAST",   "NET_RAW",      "PERFMON",
    "SETFCAP",         "SETGID",       "SETPCAP",
    "SETUID",          "SYSLOG",       "SYS_ADMIN",
    "SYS_BOOT",        "SYS_CHROOT",   "SYS_MODULE",
    "SYS_NICE",        "SYS_PACCT",    "SYS_PTRACE",
    "SYS_RAWIO",       "SYS_RESOURCE", "SYS_TIME",
    "SYS_TTY_CONFIG",  "WAKE_ALARM",
};

static bool lower_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool alnum(char c)
{
    return lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

static bool one_of(const char *s, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (str_eq(str_from(s), str_from(list[i])))
            return true;
    return false;
}

/* --- Image references: [host[:port]/]path[:tag][@sha256:hex] ------------------------------------------------------------------ */

static bool is_tag(struct str t)
{
    if (t.n < 1 || t.n > 128 || !(alnum(t.p[0]) || t.p[0] == '_'))
        return false;
    for (size_t i = 1; i < t.n; i++)
        if (!alnum(t.p[i]) && !memchr("_.-", t.p[i], 3))
            return false;
    return true;
}

bool spec_is_digest(struct str d)
{
    if (!str_starts(d, STR("sha256:")) || d.n != 7 + 64)
        return false;
    for (size_t i = 7; i < d.n; i++)
        if (!((d.p[i] >= '0' && d.p[i] <= '9') || (d.p[i] >= 'a' && d.p[i] <= 'f')))
            return false;
    return true;
}

static bool is_path_part(struct str p)
{
    if (!p.n || !lower_alnum(p.p[0]) || !lower_alnum(p.p[p.n - 1]))
        return false;
    for (size_t i = 0; i < p.n; i++)
        if (!lower_alnum(p.p[i]) && !memchr("._-", p.p[i], 3))
            return false;
    return true;
}

/* The first part is a host if it looks like one: with a dot, a port, or "localhost". */
static bool is_host(struct str h)
{
    bool looks = memchr(h.p, '.', h.n) || memchr(h.p, ':', h.n) || str_eq(h, STR("localhost"));
    if (!looks || !alnum(h.p[0]))
        return false;
    struct str name = str_cut(&h, ':');
    for (size_t i = 0; i < name.n; i++)
        if (!alnum(name.p[i]) && !memchr(".-", name.p[i], 2))
            return false;
    uint64_t port;
    return !h.n || (str_to_u64(h, 65535, &port) == 0 && port);
}

const char *spec_tag_at(struct str ref)
{
    for (size_t i = ref.n; i-- && ref.p[i] != '/';)
        if (ref.p[i] == ':')
            return ref.p + i;
    return NULL;
}

bool spec_is_image(struct str ref)
{
    struct str digest = ref;
    if (!ref.n || ref.n > SPEC_IMAGE_MAX)
        return false;
    ref = str_cut(&digest, '@');
    if (ref.n > SPEC_IMAGE_MAX - SPEC_PIN_SIZE)
        return false; /* no room for the digest that a rollback names it by */
    if (digest.p != ref.p && digest.n && !spec_is_digest(digest))
        return false;
    if (!digest.n && memchr(ref.p, '@', ref.n + 1) == ref.p + ref.n)
        return false; /* ends in "@" */
    const char *colon = spec_tag_at(ref);
    if (colon) {
        if (!is_tag((struct str){colon + 1, (size_t)(ref.p + ref.n - colon - 1)}))
            return false;
        ref.n = (size_t)(colon - ref.p);
    }
    bool first = true;
    while (memchr(ref.p, '/', ref.n)) {
        struct str part = str_cut(&ref, '/');
        if (!part.n || !((first && is_host(part)) || is_path_part(part)))
            return false;
        first = false;
    }
    return is_path_part(ref);
}

static int check_image(const char *image, struct err *err)
{
    if (spec_is_image(str_from(image)))
        return 0;
    return err_set(err, ERR_INVALID,
                   "image: \"%.100s\" is no reference; allowed is [host[:port]/]name[:tag][@sha256:digest] in lower case", image);
}

/* --- The rest ------------------------------------------------------------------------------------------------------------------- */

static int check_label(const char *field, const char *s, struct err *err)
{
    if (str_is_label(str_from(s)))
        return 0;
    return err_set(err, ERR_INVALID, "%s: \"%.80s\" is not allowed; 1 to 63 of a-z, 0-9 and \"-\", not at the ends", field,
                   s ? s : "");
}

bool spec_is_env_name(struct str n)
{
    if (!n.n || n.n > SPEC_ENV_NAME_MAX || (n.p[0] >= '0' && n.p[0] <= '9'))
        return false;
    for (size_t i = 0; i < n.n; i++)
        if (!alnum(n.p[i]) && !memchr("_.-", n.p[i], 3))
            return false;
    return true;
}

bool spec_is_env_file(struct str n)
{
    if (!n.n || n.n > SPEC_FILE_MAX || n.p[0] == '.' || n.p[0] == '-')
        return false;
    for (size_t i = 0; i < n.n; i++)
        if (!alnum(n.p[i]) && !memchr("_.-", n.p[i], 3))
            return false;
    return true;
}

/* Where they are mounted nothing else can be. */
static int check_place(const char *field, const char *path, struct err *err)
{
    struct str rest = str_from(path);
    if (!str_starts(rest, STR(SPEC_FILES_AT)) || (path[sizeof(SPEC_FILES_AT) - 1] && path[sizeof(SPEC_FILES_AT) - 1] != '/'))
        return 0;
    return err_set(err, ERR_INVALID, "%s: %.80s is where the variables that are files come", field, path);
}

static int check_files(const Davit__Common__V1__ServiceSpec *s, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; i < s->n_env; i++) {
        struct str file = str_from(s->env[i]->file);
        if (!file.n)
            continue;
        for (size_t k = 0; rc == 0 && k < s->n_volumes; k++)
            rc = check_place("volumes.path", s->volumes[k]->path, err);
        for (size_t k = 0; rc == 0 && k < s->n_binds; k++)
            rc = check_place("binds.path", s->binds[k]->path, err);
        if (rc < 0)
            return rc;
        if (!spec_is_env_file(file))
            return err_set(err, ERR_INVALID, "env.file: \"%.80s\" is not allowed; letters, digits and _.- (not . or - in front), at most %d",
                           s->env[i]->file, SPEC_FILE_MAX);
        for (size_t k = 0; k < i; k++)
            if (str_eq(file, str_from(s->env[k]->file)))
                return err_set(err, ERR_INVALID, "env.file: %.80s is given twice", s->env[i]->file);
    }
    return 0;
}

static int check_env(const Davit__Common__V1__ServiceSpec *s, struct err *err)
{
    if (s->n_env > SPEC_ENV_MAX)
        return err_set(err, ERR_INVALID, "env: %zu variables; at most %d are allowed", s->n_env, SPEC_ENV_MAX);
    for (size_t i = 0; i < s->n_env; i++) {
        struct str name = str_from(s->env[i]->name);
        if (!spec_is_env_name(name))
            return err_set(err, ERR_INVALID,
                           "env: the name \"%.80s\" is not allowed; letters, digits and _.- without a digit in front, at most %d",
                           s->env[i]->name, SPEC_ENV_NAME_MAX);
        if (strlen(s->env[i]->value) > SPEC_ENV_VALUE_MAX)
            return err_set(err, ERR_INVALID, "env: the value of %s is longer than %d bytes", s->env[i]->name, SPEC_ENV_VALUE_MAX);
        for (size_t k = 0; k < i; k++)
            if (str_eq(name, str_from(s->env[k]->name)))
                return err_set(err, ERR_INVALID, "env: %s is given twice", s->env[i]->name);
    }
    return check_files(s, err);
}

static int check_command(const Davit__Common__V1__ServiceSpec *s, struct err *err)
{
    size_t bytes = 0;
    for (size_t i = 0; i < s->n_command; i++)
        bytes += strlen(s->command[i]);
    if (s->n_command > SPEC_COMMAND_MAX || bytes > SPEC_COMMAND_BYTES_MAX)
        return err_set(err, ERR_INVALID, "command: at most %d words of together %d bytes are allowed", SPEC_COMMAND_MAX,
                       SPEC_COMMAND_BYTES_MAX);
    return 0;
}

/* Absolute, in its one spelling: not "/" itself, no "/" at the end, no part ".." and no character that the engine's syntax uses. */
bool spec_is_mount_path(struct str p)
{
    if (p.n < 2 || p.n > SPEC_PATH_MAX || p.p[0] != '/' || p.p[p.n - 1] == '/')
        return false;
    for (size_t i = 0; i < p.n; i++)
        if ((unsigned char)p.p[i] < 0x20 || p.p[i] == ':')
            return false;
    struct str rest = {p.p + 1, p.n - 1};
    while (rest.n) {
        struct str part = str_cut(&rest, '/');
        if (!part.n || str_eq(part, STR("..")) || str_eq(part, STR(".")))
            return false;
    }
    return true;
}

static int check_volumes(const Davit__Common__V1__ServiceSpec *s, struct err *err)
{
    if (s->n_volumes > SPEC_VOLUMES_MAX)
        return err_set(err, ERR_INVALID, "volumes: %zu volumes; at most %d are allowed", s->n_volumes, SPEC_VOLUMES_MAX);
    for (size_t i = 0; i < s->n_volumes; i++) {
        int rc = check_label("volumes.name", s->volumes[i]->name, err);
        if (rc < 0)
            return rc;
        rc = spec_check_target(s, "volumes.path", s->volumes[i]->path, false, err);
        if (rc < 0)
            return rc;
        for (size_t k = 0; k < i; k++)
            if (str_eq(str_from(s->volumes[i]->path), str_from(s->volumes[k]->path)))
                return err_set(err, ERR_INVALID, "volumes.path: %.80s is given twice", s->volumes[i]->path);
    }
    return 0;
}

static bool same_port(const Davit__Common__V1__PortPublish *a, const Davit__Common__V1__PortPublish *b)
{
    bool udp = str_eq(str_from(a->protocol), STR("udp"));
    return a->host_port && a->host_port == b->host_port && udp == str_eq(str_from(b->protocol), STR("udp")) &&
           str_eq(str_from(a->host_ip), str_from(b->host_ip));
}

static int check_port(const Davit__Common__V1__PortPublish *p, struct err *err)
{
    static const char *const protocols[] = {"", "tcp", "udp"};
    struct in6_addr addr;
    if (*p->host_ip && inet_pton(AF_INET, p->host_ip, &addr) != 1 && inet_pton(AF_INET6, p->host_ip, &addr) != 1)
        return err_set(err, ERR_INVALID, "ports.host_ip: \"%.64s\" is no IP address; leave it out for 127.0.0.1", p->host_ip);
    if (!p->container_port || p->container_port > 65535)
        return err_set(err, ERR_INVALID, "ports.container_port: %u is not allowed; 1 to 65535", p->container_port);
    if (p->host_port > 65535)
        return err_set(err, ERR_INVALID, "ports.host_port: %u is not allowed; 1 to 65535, or 0 for any free one", p->host_port);
    if (!one_of(p->protocol, protocols, ARRAY_LEN(protocols)))
        return err_set(err, ERR_INVALID, "ports.protocol: \"%.32s\" is not allowed; tcp or udp", p->protocol);
    return 0;
}

static int check_ports(const Davit__Common__V1__ServiceSpec *s, struct err *err)
{
    if (s->n_ports > SPEC_PORTS_MAX)
        return err_set(err, ERR_INVALID, "ports: %zu ports; at most %d are allowed", s->n_ports, SPEC_PORTS_MAX);
    for (size_t i = 0; i < s->n_ports; i++) {
        int rc = check_port(s->ports[i], err);
        if (rc < 0)
            return rc;
        for (size_t k = 0; k < i; k++)
            if (same_port(s->ports[i], s->ports[k]))
                return err_set(err, ERR_INVALID, "ports.host_port: %u is given twice", s->ports[i]->host_port);
    }
    return 0;
}

/* An address is no name, and a certificate for one label with digits alone is nobody's. */
static bool is_hostname(struct str h)
{
    bool digits = h.n > 0;
    if (!str_is_dns_name(h))
        return false;
    for (size_t i = h.n; i-- && h.p[i] != '.';)
        digits = digits && h.p[i] >= '0' && h.p[i] <= '9';
    return !digits;
}

static int check_routes(const Davit__Common__V1__ServiceSpec *s, struct err *err)
{
    if (s->n_routes > SPEC_ROUTES_MAX)
        return err_set(err, ERR_INVALID, "routes: %zu hostnames; at most %d are allowed", s->n_routes, SPEC_ROUTES_MAX);
    for (size_t i = 0; i < s->n_routes; i++) {
        const char *host = s->routes[i]->hostname;
        if (host[0] == '*')
            return err_set(err, ERR_INVALID, "routes.hostname: \"%.80s\" stands for many names; give each by itself", host);
        if (!is_hostname(str_from(host)))
            return err_set(err, ERR_INVALID,
                           "routes.hostname: \"%.80s\" is no hostname; labels of a-z, 0-9 and \"-\" with dots between, at most 253", host);
        if (s->routes[i]->port > 65535)
            return err_set(err, ERR_INVALID, "routes.port: %u is not allowed; 1 to 65535, or none for that of the health check",
                           s->routes[i]->port);
        for (size_t k = 0; k < i; k++)
            if (str_eq(str_from(host), str_from(s->routes[k]->hostname)))
                return err_set(err, ERR_INVALID, "routes.hostname: %.253s is given twice", host);
            else if (s->routes[i]->port && s->routes[k]->port && s->routes[i]->port != s->routes[k]->port)
                return err_set(err, ERR_INVALID, "routes.port: a service is reached at one port, not at %u and %u", s->routes[k]->port,
                               s->routes[i]->port);
    }
    return 0;
}

int spec_check_replicas(const Davit__Common__V1__ServiceSpec *s, struct err *err)
{
    if (s->replicas > SPEC_REPLICAS_MAX)
        return err_set(err, ERR_INVALID, "replicas: %u are not allowed; 1 to %d", s->replicas, SPEC_REPLICAS_MAX);
    for (size_t i = 0; s->replicas > 1 && i < s->n_ports; i++) {
        if (!s->ports[i]->host_port)
            continue;
        (void)err_set(err, ERR_INVALID, "replicas: %u containers cannot have port %u of the server; only one can", s->replicas,
                      s->ports[i]->host_port);
        err_hint(err, "a route reaches all of them by a hostname");
        return -(int)ERR_INVALID;
    }
    return 0;
}

static int check_limits(const Davit__Common__V1__ServiceSpec *s, struct err *err)
{
    if (s->cpu_milli && (s->cpu_milli < 10 || s->cpu_milli > 1024000))
        return err_set(err, ERR_INVALID, "cpu: %llu thousandths are not allowed; 0.01 to 1024 cores, or none for no limit",
                       (unsigned long long)s->cpu_milli);
    if (s->memory_bytes && (s->memory_bytes < MIN_MEMORY || s->memory_bytes > (uint64_t)INT64_MAX))
        return err_set(err, ERR_INVALID, "memory: %llu bytes are not allowed; at least 6m, or none for no limit",
                       (unsigned long long)s->memory_bytes);
    if (s->pids_limit > 4194304)
        return err_set(err, ERR_INVALID, "pids_limit: %u is not allowed; 1 to 4194304, or none for 512", s->pids_limit);
    return 0;
}

bool spec_is_capability(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(capabilities); i++)
        if (str_eq(name, str_from(capabilities[i])))
            return true;
    return false;
}

static int check_words(const Davit__Common__V1__ServiceSpec *s, struct err *err)
{
    static const char *const restarts[] = {"", "no", "on-failure", "always", "unless-stopped"};
    static const char *const pulls[] = {"", "missing", "always", "never"};
    if (!one_of(s->restart, restarts, ARRAY_LEN(restarts)))
        return err_set(err, ERR_INVALID, "restart: \"%.32s\" is not allowed; no, on-failure, always or unless-stopped",
                       s->restart);
    if (!one_of(s->pull, pulls, ARRAY_LEN(pulls)))
        return err_set(err, ERR_INVALID, "pull: \"%.32s\" is not allowed; missing, always or never", s->pull);
    if (s->n_cap_add > SPEC_CAPS_MAX)
        return err_set(err, ERR_INVALID, "cap_add: more capabilities than there are");
    for (size_t i = 0; i < s->n_cap_add; i++) {
        struct str cap = str_from(s->cap_add[i]);
        const char *name = str_starts(cap, STR("CAP_")) ? s->cap_add[i] + 4 : s->cap_add[i];
        if (!spec_is_capability(str_from(name)))
            return err_set(err, ERR_INVALID, "cap_add: \"%.32s\" is no capability; for example NET_ADMIN", s->cap_add[i]);
    }
    return 0;
}

static int check_health(const Davit__Common__V1__HealthCheck *h, struct err *err)
{
    if (!h || h->kind == DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_NONE)
        return 0;
    if ((unsigned)h->kind > DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_DOCKER)
        return err_set(err, ERR_INVALID, "health.kind: %u is unknown; HTTP, TCP or Docker", (unsigned)h->kind);
    struct str path = str_from(h->path);
    if (h->kind == DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_HTTP) {
        bool fine = path.n && path.n <= SPEC_PATH_MAX && path.p[0] == '/';
        for (size_t i = 0; i < path.n; i++)
            fine = fine && (unsigned char)path.p[i] > 0x20 && (unsigned char)path.p[i] < 0x7f;
        if (!fine)
            return err_set(err, ERR_INVALID,
                           "health.path: \"%.80s\" is not allowed; begins with /, printable ASCII without blanks", h->path);
    }
    if (h->port > 65535)
        return err_set(err, ERR_INVALID,
                       "health.port: %u is not allowed; 1 to 65535, or none for the first that the image exposes", h->port);
    if ((h->interval_ms && h->interval_ms < 100) || h->interval_ms > SPEC_INTERVAL_MAX_MS)
        return err_set(err, ERR_INVALID, "health.interval: %u ms are not allowed; 100 ms to 5 m", h->interval_ms);
    if ((h->timeout_ms && h->timeout_ms < 100) || h->timeout_ms > SPEC_TIMEOUT_MAX_MS)
        return err_set(err, ERR_INVALID, "health.timeout: %u ms are not allowed; 100 ms to 1 m", h->timeout_ms);
    if (h->retries > SPEC_RETRIES_MAX)
        return err_set(err, ERR_INVALID, "health.retries: %u is not allowed; 1 to 100", h->retries);
    if (h->grace_ms > SPEC_GRACE_MAX_MS)
        return err_set(err, ERR_INVALID, "health.grace: %u ms are not allowed; at most 30 m", h->grace_ms);
    return 0;
}

int spec_check(const Davit__Common__V1__ServiceSpec *s, struct err *err)
{
    int rc;
    if (!s)
        return err_set(err, ERR_INVALID, "spec: it is missing");
    if ((rc = check_label("project", s->project, err)) < 0 || (rc = check_label("name", s->name, err)) < 0 ||
        (rc = check_image(s->image, err)) < 0 || (rc = check_command(s, err)) < 0 || (rc = check_env(s, err)) < 0 ||
        (rc = check_volumes(s, err)) < 0 || (rc = check_ports(s, err)) < 0 || (rc = check_limits(s, err)) < 0 ||
        (rc = check_words(s, err)) < 0 || (rc = check_routes(s, err)) < 0 || (rc = spec_check_replicas(s, err)) < 0 ||
        (rc = spec_check_rights(s, err)) < 0)
        return rc;
    return check_health(s->health, err);
}
