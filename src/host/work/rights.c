/* SPDX-License-Identifier: Apache-2.0 */
/* rights — see rights.h. */
#include "host/work/rights.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

size_t rights_words(const Davit__Common__V1__ServiceSpec *s, char ***ret)
{
    char **words = mem_zalloc(s->n_cap_add + s->n_allow + 1, sizeof(char *));
    size_t n = 0;

    for (size_t i = 0; i < s->n_cap_add; i++) {
        const char *cap = s->cap_add[i];
        words[n++] = str_printf("cap:%s", str_starts(str_from(cap), STR("CAP_")) ? cap + 4 : cap);
    }
    for (size_t i = 0; i < s->n_allow; i++)
        words[n++] = str_dup(str_from(s->allow[i]));
    *ret = words;
    return n;
}

/* --- Folders of the server ---- */

/* Is @path, or does it hold or lie in, @place? "" and NULL are no place. */
static bool touches(const char *path, const char *place)
{
    return place && *place && (policy_path_below(place, path) || policy_path_below(path, place));
}

/* Places that only this agent knows: its own folder, and the engine's socket. */
static bool is_own(const struct work *w, const char *path)
{
    const char *slash = w->policy ? strrchr(w->policy, '/') : NULL;
    AUTO_FREE char *folder = slash ? str_dup((struct str){w->policy, (size_t)(slash - w->policy)}) : NULL;
    AUTO_FREE char *real = folder ? realpath(folder, NULL) : NULL;
    const char *socket = docker_addr(w->docker);
    socket = str_starts(str_from(socket), STR("unix:")) ? socket + 5 : "";
    AUTO_FREE char *real_socket = realpath(socket, NULL);

    for (size_t i = 0; i < w->n_places; i++)
        if (touches(path, w->places[i]))
            return true;
    return touches(path, folder) || touches(path, real) || touches(path, socket) || touches(path, real_socket);
}

static int judge(const struct work *w, const Davit__Common__V1__ServiceSpec *s, const char *path, struct err *err)
{
    int rc = spec_check_source(s, path, err);

    if (rc < 0 || !is_own(w, path) || spec_allows(s, "source", path))
        return rc;
    (void)err_set(err, ERR_DENIED, "%.80s of the server may not be mounted: the agent or the engine is there", path);
    err_hint(err, "a service that needs it says so: allow source:%.80s", path);
    return -ERR_DENIED;
}

/* An agent in a container does not see this machine's folders: it goes by their names, which is not enough for an owner who lists folders, since
 * a link in one of them may lead out of it. */
static int unseen_source(const struct work *w, const Davit__Common__V1__ServiceSpec *s, const char *path, char **ret, const char **ret_reason,
                         struct err *err)
{
    struct policy p;
    int rc = judge(w, s, path, err), read = policy_read(w->policy, &p, NULL);
    bool listed = read == 0 && p.mounts.rule == POLICY_LISTED;

    policy_release(&p);
    *ret_reason = "mount_forbidden";
    if (rc == 0 && listed) {
        *ret_reason = "policy_mount";
        rc = err_set(err, ERR_DENIED,
                     "the owner of this server lists the folders that may be mounted, and its agent, in a container, cannot see where %.80s leads",
                     path);
        err_hint(err, "a snapshot needs no folder; else davit up --mode native");
    }
    if (rc < 0)
        log_event(LOG_WARN, "refused", "reason", *ret_reason, "source", path, NULL);
    if (rc < 0 && err)
        err->code = ERR_DENIED;
    if (rc == 0 && ret)
        *ret = str_dup(str_from(path));
    return rc < 0 ? -ERR_DENIED : 0;
}

int rights_source(const struct work *w, const Davit__Common__V1__ServiceSpec *s, const char *path, char **ret, const char **ret_reason,
                  struct err *err)
{
    if (w->sandboxes_only)
        return unseen_source(w, s, path, ret, ret_reason, err);
    AUTO_FREE char *real = realpath(path, NULL);
    if (!real) {
        *ret_reason = "mount_missing";
        (void)err_set(err, ERR_NOT_FOUND, "%.200s is not there on this server, or the agent may not see it", path);
        err_hint(err, "make the folder on the server first");
        return -ERR_NOT_FOUND;
    }
    int rc = judge(w, s, path, err);
    if (rc == 0)
        rc = judge(w, s, real, err);
    if (rc < 0) {
        *ret_reason = "mount_forbidden";
        log_event(LOG_WARN, "refused", "reason", *ret_reason, "source", path, "leads_to", real, NULL);
        if (err)
            err->code = ERR_DENIED;
        return -ERR_DENIED;
    }
    /* Judged before, but a link may have been changed since, in the time that a pull takes. */
    const char *const mounts[] = {real};
    const struct policy_ask ask = {.mounts = mounts, .n_mounts = 1};
    if ((rc = policy_check(w->policy, &ask, ret_reason, err)) < 0)
        return rc;
    if (ret)
        *ret = TAKE(real);
    return 0;
}

