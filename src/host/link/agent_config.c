/* SPDX-License-Identifier: Apache-2.0 */
/* agent_config — see agent_config.h. */
#include "host/link/agent_config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "host/link/bundle.h"

/* The texts of config.yaml, in the order in which they are written. */
static const struct {
    const char *key;
    size_t offset;
} texts[] = {
    {"server_id", offsetof(struct agent_config, server_id)},
    {"server_name", offsetof(struct agent_config, server_name)},
    {"grpc_endpoint", offsetof(struct agent_config, grpc_endpoint)},
    {"auth_mode", offsetof(struct agent_config, auth_mode)},
    {"cert_dir", offsetof(struct agent_config, cert_dir)},
    {"public_ip_url", offsetof(struct agent_config, public_ip_url)},
    {"tunnel_ca", offsetof(struct agent_config, tunnel_ca)},
    {"ingress_listen", offsetof(struct agent_config, ingress_listen)},
    {"ingress_image", offsetof(struct agent_config, ingress_image)},
};

static char **text_at(struct agent_config *c, size_t i)
{
    return (char **)(void *)((char *)c + texts[i].offset);
}

static const char *text_of(const struct agent_config *c, size_t i)
{
    return *(char *const *)(const void *)((const char *)c + texts[i].offset);
}

void agent_config_set(char **field, const char *value)
{
    char *copy = str_dup(str_from(value));
    free(*field);
    *field = copy;
}

static char *default_dir(void)
{
    const char *home = getenv("HOME");
    if (geteuid() == 0)
        return str_dup(STR(AGENT_DIR_ROOT));
    return home && home[0] == '/' ? str_printf("%s/.davit-agent", home) : NULL;
}

static char *absolute(const char *dir)
{
    AUTO_FREE char *here = NULL;
    if (dir[0] == '/')
        return str_dup(str_from(dir));
    here = getcwd(NULL, 0);
    return here ? str_printf("%s/%s", here, dir) : NULL;
}

int agent_config_init(struct agent_config *c, const char *dir, struct err *err)
{
    AUTO_FREE char *path = dir && *dir ? absolute(dir) : default_dir();
    if (!path) {
        (void)err_set(err, ERR_PRECONDITION, "there is no place for the agent's directory: HOME is not set");
        err_hint(err, "name one with --config-dir DIR");
        return -(int)ERR_PRECONDITION;
    }
    *c = (struct agent_config){.dir = TAKE(path)};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        agent_config_set(text_at(c, i), "");
    agent_config_set(&c->cert_dir, c->dir);
    return 0;
}

void agent_config_release(struct agent_config *c)
{
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        free(*text_at(c, i));
    free(c->dir);
    *c = (struct agent_config){0};
}

bool agent_config_is_system(const struct agent_config *c)
{
    return geteuid() == 0 && str_eq(str_from(c->dir), STR(AGENT_DIR_ROOT));
}

char *agent_config_path(const struct agent_config *c, const char *name)
{
    return str_printf("%s/%s", c->dir, name);
}

char *agent_config_cert_path(const struct agent_config *c, const char *name)
{
    return str_printf("%s/%s", *c->cert_dir ? c->cert_dir : c->dir, name);
}

/* A value as it may stand on a line: no control characters, no blanks at its ends, UTF-8. */
static bool value_ok(struct str v)
{
    for (size_t i = 0; i < v.n; i++)
        if ((unsigned char)v.p[i] < 0x20 || v.p[i] == 0x7f)
            return false;
    return v.n <= AGENT_VALUE_MAX && str_is_utf8(v) && str_eq(v, str_trim(v));
}

int agent_config_format(const struct agent_config *c, struct buf *out, struct err *err)
{
    int rc = buf_append_cstr(out, "# Written by davit-agent. One \"key: value\" per line.\n");
    for (size_t i = 0; i < ARRAY_LEN(texts) && rc == 0; i++) {
        const char *value = text_of(c, i);
        if (!value_ok(str_from(value)))
            return err_set(err, ERR_INVALID, "%s: the value cannot be written to config.yaml", texts[i].key);
        if (*value)
            rc = buf_printf(out, "%s: %s\n", texts[i].key, value);
    }
    if (rc == 0 && c->generation)
        rc = buf_printf(out, "generation: %u\n", c->generation);
    return rc == 0 ? 0 : err_set(err, ERR_EXHAUSTED, "config.yaml would be larger than %d bytes", AGENT_CONFIG_MAX);
}

static int parse_line(struct agent_config *c, struct str line, unsigned *seen, struct err *err)
{
    struct str rest = line, key = str_trim(str_cut(&rest, ':')), value = str_trim(rest);
    uint64_t generation = 0;
    size_t i = 0;
    while (i < ARRAY_LEN(texts) && !str_eq(key, str_from(texts[i].key)))
        i++;
    bool number = i == ARRAY_LEN(texts) && str_eq(key, STR("generation"));
    if (i == ARRAY_LEN(texts) && !number)
        return err_set(err, ERR_INVALID, "unknown key \"" STR_FMT "\"", (int)(key.n < 64 ? key.n : 64), key.p);
    if (*seen & 1u << i)
        return err_set(err, ERR_INVALID, "%s stands there twice", number ? "generation" : texts[i].key);
    *seen |= 1u << i;
    if (number) {
        if (str_to_u64(value, UINT32_MAX, &generation) != 0)
            return err_set(err, ERR_INVALID, "generation: a number is expected");
        c->generation = (uint32_t)generation;
        return 0;
    }
    if (!value_ok(value))
        return err_set(err, ERR_INVALID, "%s: the value is too long or has characters that it must not have", texts[i].key);
    free(*text_at(c, i));
    *text_at(c, i) = str_dup(value);
    return 0;
}

