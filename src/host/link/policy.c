/* SPDX-License-Identifier: Apache-2.0 */
/* policy — see policy.h: the file, and what its rules say about one question. */
#include "host/link/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"

enum { HEX_ID_MAX = 64 };

/* --- The file ---- */

static uid_t owner; /* beside root and ourselves */

void policy_believe_owner(uid_t uid)
{
    owner = uid;
}

/* Whose file is it, and who may write it? */
static int believe(int fd, const char *path, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "cannot look at %s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_PRECONDITION, "%s is no plain file", path);
    if (st.st_uid != 0 && st.st_uid != geteuid() && st.st_uid != owner) {
        (void)err_set(err, ERR_PRECONDITION, "%s belongs to uid %u, neither to root nor to the agent", path, (unsigned)st.st_uid);
        err_hint(err, "chown root %s", path);
        return -(int)ERR_PRECONDITION;
    }
    if (st.st_mode & (S_IWGRP | S_IWOTH)) {
        (void)err_set(err, ERR_PRECONDITION, "others than its owner may write %s", path);
        err_hint(err, "look whether it says what it should, then: chmod go-w %s", path);
        return -(int)ERR_PRECONDITION;
    }
    return 0;
}

static int read_text(int fd, const char *path, struct buf *out, struct err *err)
{
    char part[4096];
    ssize_t n;
    while ((n = read(fd, part, sizeof part)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "cannot read %s", path);
        if (buf_append(out, part, (size_t)n) < 0)
            return err_set(err, ERR_EXHAUSTED, "%s is larger than %d bytes", path, POLICY_FILE_MAX);
    }
    return 0;
}

int policy_read(const char *path, struct policy *ret, struct err *err)
{
    AUTO_BUF text = BUF_INIT(POLICY_FILE_MAX);
    /* No link is followed: where it leads, others might decide. A pipe is not waited for. */
    AUTO_FD int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
    *ret = (struct policy){0};
    if (!path || (fd < 0 && errno == ENOENT))
        return 1;
    if (fd < 0 && errno == ELOOP)
        return err_set(err, ERR_PRECONDITION, "%s is a symbolic link", path);
    if (fd < 0)
        return err_sys(err, errno, "cannot open %s", path);
    int rc = believe(fd, path, err);
    if (rc == 0)
        rc = read_text(fd, path, &text, err);
    /* What an editor leaves between emptying a file and writing it says nothing. */
    if (rc == 0 && text.len == 0) {
        rc = err_set(err, ERR_PRECONDITION, "%s is empty", path);
        err_hint(err, "remove it if nothing is to be forbidden");
    }
    return rc < 0 ? rc : policy_parse(buf_str(&text), path, ret, err);
}

/* --- Images ---- */

static bool is_hex(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (str_hex_digit(s.p[i]) < 0)
            return false;
    return s.n > 0 && s.n <= HEX_ID_MAX;
}

/* As the engine reads it (distribution/reference: splitDockerDomain). */
static bool is_registry(struct str part)
{
    for (size_t i = 0; i < part.n; i++)
        if (part.p[i] == '.' || part.p[i] == ':' || (part.p[i] >= 'A' && part.p[i] <= 'Z'))
            return true;
    return str_eq(part, STR("localhost"));
}

int policy_image_name(const char *reference, char **ret, struct err *err)
{
    struct str rest = str_from(reference), name = str_cut(&rest, '@');
    if (name.n == 0)
        return err_set(err, ERR_INVALID, "the image has no name");
    const char *slash = memrchr(name.p, '/', name.n);
    size_t last = slash ? (size_t)(slash - name.p) + 1 : 0;
    const char *colon = memchr(name.p + last, ':', name.n - last);
    struct str tag = {colon ? colon + 1 : NULL, colon ? name.n - (size_t)(colon - name.p) - 1 : 0};
    if (colon)
        name.n = (size_t)(colon - name.p);
    /* The engine takes these for ids of images that are there, of whatever source, before it thinks of a name. */
    if (!slash && rest.n == 0 && ((tag.n == 0 && is_hex(name)) || (str_eq(name, STR("sha256")) && is_hex(tag))))
        return err_set(err, ERR_INVALID, "the image %.80s is named by its id", reference);
    struct str path = name, first = str_cut(&path, '/');
    if (!slash)
        *ret = str_printf("docker.io/library/%.*s", STR_ARG(name));
    else if (!is_registry(first))
        *ret = str_printf("docker.io/%.*s", STR_ARG(name));
    else if (str_eq(first, STR("docker.io")) || str_eq(first, STR("index.docker.io")))
        *ret = str_printf("docker.io/%s%.*s", memchr(path.p, '/', path.n) ? "" : "library/", STR_ARG(path));
    else
        *ret = str_dup(name);
    return 0;
}

