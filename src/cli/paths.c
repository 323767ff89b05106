/* SPDX-License-Identifier: Apache-2.0 */
/* paths — where the CLI finds and keeps things, and the settings of `davit up`. See cli.h. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "cli/cli.h"

enum { SETTINGS_MAX = 64 * 1024, EXE_PATH_MAX = 4096 };

/* Directory of the running program: its siblings davitd and davit-agent stand beside it. */
static char *own_dir(struct err *err)
{
    char path[EXE_PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);

    if (n < 0) {
        (void)err_sys(err, errno, "cannot tell where this program is installed");
        return NULL;
    }
    while (n > 1 && path[n - 1] != '/')
        n--;
    return str_dup((struct str){path, (size_t)(n > 1 ? n - 1 : n)});
}

/* An XDG directory: $var if absolute, else $HOME + fallback (XDG Base Directory Specification 0.8). */
static char *xdg(const char *var, const char *fallback)
{
    const char *set = getenv(var);
    const char *home = getenv("HOME");

    if (set && set[0] == '/')
        return str_printf("%s/davit", set);
    return str_printf("%s%s/davit", home && home[0] == '/' ? home : "/nonexistent", fallback);
}

static void below_home(struct cli_paths *p, const char *home)
{
    p->config = str_printf("%s/config", home);
    p->state = str_printf("%s/state", home);
    p->agent = str_printf("%s/agent", home);
    p->run = str_printf("%s/run", home);
    p->log = str_printf("%s/log", home);
}

static void of_system(struct cli_paths *p)
{
    p->config = str_dup(STR("/etc/davit"));
    p->state = str_dup(STR("/var/lib/davit"));
    p->agent = str_dup(STR("/etc/davit-agent"));
    p->run = str_dup(STR("/run/davit"));
    p->log = str_dup(STR("/var/log/davit"));
}

static void of_user(struct cli_paths *p)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    AUTO_FREE char *state = xdg("XDG_STATE_HOME", "/.local/state");

    p->config = xdg("XDG_CONFIG_HOME", "/.config");
    p->state = str_printf("%s/controlplane", state);
    p->agent = str_printf("%s/agent", state);
    p->log = str_printf("%s/logs", state);
    p->run = runtime && runtime[0] == '/' ? str_printf("%s/davit", runtime) : str_printf("%s/run", state);
}

/* Another working directory must not change what a relative --home means to the programs that are started. */
static char *absolute(const char *path, struct err *err)
{
    char here[EXE_PATH_MAX];

    if (path[0] == '/')
        return str_dup(str_from(path));
    if (!getcwd(here, sizeof here)) {
        (void)err_sys(err, errno, "cannot tell the working directory");
        return NULL;
    }
    return str_printf("%s/%s", here, path);
}

int cli_paths_init(struct cli_paths *p, const char *home, struct err *err)
{
    p->bin = own_dir(err);
    if (!p->bin)
        return -ERR_INTERNAL;
    if (home) {
        AUTO_FREE char *full = absolute(home, err);
        if (!full)
            return -ERR_INTERNAL;
        below_home(p, full);
    } else if (geteuid() == 0) {
        of_system(p);
    } else {
        of_user(p);
    }
    /* Root starts davitd under an account, which puts files aside in there; the other logs are none of its business. */
    p->log_file = str_printf("%s%s/davit-controlplane.log", p->log, geteuid() == 0 ? "/controlplane" : "");
    p->agent_log_file = str_printf("%s/davit-agent-host.log", p->log);
    return 0;
}

static char *lock_path(const struct cli_paths *p)
{
    return str_printf("%s/up.lock", p->config);
}

bool cli_paths_ours(const struct cli_paths *p)
{
    AUTO_FREE char *lock = lock_path(p);
    AUTO_FREE char *settings = str_printf("%s/cli.json", p->config);

    return access(lock, F_OK) == 0 || access(settings, F_OK) == 0;
}

bool cli_dir_is_empty(const char *dir)
{
    DIR *d = opendir(dir);
    bool empty = true;

    if (!d)
        return errno == ENOENT;
    for (struct dirent *e; empty && (e = readdir(d));)
        empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    (void)closedir(d);
    return empty;
}

int cli_lock(const struct cli_paths *p, int *ret_fd, struct err *err)
{
    AUTO_FREE char *path = lock_path(p);
    int rc = fd_lock_file(path, ret_fd, err);

    if (rc == -ERR_EXISTS)
        err_hint(err, "another `davit up` or `davit down` is at work; wait for it");
    return rc;
}

void cli_paths_release(struct cli_paths *p)
{
    free(p->config);
    free(p->state);
    free(p->agent);
    free(p->run);
    free(p->log);
    free(p->log_file);
    free(p->agent_log_file);
    free(p->bin);
    *p = (struct cli_paths){0};
}

/* The file's keys and the fields they fill; one table for both directions. */
struct setting {
    const char *key;
    size_t offset;
    bool is_bool;
    const char *def;
};

