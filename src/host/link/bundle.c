/* SPDX-License-Identifier: Apache-2.0 */
/* bundle — see bundle.h. */
#include "host/link/bundle.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

#define FLAT ".."
enum { TARGET_SIZE = 16 };

static const char *const pointers[] = {[BUNDLE_ACTIVE] = "current", [BUNDLE_PREVIOUS] = "previous"};
static const char *const files[] = {"client.key", "client.crt", "ca.crt", "access.jwt"};

static char *bundles_path(const struct agent_config *c, const char *name)
{
    AUTO_FREE char *top = agent_config_cert_path(c, "bundles");
    return *name ? str_printf("%s/%s", top, name) : TAKE(top);
}

/* --- Pointers ---- */

/* A number as we write it: no sign, no zero in front. 0: it is none. */
static uint32_t generation_of(struct str name)
{
    uint64_t n = 0;
    if (name.n == 0 || name.p[0] == '0' || str_to_u64(name, UINT32_MAX, &n) != 0)
        return 0;
    return (uint32_t)n;
}

/* What @which points to: "7", "..", or "" for none. */
static void read_pointer(const struct agent_config *c, enum bundle_which which, char dst[TARGET_SIZE])
{
    AUTO_FREE char *path = bundles_path(c, pointers[which]);
    ssize_t n = readlink(path, dst, TARGET_SIZE);
    bool fits = n > 0 && n < TARGET_SIZE;
    dst[fits ? n : 0] = '\0';
    if (fits && !str_eq(str_from(dst), STR(FLAT)) && generation_of(str_from(dst)) == 0)
        dst[0] = '\0';
}

static int set_pointer(const struct agent_config *c, enum bundle_which which, const char *target, struct err *err)
{
    AUTO_FREE char *path = bundles_path(c, pointers[which]);
    AUTO_FREE char *fresh = str_printf("%s.tmp", path);
    if (unlink(fresh) != 0 && errno != ENOENT)
        return err_sys(err, errno, "%s cannot be removed", fresh);
    if (symlink(target, fresh) != 0)
        return err_sys(err, errno, "%s cannot be made", fresh);
    if (rename(fresh, path) != 0)
        return err_sys(err, errno, "%s cannot be replaced", path);
    return fd_sync_parent(path, err);
}

static int drop_pointer(const struct agent_config *c, enum bundle_which which, struct err *err)
{
    AUTO_FREE char *path = bundles_path(c, pointers[which]);
    if (unlink(path) != 0)
        return errno == ENOENT ? 0 : err_sys(err, errno, "%s cannot be removed", path);
    return fd_sync_parent(path, err);
}

/* --- Reading ---- */

char *bundle_dir(const struct agent_config *c, enum bundle_which which, uint32_t *ret_generation)
{
    char target[TARGET_SIZE], active[TARGET_SIZE];
    read_pointer(c, which, target);
    if (which == BUNDLE_PREVIOUS) {
        /* Between the two renames of an exchange both name the same. */
        read_pointer(c, BUNDLE_ACTIVE, active);
        if (!*target || !*active || str_eq(str_from(active), str_from(target)))
            return NULL;
    }
    uint32_t generation = generation_of(str_from(target));
    if (ret_generation)
        *ret_generation = generation ? generation : c->generation;
    return generation ? bundles_path(c, target) : str_dup(str_from(*c->cert_dir ? c->cert_dir : c->dir));
}

char *bundle_path(const struct agent_config *c, const char *name)
{
    AUTO_FREE char *dir = bundle_dir(c, BUNDLE_ACTIVE, NULL);
    return str_printf("%s/%s", dir, name);
}

/* --- Writing ---- */

static int write_part(const char *dir, const char *name, struct str text, struct err *err)
{
    AUTO_FREE char *path = str_printf("%s/%s", dir, name);
    return text.n ? fd_write_file(path, text.p, text.n, 0600, err) : 0;
}

/* The directory with its final name, whole and on disk. */
static int write_bundle(const struct agent_config *c, const char *name, const struct bundle_parts *p, struct err *err)
{
    AUTO_FREE char *path = bundles_path(c, name);
    AUTO_FREE char *fresh = str_printf("%s.tmp", path);
    AUTO_FREE char *top = bundles_path(c, "");
    int rc = fd_mkdir_p(top, 0700, err);
    if (rc == 0)
        rc = fd_sync_parent(top, err);
    if (rc == 0)
        rc = fd_remove_tree(fresh, err);
    if (rc == 0)
        rc = fd_remove_tree(path, err); /* no pointer names it: its number is higher than theirs */
    if (rc == 0)
        rc = fd_mkdir_p(fresh, 0700, err);
    if (rc == 0)
        rc = write_part(fresh, "client.key", p->key_pem, err);
    if (rc == 0)
        rc = write_part(fresh, "client.crt", p->cert_pem, err);
    if (rc == 0)
        rc = write_part(fresh, "ca.crt", p->ca_pem, err);
    if (rc == 0)
        rc = write_part(fresh, "access.jwt", p->token, err);
    if (rc == 0 && rename(fresh, path) != 0)
        rc = err_sys(err, errno, "%s cannot get its name", fresh);
    if (rc < 0) {
        (void)fd_remove_tree(fresh, NULL);
        return rc;
    }
    return fd_sync_parent(path, err);
}

