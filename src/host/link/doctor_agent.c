/* SPDX-License-Identifier: Apache-2.0 */
/* doctor_agent — checks of the agent and its machine: config, certificates, grpc, systemd, tailscale, cgroup, bpf, clock. */
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/utsname.h>

#include "base/json.h"
#include "base/mem.h"
#include "host/link/agent.h"
#include "host/link/bundle.h"
#include "host/link/doctor_internal.h"
#include "host/link/link_probe.h"
#include "host/link/floor_time.h"
#include "host/link/policy.h"
#include "host/link/sysinfo.h"
#include "host/link/tunnel.h"
#include "ident/cert.h"
#include "loop/child.h"

#define ENROLL "paste the line that \"davit server add NAME\" prints on the control plane"
enum { HEALTH_MAX = 64 * 1024 };
#define HANGS "find out which file system hangs"
#define PROGRAM_WAIT (2500 * USEC_MSEC) /* a program that ignores SIGTERM gets 2 s more */

/* --- Enrolment ---- */

void doctor_check_config(struct doctor *d, struct doctor_check *c)
{
    doctor_need_config(d);
    if (d->config_lost) {
        doctor_say(c, DOCTOR_FAIL, HANGS, "the agent's directory was not read in time");
        return;
    }
    if (d->config_rc == 1 && d->options->link)
        doctor_say(c, DOCTOR_WARN, "start the agent with --link once: it writes its configuration", "%s holds no config.yaml yet", d->config.dir);
    else if (d->config_rc == 1)
        doctor_say(c, DOCTOR_FAIL, ENROLL, "%s holds no enrolment", d->config.dir);
    else if (d->config_rc == -(int)ERR_DENIED)
        doctor_say(c, DOCTOR_FAIL, "run doctor as root or as the agent's account", "%s", d->config_err.msg);
    else if (d->config_rc < 0)
        doctor_say(c, DOCTOR_FAIL, *d->config_err.hint ? d->config_err.hint : "run doctor as the agent's account", "%s", d->config_err.msg);
    else
        doctor_judge_modes(c, d->config.dir, d->dir_st.st_mode, d->file_st.st_mode, d->key_path, d->key_st.st_mode);
}

static int policy_job(void *arg)
{
    struct doctor *d = arg;
    struct policy p;
    d->policy_path = agent_config_path(&d->config, POLICY_FILE_NAME);
    d->policy_rc = policy_read(d->policy_path, &p, &d->policy_err);
    policy_release(&p);
    if (stat(d->policy_path, &d->policy_st) != 0)
        d->policy_st = (struct stat){0};
    return 0;
}

/* What root reads the agent need not be able to: its account is that of its directory. */
static bool agent_may_read(const struct stat *file, const struct stat *dir)
{
    return dir->st_uid == 0 || file->st_uid == dir->st_uid || (file->st_mode & S_IROTH) ||
           (file->st_gid == dir->st_gid && (file->st_mode & S_IRGRP));
}

void doctor_check_policy(struct doctor *d, struct doctor_check *c)
{
    static const char fix[] = "mend the file, then: davit-agent policy check; remove it if nothing is to be forbidden";
    doctor_need_config(d);
    if (d->config_lost || doctor_block(d, policy_job) < 0)
        doctor_say(c, DOCTOR_FAIL, HANGS, "the policy file was not read in time");
    else if (d->policy_rc == -(int)ERR_DENIED)
        doctor_say(c, DOCTOR_FAIL, "run doctor as root or as the agent's account", "%s", d->policy_err.msg);
    else if (d->policy_rc < 0)
        doctor_say(c, DOCTOR_FAIL, *d->policy_err.hint ? d->policy_err.hint : fix,
                   "the policy cannot be believed, so all that it might forbid is refused: %s", d->policy_err.msg);
    else if (d->policy_rc == 1)
        doctor_say(c, DOCTOR_OK, NULL, "there is none: nothing is forbidden");
    else if (!agent_may_read(&d->policy_st, &d->dir_st)) {
        AUTO_FREE char *chmod = str_printf("chmod 644 %s", d->policy_path);
        doctor_say(c, DOCTOR_FAIL, chmod, "the agent's account cannot read %s, so all that it might forbid is refused", d->policy_path);
    } else
        doctor_say(c, DOCTOR_OK, NULL, "%s is in force; davit-agent policy check explains it", d->policy_path);
}

