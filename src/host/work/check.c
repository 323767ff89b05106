/* SPDX-License-Identifier: Apache-2.0 */
/* check — what a service may ask of this machine. The control plane checks as well; this is the word of the machine's owner. */
#include <arpa/inet.h>
#include <string.h>

#include "host/work/deploy.h"

enum {
    CPU_MILLI_MAX = 1024 * 1000,
    INTERVAL_MAX_MS = 300 * 1000,
    TIMEOUT_MAX_MS = 60 * 1000,
    RETRIES_MAX = 100,
    GRACE_MAX_MS = 1800 * 1000
};

static int check_command(const Davit__Common__V1__ServiceSpec *s, struct err *err)
{
    if (s->n_command > DEPLOY_COMMAND_MAX)
        return err_set(err, ERR_INVALID, "command has more than %d words", DEPLOY_COMMAND_MAX);
    if (s->n_env > DEPLOY_ENV_MAX)
        return err_set(err, ERR_INVALID, "env has more than %d variables", DEPLOY_ENV_MAX);
    for (size_t i = 0; i < s->n_env; i++)
        if (!*s->env[i]->name || strchr(s->env[i]->name, '='))
            return err_set(err, ERR_INVALID, "env[%zu].name is empty or has a '='", i);
    return 0;
}

/* Paths whose content the engine or the kernel makes. */
static bool is_forbidden_target(struct str path)
{
    static const char *const exact[] = {"/", "/etc", "/run", "/var/run"};
    static const char *const trees[] = {"/proc", "/sys", "/dev"};

    for (size_t i = 0; i < ARRAY_LEN(exact); i++)
        if (str_eq(path, str_from(exact[i])))
            return true;
    for (size_t i = 0; i < ARRAY_LEN(trees); i++) {
        struct str t = str_from(trees[i]);
        if (str_eq(path, t) || (str_starts(path, t) && path.p[t.n] == '/'))
            return true;
    }
    return false;
}

/* An absolute path in its one spelling: no empty, "." or ".." parts, no '/' at the end. */
static bool is_clean_path(const char *path)
{
    struct str s = str_from(path);

    if (s.n < 1 || s.n > 1024 || s.p[0] != '/')
        return false;
    if (s.n == 1)
        return true;
    s.p++;
    s.n--;
    if (s.p[s.n - 1] == '/' || memchr(s.p, ':', s.n))
        return false;
    while (s.n > 0) {
        struct str part = str_cut(&s, '/');
        if (part.n == 0 || str_eq(part, STR(".")) || str_eq(part, STR("..")))
            return false;
    }
    return true;
}

static int check_volumes(const Davit__Common__V1__ServiceSpec *s, struct err *err)
{
    if (s->n_volumes > DEPLOY_MOUNTS_MAX)
        return err_set(err, ERR_INVALID, "volumes has more than %d entries", DEPLOY_MOUNTS_MAX);
    for (size_t i = 0; i < s->n_volumes; i++) {
        const Davit__Common__V1__VolumeMount *v = s->volumes[i];
        if (check_label("a volume's name", v->name, err) < 0)
            return -ERR_INVALID;
        if (!is_clean_path(v->path))
            return err_set(err, ERR_INVALID, "volume %s: the path is not absolute and plain", v->name);
        if (is_forbidden_target(str_from(v->path)))
            return err_set(err, ERR_INVALID, "volume %s: nothing may be mounted on %s", v->name, v->path);
        for (size_t k = 0; k < i; k++)
            if (strcmp(s->volumes[k]->path, v->path) == 0)
                return err_set(err, ERR_INVALID, "two volumes are mounted on %s", v->path);
    }
    return 0;
}

static int check_ports(const Davit__Common__V1__ServiceSpec *s, struct err *err)
{
    if (s->n_ports > DEPLOY_PORTS_MAX)
        return err_set(err, ERR_INVALID, "ports has more than %d entries", DEPLOY_PORTS_MAX);
    for (size_t i = 0; i < s->n_ports; i++) {
        const Davit__Common__V1__PortPublish *p = s->ports[i];
        struct in6_addr addr;
        if (p->container_port == 0 || p->container_port > 65535 || p->host_port > 65535)
            return err_set(err, ERR_INVALID, "ports[%zu]: not a port number", i);
        if (*p->protocol && strcmp(p->protocol, "tcp") != 0 && strcmp(p->protocol, "udp") != 0)
            return err_set(err, ERR_INVALID, "ports[%zu].protocol is neither tcp nor udp", i);
        if (*p->host_ip && inet_pton(AF_INET, p->host_ip, &addr) != 1 && inet_pton(AF_INET6, p->host_ip, &addr) != 1)
            return err_set(err, ERR_INVALID, "ports[%zu].host_ip is no address", i);
    }
    return 0;
}

