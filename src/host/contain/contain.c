/* SPDX-License-Identifier: Apache-2.0 */
/* contain — see contain.h: life of the module, questions to the control plane, files. */
#include "host/contain/contain_internal.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"

enum { FILE_MAX = 1024 * 1024, DISK_QUEUE = 64 };
#define DISK_WAIT (30 * USEC_SEC)

/* --- Questions ---- */

struct ask {
    struct list node;
    uint64_t id;
    Davit__Link__V1__ControlMessage *answer;
    struct event done;
};

static const Davit__Common__V1__Failure *failure_of(const Davit__Link__V1__ControlMessage *m, uint64_t *ret_id)
{
    switch (m->body_case) {
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_CERTIFIED:
        *ret_id = m->sandbox_certified->request_id;
        return m->sandbox_certified->failure;
    case DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_EXCHANGED:
        *ret_id = m->sandbox_exchanged->request_id;
        return m->sandbox_exchanged->failure;
    default: *ret_id = m->sandbox_verdict->request_id; return m->sandbox_verdict->failure;
    }
}

static int judge_answer(struct ask *a, struct err *err)
{
    uint64_t id;
    const Davit__Common__V1__Failure *f = failure_of(a->answer, &id);

    if (!f)
        return 0;
    enum err_code code = f->code > 0 && f->code < ERR_CODE_MAX ? (enum err_code)f->code : ERR_UNKNOWN;
    int rc = err_set(err, code, "%s", f->message);
    if (*f->hint)
        err_hint(err, "%s", f->hint);
    return rc;
}

int contain_ask(struct contain *k, Davit__Link__V1__AgentMessage *m, uint64_t *id, usec_t deadline, Davit__Link__V1__ControlMessage **ret,
                struct err *err)
{
    struct ask a = {.id = ++k->last_ask};

    *ret = NULL;
    if (!k->linked)
        return err_set(err, ERR_UNAVAILABLE, "the control plane is not there");
    if (k->n_asks >= CONTAIN_ASKS)
        return err_set(err, ERR_EXHAUSTED, "too many questions wait for the control plane");
    *id = a.id;
    event_init(&a.done, k->loop);
    list_push(&k->asks, &a.node);
    k->n_asks++;
    work_send(k->w, m);
    int rc = event_wait(&a.done, deadline);
    list_remove(&a.node);
    k->n_asks--;
    event_release(&a.done);
    if (rc == 0 && !a.answer)
        rc = err_set(err, ERR_UNAVAILABLE, "the link to the control plane was lost");
    else if (rc == 0)
        rc = judge_answer(&a, err);
    else
        rc = err_set(err, (enum err_code)-rc, "the control plane did not answer in time");
    if (rc == 0)
        *ret = TAKE(a.answer);
    (void)rpc_message_free(a.answer);
    return rc;
}