int bundle_activate(const struct agent_config *c, uint32_t generation, const struct bundle_parts *parts, struct err *err)
{
    char name[TARGET_SIZE], active[TARGET_SIZE];
    uint32_t present = 0, older = 0;
    AUTO_FREE char *dir = bundle_dir(c, BUNDLE_ACTIVE, &present);
    AUTO_FREE char *kept = bundle_dir(c, BUNDLE_PREVIOUS, &older);
    if (generation <= present || generation <= older)
        return err_set(err, ERR_INVALID, "credentials of generation %u come after those of generation %u", generation, present);
    (void)snprintf(name, sizeof(name), "%u", generation);
    read_pointer(c, BUNDLE_ACTIVE, active);
    int rc = write_bundle(c, name, parts, err);
    if (rc == 0 && !kept)
        rc = set_pointer(c, BUNDLE_PREVIOUS, *active ? active : FLAT, err);
    return rc == 0 ? set_pointer(c, BUNDLE_ACTIVE, name, err) : rc;
}

/* Removes below bundles/ what no pointer names. */
static void remove_others(const struct agent_config *c)
{
    char active[TARGET_SIZE], previous[TARGET_SIZE];
    AUTO_FREE char *top = bundles_path(c, "");
    DIR *dir = opendir(top);
    if (!dir)
        return;
    read_pointer(c, BUNDLE_ACTIVE, active);
    read_pointer(c, BUNDLE_PREVIOUS, previous);
    for (const struct dirent *e; (e = readdir(dir)) != NULL;) {
        struct str name = str_from(e->d_name);
        AUTO_FREE char *path = bundles_path(c, e->d_name);
        bool unfinished = str_ends(name, STR(".tmp"));
        bool unnamed = generation_of(name) && !str_eq(name, str_from(active)) && !str_eq(name, str_from(previous));
        if (unfinished || unnamed)
            (void)fd_remove_tree(path, NULL);
    }
    (void)closedir(dir);
}

/* The files of the enrolment, once they are not named any more. */
static void remove_flat(const struct agent_config *c)
{
    char active[TARGET_SIZE], previous[TARGET_SIZE];
    read_pointer(c, BUNDLE_ACTIVE, active);
    read_pointer(c, BUNDLE_PREVIOUS, previous);
    if (!generation_of(str_from(active)) || *previous)
        return;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        AUTO_FREE char *path = agent_config_cert_path(c, files[i]);
        (void)unlink(path);
    }
}

int bundle_confirm(const struct agent_config *c, struct err *err)
{
    int rc = drop_pointer(c, BUNDLE_PREVIOUS, err);
    if (rc < 0)
        return rc;
    remove_flat(c);
    remove_others(c);
    return 0;
}

int bundle_revert(const struct agent_config *c, struct err *err)
{
    char previous[TARGET_SIZE];
    AUTO_FREE char *dir = bundle_dir(c, BUNDLE_PREVIOUS, NULL);
    if (!dir)
        return err_set(err, ERR_NOT_FOUND, "there are no previous credentials");
    read_pointer(c, BUNDLE_PREVIOUS, previous);
    int rc = generation_of(str_from(previous)) ? set_pointer(c, BUNDLE_ACTIVE, previous, err) : drop_pointer(c, BUNDLE_ACTIVE, err);
    if (rc == 0)
        rc = drop_pointer(c, BUNDLE_PREVIOUS, err);
    if (rc == 0)
        remove_others(c);
    return rc;
}

void bundle_tidy(const struct agent_config *c)
{
    char active[TARGET_SIZE], previous[TARGET_SIZE];
    read_pointer(c, BUNDLE_ACTIVE, active);
    read_pointer(c, BUNDLE_PREVIOUS, previous);
    /* An exchange that did not come to its second rename, or that was taken back. */
    if (*previous && (!*active || str_eq(str_from(active), str_from(previous))))
        (void)drop_pointer(c, BUNDLE_PREVIOUS, NULL);
    remove_flat(c);
    remove_others(c);
}

int bundle_forget(const struct agent_config *c, struct err *err)
{
    AUTO_FREE char *top = bundles_path(c, "");
    int rc = drop_pointer(c, BUNDLE_ACTIVE, err);
    return rc == 0 ? fd_remove_tree(top, err) : rc;
}
