/* SPDX-License-Identifier: Apache-2.0 */
/* auth — `davit auth rotate`: everything that proves who somebody is, made anew. Where the control plane runs it is a change of the root
 * (rotate_ca.h) with an end; where it does not, what it needs is made anew here, under the same root, so that it can. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/out.h"
#include "cli/rotate_ca.h"
#include "cli/up.h"
#include "ident/pki_dir.h"

static const usec_t POLL = 500 * USEC_MSEC;

struct rotate_options {
    struct cli_common common;
    bool now, status;
    usec_t overlap, wait;
};

#define AT(field) offsetof(struct rotate_options, field)
static const struct opt rotate_opts[] = {
    {.name = "now", .type = OPT_BOOL, .offset = AT(now),
     .help = "no overlap: as soon as all that is connected has the new, after --wait at the latest, the old opens nothing"},
    {.name = "overlap", .type = OPT_USEC, .offset = AT(overlap), .min = 1000000, .max = 7776000000000, .def = "7d", .arg = "TIME",
     .help = "so long old and new both work; then the old opens nothing"},
    {.name = "wait", .type = OPT_USEC, .offset = AT(wait), .max = 3600000000, .def = "30s", .arg = "TIME",
     .help = "how long to wait for servers and sandboxes that are connected"},
    {.name = "status", .type = OPT_BOOL, .offset = AT(status), .help = "tell who has not got the new, and change nothing"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

/* --- The control plane runs --- */

/* Those that get it without anybody's doing, and have not. */
static size_t waiting(const Davit__Control__V1__GetRootsResponse *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_servers; i++)
        n += !m->servers[i]->has_new && strcmp(m->servers[i]->state, "online") == 0;
    for (size_t i = 0; i < m->n_sandboxes; i++)
        n += !m->sandboxes[i]->has_new && m->sandboxes[i]->running;
    return n;
}

/* An old agent never says that it has it. */
static int wait_for_all(struct cli *cli, usec_t wait, struct err *err)
{
    usec_t deadline = deadline_in(wait);
    size_t last = 0;
    for (;;) {
        ProtobufCMessage *message = NULL;
        int rc = rotate_get(cli, &message, err);
        size_t n = rc == 0 ? waiting((const void *)message) : 0;
        rpc_message_free(message);
        if (rc < 0 || n == 0 || clock_mono() >= deadline)
            return rc;
        if (n != last)
            out_note(cli, "%zu of the servers and sandboxes that are connected %s not got the new yet", n, n == 1 ? "has" : "have");
        last = n;
        if ((rc = fiber_sleep(POLL)) < 0)
            return err_ensure(err, rc);
    }
}

static int rotate(struct cli *cli, const struct rotate_options *o, const Davit__Control__V1__GetRootsResponse *m, struct err *err)
{
    ProtobufCMessage *after = NULL;
    int rc = rotate_catch_up(cli, m->roots[0]->pin, err);
    if (rc < 0)
        return rc;
    if (m->n_roots > 1) {
        out_note(cli, "It is being changed already.");
    } else {
        rc = rotate_begin(cli, o->overlap, err);
        if (rc < 0)
            return rc;
        out_note(cli, "Root, intermediates, server certificate, and the keys of tokens and assertions are new; the old ones are believed beside them."
                      " Take a new backup.");
    }
    rc = wait_for_all(cli, o->wait, err);
    if (rc == 0 && o->now) {
        rc = rotate_get(cli, &after, err);
        if (rc == 0)
            rc = rotate_finish(cli, ((const Davit__Control__V1__GetRootsResponse *)(const void *)after)->roots[0]->pin, true, cli->json, err);
        rpc_message_free(after);
    }
    return rc < 0 ? rc : rotate_show(cli, err);
}

/* --- It does not --- */

static int tell_repaired(const struct cli *cli, const char *what)
{
    AUTO_FREE char *clean = out_clean(str_from(what));
    if (cli->json) {
        printf("{\"repaired\":true}\n");
        out_note(cli, "%s", clean);
        return 0;
    }
    if (*clean)
        printf("Found: %s\n", clean);
    printf("Intermediates, server certificate and the key of tokens are made anew under the same root, which servers and sandboxes"
           " still believe.\n"
           "`davit up` starts the control plane with them; `davit auth rotate` then changes the root as well.\n");
    return 0;
}

/* @why: what came of asking it. */
static int offline(struct cli *cli, const struct rotate_options *o, const struct err *why, struct err *err)
{
    AUTO_FREE char *lock = str_printf("%s/lock", cli->paths.state);
    struct err found = ERR_INIT;
    AUTO_FD int fd = -1;
    /* It runs, and does not answer; or it runs elsewhere. */
    if (access(cli->paths.state, F_OK) != 0 || fd_lock_file(lock, &fd, NULL) < 0) {
        *err = *why;
        return -(int)why->code;
    }
    if (pki_control_state(cli->paths.state, &found) > 0) {
        *err = *why;
        return -(int)why->code;
    }
    if (found.code == ERR_OK)
        (void)pki_control_check_leaf(cli->paths.state, &found);
    if (o->status && found.code != ERR_OK) {
        *err = found;
        return -(int)found.code;
    }
    if (o->status || (found.code == ERR_OK && !o->now)) {
        (void)err_set(err, ERR_PRECONDITION, "the control plane does not run; its keys and certificates belong together");
        err_hint(err, "davit up starts it; davit auth rotate then changes them while servers stay connected"
                      " (--now: here and at once, under the same root)");
        return -(int)ERR_PRECONDITION;
    }
    /* Made anew with a wrong clock, all of it would be wrong when the clock is right again. */
    if (found.reason && strcmp(found.reason, PKI_CLOCK) == 0 && !o->now) {
        *err = found;
        err_hint(err, PKI_CLOCK_CURE "; --now makes them anew all the same");
        return -(int)found.code;
    }
    int rc = pki_user_repair(cli->paths.config, cli->paths.state, err);
    if (rc == 0)
        rc = up_give(cli, err);
    return rc < 0 ? rc : tell_repaired(cli, found.msg);
}

static int run_rotate(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct rotate_options *o = options;
    ProtobufCMessage *message = NULL;
    struct err why = ERR_INIT;
    AUTO_FD int lock = -1;
    (void)operands;
    (void)n;
    if (o->status && o->now)
        return err_set(err, ERR_INVALID, "--status changes nothing: leave out the other one");
    int rc = o->status ? 0 : cli_lock(&cli->paths, &lock, err);
    if (rc < 0)
        return rc;
    if (rotate_get(cli, &message, &why) < 0)
        return offline(cli, o, &why, err);
    rc = o->status ? rotate_show(cli, err) : rotate(cli, o, (const void *)message, err);
    rpc_message_free(message);
    return rc;
}

static const struct verb subs[] = {
    {
        .name = "rotate",
        .usage = "[OPTIONS]",
        .about = "make CA, certificates and signing keys anew; old and new work side by side for a while",
        .example = "davit auth rotate\ndavit auth rotate --status\ndavit auth rotate --now",
        .opts = rotate_opts,
        .opts_size = sizeof(struct rotate_options),
        .run = run_rotate,
    },
    {.name = NULL},
};

const struct verb verb_auth = {
    .name = "auth",
    .group = "Control plane",
    .about = "rotate: the keys by which everybody knows everybody",
    .sub = subs,
};
