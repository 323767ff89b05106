/* SPDX-License-Identifier: Apache-2.0 */
/* control — see control.h: puts the parts together in order and takes them apart in the opposite one. */
#include "control/control.h"

#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "control/servers/access.h"
#include "control/people/audit.h"
#include "control/servers/challenge.h"
#include "control/work/cleaning.h"
#include "control/link/commands.h"
#include "control/work/deployments.h"
#include "control/servers/enroll.h"
#include "control/web/front.h"
#include "control/people/gate.h"
#include "control/idle.h"
#include "control/link/links.h"
#include "control/people/oauth.h"
#include "control/people/passes.h"
#include "control/people/people.h"
#include "control/work/prune.h"
#include "control/work/registries.h"
#include "control/servers/releases.h"
#include "control/work/rollouts.h"
#include "control/servers/roots.h"
#include "control/sandboxes/sandboxes.h"
#include "davit/control/v1/sandboxes.davit.h"
#include "control/schema.h"
#include "control/sealed.h"
#include "control/work/variables.h"
#include "control/work/tickets.h"
#include "control/watch/watch_kept.h"
#include "control/watch/worldview.h"
#include "davit/admin/v1/admin.davit.h"
#include "davit/control/v1/audit.davit.h"
#include "davit/control/v1/containers.davit.h"
#include "davit/control/v1/controlplane.davit.h"
#include "davit/control/v1/credentials.davit.h"
#include "davit/control/v1/doctor.davit.h"
#include "davit/control/v1/environment.davit.h"
#include "davit/control/v1/events.davit.h"
#include "davit/control/v1/images.davit.h"
#include "davit/control/v1/people.davit.h"
#include "davit/control/v1/roots.davit.h"
#include "davit/control/v1/servers.davit.h"
#include "davit/control/v1/status.davit.h"
#include "davit/control/v1/updates.davit.h"
#include "davit/control/v1/watch.davit.h"
#include "davit/control/v1/workloads.davit.h"
#include "davit/link/v1/link.davit.h"
#include "ident/key.h"
#include "ident/pki_dir.h"
#include "ident/pki_roots.h"
#include "ident/seal.h"
#include "net/endpoint.h"

enum { HEALTH_BODY_MAX = 1024, FAST_QUEUE = 64, PEM_MAX = 2 * CERT_PEM_MAX };

/* Longer than any wait for the store, also for one that is gone: what is freed afterwards is used by nobody. */
#define STOP_WAIT (40 * USEC_SEC)

int control_fiber(struct control *c, const char *name, void (*fn)(void *arg), void *arg)
{
    int rc = fiber_spawn(c->loop, name, fn, arg, NULL);
    if (rc == 0)
        c->fibers++;
    return rc;
}

void control_fiber_end(struct control *c)
{
    c->fibers--;
    event_pulse(&c->idle);
}

/* --- Keys ------------------------------------------------------------------------------------------------------------------------- */

static int need_keys(const char *dir, struct err *err)
{
    int rc = pki_control_settle(dir, err);
    if (rc >= 0)
        rc = pki_control_state(dir, err);
    if (rc < 0)
        return rc;
    if (rc > 0) {
        (void)err_set(err, ERR_PRECONDITION, rc == 1 ? "the keys in %s are not signed yet" : "there are no keys in %s", dir);
        err_hint(err, "run davit up: it makes the keys and starts this program");
        return -(int)ERR_PRECONDITION;
    }
    return 0;
}

/* It is made anew in any case; that it was not as it should be is told. */
static void warn_leaf(const struct control *c)
{
    struct err why = ERR_INIT;
    if (pki_control_check_leaf(c->opt.state_dir, &why) < 0)
        log_err(LOG_WARN, &why, "the certificate of the control plane is replaced", NULL);
}

/* Names that the certificate of the control plane carries, for clients that look at names. */
int control_renew_leaf(struct control *c, struct err *err)
{
    struct endpoint advertised;
    char own[256] = "";
    const char *names[8] = {"localhost", "127.0.0.1"};
    size_t n = 2;
    if (gethostname(own, sizeof(own) - 1) == 0 && str_is_label(str_from(own)))
        names[n++] = own;
    if (c->opt.hostname && *c->opt.hostname)
        names[n++] = c->opt.hostname;
    if (endpoint_parse(c->opt.advertise, &advertised, NULL) == 0)
        names[n++] = advertised.host;
    return pki_control_leaf(c->opt.state_dir, names, n, err);
}

static int use_keys(struct control *c, struct err *err)
{
    int rc = access_start(c, err);
    if (rc == 0) {
        warn_leaf(c);
        rc = control_renew_leaf(c, err);
    }
    return rc < 0 ? rc : roots_start(c, err);
}