int rights_stays(const struct work *w, const Davit__Common__V1__ServiceSpec *s, const struct docker_container *of, const char **ret_reason,
                 struct err *err)
{
    for (size_t i = 0; i < of->n_mounts; i++) {
        const char *source = of->mounts[i].source;
        AUTO_FREE char *real = NULL;
        if (strcmp(of->mounts[i].type, "bind") != 0)
            continue;
        int rc = rights_source(w, s, source, &real, ret_reason, err);
        if (rc < 0)
            return rc;
        if (real && strcmp(real, source) == 0)
            continue;
        *ret_reason = "mount_moved";
        log_event(LOG_WARN, "refused", "reason", *ret_reason, "source", source, "leads_to", real, NULL);
        (void)err_set(err, ERR_DENIED, "%.200s of the server was a folder when this was made, and leads to %.200s now", source,
                      real ? real : "nowhere");
        err_hint(err, "put the folder back, or remove this and make it anew");
        return -ERR_DENIED;
    }
    return 0;
}

int rights_sources(const struct work *w, const Davit__Common__V1__ServiceSpec *s, const char **ret_reason, struct err *err)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < s->n_binds; i++)
        rc = rights_source(w, s, s->binds[i]->source, NULL, ret_reason, err);
    return rc;
}

int rights_judge(const struct work *w, const Davit__Common__V1__ServiceSpec *s, const struct policy_ask *more, const char **ret_reason,
                 struct err *err)
{
    const char *mounts[SPEC_BINDS_MAX];
    char **words = NULL;
    size_t n_words = rights_words(s, &words), n = 0;
    const char **all = mem_zalloc(n_words + more->n_privileged + 1, sizeof(*all));
    struct policy_ask ask = {.sandbox = more->sandbox, .image = s->image, .mounts = mounts, .privileged = all};

    for (size_t i = 0; i < n_words; i++)
        all[n++] = words[i];
    for (size_t i = 0; i < more->n_privileged; i++)
        all[n++] = more->privileged[i];
    ask.n_privileged = n;
    /* Its volumes are the engine's: no policy asks about those. */
    for (; ask.n_mounts < s->n_binds && ask.n_mounts < SPEC_BINDS_MAX; ask.n_mounts++)
        mounts[ask.n_mounts] = s->binds[ask.n_mounts]->source;
    int rc = policy_check(w->policy, &ask, ret_reason, err);
    for (size_t i = 0; i < n_words; i++)
        free(words[i]);
    free(words);
    free(all);
    return rc < 0 ? rc : rights_sources(w, s, ret_reason, err);
}

/* --- For the engine ---- */

static void apply_word(const char *word, struct rights *r, struct docker_container_spec *out)
{
    if (strcmp(word, "privileged") == 0)
        out->privileged = true;
    else if (strcmp(word, "network:host") == 0)
        out->network = "host";
    else if (strcmp(word, "pid:host") == 0)
        out->pid_mode = "host";
    else if (strcmp(word, "ipc:host") == 0)
        out->ipc_mode = "host";
    else if (strcmp(word, "security:no-new-privileges=false") == 0)
        out->no_new_privileges = false;
    else if (strncmp(word, "security:", 9) == 0)
        r->security[out->n_security_opts++] = word + 9;
    else if (strncmp(word, "device:", 7) == 0)
        r->devices[out->n_devices++] = word + 7;
    /* target: and source: speak of mounts, which were judged. */
}

int rights_apply(const struct work *w, const Davit__Common__V1__ServiceSpec *s, struct rights *r, struct docker_mount *mounts,
                 struct docker_container_spec *out, const char **ret_reason, struct err *err)
{
    for (size_t i = 0; i < s->n_binds && i < SPEC_BINDS_MAX; i++) {
        /* Where it leads is what is mounted: a link that is changed from now on changes nothing. */
        int rc = rights_source(w, s, s->binds[i]->source, &r->sources[i], ret_reason, err);
        if (rc < 0)
            return rc;
        r->n_sources = i + 1;
        mounts[out->n_mounts++] = (struct docker_mount){.type = DOCKER_MOUNT_BIND,
                                                        .source = r->sources[i],
                                                        .target = s->binds[i]->path,
                                                        .read_only = s->binds[i]->read_only};
    }
    for (size_t i = 0; i < s->n_allow && i < SPEC_ALLOW_MAX; i++)
        apply_word(s->allow[i], r, out);
    out->security_opts = r->security;
    out->devices = r->devices;
    if (out->network && strcmp(out->network, "host") == 0) {
        /* The server's own network knows neither aliases nor another name for it. */
        out->n_aliases = 0;
        out->hostname = NULL;
    }
    return 0;
}

void rights_release(struct rights *r)
{
    for (size_t i = 0; i < r->n_sources; i++)
        free(r->sources[i]);
    r->n_sources = 0;
}
