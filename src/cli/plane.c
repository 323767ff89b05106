/* SPDX-License-Identifier: Apache-2.0 */
/* plane — see plane.h: the life of the container. The image, and how the container is made, stand in files of their own. */
#include "cli/plane.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "cli/controlplane.h"
#include "cli/out.h"
#include "cli/plane_image.h"
#include "cli/purge.h"
#include "cli/settings_file.h"

enum { STOP_S = 30, ATTEMPTS = 2, TAIL_LINES = 20, LINE_MAX_SHOWN = 300 };
static const usec_t ENGINE_CALL = 30 * USEC_SEC, STOP_CALL = (STOP_S + 15) * USEC_SEC, IMPORT_CALL = 5 * USEC_MINUTE, LOG_CALL = 5 * USEC_SEC;
static const usec_t POLL_STEP = 100 * USEC_MSEC;

bool plane_mode(const struct cli_settings *s)
{
    return s->mode && strcmp(s->mode, "container") == 0;
}

/* --- What there is ---- */

static bool is_ours(const struct cli *cli, const struct docker_container *c)
{
    const char *home = docker_map_get(&c->labels, LABEL_HOME);

    return home && strcmp(home, cli->paths.config) == 0;
}

static int someone_elses(const struct docker_map *labels, const char *what, struct err *err)
{
    const char *home = docker_map_get(labels, LABEL_HOME);
    AUTO_FREE char *clean = out_clean(str_from(home ? home : "another program"));

    (void)err_set(err, ERR_EXISTS, "%s in this Docker Engine belongs to %s", what, clean);
    err_hint(err, "one control plane serves an engine: `davit down --purge` there, or name another engine with --docker");
    return -ERR_EXISTS;
}

int plane_look(struct cli *cli, struct plane_look *ret, struct err *err)
{
    struct docker_container c = {0};
    struct docker *d = NULL;
    int rc = docker_new(cli->loop, cli->settings.docker, &d, err);

    *ret = (struct plane_look){0};
    if (rc == 0)
        rc = docker_container_inspect(d, PLANE_CONTAINER, &c, deadline_in(ENGINE_CALL), err);
    if (rc == 0) {
        ret->foreign = !is_ours(cli, &c);
        ret->state = ret->foreign ? DOCKER_STATE_UNKNOWN : c.state;
        (void)str_copy(ret->id, sizeof(ret->id), str_from(c.id));
    }
    docker_container_release(&c);
    d = docker_free(d);
    return rc == -ERR_NOT_FOUND ? 0 : rc;
}

char *plane_server_id(const struct cli *cli)
{
    char *id = cli->settings.server ? str_dup(str_from(cli->settings.server)) : agent_server_id(cli);

    return id ? id : str_dup(STR(""));
}

int plane_sandboxes(struct cli *cli, unsigned *ret_all, unsigned *ret_running, struct err *err)
{
    AUTO_FREE char *id = plane_server_id(cli), *server = str_printf("davit.server=%s", id);
    const char *labels[] = {"davit.purpose=sandbox", server};
    struct docker_summaries l = {0};
    struct docker *d = NULL;

    *ret_all = *ret_running = 0;
    if (!*id)
        return 0;
    int rc = docker_new(cli->loop, cli->settings.docker, &d, err);
    if (rc == 0)
        rc = docker_container_list(d, labels, ARRAY_LEN(labels), &l, deadline_in(ENGINE_CALL), err);
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        const char *service = docker_map_get(&l.items[i].labels, "davit.service");
        if (service && *service)
            continue;
        ++*ret_all;
        *ret_running += l.items[i].state == DOCKER_STATE_RUNNING;
    }
    docker_summaries_release(&l);
    d = docker_free(d);
    return rc;
}

/* --- Network and volume ---- */

static int find_network(struct docker *d, char **ret_subnet, struct err *err)
{
    struct docker_networks l = {0};
    int rc = docker_network_list(d, NULL, &l, deadline_in(ENGINE_CALL), err);

    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        const char *purpose = docker_map_get(&l.items[i].labels, "davit.purpose");
        if (strcmp(l.items[i].name, PLANE_NETWORK) != 0)
            continue;
        if (!purpose || strcmp(purpose, PLANE_PURPOSE) != 0 || l.items[i].internal || !*l.items[i].subnet)
            rc = err_set(err, ERR_EXISTS, "there is a network " PLANE_NETWORK " that Davit did not make");
        else
            *ret_subnet = str_dup(str_from(l.items[i].subnet));
    }
    docker_networks_release(&l);
    return rc == 0 && !*ret_subnet ? err_set(err, ERR_UNAVAILABLE, "the network " PLANE_NETWORK " went as soon as it was made") : rc;
}