int contain_wait_link(struct contain *k, usec_t deadline)
{
    while (!k->linked) {
        int rc = event_wait(&k->link_up, deadline);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* --- The link ---- */

static void linked(void *arg)
{
    struct contain *k = arg;

    k->linked = true;
    event_pulse(&k->link_up);
    if (k->watched)
        boxes_tell(k);
}

static void unlinked(void *arg)
{
    struct contain *k = arg;
    struct ask *a;

    k->linked = false;
    list_each (a, &k->asks, struct ask, node)
        event_signal(&a->done);
}

static void message(void *arg, const Davit__Link__V1__ControlMessage *m)
{
    struct contain *k = arg;
    ProtobufCMessage *copy = NULL;
    struct ask *a;
    uint64_t id = 0;

    if (m->body_case == DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_COUNT) {
        box_count(k, m->sandbox_count);
        return;
    }
    if (m->body_case == DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_ROOTS) {
        contact_told(k, m->sandbox_roots);
        return;
    }
    (void)failure_of(m, &id);
    /* A refusal reaches the asker as an error: it is heeded here. */
    if (m->body_case == DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_VERDICT && (id == 0 || m->sandbox_verdict->failure)) {
        struct box *b = box_find(k, m->sandbox_verdict->sandbox_id);
        if (b)
            box_verdict(b, m->sandbox_verdict);
        if (id == 0)
            return;
    }
    list_each (a, &k->asks, struct ask, node) {
        if (a->id != id || a->answer || rpc_copy(&m->base, &copy) != 0)
            continue;
        a->answer = (Davit__Link__V1__ControlMessage *)copy;
        event_signal(&a->done);
        return;
    }
}

/* --- Files ---- */

struct file_job {
    char *path;
    const void *p;
    size_t n;
    struct buf *out; /* to be read into */
    struct err err;
};

static int file_main(void *arg)
{
    struct file_job *j = arg;

    if (j->out)
        return fd_read_file(j->path, j->out, &j->err);
    if (j->p)
        return fd_write_file(j->path, j->p, j->n, 0600, &j->err);
    if (unlink(j->path) < 0 && errno != ENOENT)
        return err_sys(&j->err, errno, "%s", j->path);
    return 0;
}

static int on_disk(struct contain *k, const char *name, const void *p, size_t n, struct buf *out, struct err *err)
{
    AUTO_FREE char *path = *name == '/' ? str_dup(str_from(name)) : str_printf("%s/%s", k->folder, name);
    struct file_job j = {.path = path, .p = p, .n = n, .out = out};
    int rc = lane_call(k->disk, file_main, &j, deadline_in(DISK_WAIT));

    if (rc < 0 && err)
        *err = j.err;
    return rc < 0 ? err_ensure(err, rc) : 0;
}

int contain_read(struct contain *k, const char *name, struct buf *out, struct err *err)
{
    return on_disk(k, name, NULL, 0, out, err);
}

int contain_write(struct contain *k, const char *name, const void *p, size_t n, struct err *err)
{
    return on_disk(k, name, p, n, NULL, err);
}

/* --- Life ---- */

/* The folder of this program; of an update's that has it alone, where it was installed. */
static char *own_folder(void)
{
    static const char *const installed[] = {"/usr/local/bin", "/usr/bin"};
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

    path[n > 0 ? n : 0] = '\0';
    char *folder = str_dup(str_from(dirname(path)));
    AUTO_FREE char *beside = str_printf("%s/davit-init", folder);
    for (size_t i = 0; i < ARRAY_LEN(installed) && access(beside, R_OK) < 0; i++) {
        AUTO_FREE char *other = str_printf("%s/davit-init", installed[i]);
        if (access(other, R_OK) < 0)
            continue;
        free(folder);
        return str_dup(str_from(installed[i]));
    }
    return folder;
}

int contain_new(const struct contain_config *config, struct contain **ret, struct err *err)
{
    struct contain *k = NEW(struct contain);

    *k = (struct contain){.loop = config->loop,
                          .w = config->work,
                          .folder = str_dup(str_from(config->folder)),
                          .self = config->self ? str_dup(str_from(config->self)) : NULL,
                          .runtime_dir = config->runtime_dir ? str_dup(str_from(config->runtime_dir)) : own_folder(),
                          .boxes = hmap_new(CONTAIN_MAX),
                          .disk = lane_new(config->loop, "sandboxes", 1, DISK_QUEUE)};
    list_init(&k->asks);
    event_init(&k->link_up, k->loop);
    event_init(&k->runtime_done, k->loop);
    event_init(&k->relay_idle, k->loop);
    int rc = fd_mkdir_p(k->folder, 0700, err);
    if (rc == 0)
        rc = contact_new(k, &k->contact, err);
    if (rc == 0 && config->key)
        rc = seal_load(config->key, &k->seal, err);
    if (rc < 0) {
        (void)contain_free(k);
        return rc;
    }
    boxes_load(k);
    k->extension = (struct work_extension){.arg = k,
                                           .command = sandbox_command,
                                           .attach = sandbox_attach,
                                           .fill = sandbox_fill,
                                           .linked = linked,
                                           .unlinked = unlinked,
                                           .message = message};
    work_extend(k->w, &k->extension);
    box_watch_start(k);
    *ret = k;
    return 0;
}

int contain_stop(struct contain *k, usec_t deadline)
{
    if (!k)
        return 0;
    unlinked(k);
    return relay_stop(k, deadline);
}

struct contain *contain_free(struct contain *k)
{
    struct hmap_entry *e;

    if (!k)
        return NULL;
    work_extend(k->w, NULL);
    while ((e = hmap_first(k->boxes)) != NULL)
        box_drop(hmap_value(e));
    k->boxes = hmap_free(k->boxes);
    k->contact = contact_free(k->contact);
    k->disk = lane_free(k->disk);
    event_release(&k->link_up);
    event_release(&k->runtime_done);
    event_release(&k->relay_idle);
    for (size_t i = 0; i < ARRAY_LEN(k->relay_at); i++)
        free(k->relay_at[i]);
    k->seal = seal_free(k->seal);
    free(k->runtime_volume);
    free(k->unfenced);
    free(k->folder);
    free(k->runtime_dir);
    free(k->self);
    free(k);
    return NULL;
}
