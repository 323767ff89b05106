/* SPDX-License-Identifier: Apache-2.0 */
/* agent — see agent.h. */
#include "host/link/agent.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "base/log.h"
#include "host/link/agent_internal.h"
#include "host/link/agent_notify.h"
#include "host/link/doctor_remote.h"
#include "host/contain/contain.h"
#include "host/link/link_dial.h"
#include "host/link/policy.h"
#include "host/reach/ingress.h"
#include "host/work/desired.h"
#include "loop/lane.h"
#include "net/endpoint.h"

#define STOP_WAIT (20 * USEC_SEC)

/* --- Identity and work ---- */

static int save_job(void *arg)
{
    struct agent *a = arg;
    return agent_config_save(&a->config, &a->save_err);
}

/* Off the loop: it waits for the disk. */
static int save_config(struct agent *a, struct err *err)
{
    struct lane *lane = lane_new(a->loop, "config", 1, 1);
    a->save_err = ERR_INIT;
    int rc = lane_call(lane, save_job, a, deadline_in(STOP_WAIT));
    (void)lane_free(lane);
    if (rc < 0 && err)
        *err = a->save_err;
    return err_ensure(err, rc);
}

static int end_work(struct agent *a, struct err *err)
{
    if (!a->work)
        return 0;
    int rc = work_stop(a->work, deadline_in(STOP_WAIT));
    if (rc == 0)
        rc = contain_stop(a->contain, deadline_in(STOP_WAIT));
    if (rc == 0)
        rc = session_join(a->session, deadline_in(STOP_WAIT));
    if (rc < 0)
        return err_set(err, (enum err_code)-rc, "commands that run did not end in time");
    rc = session_set_work(a->session, NULL, err);
    if (rc == 0) {
        a->contain = contain_free(a->contain);
        a->work = work_free(a->work);
        a->ingress = ingress_free(a->ingress);
    }
    return rc;
}

int agent_check_ingress_listen(const char *value, struct err *err)
{
    return value && str_eq(str_from(value), STR(AGENT_INGRESS_NONE)) ? 0 : endpoint_check(ENDPOINT_LISTEN_TCP, "ingress-listen", value, err);
}

/* The first of the two that says something. */
static const char *either(const char *option, const char *configured, const char *otherwise)
{
    return option && *option ? option : configured && *configured ? configured : otherwise;
}

static struct ingress *new_ingress(const struct agent *a)
{
    AUTO_FREE char *folder = agent_config_path(&a->config, "ingress");
    const struct ingress_config config = {
        .loop = a->loop,
        .docker = a->docker,
        .server_id = a->config.server_id,
        .folder = folder,
        .image = either(a->options->ingress_image, a->config.ingress_image, AGENT_INGRESS_IMAGE),
        .listen = either(a->options->ingress_listen, a->config.ingress_listen, a->local ? AGENT_INGRESS_LOCAL : AGENT_INGRESS_ENROLLED)};
    return str_eq(str_from(config.listen), STR(AGENT_INGRESS_NONE)) ? NULL : ingress_new(&config);
}

static char *policy_path(const struct agent *a)
{
    return a->options->policy ? str_dup(str_from(a->options->policy)) : agent_config_path(&a->config, POLICY_FILE_NAME);
}

/* The journal is bound to the server before anything of it is resumed. */
static int begin_work(struct agent *a, struct err *err)
{
    int rc = journal_set_server(a->journal, a->config.server_id, err);
    if (rc < 0)
        return rc;
    if (rc == 1)
        log_event(LOG_WARN, "the journal was of another server and was emptied", "server", a->config.server_id, NULL);
    rc = desired_set_server(a->desired, a->config.server_id, err);
    if (rc < 0)
        return rc;
    AUTO_FREE char *policy = policy_path(a);
    a->ingress = new_ingress(a);
    struct work_config config = {.loop = a->loop,
                                 .docker = a->docker,
                                 .server_id = a->config.server_id,
                                 .policy = policy,
                                 .ingress = a->ingress,
                                 .desired = a->desired,
                                 .sandboxes_only = a->options->self != NULL,
                                 .places = a->options->places,
                                 .n_places = a->options->n_places,
                                 .disk_reserve = a->options->disk_reserve,
                                 .pools = a->options->pools,
                                 .n_pools = a->options->n_pools,
                                 .send = session_send,
                                 .wait_room = session_wait_room,
                                 .arg = a->session};
    a->work = work_new(&config);
    AUTO_FREE char *sandboxes = agent_config_path(&a->config, "sandboxes"), *key = agent_config_path(&a->config, "journal.key");
    const struct contain_config contain = {
        .loop = a->loop, .work = a->work, .folder = sandboxes, .key = key, .runtime_dir = a->options->runtime_dir,
        .self = a->options->self};
    rc = contain_new(&contain, &a->contain, err);
    if (rc < 0)
        return rc;
    return session_set_work(a->session, a->work, err);
}