static int tunnel_job(void *arg)
{
    struct doctor *d = arg;
    return tunnel_load(d->tunnel, &d->identity_err);
}

static bool is_tunnel(const struct doctor *d)
{
    return !d->config_lost && d->config_rc == 0 && str_eq(str_from(d->config.auth_mode), STR("tunnel"));
}

static int identity_job(void *arg)
{
    struct doctor *d = arg;
    CLEANUP(agent_identity_release) struct agent_identity id = {0};
    AUTO_FREE char *previous = bundle_dir(&d->config, BUNDLE_PREVIOUS, NULL);
    floor_time_load(&d->config);
    int rc = agent_identity_load(&d->config, &id, &d->identity_err);
    if (rc < 0)
        return rc;
    d->cert = (struct doctor_cert){
        .issued = id.not_before + CERT_BACKDATE, .not_after = id.not_after, .staged = previous != NULL, .fallback = id.fallback};
    clock_floor_raise(id.not_before);
    return rc == AGENT_IDENTITY_EXPIRED ? -(int)ERR_PRECONDITION : link_tls_identity(&id, &d->tls, &d->identity_err);
}

/* Waits: what the agent that runs here says of the last renewal; nothing if none runs. */
static void ask_agent(struct doctor *d)
{
    AUTO_BUF text = BUF_INIT(HEALTH_MAX);
    AUTO_JSON j = {0};
    struct str key, value;
    bool online = false, refused = false, token = false;
    if (agent_ask_health(d->loop, d->config.dir, &text, &online, NULL) < 0)
        return;
    json_init(&j, buf_str(&text));
    if (json_enter(&j, JSON_OBJECT, NULL) < 0)
        return;
    while (json_key(&j, &key, NULL) == 1) {
        AUTO_FREE char *name = str_dup(key);
        enum json_type type;
        if (json_next(&j, &type, NULL) < 0 || type == JSON_OBJECT || type == JSON_ARRAY)
            return;
        value = type == JSON_STRING ? j.value : STR("");
        if (str_eq(str_from(name), STR("credential_error")))
            (void)str_copy(d->cert.error, sizeof(d->cert.error), value);
        else if (str_eq(str_from(name), STR("state"))) {
            d->cert.fenced = str_eq(value, STR("fenced"));
            refused = str_eq(value, STR("refused"));
        } else if (str_eq(str_from(name), STR("error")))
            (void)str_copy(d->cert.refused, sizeof(d->cert.refused), value);
        else if (str_eq(str_from(name), STR("hint")))
            token = memmem(value.p, value.n, "davit server token", 18) != NULL;
    }
    if (!refused || !token) /* other reasons to refuse are no matter of what it shows */
        d->cert.refused[0] = '\0';
}

static void judge_certificate(struct doctor *d, struct doctor_check *c)
{
    ask_agent(d);
    doctor_judge_certificate(c, clock_checked(), &d->cert);
}

static void judge_token(struct doctor *d, struct doctor_check *c)
{
    struct tunnel_status st;
    tunnel_status(d->tunnel, &st);
    ask_agent(d);
    d->cert.issued = st.issued;
    d->cert.not_after = st.expires;
    doctor_judge_token(c, clock_checked(), &d->cert);
}