static int provide_volume(struct cli *cli, struct docker *d, struct err *err)
{
    const struct docker_pair labels[] = {{"davit.managed", "true"}, {"davit.purpose", PLANE_PURPOSE}, {LABEL_HOME, cli->paths.config}};
    struct docker_volumes l = {0};
    int rc = docker_volume_list(d, NULL, &l, deadline_in(ENGINE_CALL), err);

    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        const char *home = docker_map_get(&l.items[i].labels, LABEL_HOME);
        if (strcmp(l.items[i].name, PLANE_VOLUME) == 0 && (!home || strcmp(home, cli->paths.config) != 0))
            rc = someone_elses(&l.items[i].labels, "volume " PLANE_VOLUME, err);
    }
    docker_volumes_release(&l);
    return rc < 0 ? rc : docker_volume_ensure(d, PLANE_VOLUME, labels, ARRAY_LEN(labels), deadline_in(ENGINE_CALL), err);
}

static int provide(struct cli *cli, struct docker *d, char **ret_subnet, struct err *err)
{
    const struct docker_pair labels[] = {{"davit.managed", "true"}, {"davit.purpose", PLANE_PURPOSE}};
    const struct docker_network_spec network = {.name = PLANE_NETWORK, .labels = labels, .n_labels = ARRAY_LEN(labels)};
    int rc = provide_volume(cli, d, err);

    if (rc >= 0)
        rc = docker_network_ensure(d, &network, NULL, deadline_in(ENGINE_CALL), err);
    return rc < 0 ? rc : find_network(d, ret_subnet, err);
}

/* --- The container ---- */

/* The kernel drops a signal that comes before PID 1 has begun to wait for it: it is said again until it was heard. */
static void end_gently(struct docker *d, bool *ret_ran)
{
    usec_t patience = deadline_in(STOP_S * USEC_SEC);

    while (clock_mono() < patience && docker_container_kill(d, PLANE_CONTAINER, "TERM", deadline_in(ENGINE_CALL), NULL) == 0) {
        int code, rc = docker_container_wait(d, PLANE_CONTAINER, &code, deadline_in(USEC_SEC), NULL);
        if (ret_ran)
            *ret_ran = true;
        if (rc == 0 || rc == -ERR_CANCELLED)
            return;
    }
}

static int clear_away(struct docker *d, bool *ret_ran, struct err *err)
{
    end_gently(d, ret_ran);
    int rc = docker_container_remove(d, PLANE_CONTAINER, true, true, deadline_in(STOP_CALL), err);
    return rc < 0 ? rc : 0;
}

static bool fits(const struct docker_container *c, const struct plane_image *image, const struct plane_spec *spec)
{
    const char *binary = docker_map_get(&c->labels, LABEL_BINARY), *config = docker_map_get(&c->labels, LABEL_CONFIG);

    return binary && config && strcmp(binary, image->content) == 0 && strcmp(config, plane_spec_config(spec)) == 0;
}

/* 1: it runs as it should; 0: there is none now, or one that only has to be started. */
static int settle_old(struct cli *cli, struct docker *d, const struct plane_image *image, const struct plane_spec *spec, struct up_before *b,
                      struct err *err)
{
    struct docker_container c = {0};
    int rc = docker_container_inspect(d, PLANE_CONTAINER, &c, deadline_in(ENGINE_CALL), err);
    bool there = rc == 0, runs = there && c.state == DOCKER_STATE_RUNNING, same = there && fits(&c, image, spec);
    bool rests = there && (c.state == DOCKER_STATE_CREATED || c.state == DOCKER_STATE_EXITED);

    if (there && !is_ours(cli, &c))
        rc = someone_elses(&c.labels, "the control plane", err);
    docker_container_release(&c);
    if (rc == -ERR_NOT_FOUND)
        rc = 0;
    if (rc < 0 || (runs && same))
        return rc < 0 ? rc : 1;
    rc = settings_ports_free(cli, &b->settings, there && !rests, err);
    if (rc == 0 && there && !(rests && same)) {
        if (runs)
            out_note(cli, "the control plane runs with older programs or other settings: its container is replaced");
        rc = clear_away(d, NULL, err);
    }
    return rc;
}

static int start(struct docker *d, const struct plane_spec *spec, struct err *err)
{
    char id[DOCKER_ID_SIZE];
    int rc = docker_container_create(d, plane_spec_container(spec), id, deadline_in(ENGINE_CALL), err);

    if (rc < 0 && rc != -ERR_EXISTS)
        return rc;
    rc = docker_container_start(d, PLANE_CONTAINER, deadline_in(ENGINE_CALL), err);
    return rc < 0 ? rc : 0;
}