/* What is read off the loop. */
struct tls_files {
    const char *dir;
    struct buf cert, key, root;
    struct err err;
};

static int read_files(void *arg)
{
    struct tls_files *f = arg;
    int rc;
    if ((rc = pki_control_chain(f->dir, &f->cert, &f->err)) < 0 ||
        (rc = pki_read(f->dir, "controlplane.key", &f->key, &f->err)) < 0)
        return rc;
    return pki_read(f->dir, "root.crt", &f->root, &f->err);
}

static void files_release(struct tls_files *f)
{
    secret_buf_release(&f->key);
    buf_release(&f->cert);
    buf_release(&f->root);
}

int control_make_tls(struct control *c, enum tls_verify verify, struct tls_ctx **ret, struct err *err)
{
    CLEANUP(files_release) struct tls_files f = {.dir = c->opt.state_dir,
                                                 .cert = BUF_INIT(PEM_MAX),
                                                 .key = BUF_INIT(KEY_PEM_MAX),
                                                 .root = BUF_INIT(CERT_PEM_MAX),
                                                 .err = ERR_INIT};
    /* All at once: a buffer that grows would leave pieces of the key behind. */
    BUG_ON(!buf_reserve(&f.key, KEY_PEM_MAX));
    int rc = lane_call(c->fast, read_files, &f, deadline_in(STORE_WAIT));
    if (rc < 0) {
        if (err)
            *err = f.err;
        return err_ensure(err, rc);
    }
    struct tls_config config = {.server = true,
                                .cert_pem = buf_str(&f.cert),
                                .key_pem = buf_str(&f.key),
                                .ca_pem = buf_str(&f.root),
                                .verify = verify,
                                .alpn = "h2,http/1.1"};
    return tls_ctx_new(&config, ret, err);
}

int control_listen_tls(struct control *c, struct rpc_server *server, const char *addr, enum tls_verify verify, struct err *err)
{
    AUTO_FREE char *at = control_bind(c, addr);
    struct tls_ctx *tls = NULL;
    int rc = control_make_tls(c, verify, &tls, err);
    if (rc == 0)
        rc = rpc_server_listen(server, at, 0, tls, err);
    (void)tls_ctx_unref(tls);
    return rc;
}

int control_open_link(struct control *c, struct err *err)
{
    struct tls_ctx *tls = NULL;
    int rc = c->link_open ? 0 : control_make_tls(c, TLS_VERIFY_OPTIONAL, &tls, err);
    if (rc == 0 && c->stopping)
        rc = err_set(err, ERR_UNAVAILABLE, "the control plane is stopping");
    /* Another call may have opened it while this one waited. */
    if (rc < 0 || c->link_open) {
        (void)tls_ctx_unref(tls);
        return rc;
    }
    AUTO_FREE char *at = control_bind(c, c->opt.link_listen);
    rc = rpc_server_listen(c->link, at, 0, tls, err);
    (void)tls_ctx_unref(tls);
    if (rc < 0) {
        err_hint(err, "the link of remote servers needs this address: see --link-listen");
        return rc;
    }
    c->link_open = true;
    log_event(LOG_NOTICE, "link opened", "address", control_link_addr(c), NULL);
    return 0;
}

static int renew_on_lane(void *arg)
{
    return control_renew_leaf(arg, NULL);
}

void control_set_tls(struct control *c, struct rpc_server *server, const char *addr, enum tls_verify verify)
{
    AUTO_FREE char *at = control_bind(c, addr);
    struct tls_ctx *tls = NULL;
    struct err err = ERR_INIT;
    int rc = control_make_tls(c, verify, &tls, &err);
    if (rc == 0)
        rc = rpc_server_set_tls(server, at, tls);
    if (rc < 0)
        log_err(LOG_ERROR, &err, "the new certificate could not be taken into use", "address", addr, NULL);
    (void)tls_ctx_unref(tls);
}

void control_use_leaf(struct control *c)
{
    control_set_tls(c, c->api, control_api_addr(c), TLS_VERIFY_REQUIRED);
    if (*control_token_addr(c))
        control_set_tls(c, c->token, control_token_addr(c), TLS_VERIFY_REQUIRED);
    if (c->link_open)
        control_set_tls(c, c->link, control_link_addr(c), TLS_VERIFY_OPTIONAL);
    front_renew(c);
}