static int check_health(const Davit__Common__V1__HealthCheck *h, struct err *err)
{
    if (!h)
        return 0;
    if ((unsigned)h->kind > DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_DOCKER)
        return err_set(err, ERR_INVALID, "health.kind %d is not known to this agent", (int)h->kind);
    if (h->port > 65535)
        return err_set(err, ERR_INVALID, "health.port is not a port number");
    if (h->interval_ms > INTERVAL_MAX_MS || h->timeout_ms > TIMEOUT_MAX_MS || h->retries > RETRIES_MAX ||
        h->grace_ms > GRACE_MAX_MS)
        return err_set(err, ERR_INVALID, "health: at most %d s interval, %d s timeout, %d retries, %d s grace",
                       INTERVAL_MAX_MS / 1000, TIMEOUT_MAX_MS / 1000, RETRIES_MAX, GRACE_MAX_MS / 1000);
    if (h->kind != DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_HTTP)
        return 0;
    if (h->path[0] != '/' || strlen(h->path) > 1024)
        return err_set(err, ERR_INVALID, "health.path does not begin with '/' or is longer than 1024");
    for (const char *p = h->path; *p; p++)
        if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
            return err_set(err, ERR_INVALID, "health.path has a character that must be percent-encoded");
    return 0;
}

static int check_rights(const Davit__Common__V1__ServiceSpec *s, struct err *err)
{
    static const char *const restarts[] = {"", "no", "on-failure", "always", "unless-stopped"};
    static const char *const pulls[] = {"", "missing", "always", "never"};
    bool ok = false;

    for (size_t i = 0; i < ARRAY_LEN(restarts); i++)
        ok = ok || strcmp(s->restart, restarts[i]) == 0;
    if (!ok)
        return err_set(err, ERR_INVALID, "restart is none of no, on-failure, always, unless-stopped");
    ok = false;
    for (size_t i = 0; i < ARRAY_LEN(pulls); i++)
        ok = ok || strcmp(s->pull, pulls[i]) == 0;
    if (!ok)
        return err_set(err, ERR_INVALID, "pull is none of missing, always, never");
    if (s->n_cap_add > DEPLOY_CAPS_MAX)
        return err_set(err, ERR_INVALID, "cap_add has more than %d entries", DEPLOY_CAPS_MAX);
    for (size_t i = 0; i < s->n_cap_add; i++) {
        size_t n = strspn(s->cap_add[i], "ABCDEFGHIJKLMNOPQRSTUVWXYZ_");
        if (n == 0 || n > 40 || s->cap_add[i][n] != '\0' || strcmp(s->cap_add[i], "ALL") == 0)
            return err_set(err, ERR_INVALID, "cap_add[%zu] is not the name of one capability", i);
    }
    if (s->cpu_milli > CPU_MILLI_MAX)
        return err_set(err, ERR_INVALID, "cpu_milli is more than %d", CPU_MILLI_MAX);
    return 0;
}

int deploy_check(const Davit__Link__V1__Deploy *msg, struct err *err)
{
    const Davit__Common__V1__ServiceSpec *s = msg->spec;
    size_t n = strlen(msg->deployment_id);

    if (n < 8 || n > 64 || strspn(msg->deployment_id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-") != n)
        return err_set(err, ERR_INVALID, "deployment_id is not 8 to 64 letters, digits and '-'");
    n = strlen(s->image);
    if (n == 0 || n > 512 || strpbrk(s->image, " \t\r\n?#%&\\") || s->image[0] == '-')
        return err_set(err, ERR_INVALID, "image is not a reference");
    int rc = check_command(s, err);
    if (rc == 0)
        rc = check_volumes(s, err);
    if (rc == 0)
        rc = check_ports(s, err);
    if (rc == 0)
        rc = check_health(s->health, err);
    if (rc == 0)
        rc = check_rights(s, err);
    return rc;
}
