/* SPDX-License-Identifier: Apache-2.0 */
/* plane_spec — how the container of the control plane is made: what it may do, what it sees of this machine, how its two programs are called. */
#include "cli/plane.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/priv.h"
#include "cli/plane_image.h"

enum { WORDS_MAX = 64, TEXTS_MAX = 48, PORTS_MAX = 8, MOUNTS_MAX = 8, STOP_PATIENCE_S = 30, PIDS = 256, RETRIES = 3 };

#define PLANE_DAVITD PLANE_PROGRAMS "/davitd"
#define AGENT_DIR  PLANE_PRIVATE "/agent"
#define OWNER_DIR  PLANE_PRIVATE "/owner"
#define SOCKET     PLANE_PRIVATE "/docker.sock"
#define LINK       "/run/link.sock"
#define RELEASES   "/releases"
#define LOG_DIR    "/log"

/* For the monitor, which makes another user of davitd and ends both; READ_SEARCH: the owner's policy is in a folder that is closed to others. */
static const char *const caps[] = {"SETUID", "SETGID", "SETPCAP", "KILL", "DAC_READ_SEARCH"};
static const char *const all[] = {"ALL"};
static const char *const no_health[] = {"NONE"};
static const struct docker_pair log_options[] = {{"max-size", "10m"}, {"max-file", "3"}};

struct plane_spec {
    struct docker_container_spec out;
    const char *entrypoint[2], *words[WORDS_MAX];
    struct docker_pair env[2], labels[5];
    struct docker_mount mounts[MOUNTS_MAX];
    struct docker_port ports[PORTS_MAX];
    char *texts[TEXTS_MAX];
    size_t n_texts;
    char config[DIGEST_HEX_SIZE];
};

static const char *keep(struct plane_spec *s, char *text)
{
    BUG_ON(s->n_texts == TEXTS_MAX);
    s->texts[s->n_texts++] = text;
    return text;
}

void plane_spec_free(struct plane_spec **s)
{
    for (size_t i = 0; *s && i < (*s)->n_texts; i++)
        free((*s)->texts[i]);
    free(*s);
}

const struct docker_container_spec *plane_spec_container(const struct plane_spec *s)
{
    return &s->out;
}

const char *plane_spec_config(const struct plane_spec *s)
{
    return s->config;
}

/* --- The command line ---- */

static void word(struct plane_spec *s, const char *text)
{
    BUG_ON(s->out.n_command == WORDS_MAX);
    s->words[s->out.n_command++] = text;
}

static void pair(struct plane_spec *s, const char *name, const char *value)
{
    if (!value)
        return;
    word(s, name);
    word(s, value);
}

/* Who davitd is inside: who calls us; for root the account that it always has. Never root. */
static int find_user(const struct cli *cli, uid_t *uid, gid_t *gid, struct err *err)
{
    enum { NOGROUP = 65534 };

    *uid = getuid();
    *gid = getgid();
    if (*uid == 0) {
        int rc = priv_lookup(cli->settings.user, uid, gid, err);
        if (rc < 0)
            return rc;
    }
    if (*uid == 0)
        return err_set(err, ERR_INVALID, "--user: davitd does not run as root");
    if (*gid == 0)
        *gid = NOGROUP;
    return 0;
}

