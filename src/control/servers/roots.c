/* SPDX-License-Identifier: Apache-2.0 */
/* roots — see roots.h. */
#include "control/servers/roots.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "control/servers/credentials.h"
#include "control/servers/access.h"
#include "control/people/audit.h"
#include "control/link/links.h"
#include "control/people/oauth.h"
#include "control/sandboxes/sandboxes.h"

#define SPREAD (100 * USEC_MSEC) /* at most, between two servers that are asked */
#define END_RETRY USEC_MINUTE

enum { PIN_HEX = 2 * SPKI_HASH_SIZE };

static void pin_hex(const uint8_t pin[SPKI_HASH_SIZE], char dst[PIN_HEX + 1])
{
    str_hex(pin, SPKI_HASH_SIZE, dst);
}

static void take(struct control *c, const struct cert_roots *roots, struct str pem)
{
    struct server *s;
    c->roots = *roots;
    free(c->roots_pem);
    c->roots_pem = str_dup(pem);
    c->roots_end = roots->n > 1 ? pki_control_end(c->opt.state_dir) : 0;
    memcpy(c->pin, roots->v[0].pin, sizeof(c->pin));
    list_each(s, &c->servers, struct server, node) {
        s->roots_asked = 0;
        server_changed(s);
    }
}

/* Of a change that was over when the control plane did not run, and of what a crash left behind the end of one. */
static int finish_at_start(struct control *c, bool changing, struct err *err)
{
    struct key *key = NULL, *old = NULL;
    int rc = pki_control_finish(c->opt.state_dir, err);
    if (rc >= 0 && changing)
        rc = control_renew_leaf(c, err);
    if (rc >= 0)
        rc = access_load(c->opt.state_dir, &key, &old, err);
    if (rc < 0)
        return rc;
    access_take(c, key, old);
    c->roots_ended = changing;
    return 0;
}

