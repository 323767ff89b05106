/* SPDX-License-Identifier: Apache-2.0 */
/* restore — a control plane out of a backup, see controlplane.c. All is made beside the present state and changes places with it in one step,
 * so that a crash at any moment leaves the old state or the new one; the old one is kept. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/priv.h"
#include "cli/controlplane.h"
#include "cli/out.h"
#include "cli/plane.h"
#include "cli/proc.h"
#include "ident/cert.h"
#include "loop/child.h"
#include "store/archive.h"

#define AT(field) offsetof(struct restore_options, field)
const struct opt restore_opts[] = {
    {.name = "force", .type = OPT_BOOL, .offset = AT(force), .help = "also where a control plane is already; its state is kept beside"},
    {.name = "store", .type = OPT_STRING, .offset = AT(store), .arg = "ADDR",
     .help = "database to restore into, as in davit up --store (the one of the last davit up)"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static const usec_t RESTORE_WAIT = 3600 * USEC_SEC, START_WAIT = 30 * USEC_SEC, POLL_STEP = 100 * USEC_MSEC;

struct restore {
    struct cli *cli;
    struct cli_settings before; /* of the last davit up; those of cli are of the next */
    struct local old, local;    /* as they were started, and as they are to be; old borrows from before */
    struct archive_manifest m;
    bool has_user;
    bool was_running, new_keys;
    bool adopted; /* there was no cli.json, the backup has one */
    bool placed;  /* the new state is where the old one was */
    char *file, *fresh; /* the backup; the directory that becomes the state */
    char *kept, *kept_db; /* where the old state and the old tables are, "" or NULL: there were none */
    uint64_t now; /* seconds; the number in the names of what is kept, unused so far */
};

/* --- The user's files ------------------------------------------------------------------------------------------------------------- */

typedef int each_file(struct restore *r, struct str name, struct str content, struct err *err);