static uint32_t generation_of(const struct agent *a)
{
    return a->renew ? renew_generation(a->renew) : a->tunnel ? tunnel_generation(a->tunnel) : a->config.generation;
}

/* In the journal, so that a restart does not take over what was lost; it holds for the credentials that were fenced. */
static void mark_fenced(struct agent *a, bool on)
{
    AUTO_FREE char *generation = str_printf("%u", generation_of(a));
    struct err err = ERR_INIT;
    if (journal_meta_set(a->journal, "fenced", on ? generation : NULL, &err) < 0)
        log_err(LOG_WARN, &err, "the journal does not know that another agent uses this identity", NULL);
}

static int identify(void *arg, const char *server_id, const char *server_name, struct err *err)
{
    struct agent *a = arg;
    struct agent_config *c = &a->config;
    AUTO_FREE char *clean = sysinfo_clean(str_from(server_name));
    AUTO_FREE char *name = str_dup(str_trim(str_from(clean)));
    bool same = a->work && str_eq(str_from(c->server_id), str_from(server_id));
    if (!*server_id)
        return err_set(err, ERR_INTERNAL, "the control plane did not say which server this is");
    if (!a->local && a->fenced)
        mark_fenced(a, false);
    a->fenced = false;
    if (same && str_eq(str_from(c->server_name), str_from(name)))
        return 0;
    int rc = same ? 0 : end_work(a, err);
    if (rc < 0)
        return rc;
    agent_config_set(&c->server_id, server_id);
    agent_config_set(&c->server_name, name);
    if (a->local) {
        agent_config_set(&c->grpc_endpoint, a->link);
        agent_config_set(&c->auth_mode, "local");
    }
    rc = save_config(a, err);
    return rc < 0 || same ? rc : begin_work(a, err);
}

static bool is_marked_fenced(struct agent *a)
{
    AUTO_FREE char *generation = a->local ? NULL : str_printf("%u", generation_of(a));
    char marked[JOURNAL_VALUE_SIZE];
    return generation && journal_meta_get(a->journal, "fenced", marked, NULL) == 0 && str_eq(str_from(marked), str_from(generation));
}

static void fenced(void *arg, const char *reason)
{
    struct agent *a = arg;
    struct err err = ERR_INIT;
    log_event(LOG_ERROR, "another agent uses the identity of this server; this one stays idle and leaves the containers alone", "reason", reason,
              "hint", "two agents use one identity (a copied disk?): stop one of them, or enroll it under its own name", NULL);
    if (!a->local && !a->fenced)
        mark_fenced(a, true);
    a->fenced = true;
    if (end_work(a, &err) < 0)
        log_err(LOG_ERROR, &err, "the work did not end", NULL);
}

/* --- The doctor ---- */

static void doctor_wanted(void *arg, uint64_t request_id)
{
    struct agent *a = arg;
    doctor_remote_ask(a->doctor, request_id);
}

/* Whoever started both starts both again. */
static void drained(void *arg, const char *reason)
{
    struct agent *a = arg;
    if (!a->local || !a->options->with_control_plane)
        return;
    log_event(LOG_NOTICE, "the control plane ends, and this agent with it", "reason", reason, NULL);
    event_signal(&a->quit);
}

static void open_doctor(struct agent *a, const struct agent_options *o)
{
    const struct doctor_remote_config config = {
        .loop = a->loop,
        .config_dir = a->config.dir,
        .link = a->local ? a->link : NULL,
        .docker = o->docker ? o->docker : getenv("DOCKER_HOST"),
        .tailscale = o->tailscale,
        .send = session_send,
        .arg = a->session,
    };
    a->doctor = doctor_remote_new(&config);
}

/* --- Start ---- */