static int words(struct plane_spec *s, const struct cli *cli, const char *subnet, const char *socket, struct err *err)
{
    const struct cli_settings *set = &cli->settings;
    uid_t uid;
    gid_t gid;
    int rc = find_user(cli, &uid, &gid, err);

    if (rc < 0)
        return rc;
    word(s, keep(s, str_printf("%lu", (unsigned long)uid)));
    word(s, keep(s, str_printf("%lu", (unsigned long)gid)));
    word(s, subnet);
    word(s, PLANE_DAVITD);
    pair(s, "--state-dir", PLANE_STATE);
    pair(s, "--api-listen", set->api);
    pair(s, "--link-listen", set->link);
    pair(s, "--web-listen", set->web);
    pair(s, "--local-web-listen", set->local_web);
    pair(s, "--health-listen", set->health);
    pair(s, "--token-listen", set->token);
    pair(s, "--advertise", set->advertise);
    pair(s, "--hostname", set->hostname);
    pair(s, "--release-dir", set->releases ? RELEASES : NULL);
    pair(s, "--idle-exit", set->idle_exit);
    if (cli->for_sandboxes)
        word(s, "--for-sandboxes");
    if (!set->log_off) {
        pair(s, "--log-file", LOG_DIR "/davit-controlplane.log");
        pair(s, "--log-max-size", set->log_size);
        pair(s, "--log-max-age", set->log_age);
        pair(s, "--log-max-backups", set->log_backups);
    }
    pair(s, "--link-socket", LINK);
    pair(s, "--agent-uid", "0");
    word(s, "--");
    word(s, PLANE_PROGRAMS "/davit-agent");
    word(s, "run");
    pair(s, "--config-dir", AGENT_DIR);
    pair(s, "--link", "unix:" LINK);
    pair(s, "--docker", "unix:" SOCKET);
    pair(s, "--runtime-dir", PLANE_PROGRAMS);
    pair(s, "--ingress-listen", "none");
    pair(s, "--policy", OWNER_DIR "/policy.yaml");
    pair(s, "--owner", keep(s, str_printf("%lu", (unsigned long)getuid())));
    pair(s, "--self", PLANE_CONTAINER);
    pair(s, "--place", socket);
    pair(s, "--place", cli->paths.config);
    pair(s, "--place", cli->paths.state);
    pair(s, "--place", cli->paths.agent);
    return 0;
}

/* --- Ports ---- */

/* The same port inside as outside. */
static int publish(struct plane_spec *s, const char *option, const char *addr, struct err *err)
{
    const char *colon = addr ? strrchr(addr, ':') : NULL;
    uint64_t port;

    if (!addr || strcmp(addr, "none") == 0)
        return 0;
    struct str host = {addr, colon ? (size_t)(colon - addr) : 0};
    if (!colon || str_to_u64(str_from(colon + 1), 65535, &port) != 0 || port == 0)
        return err_set(err, ERR_INVALID, "--%s: \"%.100s\" has no port that a container could publish", option, addr);
    for (size_t i = 0; i < s->out.n_ports; i++)
        if (s->ports[i].host_port == port)
            return err_set(err, ERR_INVALID, "--%s: port %u is that of another option; in a container each has its own", option, (unsigned)port);
    if (host.n > 2 && host.p[0] == '[')
        host = (struct str){host.p + 1, host.n - 2};
    BUG_ON(s->out.n_ports == PORTS_MAX);
    s->ports[s->out.n_ports++] = (struct docker_port){
        .container_port = (uint16_t)port, .host_port = (uint16_t)port, .publish = true, .host_ip = keep(s, str_dup(host))};
    return 0;
}

static int ports(struct plane_spec *s, const struct cli_settings *set, struct err *err)
{
    /* Without an address for them there are no other servers. */
    bool open = set->advertise || set->hostname;
    const struct {
        const char *option, *addr;
    } list[] = {
        {"api-listen", set->api},     {"health-listen", set->health},           {"local-web-listen", set->local_web},
        {"token-listen", set->token}, {"link-listen", open ? set->link : NULL}, {"web-listen", open ? set->web : NULL},
    };
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(list); i++)
        rc = publish(s, list[i].option, list[i].addr, err);
    return rc;
}

/* --- What it sees of this machine ---- */

static void mount(struct plane_spec *s, enum docker_mount_type type, const char *source, const char *target, bool read_only)
{
    BUG_ON(s->out.n_mounts == MOUNTS_MAX);
    s->mounts[s->out.n_mounts++] = (struct docker_mount){.type = type, .source = source, .target = target, .read_only = read_only};
}

static void mounts(struct plane_spec *s, const struct cli *cli, const char *socket)
{
    mount(s, DOCKER_MOUNT_BIND, cli->paths.state, PLANE_STATE, false);
    mount(s, DOCKER_MOUNT_VOLUME, PLANE_VOLUME, AGENT_DIR, false);
    /* The folder, so that an editor may replace the file. */
    mount(s, DOCKER_MOUNT_BIND, cli->paths.agent, OWNER_DIR, true);
    mount(s, DOCKER_MOUNT_BIND, socket, SOCKET, false);
    if (cli->settings.releases)
        mount(s, DOCKER_MOUNT_BIND, cli->settings.releases, RELEASES, true);
    if (!cli->settings.log_off) {
        char *dir = str_dup(str_from(cli->paths.log_file));
        *strrchr(dir, '/') = '\0';
        mount(s, DOCKER_MOUNT_BIND, keep(s, dir), LOG_DIR, false);
    }
    mount(s, DOCKER_MOUNT_TMPFS, NULL, "/run", false);
    mount(s, DOCKER_MOUNT_TMPFS, NULL, "/tmp", false);
}