/* Calls @fn for the files of the part @part (0: the control plane's, 1: the user's). */
static int each(struct restore *r, int part, each_file *fn, struct err *err)
{
    struct archive_reader in = {0};
    struct str payload, name, content;
    char kind = 0;
    AUTO_FD int fd = open(r->file, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 ? err_sys(err, errno, "cannot open %s", r->file) : archive_open(&in, fd, err);

    for (int at = 0; rc == 0 && at <= part; at++) {
        while ((rc = archive_next(&in, &kind, &payload, err)) == 1) {
            if (kind != 'F' || at != part)
                continue;
            rc = archive_file(payload, &name, &content, err);
            if (rc < 0 || (rc = fn(r, name, content, err)) < 0)
                break;
        }
        if (rc == 0 && at < part)
            rc = archive_next_part(&in, err) == 1 ? 0 : err_set(err, ERR_DATA_LOSS, "the backup has no keys of the user");
    }
    archive_reader_release(&in);
    return rc < 0 ? rc : 0;
}

static int same_root(struct restore *r, struct str name, struct str content, struct err *err)
{
    AUTO_FREE char *path = str_printf("%s/root.crt", r->cli->paths.config);
    AUTO_BUF own = BUF_INIT(ARCHIVE_FILE_MAX);
    uint8_t ours[SPKI_HASH_SIZE], theirs[SPKI_HASH_SIZE];

    if (!str_eq(name, STR("root.crt")))
        return 0;
    /* The first one: a control plane whose root is being changed has two. */
    int rc = fd_read_file(path, &own, err);
    if (rc == 0)
        rc = cert_pem_pin(buf_str(&own), ours, err);
    if (rc < 0 || (cert_pem_pin(content, theirs, NULL) == 0 && memcmp(ours, theirs, sizeof(ours)) == 0))
        return rc;
    (void)err_set(err, ERR_PRECONDITION, "the backup belongs to another root key than %s", r->cli->paths.config);
    err_hint(err, "restore with another --home, or move that directory away first");
    return -ERR_PRECONDITION;
}

static int write_key(struct restore *r, struct str name, struct str content, struct err *err)
{
    if (str_eq(name, STR(SETTINGS_FILE))) /* see adopt */
        return 0;
    for (size_t i = 0; user_files[i]; i++) {
        if (!str_eq(name, str_from(user_files[i])))
            continue;
        AUTO_FREE char *path = str_printf("%s/%s", r->cli->paths.config, user_files[i]);
        return fd_write_file(path, content.p, content.n, str_ends(name, STR(".key")) ? 0600 : 0644, err);
    }
    return err_set(err, ERR_DATA_LOSS, "the backup has a file of a name that does not belong there");
}

static int check_keys(struct restore *r, struct err *err)
{
    AUTO_FREE char *path = str_printf("%s/root.crt", r->cli->paths.config);

    r->new_keys = access(path, F_OK) != 0;
    if (!r->new_keys)
        return each(r, 0, same_root, err);
    if (r->has_user)
        return 0;
    (void)err_set(err, ERR_PRECONDITION, "the backup was taken with --no-user-keys, and there are none in %s", r->cli->paths.config);
    err_hint(err, "put root.key, root.crt, cli.key and cli.crt of the user who took it there");
    return -ERR_PRECONDITION;
}

/* What is true of the old machine only is not taken over: an account that this program did not make here is not its to remove. */
static int take_settings(struct restore *r, struct str name, struct str content, struct err *err)
{
    struct cli_settings *s = &r->cli->settings;

    if (!str_eq(name, STR(SETTINGS_FILE)))
        return 0;
    if (cli_settings_parse(content, s, NULL) < 0)
        return err_set(err, ERR_DATA_LOSS, "what davit up was told cannot be read from the backup (" SETTINGS_FILE ")");
    free(s->mode);
    free(s->server);
    s->mode = r->before.mode ? str_dup(str_from(r->before.mode)) : NULL;
    s->server = r->before.server ? str_dup(str_from(r->before.server)) : NULL;
    s->made_user = r->before.made_user;
    s->systemd = r->before.systemd;
    r->adopted = true;
    return 0;
}

/* What davit up was told is kept like the keys: where there is some, it stays. Backups of before it was in them have none. */
static int adopt(struct restore *r, const struct restore_options *o, struct err *err)
{
    struct cli_settings *s = &r->cli->settings;
    AUTO_FREE char *path = str_printf("%s/" SETTINGS_FILE, r->cli->paths.config);
    int rc = r->has_user && access(path, F_OK) != 0 && errno == ENOENT ? each(r, 1, take_settings, err) : 0;

    if (rc == 0 && o->store) {
        free(s->store);
        s->store = *o->store ? str_dup(str_from(o->store)) : NULL;
    }
    local_init(&r->local, r->cli);
    return rc;
}

/* The settings are as they were when the new state did not get its place. */
static void undo_settings(struct restore *r)
{
    AUTO_FREE char *path = str_printf("%s/" SETTINGS_FILE, r->cli->paths.config);

    if (r->adopted)
        (void)unlink(path);
    else
        (void)cli_settings_save(&r->cli->paths, &r->before, NULL);
}

/* --- The state -------------------------------------------------------------------------------------------------------------------- */

/* What the child said on stderr: "davitd: MESSAGE", and perhaps "hint: HINT". */
static int child_error(const struct child_result *result, struct err *err)
{
    struct str rest = buf_str(&result->err), message = str_cut(&rest, '\n');
    enum err_code code = ERR_INTERNAL;

    for (enum err_code c = ERR_CANCELLED; c < ERR_CODE_MAX; c++)
        if (err_exit_status(c) == result->exit_status && c != ERR_UNKNOWN) {
            code = c;
            break;
        }
    if (str_starts(message, STR("davitd: ")))
        message = (struct str){message.p + 8, message.n - 8};
    (void)err_set(err, code, "%.*s", (int)(message.n < 400 ? message.n : 400), message.n ? message.p : "davitd ended without a word");
    if (str_starts(rest, STR("hint: ")))
        err_hint(err, STR_FMT, STR_ARG(str_trim((struct str){rest.p + 6, rest.n - 6})));
    return -(int)code;
}

/* The program that knows the data does the work, without the privileges that we may have. */
static int fill(struct restore *r, struct err *err)
{
    const struct cli_settings *set = &r->cli->settings;
    const char *argv[16] = {r->local.davitd.args[0], "--state-dir", r->fresh, "--restore", r->file};
    AUTO_FREE char *passfile = str_printf("PGPASSFILE=%s", getenv("PGPASSFILE") ? getenv("PGPASSFILE") : "");
    const char *const env[] = {"PATH=/usr/bin:/bin", "LC_ALL=C", passfile, NULL};
    struct child_spec spec = {.argv = argv, .env = env, .output_max = 4096};
    struct child_result result;
    size_t n = 5;
    uid_t uid;
    gid_t gid;

    if (mkdir(r->fresh, 0700) < 0)
        return err_sys(err, errno, "cannot make %s", r->fresh);
    if (set->store) {
        argv[n++] = "--store";
        argv[n++] = set->store;
    }
    if (geteuid() == 0 && priv_lookup(set->user, &uid, &gid, NULL) == 0) {
        if (chown(r->fresh, uid, gid) < 0)
            return err_sys(err, errno, "cannot give %s to the account of davitd", r->fresh);
        argv[n++] = "--user";
        argv[n++] = set->user;
    }
    int rc = child_run(r->cli->loop, &spec, deadline_in(RESTORE_WAIT), &result, err);
    if (rc < 0)
        return rc;
    if (result.exit_status != 0)
        rc = child_error(&result, err);
    struct str rest = buf_str(&result.out);
    r->kept_db = str_dup(str_cut(&rest, '\n'));
    child_result_release(&result);
    return rc;
}

/* The copy holds every secret of the control plane: it does not stay where it is of no use. */
static int no_place(struct restore *r, int sys, struct err *err)
{
    int rc = err_sys(err, sys, "%s cannot take the place of %s", r->fresh, r->cli->paths.state);
    err_hint(err, "this file system cannot do it in one step (is the directory a mount point?); restore with a --home on another one");
    (void)fd_remove_tree(r->fresh, NULL);
    return rc;
}

/* One step of the file system; only then the name of the old state says what it is. */
static int change_places(struct restore *r, struct err *err)
{
    const char *state = r->cli->paths.state;

    if (access(state, F_OK) != 0) {
        if (rename(r->fresh, state) < 0)
            return no_place(r, errno, err);
        r->placed = true;
        return fd_sync_parent(state, err);
    }
    if (renameat2(AT_FDCWD, r->fresh, AT_FDCWD, state, RENAME_EXCHANGE) < 0)
        return no_place(r, errno, err);
    r->placed = true;
    int rc = fd_sync_parent(state, err);
    if (rc == 0 && cli_dir_is_empty(r->fresh))
        return rmdir(r->fresh) < 0 ? err_sys(err, errno, "cannot remove %s", r->fresh) : 0;
    r->kept = str_printf("%s" RESTORE_KEPT "%" PRIu64, state, r->now);
    if (rc == 0 && rename(r->fresh, r->kept) < 0)
        return err_sys(err, errno, "cannot rename %s, which is the old state", r->fresh);
    return rc == 0 ? fd_sync_parent(state, err) : rc;
}

static int start_again(struct restore *r, struct err *err)
{
    usec_t deadline = deadline_in(START_WAIT);
    int rc = r->was_running ? proc_start(r->cli, r->placed ? &r->local.davitd : &r->old.davitd, err) : 0;

    while (rc == 0 && r->was_running && (rc = cli_connect(r->cli, err)) < 0) {
        if (clock_mono() > deadline || fiber_sleep(POLL_STEP) < 0)
            return rc;
        rc = 0;
    }
    return rc;
}

static int make_all(struct restore *r, bool new_settings, struct err *err)
{
    int rc = fill(r, err);

    if (rc == 0 && r->new_keys)
        rc = each(r, 1, write_key, err);
    if (rc == 0 && new_settings)
        rc = cli_settings_save(&r->cli->paths, &r->cli->settings, err);
    if (rc < 0) {
        (void)fd_remove_tree(r->fresh, NULL);
        (void)start_again(r, NULL);
        return rc;
    }
    rc = change_places(r, err);
    if (rc == 0)
        return start_again(r, err);
    if (!r->placed && new_settings)
        undo_settings(r);
    (void)start_again(r, NULL); /* whichever of the two is there */
    return rc;
}

/* --- The verb --------------------------------------------------------------------------------------------------------------------- */

static int look(struct restore *r, bool force, struct err *err)
{
    const char *state = r->cli->paths.state;
    AUTO_FD int fd = open(r->file, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 ? err_sys(err, errno, "cannot open %s", r->file) : archive_verify(fd, &r->m, &r->has_user, err);

    if (rc == 0 && !force && !cli_dir_is_empty(state)) {
        (void)err_set(err, ERR_EXISTS, "%s holds a control plane already", state);
        err_hint(err, "--force restores all the same and keeps the present state beside it");
        return -ERR_EXISTS;
    }
    if (rc == 0)
        rc = check_keys(r, err);
    return rc;
}

/* What a restore means; plain text that needs no escapes in JSON. */
static const char *const notes[] = {
    "Servers that were removed and tokens that were used or voided after the backup count again: remove and void them once more.",
    "The audit log ends where that of the backup ended, and goes on from there with the entry controlplane.restored.",
};

/* The path of the state is the user's: any bytes but "/" and NUL may be in a name of it. */
static void report_json(const struct restore *r, const char *at)
{
    AUTO_BUF out = BUF_INIT(65536);
    AUTO_FREE char *kept = r->kept ? out_clean(str_from(r->kept)) : NULL;
    bool plain = kept && str_is_utf8(str_from(r->kept));
    struct jsonw w;

    jsonw_init(&w, &out);
    jsonw_object(&w);
    jsonw_key(&w, "created");
    jsonw_string(&w, at);
    jsonw_key(&w, "version");
    jsonw_string(&w, r->m.version);
    jsonw_key(&w, "running");
    jsonw_bool(&w, r->was_running);
    jsonw_key(&w, "kept");
    if (kept)
        jsonw_string(&w, plain ? r->kept : kept);
    else
        jsonw_null(&w);
    jsonw_key(&w, "settings");
    jsonw_bool(&w, r->adopted);
    jsonw_key(&w, "notes");
    jsonw_array(&w);
    for (size_t i = 0; i < ARRAY_LEN(notes); i++)
        jsonw_string(&w, notes[i]);
    jsonw_array_end(&w);
    jsonw_object_end(&w);
    if (jsonw_end(&w) == 0)
        printf("%s\n", buf_cstr(&out));
}

static void report(const struct restore *r)
{
    char at[CLOCK_TEXT_SIZE];

    clock_format(r->m.created, 0, at);
    if (r->cli->json) {
        report_json(r, at);
        return;
    }
    printf("The control plane is as it was at %s.\n", at);
    if (r->kept)
        printf("The state from before is in %s.\n", r->kept);
    if (r->kept_db && *r->kept_db)
        printf("The tables from before are in %s.\n", r->kept_db);
    if (r->adopted)
        printf("What `davit up` was told is back too, in %s/" SETTINGS_FILE ".\n", r->cli->paths.config);
    for (size_t i = 0; i < ARRAY_LEN(notes); i++)
        printf("%s\n", notes[i]);
    if (!r->was_running)
        printf("`davit up` starts it.\n");
}

static int stop_davitd(struct restore *r, struct err *err)
{
    int rc = proc_stop(r->cli, &r->old.davitd, err);

    r->was_running = rc == 0;
    if (r->was_running)
        out_note(r->cli, "davitd is stopped while its state is replaced; containers go on");
    return rc < 0 ? rc : 0;
}

static int restore(struct restore *r, const struct restore_options *o, struct err *err)
{
    const struct cli_paths *at = &r->cli->paths;
    AUTO_FREE char *parent = str_dup(str_from(at->state));
    AUTO_FD int fd = -1;
    int rc = look(r, o->force, err);

    if (rc == 0)
        rc = adopt(r, o, err);
    *strrchr(parent, '/') = '\0';
    if (rc == 0)
        rc = fd_mkdir_p(at->config, 0700, err);
    if (rc == 0)
        rc = fd_mkdir_p(at->run, 0755, err);
    if (rc == 0 && access(parent, F_OK) != 0)
        rc = fd_mkdir_p(parent, 0755, err);
    if (rc == 0)
        rc = cli_lock(at, &fd, err);
    if (rc == 0)
        rc = stop_davitd(r, err);
    return rc < 0 ? rc : make_all(r, o->store || r->adopted, err);
}

/* Two restores in one second, and one that a kill left half done, do not share a name. */
static void choose_names(struct restore *r)
{
    const char *state = r->cli->paths.state;

    for (r->now = clock_real() / USEC_SEC;; r->now++) {
        AUTO_FREE char *kept = str_printf("%s" RESTORE_KEPT "%" PRIu64, state, r->now);
        free(r->fresh);
        r->fresh = str_printf("%s" RESTORE_FRESH "%" PRIu64, state, r->now);
        if (access(kept, F_OK) != 0 && access(r->fresh, F_OK) != 0)
            return;
    }
}

/* A process that runs is ended and started again by this program; a container has a verb for that. */
static int check_container(struct cli *cli, struct err *err)
{
    struct plane_look look;
    int rc = plane_mode(&cli->settings) ? plane_look(cli, &look, err) : 1;

    if (rc != 0 || look.state == DOCKER_STATE_UNKNOWN)
        return rc < 0 ? rc : 0;
    (void)err_set(err, ERR_PRECONDITION, "the control plane is in a container here");
    err_hint(err, "`davit down`, then again, then `davit up`");
    return -ERR_PRECONDITION;
}

int run_restore(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct restore_options *o = options;
    struct restore *r = NEW(struct restore);

    (void)n;
    r->cli = cli;
    local_init(&r->old, cli);
    r->before = cli->settings;
    choose_names(r);
    r->file = realpath(operands[0], NULL);
    int rc = r->file ? 0 : err_sys(err, errno, "cannot open %s", operands[0]);
    if (cli_settings_load(&cli->paths, &cli->settings, rc == 0 ? err : NULL) < 0 && rc == 0)
        rc = -(int)err->code;
    if (rc == 0)
        rc = check_container(cli, err);
    if (rc == 0)
        rc = restore(r, o, err);
    if (rc == 0)
        report(r);
    local_release(&r->local);
    local_release(&r->old);
    cli_settings_release(&r->before);
    free(r->file);
    free(r->fresh);
    free(r->kept);
    free(r->kept_db);
    free(r);
    return rc;
}