static int settle_identity(struct agent *a, const struct agent_options *o, struct err *err)
{
    struct agent_config *c = &a->config;
    int rc = agent_config_load(c, err);
    if (rc < 0)
        return rc;
    a->local = o->link != NULL || (rc == 0 && str_eq(str_from(c->auth_mode), STR("local")));
    if (rc == 1 && !a->local) {
        (void)err_set(err, ERR_PRECONDITION, "%s holds no enrolment", c->dir);
        err_hint(err, "paste the line that \"davit server add NAME\" prints on the control plane");
        return -(int)ERR_PRECONDITION;
    }
    if (rc == 0 && o->link && !str_eq(str_from(c->auth_mode), STR("local"))) {
        (void)err_set(err, ERR_PRECONDITION, "%s is the directory of an agent that is enrolled at %s", c->dir, c->grpc_endpoint);
        err_hint(err, "run it without --link, or name another directory with --config-dir");
        return -(int)ERR_PRECONDITION;
    }
    a->link = str_dup(str_from(o->link ? o->link : c->grpc_endpoint));
    if (a->local && !str_starts(str_from(a->link), STR("unix:/")))
        return err_set(err, ERR_INVALID, "link: \"%s\" is no unix:/PATH", a->link);
    if (a->local)
        return 0;
    if (str_eq(str_from(c->auth_mode), STR("tunnel"))) {
        a->tunnel = tunnel_new(a->loop, c);
        return tunnel_load(a->tunnel, err);
    }
    struct err why = ERR_INIT;
    a->renew = renew_new(a->loop, c);
    rc = renew_load(a->renew, &why);
    if (rc == AGENT_IDENTITY_EXPIRED)
        log_err(LOG_WARN, &why, "the control plane is asked for new credentials", NULL);
    else if (rc < 0 && err)
        *err = why;
    return rc < 0 ? rc : 0;
}

static int open_desired(struct agent *a, struct err *err)
{
    AUTO_FREE char *path = agent_config_path(&a->config, "desired.db");
    int rc = desired_open(a->loop, path, &a->desired, err);
    if (rc == 1)
        log_event(LOG_WARN, "some services that this server shall run cannot be read; they run on and are not healed", "file", path, NULL);
    return rc < 0 ? rc : 0;
}

static int open_parts(struct agent *a, const struct agent_options *o, struct err *err)
{
    AUTO_FREE char *journal = agent_config_path(&a->config, "journal.db"), *policy = policy_path(a);
    int rc = journal_open(a->loop, journal, &a->journal, err);
    if (rc == 0)
        rc = open_desired(a, err);
    if (rc == 0)
        rc = docker_new(a->loop, o->docker, &a->docker, err);
    if (rc < 0)
        return rc;
    struct sysinfo_config info = {
        .loop = a->loop, .docker = a->docker, .tailscale = o->tailscale, .public_ip_url = a->config.public_ip_url, .policy = policy,
        .update_method = update_method(), .in_container = o->self != NULL};
    a->sysinfo = sysinfo_new(&info);
    a->fenced = is_marked_fenced(a);
    struct session_config session = {
        .loop = a->loop,
        .journal = a->journal,
        .sysinfo = a->sysinfo,
        .endpoint = a->link,
        .tls = a->renew ? renew_tls(a->renew) : NULL,
        .server_id = a->local ? NULL : a->config.server_id,
        .generation = generation_of(a),
        .renew = a->renew,
        .tunnel = a->tunnel,
        .was_fenced = a->fenced,
        .identify = identify,
        .fenced = fenced,
        .doctor = doctor_wanted,
        .drained = drained,
        .update = agent_update,
        .arg = a,
    };
    a->session = session_new(&session);
    open_doctor(a, o);
    agent_updater(a);
    if (o->takeover)
        session_set_hold(a->session, SESSION_HOLD_ALL);
    return *a->config.server_id && !a->fenced ? begin_work(a, err) : 0;
}

static int start(struct agent *a, const struct agent_options *o, struct err *err)
{
    int rc = agent_config_init(&a->config, o->config_dir, err);
    if (rc == 0)
        rc = o->takeover ? agent_takeover_adopt(a, err) : agent_config_lock(&a->config, &a->lock_fd, &a->machine_fd, err);
    if (rc == 0)
        rc = settle_identity(a, o, err);
    if (rc == 0)
        rc = open_parts(a, o, err);
    if (rc == 0)
        rc = agent_health_listen(a, o->health_listen, err);
    if (rc == 0 && a->renew)
        rc = renew_start(a->renew, a->session);
    if (rc == 0 && a->tunnel)
        rc = tunnel_start(a->tunnel, a->session);
    if (rc == 0)
        rc = session_start(a->session);
    if (rc == 0 && o->takeover)
        rc = agent_takeover_finish(a, err);
    if (rc == 0)
        a->notify = agent_notify_new(a->loop, a->docker, a->session);
    return err_ensure(err, rc);
}