void doctor_check_certificates(struct doctor *d, struct doctor_check *c)
{
    doctor_need_config(d);
    if (doctor_is_local(d)) {
        doctor_say(c, DOCTOR_OK, NULL, "none is needed: the control plane is on this machine, behind a unix socket");
        return;
    }
    if (d->config_lost || d->config_rc != 0) {
        bool none = !d->config_lost && d->config_rc == 1;
        doctor_say(c, DOCTOR_FAIL, none ? ENROLL : "mend the config check first", "there is no certificate without %s",
                   none ? "an enrolment" : "a configuration that can be read");
        return;
    }
    if (is_tunnel(d) && !d->tunnel)
        d->tunnel = tunnel_new(d->loop, &d->config);
    d->identity_rc = doctor_block(d, d->tunnel ? tunnel_job : identity_job);
    if (d->identity_rc == 0 && d->tunnel)
        judge_token(d, c);
    else if (d->identity_rc == 0)
        judge_certificate(d, c);
    else if (d->identity_rc == -(int)ERR_DEADLINE)
        doctor_say(c, DOCTOR_FAIL, HANGS, "the certificate was not read in time");
    else if (d->identity_rc == -(int)ERR_DENIED)
        doctor_say(c, DOCTOR_FAIL, "run doctor as root or as the agent's account", "%s", d->identity_err.msg);
    else
        doctor_say(c, DOCTOR_FAIL, *d->identity_err.hint ? d->identity_err.hint : ENROLL, "%s", d->identity_err.msg);
}

/* --- The control plane ---- */

static void judge_link(struct doctor_check *c, const char *endpoint, bool local, const struct err *err)
{
    const char *fix = err->hint;
    if (!*fix && err->code == ERR_UNAUTHENTICATED)
        fix = "see that the address leads to the control plane of this enrolment; else enroll again with --force";
    else if (!*fix && (err->code == ERR_UNKNOWN || err->code == ERR_INTERNAL || err->code == ERR_UNIMPLEMENTED))
        fix = "see that the address is the link port of the control plane, with nothing between that ends TLS or HTTP/2";
    else if (!*fix)
        fix = local ? "start the control plane: davit up" : "see that davitd runs and that a firewall lets its link port (7442) through";
    doctor_say(c, DOCTOR_FAIL, fix, "%s: %s", endpoint, *err->msg ? err->msg : err_code_name(err->code));
}

static void check_tunnel(struct doctor *d, struct doctor_check *c, const char *endpoint)
{
    enum tunnel_carrier carrier;
    struct err err = ERR_INIT;
    if (tunnel_probe(d->tunnel, &carrier, &err) == 0)
        doctor_say(c, DOCTOR_OK, NULL, "the control plane answers through the edge at %s, carried by %s", endpoint,
                   carrier == TUNNEL_GRPC ? "gRPC" : "a WebSocket");
    else
        doctor_say(c, DOCTOR_FAIL, *err.hint ? err.hint : "see that the proxy at that address runs and passes everything on to port 7440 of davitd",
                   "%s: %s", endpoint, *err.msg ? err.msg : err_code_name(err.code));
}

void doctor_check_grpc(struct doctor *d, struct doctor_check *c)
{
    struct rpc_channel *ch = NULL;
    struct link_skew skew = {0};
    struct err err = ERR_INIT;
    doctor_need_config(d);
    bool read = !d->config_lost && d->config_rc == 0;
    const char *endpoint = d->options->link ? d->options->link : read ? d->config.grpc_endpoint : "";
    bool local = str_starts(str_from(endpoint), STR("unix:"));
    if (!*endpoint) {
        bool none = !d->config_lost && d->config_rc == 1;
        doctor_say(c, DOCTOR_FAIL, none ? ENROLL : "mend the config check first", "no control plane is known without %s",
                   none ? "an enrolment" : "a configuration that names one");
        return;
    }
    if (!local && d->identity_rc != 0) {
        doctor_say(c, DOCTOR_FAIL, "mend the certificates check first", "%s was not asked: there is no certificate to show there", endpoint);
        return;
    }
    if (d->tunnel && !local) {
        check_tunnel(d, c, endpoint);
        return;
    }
    int rc = link_dial(d->loop, endpoint, local ? NULL : d->tls, 0, d->deadline, &ch, &err);
    if (rc == 0)
        rc = link_probe(ch, d->deadline, &skew, &err);
    d->skew = skew.us;
    d->skew_known = skew.known;
    if (rc == 0)
        doctor_say(c, DOCTOR_OK, NULL, "%s answers by gRPC over %s", endpoint, local ? "its unix socket" : "mutual TLS");
    else {
        (void)err_ensure(&err, rc);
        judge_link(c, endpoint, local, &err);
    }
    (void)rpc_channel_close(ch);
}

