/* SPDX-License-Identifier: Apache-2.0 */
/* spec_rights — what a service may ask for beyond the default, each by its name, and where nothing may be mounted without one. */
#include "spec/spec.h"

#include <string.h>

struct tree {
    const char *path;
    bool volumes; /* also for volumes, which bring nothing of the server: what is below it too */
};

/* Targets. The first group is made by the kernel or the engine, or holds the programs that the image runs: covered, the containment or the
 * program is another one. In the second an image keeps its accounts, certificates and sockets: a volume may lie in it, a folder of the server
 * that others may write to may not. */
static const struct tree targets[] = {
    {"/proc", true},    {"/sys", true},      {"/dev", true},     {"/boot", true},      {"/bin", true}, {"/sbin", true},
    {"/lib", true},     {"/lib32", true},    {"/lib64", true},   {"/libx32", true},    {"/usr/bin", true}, {"/usr/sbin", true},
    {"/usr/lib", true}, {"/usr/lib64", true}, {"/etc", false},   {"/root", false},     {"/run", false}, {"/var/run", false},
};
/* Not even a volume, but below it all is fine. */
static const char *const exact_targets[] = {"/usr", "/var"};

/* Sources of binds, with all below them and with every folder that holds one: who writes there is root on the server, or talks to the engine. */
static const char *const sources[] = {
    "/etc",  "/proc", "/sys",   "/dev",   "/boot",   "/root", "/run", "/var/run",        "/bin",
    "/sbin", "/lib",  "/lib32", "/lib64", "/libx32", "/usr",  "/var/lib/docker", "/var/lib/containerd",
};

static bool below(struct str path, struct str tree)
{
    return str_eq(tree, STR("/")) || str_eq(path, tree) || (str_starts(path, tree) && path.p[tree.n] == '/');
}

static bool is_forbidden_target(struct str path, bool bind)
{
    for (size_t i = 0; i < ARRAY_LEN(exact_targets); i++)
        if (str_eq(path, str_from(exact_targets[i])))
            return true;
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        struct str t = str_from(targets[i].path);
        if (str_eq(path, t) || ((bind || targets[i].volumes) && below(path, t)))
            return true;
    }
    return false;
}

bool spec_is_forbidden_source(struct str path)
{
    for (size_t i = 0; i < ARRAY_LEN(sources); i++)
        if (below(path, str_from(sources[i])) || below(str_from(sources[i]), path))
            return true;
    return false;
}

bool spec_allows(const Davit__Common__V1__ServiceSpec *s, const char *kind, const char *value)
{
    AUTO_FREE char *want = *value ? str_printf("%s:%s", kind, value) : str_dup(str_from(kind));
    for (size_t i = 0; i < s->n_allow; i++)
        if (strcmp(s->allow[i], want) == 0)
            return true;
    return false;
}

/* --- The words ---- */

static bool plain(struct str s, const char *extra)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr(extra, c))))
            return false;
    }
    return s.n > 0 && s.n <= SPEC_RIGHT_MAX;
}

static bool is_security_option(struct str o)
{
    struct str value = o, name = str_cut(&value, '=');
    if (str_eq(o, STR("no-new-privileges=false")) || str_eq(o, STR("seccomp=unconfined")))
        return true;
    return (str_eq(name, STR("apparmor")) || str_eq(name, STR("label"))) && plain(value, "._:-/");
}

bool spec_is_right(struct str word)
{
    static const char *const whole[] = {"privileged", "network:host", "pid:host", "ipc:host"};
    for (size_t i = 0; i < ARRAY_LEN(whole); i++)
        if (str_eq(word, str_from(whole[i])))
            return true;
    struct str rest = word, kind = str_cut(&rest, ':');
    if (str_eq(kind, STR("device")))
        return spec_is_mount_path(rest) && str_starts(rest, STR("/dev/"));
    if (str_eq(kind, STR("security")))
        return is_security_option(rest);
    if (str_eq(kind, STR("source")))
        return str_eq(rest, STR("/")) || spec_is_mount_path(rest);
    return str_eq(kind, STR("target")) && spec_is_mount_path(rest);
}