/* --- End ---- */

/* What runs is suspended and resumed from the journal at the next start. 0, or negative: something still runs. */
static int stop(struct agent *a)
{
    int rc = 0;
    a->notify = agent_notify_free(a->notify, 4 * STOP_WAIT);
    a->http = http_server_free(a->http);
    if (a->renew)
        rc = renew_stop(a->renew, deadline_in(STOP_WAIT));
    if (rc == 0 && a->tunnel)
        rc = tunnel_stop(a->tunnel, deadline_in(STOP_WAIT));
    if (rc == 0 && a->session)
        rc = session_stop(a->session, deadline_in(STOP_WAIT));
    if (rc == 0)
        rc = doctor_remote_stop(a->doctor, deadline_in(STOP_WAIT));
    if (rc == 0 && a->work)
        rc = work_stop(a->work, deadline_in(STOP_WAIT));
    if (rc == 0)
        rc = contain_stop(a->contain, deadline_in(STOP_WAIT));
    if (rc == 0 && a->session)
        rc = session_join(a->session, deadline_in(STOP_WAIT));
    if (rc < 0)
        return rc;
    a->doctor = doctor_remote_free(a->doctor);
    a->session = session_free(a->session);
    a->updater = updater_free(a->updater);
    a->takeover = takeover_close(a->takeover);
    a->renew = renew_free(a->renew);
    a->tunnel = tunnel_free(a->tunnel);
    a->contain = contain_free(a->contain);
    a->work = work_free(a->work);
    a->ingress = ingress_free(a->ingress);
    a->sysinfo = sysinfo_free(a->sysinfo);
    a->docker = docker_free(a->docker);
    a->desired = desired_close(a->desired);
    a->journal = journal_close(a->journal);
    return 0;
}

static void agent_main(void *arg)
{
    struct agent *a = arg;
    a->rc = start(a, a->options, &a->err);
    if (a->rc == 0) {
        log_event(LOG_NOTICE, "agent started", "version", DAVIT_VERSION, "directory", a->config.dir, "server", a->config.server_name, NULL);
        (void)event_wait(&a->quit, USEC_INFINITY);
        AUTO_FREE char *marker = agent_config_path(&a->config, "leaving");
        agent_goodbye(marker, a->session);
        agent_note_stop(a);
    }
    if (stop(a) < 0) {
        log_event(LOG_ERROR, "the agent did not come to an end in time; what runs is resumed at the next start", NULL);
        _exit(1);
    }
    loop_stop(a->loop);
}

static void on_signal(int signum, void *arg)
{
    struct agent *a = arg;
    (void)signum;
    event_signal(&a->quit);
    if (a->takeover)
        takeover_hang_up(a->takeover);
}

static void release(struct agent *a)
{
    if (a->config.dir) {
        AUTO_FREE char *socket = agent_config_path(&a->config, "health.sock");
        if (a->lock_fd >= 0 && !a->left)
            (void)unlink(socket);
        agent_config_release(&a->config);
    }
    free(a->link);
    event_release(&a->quit);
    if (a->machine_fd >= 0)
        (void)close(a->machine_fd);
    if (a->lock_fd >= 0)
        (void)close(a->lock_fd);
    a->loop = loop_free(a->loop);
}

int agent_run(const struct agent_options *o, struct err *err)
{
    struct agent a = {.loop = loop_new(), .options = o, .lock_fd = -1, .machine_fd = -1, .err = ERR_INIT};
    struct fiber *fiber = NULL;
    event_init(&a.quit, a.loop);
    int rc = loop_signal(a.loop, SIGTERM, on_signal, &a, err);
    if (rc == 0)
        rc = loop_signal(a.loop, SIGINT, on_signal, &a, err);
    if (rc == 0)
        rc = fiber_spawn(a.loop, "agent", agent_main, &a, &fiber);
    if (rc == 0)
        loop_run(a.loop);
    (void)fiber_unref(fiber);
    (void)loop_signal(a.loop, SIGTERM, NULL, NULL, NULL);
    (void)loop_signal(a.loop, SIGINT, NULL, NULL, NULL);
    if (rc == 0 && a.rc < 0) {
        rc = a.rc;
        if (err)
            *err = a.err;
    }
    release(&a);
    return rc < 0 ? err_ensure(err, rc) : 0;
}
