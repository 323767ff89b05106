/* SPDX-License-Identifier: Apache-2.0 */
/* doctor — see doctor.h: the run. */
#include "host/link/doctor.h"

#include "base/mem.h"
#include "host/link/bundle.h"
#include "host/link/doctor_internal.h"
#include "host/link/sysinfo.h"
#include "host/link/tunnel.h"

static const struct {
    const char *name;
    void (*fn)(struct doctor *d, struct doctor_check *c);
} checks[] = {
    {"docker", doctor_check_docker},
    {"docker_socket", doctor_check_docker_socket},
    {"docker_group", doctor_check_docker_group},
    {"disk_space", doctor_check_disk_space},
    {"config", doctor_check_config},
    {"policy", doctor_check_policy},
    {"certificates", doctor_check_certificates},
    {"grpc", doctor_check_grpc},
    {"systemd", doctor_check_systemd},
    {"tailscale", doctor_check_tailscale},
    {"engine_api", doctor_check_engine_api},
    {"address_pools", doctor_check_address_pools},
    {"cgroup", doctor_check_cgroup},
    {"bpf", doctor_check_bpf},
    {"log_driver", doctor_check_log_driver},
    {"clock", doctor_check_clock},
};

/* --- Jobs ---- */

static void on_job_done(void *arg, int rc)
{
    struct doctor *d = arg;
    d->job_rc = rc;
    event_signal(&d->job_done);
}

int doctor_block(struct doctor *d, int (*fn)(void *d))
{
    if (d->stuck)
        return -(int)ERR_DEADLINE;
    event_reset(&d->job_done);
    int rc = lane_post(d->lane, fn, on_job_done, d);
    if (rc == 0 && (rc = event_wait(&d->job_done, d->deadline)) < 0)
        d->stuck = true;
    return rc < 0 ? rc : d->job_rc;
}

static int find_job(void *arg)
{
    struct doctor *d = arg;
    d->found = sysinfo_find_program(str_from(getenv("PATH")), d->find_name);
    if (!d->found)
        d->found = sysinfo_find_program(STR("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"), d->find_name);
    return 0;
}

char *doctor_find(struct doctor *d, const char *name)
{
    d->find_name = name;
    return doctor_block(d, find_job) == 0 ? TAKE(d->found) : NULL;
}

static void stat_or_zero(const char *path, struct stat *st)
{
    if (stat(path, st) != 0)
        *st = (struct stat){0};
}

static int config_job(void *arg)
{
    struct doctor *d = arg;
    AUTO_FREE char *file = agent_config_path(&d->config, "config.yaml");
    d->config_rc = agent_config_load(&d->config, &d->config_err);
    d->key_path = bundle_path(&d->config, "client.key");
    stat_or_zero(d->config.dir, &d->dir_st);
    stat_or_zero(file, &d->file_st);
    stat_or_zero(d->key_path, &d->key_st);
    return 0;
}

void doctor_need_config(struct doctor *d)
{
    if (d->config_asked)
        return;
    d->config_asked = true;
    d->config_lost = doctor_block(d, config_job) < 0;
}

bool doctor_is_local(const struct doctor *d)
{
    return d->options->link || (!d->config_lost && d->config_rc == 0 && str_eq(str_from(d->config.auth_mode), STR("local")));
}

/* --- The run ---- */

static int run_checks(struct doctor *d)
{
    BUG_ON(ARRAY_LEN(checks) > DOCTOR_CHECKS_MAX);
    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        struct doctor_check *c = &d->report->checks[i];
        usec_t own = deadline_in(DOCTOR_CHECK_WAIT);
        c->name = checks[i].name;
        d->deadline = own < d->end ? own : d->end;
        if (clock_mono() >= d->end)
            doctor_say(c, DOCTOR_WARN, "mend what does not answer, then run doctor again", "not checked: the time went to the checks above");
        else
            checks[i].fn(d, c);
        d->report->n = i + 1;
        if (fiber_cancelled())
            return -(int)ERR_CANCELLED;
    }
    return 0;
}

/* A job that hangs still has @d in its hands. */
static void release(struct doctor *d)
{
    if (d->stuck)
        return;
    d->docker = docker_free(d->docker);
    d->lane = lane_free(d->lane);
    event_release(&d->job_done);
    docker_info_release(&d->info);
    (void)tls_ctx_unref(d->tls);
    (void)tunnel_free(d->tunnel);
    agent_config_release(&d->config);
    free(d->found);
    free(d->key_path);
    free(d->policy_path);
    free(d);
}

int doctor_run(struct loop *loop, const struct doctor_options *o, struct doctor_report *ret, struct err *err)
{
    struct doctor *d = NEW(struct doctor);
    *ret = (struct doctor_report){0};
    d->loop = loop;
    d->options = o;
    d->report = ret;
    d->end = deadline_in(DOCTOR_WAIT);
    d->docker_rc = d->identity_rc = -(int)ERR_UNAVAILABLE;
    d->lane = lane_new(loop, "doctor", 1, 1);
    event_init(&d->job_done, loop);
    int rc = agent_config_init(&d->config, o->config_dir, err);
    if (rc == 0)
        rc = docker_new(loop, o->docker, &d->docker, err);
    if (rc == 0 && o->link && !str_starts(str_from(o->link), STR("unix:/")))
        rc = err_set(err, ERR_INVALID, "link: \"%s\" is no unix:/PATH", o->link);
    if (rc == 0 && (rc = run_checks(d)) < 0)
        (void)err_set(err, ERR_CANCELLED, "doctor was interrupted");
    ret->stuck = d->stuck;
    release(d);
    return rc;
}