/* One that was made and never ran, or is half gone, keeps its name: the second attempt begins without it. */
static int start_new(struct docker *d, const struct plane_spec *spec, struct err *err)
{
    int rc = 0;

    for (int i = 0; i < ATTEMPTS; i++) {
        *err = ERR_INIT;
        if ((rc = start(d, spec, err)) == 0 || rc == -ERR_CANCELLED)
            return rc;
        struct err why = ERR_INIT;
        if (clear_away(d, NULL, &why) < 0)
            return rc;
    }
    return err_wrap(err, "the container of the control plane cannot be started");
}

/* --- Until it answers ---- */

/* The last line of all, and of those in which davitd or the agent says why it cannot go on. */
struct last_lines {
    char *any, *reason;
};

static int take_line(void *arg, const struct docker_log *entry)
{
    struct last_lines *lines = arg;
    bool reason = memmem(entry->line.p, entry->line.n, "level=error", 11) && !memmem(entry->line.p, entry->line.n, "program=davit-monitor", 21);
    char **last = reason ? &lines->reason : &lines->any;

    if (str_trim(entry->line).n == 0)
        return 0;
    free(*last);
    *last = out_clean((struct str){entry->line.p, entry->line.n < LINE_MAX_SHOWN ? entry->line.n : LINE_MAX_SHOWN});
    return 0;
}

static int explain(struct docker *d, const char *what, struct err *err)
{
    const struct docker_log_options options = {.tail = TAIL_LINES};
    struct last_lines lines = {0};

    (void)docker_logs(d, PLANE_CONTAINER, &options, take_line, &lines, deadline_in(LOG_CALL), NULL);
    (void)err_set(err, ERR_UNAVAILABLE, "%s", what);
    err_hint(err, "`docker logs " PLANE_CONTAINER "` tells why: %s", lines.reason ? lines.reason : lines.any ? lines.any : "it is empty");
    free(lines.any);
    free(lines.reason);
    return -ERR_UNAVAILABLE;
}

/* 0: the container runs; else @err says what became of it. @restarts: how often the engine had started it when it was looked at first, -1: now. */
static int check_life(struct docker *d, int64_t *restarts, struct err *err)
{
    struct docker_container c = {0};
    int rc = docker_container_inspect(d, PLANE_CONTAINER, &c, deadline_in(ENGINE_CALL), err);
    if (rc == 0 && *restarts < 0)
        *restarts = c.restart_count;
    /* Each start is several tries of the monitor: there is nothing to wait for. */
    bool over = rc == 0 && (c.state != DOCKER_STATE_RUNNING || c.restart_count > *restarts);
    AUTO_FREE char *what =
        over ? str_printf("the container of the control plane has ended (%s, exit status %d)", docker_state_name(c.state), c.exit_code) : NULL;

    docker_container_release(&c);
    if (rc == -ERR_NOT_FOUND)
        return err_set(err, ERR_UNAVAILABLE, "the container of the control plane is gone: something removed it while it was waited for");
    return rc < 0 || !over ? rc : explain(d, what, err);
}

static int wait_healthy(struct cli *cli, struct docker *d, usec_t deadline, struct err *err)
{
    int64_t restarts = -1;

    for (;;) {
        int rc = check_life(d, &restarts, err);
        if (rc < 0)
            return rc;
        if (health_look(cli, NULL) == 0)
            return 0;
        if (clock_mono() > deadline)
            return explain(d, "the control plane did not answer in time", err);
        if ((rc = fiber_sleep(POLL_STEP)) < 0)
            return rc;
    }
}

static int wait_server(struct cli *cli, struct docker *d, usec_t since, usec_t deadline, char **ret_name, struct err *err)
{
    int64_t restarts = -1;
    int rc;

    while ((rc = up_local_online(cli, since, ret_name, err)) == 0) {
        if ((rc = check_life(d, &restarts, err)) < 0)
            return rc;
        if (clock_mono() > deadline)
            return explain(d, "the agent of this machine did not come up", err);
        if ((rc = fiber_sleep(POLL_STEP)) < 0)
            return rc;
    }
    return rc < 0 ? rc : 0;
}

/* --- The whole ---- */

static int find_socket(struct docker *d, char **ret, struct err *err)
{
    struct str addr = str_from(docker_addr(d));

    *ret = str_starts(addr, STR("unix:")) ? realpath(addr.p + 5, NULL) : NULL;
    if (*ret)
        return 0;
    (void)err_set(err, ERR_PRECONDITION, "the Docker Engine at %s cannot be used from a container: there is no socket of it here", docker_addr(d));
    err_hint(err, "--docker unix:/PATH, or --mode native");
    return -ERR_PRECONDITION;
}