/* Once a day: a certificate that is past two thirds of its life is replaced for new connections. */
static void renewal(void *arg)
{
    struct control *c = arg;
    while (fiber_sleep(USEC_DAY) == 0) {
        int rc = lane_call(c->fast, renew_on_lane, c, deadline_in(STORE_WAIT));
        if (rc < 0)
            log_event(LOG_ERROR, "the certificate of the control plane could not be renewed", NULL);
        if (rc != 1)
            continue;
        control_use_leaf(c);
        log_event(LOG_NOTICE, "certificate renewed", NULL);
    }
    control_fiber_end(c);
}

/* --- Start ------------------------------------------------------------------------------------------------------------------------ */

static int open_store(struct control *c, struct err *err)
{
    AUTO_FREE char *path = str_printf("%s/control.db", c->opt.state_dir);
    const char *target = c->opt.store && *c->opt.store ? c->opt.store : path;
    int rc = store_open(c->loop, target, schema_migrations, schema_n_migrations, &c->store, err);
    if (rc == 0)
        rc = sealed_start(c, err);
    if (rc == 1) {
        /* Closing folds the log into the file and removes it, with the plain text that is still in it. */
        c->store = store_close(c->store);
        rc = store_open(c->loop, target, schema_migrations, schema_n_migrations, &c->store, err);
    }
    if (rc == 0)
        rc = servers_load(c, err);
    if (rc == 0)
        rc = oauth_load(c->oauth, err);
    if (rc == 0)
        rc = enroll_load(c->enroll, err);
    if (rc == 0)
        rc = people_load(c->people, err);
    if (rc == 0)
        rc = registries_load(c, err);
    if (rc == 0)
        rc = commands_load(c, err);
    if (rc == 0)
        rc = sandboxes_load(c, err);
    c->rollouts = rollouts_new(c);
    if (rc == 0)
        rc = rollouts_load(c->rollouts, err);
    return rc == 0 ? store_write_sync(c->store, deployments_reconcile, NULL, err) : rc;
}

static bool any_remote(const struct control *c)
{
    struct server *s;
    list_each(s, &c->servers, struct server, node)
        if (!s->local)
            return true;
    return false;
}

/* A port that is taken costs what is served there, and not the control plane. */
static void try_front(struct control *c)
{
    struct err err = ERR_INIT;
    if (front_open(c, &err) < 0)
        log_err(LOG_WARN, &err, "servers cannot be installed, updated or reached through an edge", NULL);
}

static int listen_all(struct control *c, struct err *err)
{
    const char *path = c->opt.link_socket;
    c->link_socket = path ? str_printf("unix:%s", path) : str_printf("unix:%s/link.sock", c->opt.state_dir);
    /* Who may use the socket is decided by the peer's credential, not by its mode; another agent's uid must reach it at all. */
    mode_t mode = c->opt.agent_uid >= 0 ? 0666 : 0600;
    AUTO_FREE char *health = control_bind(c, c->opt.health_listen);
    int rc = rpc_server_listen(c->link, c->link_socket, mode, NULL, err);
    if (rc == 0 && any_remote(c))
        rc = control_open_link(c, err);
    if (rc == 0)
        rc = control_listen_tls(c, c->api, c->opt.api_listen, TLS_VERIFY_REQUIRED, err);
    if (rc == 0 && (rc = oauth_start(c->oauth, err)) == 0)
        rc = gate_open(c, err);
    /* Who asks whether we are up then asks where the dashboard is. */
    if (rc == 0)
        front_open_local(c);
    if (rc == 0)
        rc = http_server_listen(c->health, health, 0, NULL, err);
    if (rc == 0 && (any_remote(c) || *text(c->opt.hostname)))
        try_front(c);
    return rc;
}

const struct control_service control_services[] = {
    {&davit_control_v1_api_token_service, api_tokens_handlers, false},
    {&davit_control_v1_file_service, files_handlers, false},
    {&davit_control_v1_audit_service, audit_handlers, false},
    {&davit_control_v1_container_service, containers_handlers, false},
    {&davit_control_v1_control_plane_service, controlplane_handlers, false},
    {&davit_control_v1_credential_service, credentials_handlers, false},
    {&davit_control_v1_doctor_service, doctor_handlers, false},
    {&davit_control_v1_environment_service, variables_handlers, false},
    {&davit_control_v1_image_service, images_handlers, false},
    {&davit_control_v1_registry_service, registries_handlers, false},
    {&davit_control_v1_event_service, events_handlers, false},
    {&davit_control_v1_exec_service, exec_handlers, false},
    {&davit_control_v1_root_service, roots_handlers, false},
    {&davit_control_v1_sandbox_service, sandboxes_handlers, false},
    {&davit_control_v1_server_service, servers_handlers, false},
    {&davit_control_v1_session_service, people_handlers, false},
    {&davit_control_v1_status_service, status_handlers, false},
    {&davit_control_v1_update_service, updates_handlers, false},
    {&davit_control_v1_watch_service, watch_handlers, false},
    {&davit_control_v1_workload_service, workloads_handlers, false},
    {&davit_link_v1_enroll_service, enroll_handlers, true},
    {&davit_link_v1_identity_service, identity_handlers, true},
    {&davit_link_v1_link_service, links_handlers, true},
};
const size_t control_n_services = ARRAY_LEN(control_services);

