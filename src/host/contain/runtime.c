/* SPDX-License-Identifier: Apache-2.0 */
/* runtime — the volume that holds our PID 1 and its session half, named by what is in it: made once, read-only for every sandbox. It is filled
 * through the engine's archive API by a container that never starts, of an image of nothing: so an engine elsewhere gets it as well, and nothing is
 * pulled. */
#include "host/contain/contain_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/tar.h"
#include "ident/digest.h"

enum { PROGRAM_MAX = 24 * 1024 * 1024, SHORT_HEX = 12 };
#define EMPTY_REPO "davit-runtime"
#define EMPTY_TAG  "empty"
#define MOUNTED    RUNTIME_HELPER_DIR
#define COMPLETE   "complete" /* the last file that is written */

static const char *const programs[] = {"davit-init", "davit-session"};

int source_of_str(void *arg, void *dst, size_t size, size_t *ret_n)
{
    struct str *s = arg;

    *ret_n = s->n < size ? s->n : size;
    if (*ret_n)
        memcpy(dst, s->p, *ret_n);
    *s = (struct str){s->p + *ret_n, s->n - *ret_n};
    return 0;
}

/* The archive of both, and its name. */
static int pack(struct contain *k, struct buf *tar, char hex[DIGEST_HEX_SIZE], struct err *err)
{
    AUTO_DIGEST digest = digest_new();
    int rc = 0;

    for (size_t i = 0; i < ARRAY_LEN(programs) && rc == 0; i++) {
        AUTO_FREE char *path = str_printf("%s/%s", k->runtime_dir, programs[i]);
        AUTO_BUF bytes = BUF_INIT(PROGRAM_MAX);
        rc = contain_read(k, path, &bytes, err);
        if (rc == -ERR_NOT_FOUND) {
            rc = err_set(err, ERR_PRECONDITION, "%s is not installed beside davit-agent", programs[i]);
            err_hint(err, "install all programs of one version in %s", k->runtime_dir);
        }
        if (rc < 0)
            return rc;
        digest_add(digest, programs[i], strlen(programs[i]) + 1);
        digest_add(digest, bytes.data, bytes.len);
        rc = tar_put_file(tar, programs[i], buf_str(&bytes), 0555, 0);
    }
    digest_hex(digest, hex);
    if (rc == 0)
        rc = tar_put_file(tar, COMPLETE, str_from(hex), 0444, 0);
    if (rc == 0)
        rc = buf_append(tar, tar_zeros, TAR_END);
    return rc < 0 ? err_set(err, ERR_EXHAUSTED, "the programs of sandboxes take more than %d bytes", PROGRAM_MAX) : 0;
}

static int provide_image(struct contain *k, usec_t deadline, struct err *err)
{
    struct docker_image image = {0};
    struct str nothing = {tar_zeros, TAR_END};
    int rc = docker_image_inspect(k->w->docker, EMPTY_REPO ":" EMPTY_TAG, &image, deadline, err);

    docker_image_release(&image);
    return rc == -ERR_NOT_FOUND ? docker_image_import(k->w->docker, EMPTY_REPO, EMPTY_TAG, source_of_str, &nothing, deadline, err) : rc;
}

int runtime_helper(struct contain *k, const char *volume, char ret_id[DOCKER_ID_SIZE], usec_t deadline, struct err *err)
{
    static const char *const command[] = {"/never"};
    static const struct docker_pair labels[] = {{LABEL_MANAGED, "true"}, {LABEL_PURPOSE, "runtime"}};
    const struct docker_mount mount = {.type = DOCKER_MOUNT_VOLUME, .source = volume, .target = MOUNTED};
    struct docker_container_spec *s = NEW(struct docker_container_spec);

    *s = (struct docker_container_spec){.image = EMPTY_REPO ":" EMPTY_TAG,
                                        .command = command,
                                        .n_command = 1,
                                        .labels = labels,
                                        .n_labels = ARRAY_LEN(labels),
                                        .mounts = &mount,
                                        .n_mounts = 1,
                                        .network = "none"};
    int rc = provide_image(k, deadline, err);
    if (rc >= 0)
        rc = docker_container_create(k->w->docker, s, ret_id, deadline, err);
    free(s);
    return rc;
}

static int fill(struct contain *k, const char *volume, struct str tar, usec_t deadline, struct err *err)
{
    char id[DOCKER_ID_SIZE];
    struct docker_path_stat st = {0};
    int rc = runtime_helper(k, volume, id, deadline, err);

    if (rc < 0)
        return rc;
    rc = docker_archive_stat(k->w->docker, id, MOUNTED "/" COMPLETE, &st, deadline, err);
    docker_path_stat_release(&st);
    if (rc == -ERR_NOT_FOUND)
        rc = docker_archive_put(k->w->docker, id, MOUNTED, source_of_str, &tar, deadline, err);
    (void)docker_container_remove(k->w->docker, id, true, false, deadline_in(ENGINE_CALL), NULL);
    return rc;
}

static int provide(struct contain *k, usec_t deadline, struct err *err)
{
    AUTO_BUF tar = BUF_INIT(2 * PROGRAM_MAX + 64 * 1024);
    char hex[DIGEST_HEX_SIZE];
    int rc = pack(k, &tar, hex, err);

    if (rc < 0)
        return rc;
    AUTO_FREE char *name = str_printf("davit-runtime-%.*s", SHORT_HEX, hex);
    const struct docker_pair labels[] = {{LABEL_MANAGED, "true"}, {LABEL_PURPOSE, "runtime"}, {LABEL_RUNTIME, hex}};
    rc = docker_volume_ensure(k->w->docker, name, labels, ARRAY_LEN(labels), deadline, err);
    if (rc >= 0)
        rc = fill(k, name, buf_str(&tar), deadline, err);
    if (rc < 0)
        return rc;
    free(k->runtime_volume);
    k->runtime_volume = TAKE(name);
    return 0;
}

/* Is it still there? Somebody may have pruned it. */
static int is_there(struct contain *k, usec_t deadline, struct err *err)
{
    struct docker_volumes l = {0};
    int rc = docker_volume_list(k->w->docker, LABEL_PURPOSE "=runtime", &l, deadline, err);
    bool found = false;

    for (size_t i = 0; rc == 0 && i < l.n && k->runtime_volume; i++)
        found = found || strcmp(l.items[i].name, k->runtime_volume) == 0;
    docker_volumes_release(&l);
    return rc < 0 ? rc : found;
}

int runtime_provide(struct contain *k, usec_t deadline, struct err *err)
{
    while (k->runtime_busy) {
        int rc = event_wait(&k->runtime_done, deadline);
        if (rc < 0)
            return rc;
    }
    k->runtime_busy = true;
    int rc = k->runtime_volume ? is_there(k, deadline, err) : 0;
    if (rc == 0)
        rc = provide(k, deadline, err);
    k->runtime_busy = false;
    event_pulse(&k->runtime_done);
    return rc < 0 ? rc : 0;
}