static const struct setting settings[] = {
    {"store", offsetof(struct cli_settings, store), false, NULL},
    {"api", offsetof(struct cli_settings, api), false, "127.0.0.1:7443"},
    {"link", offsetof(struct cli_settings, link), false, "0.0.0.0:7442"},
    {"web", offsetof(struct cli_settings, web), false, "0.0.0.0:7440"},
    {"localWeb", offsetof(struct cli_settings, local_web), false, "127.0.0.1:7441"},
    {"releases", offsetof(struct cli_settings, releases), false, NULL},
    {"health", offsetof(struct cli_settings, health), false, "127.0.0.1:7080"},
    {"token", offsetof(struct cli_settings, token), false, NULL},
    {"gate", offsetof(struct cli_settings, gate), false, NULL},
    {"advertise", offsetof(struct cli_settings, advertise), false, NULL},
    {"hostname", offsetof(struct cli_settings, hostname), false, NULL},
    {"user", offsetof(struct cli_settings, user), false, "davit"},
    {"docker", offsetof(struct cli_settings, docker), false, NULL},
    {"ingress", offsetof(struct cli_settings, ingress), false, "127.0.0.1:80"},
    {"ingressImage", offsetof(struct cli_settings, ingress_image), false, NULL},
    {"idleExit", offsetof(struct cli_settings, idle_exit), false, NULL},
    {"logSize", offsetof(struct cli_settings, log_size), false, NULL},
    {"logAge", offsetof(struct cli_settings, log_age), false, NULL},
    {"logBackups", offsetof(struct cli_settings, log_backups), false, NULL},
    {"logOff", offsetof(struct cli_settings, log_off), true, NULL},
    {"firewallOff", offsetof(struct cli_settings, firewall_off), true, NULL},
    {"mode", offsetof(struct cli_settings, mode), false, NULL},
    {"serverId", offsetof(struct cli_settings, server), false, NULL},
    {"systemd", offsetof(struct cli_settings, systemd), true, NULL},
    {"madeUser", offsetof(struct cli_settings, made_user), true, NULL},
};

static void *field(struct cli_settings *s, const struct setting *of)
{
    return (char *)s + of->offset;
}

bool cli_settings_equal(const struct cli_settings *a, const struct cli_settings *b)
{
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        const void *x = (const char *)a + settings[i].offset, *y = (const char *)b + settings[i].offset;
        if (settings[i].is_bool ? *(const bool *)x != *(const bool *)y : !str_eq(str_from(*(char *const *)x), str_from(*(char *const *)y)))
            return false;
    }
    return true;
}

static int read_setting(struct json *j, struct str key, struct cli_settings *s, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        if (!str_eq(key, str_from(settings[i].key)))
            continue;
        if (settings[i].is_bool)
            return json_read_bool(j, field(s, &settings[i]), err);
        char **text = field(s, &settings[i]);
        AUTO_FREE char *read = NULL;
        int rc = json_read_string(j, &read, err);
        /* null, which the writer makes of an unset one, reads as "": what was set before stays. */
        if (rc < 0 || !read || !*read)
            return rc;
        free(*text);
        *text = TAKE(read);
        return 0;
    }
    return json_skip(j, err);
}

int cli_settings_parse(struct str text, struct cli_settings *s, struct err *err)
{
    AUTO_JSON j;
    enum json_type end;
    struct str key;
    int rc;

    json_init(&j, text);
    if ((rc = json_enter(&j, JSON_OBJECT, err)) < 0)
        return rc;
    while ((rc = json_key(&j, &key, err)) == 1)
        if ((rc = read_setting(&j, key, s, err)) < 0)
            return rc;
    return rc < 0 ? rc : json_next(&j, &end, err); /* END, or what follows is an error */
}

int cli_settings_load(const struct cli_paths *p, struct cli_settings *ret, struct err *err)
{
    AUTO_FREE char *path = str_printf("%s/cli.json", p->config);
    AUTO_BUF text = BUF_INIT(SETTINGS_MAX);
    int rc = fd_read_file(path, &text, err);

    *ret = (struct cli_settings){0};
    for (size_t i = 0; i < ARRAY_LEN(settings); i++)
        if (settings[i].def)
            *(char **)field(ret, &settings[i]) = str_dup(str_from(settings[i].def));
    if (rc == -ERR_NOT_FOUND || rc == -ERR_DENIED)
        return 0;
    if (rc == 0 && (rc = cli_settings_parse(buf_str(&text), ret, err)) < 0)
        (void)err_wrap(err, "%s", path);
    return rc;
}

int cli_settings_save(const struct cli_paths *p, const struct cli_settings *s, struct err *err)
{
    AUTO_FREE char *path = str_printf("%s/cli.json", p->config);
    AUTO_BUF text = BUF_INIT(SETTINGS_MAX);
    struct jsonw w;
    int rc;

    jsonw_init(&w, &text);
    jsonw_object(&w);
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        const void *at = (const char *)s + settings[i].offset;
        jsonw_key(&w, settings[i].key);
        if (settings[i].is_bool)
            jsonw_bool(&w, *(const bool *)at);
        else
            jsonw_string(&w, *(char *const *)at);
    }
    jsonw_object_end(&w);
    if ((rc = jsonw_end(&w)) < 0)
        return err_set(err, ERR_EXHAUSTED, "settings are larger than %d bytes", SETTINGS_MAX);
    return fd_write_file(path, text.data, text.len, 0600, err);
}

void cli_settings_release(struct cli_settings *s)
{
    for (size_t i = 0; i < ARRAY_LEN(settings); i++)
        if (!settings[i].is_bool)
            free(*(char **)field(s, &settings[i]));
    *s = (struct cli_settings){0};
}