/* @part against a pattern where * stands for any text. */
static bool part_fits(struct str pattern, struct str part)
{
    size_t p = 0, s = 0, star = SIZE_MAX, from = 0;
    while (s < part.n) {
        if (p < pattern.n && pattern.p[p] == '*') {
            star = p++;
            from = s;
        } else if (p < pattern.n && pattern.p[p] == part.p[s]) {
            p++;
            s++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            s = ++from;
        } else {
            return false;
        }
    }
    while (p < pattern.n && pattern.p[p] == '*')
        p++;
    return p == pattern.n;
}

bool policy_image_fits(const char *pattern, const char *name)
{
    struct str p = str_from(pattern), s = str_from(name);
    for (bool first = true; p.n > 0 && s.n > 0; first = false) {
        if (!first && str_eq(p, STR("*")))
            return true;
        if (!part_fits(str_cut(&p, '/'), str_cut(&s, '/')))
            return false;
    }
    return p.n == 0 && s.n == 0;
}

/* --- Paths ---- */

/* Takes the next part of a path off its front; "" at the end. */
static struct str next_part(struct str *path)
{
    while (path->n > 0 && path->p[0] == '/')
        *path = (struct str){path->p + 1, path->n - 1};
    return str_cut(path, '/');
}

bool policy_path_below(const char *root, const char *path)
{
    struct str r = str_from(root), p = str_from(path), part;
    if (!str_starts(r, STR("/")) || !str_starts(p, STR("/")))
        return false;
    for (struct str all = p; (part = next_part(&all)).n > 0;)
        if (str_eq(part, STR(".")) || str_eq(part, STR("..")))
            return false;
    while ((part = next_part(&r)).n > 0)
        if (!str_eq(part, next_part(&p)))
            return false;
    return true;
}

static bool below_any(const struct policy_list *list, const char *path)
{
    for (size_t i = 0; i < list->n; i++)
        if (policy_path_below(list->items[i], path))
            return true;
    return false;
}

/* Would a container that has @path reach the socket of the engine? */
static bool holds_socket(const char *path)
{
    static const char *const places[] = {"/var/run/docker.sock", "/run/docker.sock"};
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (policy_path_below(path, places[i]) || policy_path_below(places[i], path))
            return true;
    return false;
}

/* --- Questions ---- */

struct judge {
    const char *name;
    const char *reason;
    struct err *err;
};

static int deny(struct judge *j, const struct policy_list *rule, const char *reason, const char *key, const char *what, const char *which)
{
    j->reason = reason;
    (void)err_set(j->err, ERR_DENIED, "the policy of this server's owner forbids %s%s%.120s", what, which ? " " : "", which ? which : "");
    err_hint(j->err, "%s line %u: %s", j->name, rule->line, key);
    return -(int)ERR_DENIED;
}

static int judge_image(struct judge *j, const struct policy_list *rule, const char *image)
{
    AUTO_FREE char *name = NULL;
    if (rule->rule == POLICY_ALLOW)
        return 0;
    bool fits = rule->rule == POLICY_LISTED && policy_image_name(image, &name, NULL) == 0;
    for (size_t i = 0; fits && i < rule->n; i++)
        if (policy_image_fits(rule->items[i], name))
            return 0;
    return deny(j, rule, "policy_image_source", "images", "the image", name ? name : image);
}

static int judge_privileged(struct judge *j, const struct policy_list *rule, const char *what)
{
    if (rule->rule == POLICY_ALLOW)
        return 0;
    for (size_t i = 0; i < rule->n; i++)
        if (strcmp(rule->items[i], what) == 0)
            return 0;
    return deny(j, rule, "policy_privileged", "privileged", "the option", what);
}

/* Where @path leads once links are followed; what is not there yet is added as it is written. Freed by the caller. NULL: the agent cannot see
 * it (a folder that it may not enter, or a link to what is not there yet), so it may be anywhere. */
static char *where_it_leads(const char *path)
{
    for (size_t n = strlen(path); n > 0;) {
        struct stat st;
        AUTO_FREE char *front = str_dup((struct str){path, n});
        AUTO_FREE char *real = realpath(front, NULL);
        if (real)
            return str_printf("%s%s", real, path + n);
        if ((errno != ENOENT && errno != ENOTDIR) || (lstat(front, &st) == 0 && S_ISLNK(st.st_mode)))
            return NULL;
        while (n > 0 && path[--n] != '/')
            ;
    }
    return str_dup(str_from(path));
}