static int check_allow(const Davit__Common__V1__ServiceSpec *s, struct err *err)
{
    if (s->n_allow > SPEC_ALLOW_MAX)
        return err_set(err, ERR_INVALID, "allow: %zu rights; at most %d are allowed", s->n_allow, SPEC_ALLOW_MAX);
    for (size_t i = 0; i < s->n_allow; i++) {
        if (!spec_is_right(str_from(s->allow[i]))) {
            (void)err_set(err, ERR_INVALID, "allow: \"%.80s\" is no right", s->allow[i]);
            err_hint(err, "privileged, network:host, pid:host, ipc:host, device:/dev/NAME, security:OPTION, target:/PATH or source:/PATH");
            return -ERR_INVALID;
        }
        for (size_t k = 0; k < i; k++)
            if (strcmp(s->allow[i], s->allow[k]) == 0)
                return err_set(err, ERR_INVALID, "allow: \"%.80s\" is given twice", s->allow[i]);
    }
    if (spec_allows(s, "network:host", "") && s->n_ports)
        return err_set(err, ERR_INVALID, "ports: with the right network:host nothing is published: the service listens on the server itself");
    if (spec_allows(s, "network:host", "") && s->n_routes)
        return err_set(err, ERR_INVALID, "routes: with the right network:host no hostname can lead to the service");
    return 0;
}

/* --- Mounts ---- */

int spec_check_target(const Davit__Common__V1__ServiceSpec *s, const char *field, const char *path, bool bind, struct err *err)
{
    if (!spec_is_mount_path(str_from(path)))
        return err_set(err, ERR_INVALID, "%s: \"%.80s\" is not allowed; an absolute path below / without \":\", \".\" and \"..\"", field, path);
    if (!is_forbidden_target(str_from(path), bind) || spec_allows(s, "target", path))
        return 0;
    (void)err_set(err, ERR_INVALID, "%s: nothing may be mounted on %.80s", field, path);
    err_hint(err, "a service that needs it says so: allow target:%.80s", path);
    return -ERR_INVALID;
}

int spec_check_source(const Davit__Common__V1__ServiceSpec *s, const char *path, struct err *err)
{
    if (!spec_is_forbidden_source(str_from(path)) || spec_allows(s, "source", path))
        return 0;
    (void)err_set(err, ERR_INVALID, "%.80s of the server may not be mounted: it is, holds or lies in what rules the server", path);
    err_hint(err, "a service that needs it says so: allow source:%.80s", path);
    return -ERR_INVALID;
}

static int check_bind(const Davit__Common__V1__ServiceSpec *s, size_t i, struct err *err)
{
    const Davit__Common__V1__BindMount *b = s->binds[i];
    if (!str_eq(str_from(b->source), STR("/")) && !spec_is_mount_path(str_from(b->source)))
        return err_set(err, ERR_INVALID, "binds.source: \"%.80s\" is not allowed; an absolute path without \":\", \".\" and \"..\"", b->source);
    int rc = spec_check_source(s, b->source, err);
    if (rc == 0)
        rc = spec_check_target(s, "binds.path", b->path, true, err);
    for (size_t k = 0; rc == 0 && k < i; k++)
        if (strcmp(b->path, s->binds[k]->path) == 0)
            rc = err_set(err, ERR_INVALID, "binds.path: %.80s is given twice", b->path);
    for (size_t k = 0; rc == 0 && k < s->n_volumes; k++)
        if (strcmp(b->path, s->volumes[k]->path) == 0)
            rc = err_set(err, ERR_INVALID, "binds.path: a volume is mounted on %.80s already", b->path);
    return rc;
}

int spec_check_rights(const Davit__Common__V1__ServiceSpec *s, struct err *err)
{
    int rc = check_allow(s, err);
    if (rc == 0 && s->n_binds > SPEC_BINDS_MAX)
        rc = err_set(err, ERR_INVALID, "binds: %zu folders; at most %d are allowed", s->n_binds, SPEC_BINDS_MAX);
    for (size_t i = 0; rc == 0 && i < s->n_binds; i++)
        rc = check_bind(s, i, err);
    return rc;
}