/* --- Programs ---- */

static usec_t program_deadline(const struct doctor *d)
{
    usec_t own = deadline_in(PROGRAM_WAIT);
    return own < d->deadline ? own : d->deadline;
}

void doctor_check_systemd(struct doctor *d, struct doctor_check *c)
{
    AUTO_FREE char *path = doctor_find(d, "systemctl");
    const char *const argv[] = {path, "show", "davit-agent.service", "--property=LoadState,ActiveState,UnitFileState", NULL};
    struct child_spec spec = {.argv = argv, .output_max = 64 * 1024};
    struct child_result r = {0};
    struct err err = ERR_INIT;
    doctor_need_config(d);
    const char *fix = "see to it by other means that davit-agent run starts at boot";
    if (d->stuck) {
        doctor_say(c, DOCTOR_WARN, HANGS, "not checked: looking for systemctl takes too long");
        return;
    }
    if (!path) {
        doctor_say(c, DOCTOR_WARN, fix, "there is no systemd on this machine");
        return;
    }
    int rc = child_run(d->loop, &spec, program_deadline(d), &r, &err);
    if (rc == -(int)ERR_DEADLINE)
        doctor_say(c, DOCTOR_WARN, "systemctl daemon-reexec, or restart the machine", "%s does not answer", path);
    else if (rc < 0)
        doctor_say(c, DOCTOR_WARN, fix, "%s: %s", path, err.msg);
    else if (r.exit_status != 0)
        doctor_say(c, DOCTOR_WARN, fix, "systemd does not run this machine (systemctl ends with %d)", r.exit_status);
    else
        doctor_judge_systemd(c, buf_str(&r.out), doctor_is_local(d));
    child_result_release(&r);
}

void doctor_check_tailscale(struct doctor *d, struct doctor_check *c)
{
    const char *named = d->options->tailscale;
    AUTO_FREE char *path = named && *named ? str_dup(str_from(named)) : doctor_find(d, "tailscale");
    const char *const argv[] = {path, "status", "--json", NULL};
    struct child_spec spec = {.argv = argv, .output_max = SYSINFO_TAILSCALE_MAX};
    struct child_result r = {0};
    if (!path && d->stuck) {
        doctor_say(c, DOCTOR_WARN, HANGS, "not checked: looking for tailscale takes too long");
        return;
    }
    Davit__Common__V1__Tailscale *t = NEW(Davit__Common__V1__Tailscale);
    davit__common__v1__tailscale__init(t);
    int rc = path ? child_run(d->loop, &spec, program_deadline(d), &r, NULL) : -(int)ERR_NOT_FOUND;
    if (rc == 0 && !r.truncated)
        (void)sysinfo_tailscale(buf_str(&r.out), t, NULL); /* what it does not tell stays empty */
    doctor_judge_tailscale(c, rc != -(int)ERR_NOT_FOUND, t->state, t->address);
    (void)rpc_message_free(t);
    child_result_release(&r);
}

/* --- Machine ---- */

void doctor_check_cgroup(struct doctor *d, struct doctor_check *c)
{
    (void)d;
    doctor_judge_cgroup(c, sysinfo_cgroup("/sys/fs/cgroup"));
}

void doctor_check_bpf(struct doctor *d, struct doctor_check *c)
{
    struct utsname un;
    struct statfs fs;
    (void)d;
    bool mounted = statfs("/sys/fs/bpf", &fs) == 0 && (unsigned long)fs.f_type == BPF_FS_MAGIC;
    doctor_judge_bpf(c, uname(&un) == 0 ? un.release : "", mounted);
}

void doctor_check_clock(struct doctor *d, struct doctor_check *c)
{
    if (clock_floor() == 0) /* no enrolment was looked at */
        clock_floor_raise(floor_time_build(__DATE__));
    doctor_judge_clock(c, clock_real(), clock_floor(), d->skew_known, d->skew);
}