/* As written and as it is: a link inside of an allowed folder leads nowhere else. */
static int judge_mount(struct judge *j, const struct policy *p, const char *path)
{
    AUTO_FREE char *at = where_it_leads(path);
    if (p->mounts.rule != POLICY_ALLOW && !(at && below_any(&p->mounts, path) && below_any(&p->mounts, at)))
        return deny(j, &p->mounts, "policy_mount", "mounts", "to mount", path);
    if (p->socket.rule != POLICY_ALLOW && (!at || !policy_path_below("/", path) || holds_socket(path) || holds_socket(at)))
        return deny(j, &p->socket, "policy_mount", "docker-socket", "to mount the Docker socket by", path);
    return 0;
}

int policy_judge(const struct policy *p, const char *name, const struct policy_ask *ask, const char **ret_reason, struct err *err)
{
    struct judge j = {.name = name, .err = err};
    int rc = 0;
    if (ask->exec && p->exec.rule != POLICY_ALLOW)
        rc = deny(&j, &p->exec, "policy_exec", "exec", "commands inside containers", NULL);
    if (rc == 0 && ask->update && p->update.rule != POLICY_ALLOW)
        rc = deny(&j, &p->update, "policy_update", "self-update", "updates of the agent", NULL);
    if (rc == 0 && ask->sandbox && p->sandboxes.rule != POLICY_ALLOW)
        rc = deny(&j, &p->sandboxes, "policy_sandbox", "sandboxes", "sandboxes", NULL);
    if (rc == 0 && ask->image)
        rc = judge_image(&j, &p->images, ask->image);
    for (size_t i = 0; rc == 0 && i < ask->n_privileged; i++)
        rc = judge_privileged(&j, &p->privileged, ask->privileged[i]);
    for (size_t i = 0; rc == 0 && i < ask->n_mounts; i++)
        rc = judge_mount(&j, p, ask->mounts[i]);
    *ret_reason = j.reason;
    return rc;
}

static int check(const char *path, const struct policy_ask *ask, const char **ret_reason, struct err *err)
{
    struct policy p;
    struct err why = ERR_INIT;
    bool concerned = ask->exec || ask->update || ask->sandbox || ask->image || ask->n_privileged || ask->n_mounts;
    *ret_reason = NULL;
    if (!concerned)
        return 0;
    int rc = policy_read(path, &p, &why);
    if (rc < 0) {
        *ret_reason = "policy_unreadable";
        (void)err_set(err, ERR_DENIED, "the policy of this server's owner cannot be believed; nothing is done that it might forbid: %.300s", why.msg);
        err_hint(err, "%s", *why.hint ? why.hint : "on the server: davit-agent policy check");
        return -(int)ERR_DENIED;
    }
    rc = rc == 1 ? 0 : policy_judge(&p, path, ask, ret_reason, err);
    policy_release(&p);
    return rc;
}

int policy_check(const char *path, const struct policy_ask *ask, const char **ret_reason, struct err *err)
{
    struct err why = ERR_INIT;
    int rc = check(path, ask, ret_reason, &why);

    if (rc < 0)
        log_event(LOG_WARN, "refused", "reason", *ret_reason, "message", why.msg, "policy", why.hint, NULL);
    if (rc < 0 && err)
        *err = why;
    return rc;
}

size_t policy_forbids(const char *path, const char *ret[POLICY_CODES])
{
    struct policy p;
    size_t n = 0;
    bool bad = policy_read(path, &p, NULL) < 0;
    if (bad || p.exec.rule != POLICY_ALLOW)
        ret[n++] = "policy_exec";
    if (bad || p.update.rule != POLICY_ALLOW)
        ret[n++] = "policy_update";
    if (bad || p.images.rule != POLICY_ALLOW)
        ret[n++] = "policy_image_source";
    if (bad || p.privileged.rule != POLICY_ALLOW)
        ret[n++] = "policy_privileged";
    if (bad || p.mounts.rule != POLICY_ALLOW || p.socket.rule != POLICY_ALLOW)
        ret[n++] = "policy_mount";
    if (bad || p.sandboxes.rule != POLICY_ALLOW)
        ret[n++] = "policy_sandbox";
    if (bad)
        ret[n++] = "policy_unreadable";
    policy_release(&p);
    return n;
}