/* 0: it was started; 1: it ran. */
static int bring(struct cli *cli, struct docker *d, struct up_before *b, struct err *err)
{
    CLEANUP(plane_image_release) struct plane_image image = {0};
    CLEANUP(plane_spec_free) struct plane_spec *spec = NULL;
    AUTO_FREE char *subnet = NULL, *socket = NULL;
    int rc = find_socket(d, &socket, err);

    if (rc == 0)
        rc = plane_image_provide(cli, d, &image, deadline_in(IMPORT_CALL), err);
    if (rc == 0)
        rc = provide(cli, d, &subnet, err);
    if (rc == 0)
        rc = plane_spec_make(cli, &image, subnet, socket, &spec, err);
    if (rc == 0)
        rc = settle_old(cli, d, &image, spec, b, err);
    if (rc == 0)
        rc = start_new(d, spec, err);
    else if (rc == 1)
        return 1;
    if (rc == 0 && image.made)
        plane_image_prune(d, image.ref, deadline_in(ENGINE_CALL));
    return rc;
}

/* Who only needs it takes one that runs, as it was started: with the settings that are remembered. 1: there is one; 0. */
static int leave_running(struct cli *cli, const struct up_want *want, struct up_before *b, struct err *err)
{
    struct plane_look look;

    if (!want->leave || !b->known || !plane_mode(&b->settings))
        return 0;
    int rc = plane_look(cli, &look, err);
    if (rc < 0 || look.state != DOCKER_STATE_RUNNING)
        return rc;
    struct cli_settings given = cli->settings;
    cli->settings = b->settings;
    b->settings = given;
    return 1;
}

int plane_up(struct cli *cli, const struct up_want *want, struct up_before *b, struct up_result *ret, struct err *err)
{
    struct docker *d = NULL;
    usec_t begin = clock_real(), deadline = deadline_in(want->wait);
    int rc = leave_running(cli, want, b, err), ran = rc;

    if (rc < 0 || (rc = docker_new(cli->loop, cli->settings.docker, &d, err)) < 0)
        return rc;
    if (!ran)
        rc = ran = bring(cli, d, b, err);
    if (rc >= 0)
        rc = wait_healthy(cli, d, deadline, err);
    ret->changed = ran == 0;
    if (rc == 0 && ret->changed)
        bearer_drop(cli);
    if (rc == 0)
        rc = wait_server(cli, d, ret->changed ? begin : 0, deadline, &ret->server, err);
    d = docker_free(d);
    return rc;
}

/* What sandboxes are run with: those of another control plane keep theirs, since it is in use. */
static void purge_runtimes(struct docker *d)
{
    struct docker_volumes l = {0};
    int rc = docker_volume_list(d, "davit.purpose=runtime", &l, deadline_in(ENGINE_CALL), NULL);

    for (size_t i = 0; rc == 0 && i < l.n; i++)
        (void)docker_volume_remove(d, l.items[i].name, false, deadline_in(ENGINE_CALL), NULL);
    docker_volumes_release(&l);
}

int plane_purge(struct cli *cli, struct err *err)
{
    struct docker *d = NULL;
    struct plane_look look;
    int rc = plane_look(cli, &look, err);

    if (rc < 0 || look.foreign || (rc = docker_new(cli->loop, cli->settings.docker, &d, err)) < 0)
        return rc;
    rc = docker_volume_remove(d, PLANE_VOLUME, false, deadline_in(ENGINE_CALL), err);
    if (rc >= 0)
        rc = docker_network_remove(d, PLANE_NETWORK, deadline_in(ENGINE_CALL), err);
    if (rc >= 0) {
        plane_image_prune(d, NULL, deadline_in(ENGINE_CALL));
        purge_runtimes(d);
    }
    d = docker_free(d);
    return rc < 0 ? rc : 0;
}

int plane_down(struct cli *cli, bool *ret_changed, struct err *err)
{
    static const char *const networks[] = {PLANE_NETWORK, "davit-net", "davit-open"};
    struct plane_look look;
    struct docker *d = NULL;
    int rc = plane_look(cli, &look, err);

    if (rc < 0 || look.foreign || (rc = docker_new(cli->loop, cli->settings.docker, &d, err)) < 0)
        return rc;
    if (look.state != DOCKER_STATE_UNKNOWN)
        rc = clear_away(d, ret_changed, err);
    /* What the engine has left of one that was killed while it was made. */
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(networks); i++)
        (void)docker_network_disconnect(d, networks[i], PLANE_CONTAINER, true, deadline_in(ENGINE_CALL), NULL);
    d = docker_free(d);
    return rc;
}
