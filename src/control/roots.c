/* SPDX-License-Identifier: Apache-2.0 */
/* roots — see roots.h. */
#include "control/roots.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "control/credentials.h"
#include "control/links.h"

#define SPREAD (100 * USEC_MSEC) /* at most, between two servers that are asked */

enum { PIN_HEX = 2 * SPKI_HASH_SIZE };

static void pin_hex(const uint8_t pin[SPKI_HASH_SIZE], char dst[PIN_HEX + 1])
{
    str_hex(pin, SPKI_HASH_SIZE, dst);
}

static void take(struct control *c, const struct cert_roots *roots)
{
    struct server *s;
    c->roots = *roots;
    memcpy(c->pin, roots->v[0].pin, sizeof(c->pin));
    list_each(s, &c->servers, struct server, node) {
        s->roots_asked = 0;
        server_changed(s);
    }
}

int roots_start(struct control *c, struct err *err)
{
    struct cert_roots roots;
    int rc = pki_control_roots(c->opt.state_dir, &roots, err);
    if (rc == 0)
        take(c, &roots);
    return rc;
}

/* --- What servers have --- */

static bool holds(const struct server *s, const struct cert_root *root)
{
    char hex[PIN_HEX + 1];
    pin_hex(root->pin, hex);
    return strstr(s->roots, hex) != NULL;
}

bool roots_known(const struct server *s)
{
    return *s->roots != '\0';
}

bool roots_has_new(const struct server *s)
{
    return holds(s, &s->control->roots.v[0]);
}

static size_t count(const struct server *s)
{
    return (strlen(s->roots) + 1) / (PIN_HEX + 1);
}

bool roots_has_old(const struct server *s)
{
    return count(s) > (roots_has_new(s) ? 1 : 0);
}

bool roots_left_out(const struct server *s)
{
    return !s->local && s->enrolled && !credentials_revoked(s) && !roots_has_new(s);
}

/* Has it exactly the present ones? */
static bool up_to_date(const struct server *s)
{
    const struct cert_roots *roots = &s->control->roots;
    for (size_t i = 0; i < roots->n; i++)
        if (!holds(s, &roots->v[i]))
            return false;
    return count(s) == roots->n;
}

/* An agent that does not say what it has may be asked once while there are two: whether it took them nobody would know. */
static bool is_to_ask(const struct server *s)
{
    unsigned asks = roots_known(s) ? ROOTS_ASKS : s->control->roots.n > 1;
    return s->link && !s->local && !s->rotate && s->roots_asked < asks && !up_to_date(s);
}

static struct server *next_to_ask(const struct control *c)
{
    struct server *s;
    list_each(s, &c->servers, struct server, node)
        if (is_to_ask(s))
            return s;
    return NULL;
}

static void ask_fiber(void *arg)
{
    struct control *c = arg;
    struct server *s;
    while (!c->stopping && (s = next_to_ask(c))) {
        s->roots_asked++;
        credentials_rotate(s, "the root of the control plane changes");
        if (fiber_sleep(rng_below(SPREAD)) < 0)
            break;
    }
    c->asking_roots = false;
    control_fiber_end(c);
}

static void ask(struct control *c)
{
    if (c->asking_roots || c->stopping || !next_to_ask(c))
        return;
    c->asking_roots = control_fiber(c, "roots", ask_fiber, c) == 0; /* else: the next Hello does it */
}

void roots_hello(struct server *s, const Davit__Link__V1__Hello *hello)
{
    char all[SERVER_ROOTS_SIZE] = "";
    size_t n = hello->n_root_pins <= CERT_ROOTS_MAX ? hello->n_root_pins : 0;
    for (size_t i = 0; i < n; i++) {
        char hex[PIN_HEX + 1];
        if (hello->root_pins[i].len != SPKI_HASH_SIZE) {
            all[0] = '\0';
            break;
        }
        pin_hex(hello->root_pins[i].data, hex);
        size_t at = strlen(all);
        (void)snprintf(all + at, sizeof(all) - at, "%s%s", i ? " " : "", hex);
    }
    (void)str_copy(s->roots, sizeof(s->roots), str_from(all));
    ask(s->control);
}

/* --- For people --- */

size_t roots_warn(struct control *c, char ***ret)
{
    usec_t now = clock_real(), end = c->roots.v[0].not_after;
    unsigned left = 0;
    size_t n = 0;
    struct server *s;
    list_each(s, &c->servers, struct server, node)
        left += roots_left_out(s);
    if (c->roots.n > 1 && left)
        (void)snprintf(c->warnings[n++], sizeof(c->warnings[0]),
                       "the root is being changed; %u server%s not got the new one yet: davit controlplane rotate-ca --status names %s", left,
                       left == 1 ? " has" : "s have", left == 1 ? "it" : "them");
    else if (c->roots.n > 1)
        (void)snprintf(c->warnings[n++], sizeof(c->warnings[0]),
                       "the root is being changed, and all servers have the new one: davit controlplane rotate-ca --finish ends it");
    if (end < clock_add(now, ROOTS_WARN))
        (void)snprintf(c->warnings[n++], sizeof(c->warnings[0]), "the root ends in %" PRIu64 " days: change it with davit controlplane rotate-ca",
                       end > now ? (end - now) / USEC_DAY : 0);
    for (size_t i = 0; i < n; i++)
        c->warning_ptrs[i] = c->warnings[i];
    *ret = c->warning_ptrs;
    return n;
}