int roots_start(struct control *c, struct err *err)
{
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    struct cert_roots roots;
    usec_t end = pki_control_end(c->opt.state_dir);
    int rc = pki_control_roots(c->opt.state_dir, &roots, err);
    if (rc == 0 && (roots.n == 1 || (end && clock_real() >= end)))
        rc = finish_at_start(c, roots.n > 1, err);
    if (rc == 0)
        rc = pki_read(c->opt.state_dir, "root.crt", &pem, err);
    if (rc == 0)
        rc = cert_roots_read(buf_str(&pem), &roots, err);
    if (rc == 0)
        take(c, &roots, buf_str(&pem));
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

/* --- What sandboxes have --- */

bool roots_sandbox_has_new(const struct sandbox *sb)
{
    const Davit__Common__V1__Sandbox *m = sb->state;
    char hex[PIN_HEX + 1];
    pin_hex(sb->control->roots.v[0].pin, hex);
    bool made = m->n_root_pins > 0 && strcmp(m->root_pins[0], hex) == 0;
    return made && (!m->session || strcmp(text(m->live_thumbprint), sb->thumbprint) == 0);
}

bool roots_sandbox_current(const struct sandbox *sb)
{
    const Davit__Common__V1__Sandbox *m = sb->state;
    const struct cert_roots *roots = &sb->control->roots;
    bool same = m->n_root_pins == roots->n && roots_sandbox_has_new(sb);
    for (size_t i = 0; same && i < roots->n; i++) {
        char hex[PIN_HEX + 1];
        pin_hex(roots->v[i].pin, hex);
        same = strcmp(m->root_pins[i], hex) == 0;
    }
    return same;
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
    if (c->roots.n > 1 && c->roots_end)
        (void)snprintf(c->warnings[n++], sizeof(c->warnings[0]),
                       "the root is being changed; in %" PRIu64 " hours the old one opens nothing any more, and %u server%s not got the new one"
                       " (davit auth rotate --status)",
                       c->roots_end > now ? (c->roots_end - now + USEC_HOUR - 1) / USEC_HOUR : 0, left, left == 1 ? " has" : "s have");
    else if (c->roots.n > 1 && left)
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
    struct buf pem;
    struct key *key, *old;
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
    if (rc >= 0)
        rc = access_load(j->c->opt.state_dir, &j->key, &j->old, &j->err);
    if (rc == 0)
        rc = pki_read(j->c->opt.state_dir, "root.crt", &j->pem, &j->err);
    return rc < 0 ? rc : cert_roots_read(buf_str(&j->pem), &j->roots, &j->err);
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

/* The listeners, the tokens that are made from now on, and the servers. */
static void arm(struct control *c);

static int take_effect(struct step *j)
{
    struct control *c = j->c;
    struct server *s;
    take(c, &j->roots, buf_str(&j->pem));
    access_take(c, TAKE(j->key), TAKE(j->old));
    oauth_take_keys(c->oauth);
    control_use_leaf(c);
    list_each(s, &c->servers, struct server, node)
        sandboxes_tell_roots(s);
    arm(c);
    return j->outcome;
}

static void step_release(struct step *j)
{
    j->key = key_free(j->key);
    j->old = key_free(j->old);
    buf_release(&j->pem);
}
#define STEP(...) CLEANUP(step_release) struct step j = {.err = ERR_INIT, .pem = BUF_INIT(CERT_PEM_MAX), __VA_ARGS__}

/* From its first file to the last listener: whoever asked for it may be gone by then, and a control plane that serves what its files do not say any
 * more would be reached by nobody. */
static int change(struct step *j, int (*fn)(void *arg), struct err *err)
{
    fiber_shield();
    int rc = on_lane(j, fn, err);
    if (rc >= 0)
        rc = take_effect(j);
    else if (j->err.code) /* who asked may be gone, and the files may be ahead of what is served until the next start */
        log_err(LOG_ERROR, &j->err, "the root could not be changed", NULL);
    fiber_unshield();
    return rc;
}

int roots_prepare(struct control *c, struct buf requests[PKI_AUTHORITIES], struct err *err)
{
    STEP(.c = c, .requests = requests);
    return on_lane(&j, prepare_on_lane, err);
}

int roots_begin(struct control *c, const struct pki_begin *b, struct err *err)
{
    STEP(.c = c, .begin = b);
    int rc = change(&j, begin_on_lane, err);
    if (rc < 0)
        return rc;
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
    STEP(.c = c);
    char present[PIN_HEX + 1];
    pin_hex(c->roots.v[0].pin, present);
    if (!str_eq(pin, str_from(present)))
        return err_set(err, ERR_PRECONDITION, "the root of this control plane is another one");
    if (c->roots.n == 1)
        return 1;
    int rc = force ? 0 : name_left_out(c, err);
    if (rc == 0)
        rc = change(&j, finish_on_lane, err);
    if (rc < 0)
        return rc;
    cut_left_out(c);
    if (rc == 0)
        log_event(LOG_NOTICE, "the root was changed: the old one opens nothing any more", NULL);
    ask(c);
    return rc;
}

/* --- The end that a change has by itself --- */

/* Nobody called for it: the log says who did. */
static void note_end(struct control *c)
{
    struct audit_record r = {.count = 1};
    char pin[PIN_HEX + 1];
    struct err none = ERR_INIT;
    pin_hex(c->roots.v[0].pin, pin);
    audit_who(&r, "davit://controlplane", "");
    audit_what(&r, "roots.end", pin);
    audit_how(&r, AUDIT_OK, &none);
    audit_note(c, &r);
}

static void end_fiber(void *arg)
{
    struct control *c = arg;
    char pin[PIN_HEX + 1];
    struct err err = ERR_INIT;
    pin_hex(c->roots.v[0].pin, pin);
    int rc = roots_finish(c, str_from(pin), true, &err);
    if (rc < 0) {
        log_err(LOG_ERROR, &err, "the old root should open nothing any more, and does", NULL);
        timer_set(&c->roots_timer, END_RETRY);
    } else if (rc == 0) {
        note_end(c);
    }
    control_fiber_end(c);
}

static void arm(struct control *c)
{
    usec_t now = clock_real(), wait = c->roots_end > now ? c->roots_end - now : 0;
    if (!c->roots_end || c->stopping)
        timer_stop(&c->roots_timer);
    else
        timer_set(&c->roots_timer, wait > USEC_HOUR ? USEC_HOUR : wait);
}

static void on_end(void *arg)
{
    struct control *c = arg;
    if (c->roots_end && clock_real() < c->roots_end)
        arm(c);
    else if (c->roots_end && !c->stopping && control_fiber(c, "roots-end", end_fiber, c) != 0)
        timer_set(&c->roots_timer, END_RETRY);
}

void roots_init(struct control *c)
{
    timer_init(&c->roots_timer, c->loop, on_end, c);
}

void roots_resume(struct control *c)
{
    if (c->roots_ended)
        note_end(c);
    arm(c);
}

void roots_stop(struct control *c)
{
    timer_stop(&c->roots_timer);
    access_take(c, NULL, NULL);
    free(c->roots_pem);
    c->roots_pem = NULL;
}