static void add_services(struct control *c)
{
    c->api = rpc_server_new(c->loop, authz_api, c);
    c->link = rpc_server_new(c->loop, authz_link, c);
    front_start(c);
    rpc_server_set_around(c->api, audit_around, c);
    rpc_server_set_pages(c->api, oauth_pages, c);
    rpc_server_take_posts(c->api, "/oauth2/");
    c->token = rpc_server_new(c->loop, authz_none, c);
    rpc_server_set_pages(c->token, oauth_pages, c);
    rpc_server_take_posts(c->token, "/oauth2/");
    rpc_server_set_around(c->link, audit_around, c);
    for (size_t i = 0; i < control_n_services; i++) {
        const struct control_service *s = &control_services[i];
        /* What the audit log must know of runs on a fiber: nothing goes around it. */
        for (size_t k = 0; k < s->service->n_methods; k++)
            BUG_ON(audit_concerns(&s->service->methods[k]) && !s->handlers[k].run);
        rpc_server_add(s->link ? c->link : c->api, s->service, s->handlers, c);
        if (s->link)
            continue;
        rpc_server_add(c->web, s->service, s->handlers, c);
        rpc_server_add(c->local, s->service, s->handlers, c);
    }
    rpc_server_add(c->api, &davit_admin_v1_admin_service, admin_handlers, c);
    c->health = http_server_new(c->loop, health_serve, c, HEALTH_BODY_MAX);
}

int control_check_options(const struct control_options *o, struct err *err)
{
    const struct {
        enum endpoint_kind kind;
        const char *option, *value;
    } all[] = {
        {ENDPOINT_LISTEN, "api-listen", o->api_listen},       {ENDPOINT_LISTEN, "link-listen", o->link_listen},
        {ENDPOINT_LISTEN, "web-listen", o->web_listen},       {ENDPOINT_LISTEN, "health-listen", o->health_listen},
        {ENDPOINT_LOCAL, "local-web-listen", o->local_web_listen}, {ENDPOINT_REACH, "advertise", o->advertise},
        {ENDPOINT_LOCAL, "token-listen", o->token_listen},    {ENDPOINT_LOCAL, "gate-listen", o->gate_listen},
        {ENDPOINT_NAME, "hostname", o->hostname},
    };
    struct in_addr inside;
    int rc = 0;
    if (o->inside && inet_pton(AF_INET, o->inside, &inside) != 1)
        return err_set(err, ERR_INVALID, "--inside: \"%.100s\" is no IPv4 address", o->inside);
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(all); i++)
        rc = endpoint_check(all[i].kind, all[i].option, all[i].value, err);
    return rc;
}

int control_start(struct loop *loop, const struct control_options *options, struct control **ret, struct err *err)
{
    struct control *c = NEW(struct control);
    AUTO_FREE char *lock = str_printf("%s/lock", options->state_dir);
    c->loop = loop;
    c->opt = *options;
    c->lock_fd = -1;
    c->started = clock_real();
    list_init(&c->servers);
    list_init(&c->watchers);
    list_init(&c->streams);
    changes_init(&c->changes, loop);
    c->kept = kept_new(c);
    c->bus = bus_new(loop, c->started);
    c->world = worldview_new(c);
    roots_init(c);
    event_init(&c->idle, loop);
    event_init(&c->credentials, loop);
    c->enroll = enroll_new(c);
    c->challenges = challenges_new();
    c->oauth = oauth_new(c);
    c->passes = passes_new(c);
    c->people = people_new(c);
    c->registries = registries_new();
    c->plans = plans_new();
    c->tickets = tickets_new();
    c->sandboxes = sandboxes_new();
    c->releases = releases_new(loop, options->release_dir);
    int rc = control_check_options(options, err);
    if (rc == 0)
        rc = fd_mkdir_p(options->state_dir, 0700, err);
    if (rc == 0)
        rc = fd_lock_file(lock, &c->lock_fd, err);
    if (rc == 0)
        rc = need_keys(options->state_dir, err);
    if (rc == 0)
        rc = use_keys(c, err);
    if (rc == 0)
        rc = open_store(c, err);
    if (rc == 0) {
        c->fast = lane_new(loop, "fast", 1, FAST_QUEUE);
        c->audit = audit_open(c);
        add_services(c);
        rc = listen_all(c, err);
    }
    if (rc == 0 && (rc = fiber_spawn(loop, "renewal", renewal, c, &c->renewal)) == 0)
        c->fibers++;
    if (rc == 0 && (rc = fiber_spawn(loop, "pruning", prune_fiber, c, &c->pruning)) == 0)
        c->fibers++;
    if (rc == 0)
        rc = idle_start(c, err);
    if (rc == 0) {
        roots_resume(c);
        rc = rollouts_resume(c->rollouts, err);
    }
    if (rc < 0) {
        (void)control_stop(c);
        return err_ensure(err, rc);
    }
    *ret = c;
    return 0;
}