/* --- Steps --- */

struct step {
    struct control *c;
    const struct pki_begin *begin;
    struct buf *requests;
    struct cert_roots roots;
    int outcome;
    struct err err;
};

static int prepare_on_lane(void *arg)
{
    struct step *j = arg;
    return pki_control_next(j->c->opt.state_dir, j->requests, &j->err);
}

/* What both ways of changing root.crt end with. */
static int settled(struct step *j, int rc)
{
    if (rc < 0)
        return rc;
    j->outcome = rc;
    rc = control_renew_leaf(j->c, &j->err);
    return rc < 0 ? rc : pki_control_roots(j->c->opt.state_dir, &j->roots, &j->err);
}

static int begin_on_lane(void *arg)
{
    struct step *j = arg;
    return settled(j, pki_control_begin(j->c->opt.state_dir, j->begin, &j->err));
}

static int finish_on_lane(void *arg)
{
    struct step *j = arg;
    return settled(j, pki_control_finish(j->c->opt.state_dir, &j->err));
}

/* One at a time. */
static int on_lane(struct step *j, int (*fn)(void *arg), struct err *err)
{
    struct control *c = j->c;
    if (c->changing_root)
        return err_set(err, ERR_ABORTED, "another call changes the root at this moment");
    c->changing_root = true;
    int rc = lane_call(c->fast, fn, j, deadline_in(STORE_WAIT));
    if (rc < 0 && err && j->err.code)
        *err = j->err;
    c->changing_root = false;
    return err_ensure(err, rc);
}

int roots_prepare(struct control *c, struct buf requests[PKI_AUTHORITIES], struct err *err)
{
    struct step j = {.c = c, .requests = requests, .err = ERR_INIT};
    return on_lane(&j, prepare_on_lane, err);
}

/* The listeners, the tokens that are made from now on, and the servers. */
static int take_effect(struct step *j)
{
    take(j->c, &j->roots);
    control_use_leaf(j->c);
    return j->outcome;
}

int roots_begin(struct control *c, const struct pki_begin *b, struct err *err)
{
    struct step j = {.c = c, .begin = b, .err = ERR_INIT};
    int rc = on_lane(&j, begin_on_lane, err);
    if (rc < 0)
        return rc;
    rc = take_effect(&j);
    if (rc == 0)
        log_event(LOG_NOTICE, "the root is being changed: both are believed", NULL);
    ask(c);
    return rc;
}

static int name_left_out(struct control *c, struct err *err)
{
    char names[ROOTS_LEFT_SHOWN * SERVER_NAME_SIZE + 32] = "";
    unsigned n = 0;
    struct server *s;
    list_each(s, &c->servers, struct server, node) {
        size_t at = strlen(names);
        if (!roots_left_out(s))
            continue;
        if (n < ROOTS_LEFT_SHOWN)
            (void)snprintf(names + at, sizeof(names) - at, "%s%s", n ? ", " : "", s->name);
        n++;
    }
    if (!n)
        return 0;
    (void)err_set(err, ERR_PRECONDITION, "%u server%s not got the new root: %s%s", n, n == 1 ? " has" : "s have", names,
                  n > ROOTS_LEFT_SHOWN ? ", ..." : "");
    err_hint(err, "have them connect first; --force locks them out, and they come back with a new token (davit server token NAME) only");
    return -(int)ERR_PRECONDITION;
}

/* Links that were let in with a certificate under the old root. */
static void cut_left_out(struct control *c)
{
    struct server *s;
    list_each(s, &c->servers, struct server, node)
        if (roots_left_out(s) && s->link)
            links_cut(s, "the root of the control plane was changed; this server has not got the new one");
}

int roots_finish(struct control *c, struct str pin, bool force, struct err *err)
{
    struct step j = {.c = c, .err = ERR_INIT};
    char present[PIN_HEX + 1];
    pin_hex(c->roots.v[0].pin, present);
    if (!str_eq(pin, str_from(present)))
        return err_set(err, ERR_PRECONDITION, "the root of this control plane is another one");
    if (c->roots.n == 1)
        return 1;
    int rc = force ? 0 : name_left_out(c, err);
    if (rc == 0)
        rc = on_lane(&j, finish_on_lane, err);
    if (rc < 0)
        return rc;
    rc = take_effect(&j);
    cut_left_out(c);
    if (rc == 0)
        log_event(LOG_NOTICE, "the root was changed: the old one opens nothing any more", NULL);
    ask(c);
    return rc;
}