int agent_config_parse(struct agent_config *c, struct str text, struct err *err)
{
    unsigned seen = 0, number = 0;
    while (text.n > 0) {
        struct str line = str_trim(str_cut(&text, '\n'));
        number++;
        if (line.n == 0 || line.p[0] == '#')
            continue;
        if (!memchr(line.p, ':', line.n))
            return err_set(err, ERR_INVALID, "line %u: \"key: value\" is expected", number);
        if (parse_line(c, line, &seen, err) < 0)
            return err_wrap(err, "line %u", number);
    }
    struct str mode = str_from(c->auth_mode);
    if (mode.n && !str_eq(mode, STR("mtls")) && !str_eq(mode, STR("tunnel")) && !str_eq(mode, STR("local")))
        return err_set(err, ERR_INVALID, "auth_mode: mtls, tunnel or local is expected");
    return 0;
}

int agent_config_load(struct agent_config *c, struct err *err)
{
    AUTO_FREE char *path = agent_config_path(c, "config.yaml");
    AUTO_BUF text = BUF_INIT(AGENT_CONFIG_MAX);
    struct err e = ERR_INIT;
    int rc = fd_read_file(path, &text, &e);
    if (rc == -(int)ERR_NOT_FOUND)
        return 1;
    if (rc == 0 && agent_config_parse(c, buf_str(&text), &e) == 0)
        return 0;
    rc = rc < 0 ? -(int)e.code : err_wrap(&e, "%s", path);
    err_hint(&e, "mend the line, or enroll again with --force");
    if (err)
        *err = e;
    return rc;
}

int agent_config_save(const struct agent_config *c, struct err *err)
{
    AUTO_FREE char *path = agent_config_path(c, "config.yaml");
    AUTO_BUF text = BUF_INIT(AGENT_CONFIG_MAX);
    int rc = agent_config_format(c, &text, err);
    return rc < 0 ? rc : fd_write_file(path, text.data, text.len, 0600, err);
}

/* --- Locks ---- */

static int lock(const char *path, const char *whose, int *ret_fd, struct err *err)
{
    int rc = fd_lock_file(path, ret_fd, err);
    if (rc == -(int)ERR_EXISTS) {
        rc = err_wrap(err, "another davit-agent %s", whose);
        err_hint(err, "stop it first; one agent serves a machine");
    }
    return rc;
}

static bool all_of(struct str s, const char *letters)
{
    for (size_t i = 0; i < s.n; i++)
        if (!strchr(letters, s.p[i]))
            return false;
    return s.n > 0;
}

/* Is this the name of a file of ours that was being written, as fd_write_file, key_load_or_make and seal_make name them? */
static bool is_unfinished(struct str name)
{
    static const char *const ours[] = {"client.key", "client.crt", "ca.crt", "config.yaml"};
    static const char *const keys[] = {"client.key.new.", "journal.key."};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        size_t n = strlen(keys[i]);
        if (str_starts(name, str_from(keys[i])) && name.n == n + 36 && all_of((struct str){name.p + n, 36}, "0123456789abcdef-"))
            return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(ours); i++)
        if (fd_is_unfinished(name, str_from(ours[i])))
            return true;
    return false;
}

static bool is_enrolled(const struct agent_config *c)
{
    AUTO_FREE char *config = agent_config_path(c, "config.yaml");
    return access(config, F_OK) == 0;
}

/* The last act of an enrolment takes the key its first name: is that all that is missing? */
static bool is_second_name(const struct agent_config *c)
{
    AUTO_FREE char *key = agent_config_path(c, "client.key");
    AUTO_FREE char *fresh = agent_config_path(c, "client.key.new");
    struct stat a, b;
    return is_enrolled(c) && stat(key, &a) == 0 && lstat(fresh, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* What a crash left half-written, keys among it. Whoever holds the lock is alone here. */
static void remove_unfinished(const struct agent_config *c)
{
    DIR *dir = opendir(c->dir);
    if (!dir)
        return;
    for (const struct dirent *e; (e = readdir(dir)) != NULL;)
        if (is_unfinished(str_from(e->d_name)))
            (void)unlinkat(dirfd(dir), e->d_name, 0);
    if (is_second_name(c))
        (void)unlinkat(dirfd(dir), "client.key.new", 0);
    (void)closedir(dir);
    if (is_enrolled(c))
        bundle_tidy(c);
}

int agent_config_lock(const struct agent_config *c, int *ret_dir_fd, int *ret_machine_fd, struct err *err)
{
    AUTO_FREE char *path = agent_config_path(c, "lock");
    AUTO_FD int dir_fd = -1;
    *ret_dir_fd = *ret_machine_fd = -1;
    int rc = fd_mkdir_p(c->dir, 0700, err);
    if (rc == 0)
        rc = lock(path, "uses this directory", &dir_fd, err);
    if (rc == 0 && agent_config_is_system(c))
        rc = lock(AGENT_LOCK_MACHINE, "runs on this machine", ret_machine_fd, err);
    if (rc < 0)
        return rc;
    remove_unfinished(c);
    *ret_dir_fd = TAKE_FD(dir_fd);
    return 0;
}