/* --- Stop ------------------------------------------------------------------------------------------------------------------------- */

static void wait_for_fibers(struct control *c)
{
    usec_t deadline = deadline_in(STOP_WAIT);
    while (c->fibers)
        if (event_wait(&c->idle, deadline) < 0)
            break;
    if (c->fibers)
        log_event(LOG_WARN, "work was still going on at the end", NULL);
}

static void drain_all(struct control *c)
{
    struct rpc_server *const all[] = {c->api, c->token, c->link, c->web, c->local, c->gate};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (all[i])
            rpc_server_drain(all[i]);
}

static void end_fiber(struct fiber **f)
{
    fiber_cancel(*f);
    *f = fiber_unref(*f);
}

static void free_servers(struct control *c)
{
    c->api = rpc_server_free(c->api);
    c->token = rpc_server_free(c->token);
    c->gate = rpc_server_free(c->gate);
    c->link = rpc_server_free(c->link);
    c->web = rpc_server_free(c->web);
    c->local = rpc_server_free(c->local);
    c->health = http_server_free(c->health);
}

struct control *control_stop(struct control *c)
{
    struct err err = ERR_INIT;
    struct server *s;
    if (!c)
        return NULL;
    c->stopping = true;
    audit_stopping(c);
    drain_all(c);
    idle_leave(c);
    list_each(s, &c->servers, struct server, node)
        links_cut(s, "the control plane is stopping");
    deployments_changed(c, NULL);
    rollouts_stopping(c->rollouts);
    kept_stopping(c->kept);
    bus_stopping(c->bus);
    worldview_stopping(c->world);
    event_pulse(&c->credentials);
    (void)fiber_yield();
    free_servers(c);
    end_fiber(&c->renewal);
    end_fiber(&c->pruning);
    wait_for_fibers(c);
    if (c->store && servers_save_dirty(c, &err) < 0)
        log_err(LOG_ERROR, &err, "servers could not be written", NULL);
    c->idle_watch = idle_free(c->idle_watch);
    c->audit = audit_close(c->audit);
    if (c->store)
        passes_save(c->passes);
    c->plans = plans_free(c->plans);
    c->people = people_free(c->people);
    c->tickets = tickets_free(c->tickets);
    c->sandboxes = sandboxes_free(c->sandboxes);
    c->passes = passes_free(c->passes);
    c->registries = registries_free(c->registries);
    variables_stop(c);
    c->rollouts = rollouts_free(c->rollouts);
    c->releases = releases_free(c->releases);
    servers_release(c);
    c->kept = kept_free(c->kept);
    c->world = worldview_free(c->world);
    c->bus = bus_free(c->bus);
    changes_release(&c->changes);
    c->enroll = enroll_free(c->enroll);
    c->challenges = challenges_free(c->challenges);
    c->oauth = oauth_free(c->oauth);
    c->fast = lane_free(c->fast);
    c->store = store_close(c->store);
    c->seal = seal_free(c->seal);
    roots_stop(c);
    event_release(&c->idle);
    event_release(&c->credentials);
    free(c->link_socket);
    if (c->lock_fd >= 0)
        (void)close(c->lock_fd);
    free(c);
    return NULL;
}

const char *control_api_addr(const struct control *c)
{
    return control_told(c, c->api ? rpc_server_addr(c->api, 0) : NULL, c->opt.api_listen);
}

const char *control_health_addr(const struct control *c)
{
    return control_told(c, c->health ? http_server_addr(c->health, 0) : NULL, c->opt.health_listen);
}

const char *control_link_addr(const struct control *c)
{
    return control_told(c, c->link_open ? rpc_server_addr(c->link, 1) : NULL, c->opt.link_listen);
}

const char *control_token_addr(const struct control *c)
{
    return control_told(c, c->token ? rpc_server_addr(c->token, 0) : NULL, c->opt.token_listen);
}
