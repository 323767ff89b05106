/* SPDX-License-Identifier: Apache-2.0 */
/* purge — see purge.h. */
#include "cli/purge.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/controlplane.h"
#include "cli/out.h"
#include "cli/plane.h"
#include "docker/docker.h"
#include "loop/child.h"

enum { CONFIG_MAX = 65536, ID_MAX = 64 };
static const usec_t ENGINE_TIMEOUT = 60 * USEC_SEC;

/* The value of a key in the agent's config.yaml. 0; 1: there is none. */
static int agent_setting(const struct cli *cli, const char *name, char ret[ID_MAX], struct err *err)
{
    AUTO_FREE char *path = str_printf("%s/config.yaml", cli->paths.agent);
    AUTO_BUF text = BUF_INIT(CONFIG_MAX);
    int rc = fd_read_file(path, &text, err);
    struct str rest = buf_str(&text);

    if (rc < 0)
        return rc == -ERR_NOT_FOUND ? 1 : rc;
    while (rest.n > 0) {
        struct str line = str_cut(&rest, '\n');
        struct str key = str_cut(&line, ':');
        line = str_trim(line);
        if (line.n >= 2 && line.p[0] == '"' && line.p[line.n - 1] == '"')
            line = (struct str){line.p + 1, line.n - 2};
        if (str_eq(str_trim(key), str_from(name)) && line.n > 0 && str_copy(ret, ID_MAX, line) == 0)
            return 0;
    }
    return 1;
}

char *agent_server_id(const struct cli *cli)
{
    char id[ID_MAX];

    return agent_setting(cli, "server_id", id, NULL) == 0 ? str_dup(str_from(id)) : NULL;
}

int agent_is_foreign(const struct cli *cli, struct err *err)
{
    char mode[ID_MAX];
    int rc = agent_setting(cli, "auth_mode", mode, err);

    return rc < 0 ? rc : rc == 0 && strcmp(mode, "local") != 0;
}

static int purge_containers(struct docker *d, const char *label, struct err *err)
{
    struct docker_summaries list = {0};
    int rc = docker_container_list(d, &label, 1, &list, deadline_in(ENGINE_TIMEOUT), err);

    for (size_t i = 0; rc >= 0 && i < list.n; i++)
        rc = docker_container_remove(d, list.items[i].id, true, true, deadline_in(ENGINE_TIMEOUT), err);
    docker_summaries_release(&list);
    return rc < 0 ? rc : 0;
}

static int purge_networks(struct docker *d, const char *label, struct err *err)
{
    struct docker_networks list = {0};
    int rc = docker_network_list(d, label, &list, deadline_in(ENGINE_TIMEOUT), err);

    for (size_t i = 0; rc >= 0 && i < list.n; i++)
        rc = docker_network_remove(d, list.items[i].name, deadline_in(ENGINE_TIMEOUT), err);
    docker_networks_release(&list);
    return rc < 0 ? rc : 0;
}

static int purge_volumes(struct docker *d, const char *label, struct err *err)
{
    struct docker_volumes list = {0};
    int rc = docker_volume_list(d, label, &list, deadline_in(ENGINE_TIMEOUT), err);

    for (size_t i = 0; rc >= 0 && i < list.n; i++)
        rc = docker_volume_remove(d, list.items[i].name, false, deadline_in(ENGINE_TIMEOUT), err);
    docker_volumes_release(&list);
    return rc < 0 ? rc : 0;
}

static int purge_engine(struct cli *cli, struct err *err)
{
    AUTO_FREE char *id = plane_server_id(cli);
    struct docker *d = NULL;
    int rc;

    if (!*id)
        return 0;
    AUTO_FREE char *label = str_printf("davit.server=%s", id);
    if ((rc = docker_new(cli->loop, cli->settings.docker, &d, err)) < 0)
        return rc;
    rc = purge_containers(d, label, err);
    if (rc == 0)
        rc = purge_networks(d, label, err);
    if (rc == 0)
        rc = purge_volumes(d, label, err);
    docker_free(d);
    return rc;
}

static void remove_account(struct cli *cli)
{
    const char *const argv[] = {"/usr/sbin/userdel", cli->settings.user, NULL};
    struct child_spec spec = {.argv = argv, .output_max = 4096};
    struct child_result result;

    if (!cli->settings.made_user || geteuid() != 0)
        return;
    if (child_run(cli->loop, &spec, deadline_in(30 * USEC_SEC), &result, NULL) < 0)
        return;
    if (result.exit_status != 0)
        out_note(cli, "The account \"%s\" could not be removed: %s", cli->settings.user, buf_cstr(&result.err));
    child_result_release(&result);
}

/* What restores left beside the state. */
static int purge_kept(const char *state, struct err *err)
{
    AUTO_FREE char *parent = str_dup(str_from(state));
    char *slash = strrchr(parent, '/');
    DIR *d;
    int rc = 0;

    *slash = '\0';
    if (!(d = opendir(parent)))
        return 0;
    for (struct dirent *e; rc == 0 && (e = readdir(d));) {
        struct str name = str_from(e->d_name);
        size_t n = strlen(slash + 1);
        if (!str_starts(name, (struct str){slash + 1, n}))
            continue;
        name = (struct str){name.p + n, name.n - n};
        if (!str_starts(name, STR(RESTORE_KEPT)) && !str_starts(name, STR(RESTORE_FRESH)))
            continue;
        AUTO_FREE char *path = str_printf("%s/%s", parent, e->d_name);
        rc = fd_remove_tree(path, err);
    }
    (void)closedir(d);
    return rc;
}

int purge_all(struct cli *cli, struct err *err)
{
    const char *const dirs[] = {cli->paths.run, cli->paths.log, cli->paths.state, cli->paths.config};
    int foreign = agent_is_foreign(cli, err);
    int rc = foreign == 0 ? purge_engine(cli, err) : foreign;

    if (rc == 0 && plane_mode(&cli->settings))
        rc = plane_purge(cli, err);

    if (rc < 0) {
        (void)err_wrap(err, "what Davit made in the Docker Engine could not be removed; keys and state are kept");
        return rc;
    }
    remove_account(cli);
    if (foreign)
        out_note(cli, "The agent of this machine serves another control plane: it, its keys and its containers are left alone.");
    else if ((rc = fd_remove_tree(cli->paths.agent, err)) < 0)
        return rc;
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        if ((rc = fd_remove_tree(dirs[i], err)) < 0)
            return rc;
    if ((rc = purge_kept(cli->paths.state, err)) < 0)
        return rc;
    if (cli->common.home && rmdir(cli->common.home) < 0 && errno != ENOTEMPTY && errno != ENOENT)
        return err_sys(err, errno, "cannot remove %s", cli->common.home);
    return 0;
}