/* --- All of it ---- */

static void add(struct digest *d, const char *text)
{
    digest_add(d, text, strlen(text) + 1);
}

/* Of all that a container can differ in but the programs, which have a label of their own. */
static void measure(struct plane_spec *s)
{
    AUTO_DIGEST d = digest_new();

    for (size_t i = 0; i < s->out.n_command; i++)
        add(d, s->words[i]);
    for (size_t i = 0; i < s->out.n_env; i++)
        add(d, s->env[i].value);
    for (size_t i = 0; i < s->out.n_mounts; i++) {
        add(d, s->mounts[i].source ? s->mounts[i].source : "");
        add(d, s->mounts[i].target);
    }
    for (size_t i = 0; i < s->out.n_ports; i++)
        add(d, s->ports[i].host_ip);
    for (size_t i = 0; i < ARRAY_LEN(caps); i++)
        add(d, caps[i]);
    digest_hex(d, s->config);
}

static void describe(struct plane_spec *s, const struct cli *cli, const struct plane_image *image)
{
    struct docker_container_spec *out = &s->out;

    out->name = PLANE_CONTAINER;
    out->image = image->ref;
    out->entrypoint = s->entrypoint;
    out->n_entrypoint = ARRAY_LEN(s->entrypoint);
    out->command = s->words;
    out->user = "0:0";
    out->env = s->env;
    s->env[out->n_env++] = (struct docker_pair){"TZ", "UTC"};
    if (*image->libraries)
        s->env[out->n_env++] = (struct docker_pair){"LD_LIBRARY_PATH", image->libraries};
    out->mounts = s->mounts;
    out->ports = s->ports;
    out->network = PLANE_NETWORK;
    out->stop_signal = "TERM";
    out->stop_timeout_s = STOP_PATIENCE_S;
    out->restart = "on-failure";
    out->restart_max = RETRIES;
    out->pids = PIDS;
    out->cap_drop = all;
    out->n_cap_drop = ARRAY_LEN(all);
    out->cap_add = caps;
    out->n_cap_add = ARRAY_LEN(caps);
    out->no_new_privileges = true;
    out->read_only = true;
    out->health = (struct docker_health_spec){.test = no_health, .n_test = 1};
    out->log_driver = "json-file";
    out->log_options = log_options;
    out->n_log_options = ARRAY_LEN(log_options);
    measure(s);
    const struct docker_pair labels[] = {{"davit.managed", "true"},
                                         {"davit.purpose", PLANE_PURPOSE},
                                         {LABEL_HOME, cli->paths.config},
                                         {LABEL_BINARY, image->content},
                                         {LABEL_CONFIG, s->config}};
    _Static_assert(sizeof(labels) == sizeof(s->labels), "all");
    memcpy(s->labels, labels, sizeof(labels));
    out->labels = s->labels;
    out->n_labels = ARRAY_LEN(labels);
}

int plane_spec_make(const struct cli *cli, const struct plane_image *image, const char *subnet, const char *socket, struct plane_spec **ret,
                    struct err *err)
{
    struct plane_spec *s = NEW(struct plane_spec);
    int rc = 0;

    s->entrypoint[0] = PLANE_DAVITD;
    s->entrypoint[1] = "--monitor";
    if (cli->settings.store) {
        rc = err_set(err, ERR_PRECONDITION, "--store: in a container the database is a file of the state directory");
        err_hint(err, "--mode native for another one, or --store \"\" to forget it");
    }
    if (rc == 0 && cli->settings.gate) {
        rc = err_set(err, ERR_PRECONDITION, "control_plane.oathkeeper_port: a control plane in a container has no gate for proxies");
        err_hint(err, "--mode native, or take it out of settings.yaml");
    }
    const char *engine = keep(s, str_dup(str_from(socket)));
    if (rc == 0)
        rc = words(s, cli, keep(s, str_dup(str_from(subnet))), engine, err);
    if (rc == 0)
        rc = ports(s, &cli->settings, err);
    if (rc < 0) {
        plane_spec_free(&s);
        return rc;
    }
    mounts(s, cli, engine);
    describe(s, cli, image);
    *ret = s;
    return 0;
}
