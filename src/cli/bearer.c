/* SPDX-License-Identifier: Apache-2.0 */
/* bearer — see bearer.h. */
#include "cli/bearer.h"

#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "cli/cli.h"
#include "ident/digest.h"
#include "ident/jwt_oauth.h"
#include "ident/pki_dir.h"

enum { ANSWER_MAX = 16 * 1024, FORM_MAX = 8 * 1024, ID_BYTES = 16 };
static const char CLIENT[] = "davit-cli";
static const usec_t POST_WAIT = 10 * USEC_SEC, FIRST_PAUSE = 100 * USEC_MSEC, PAUSE_MAX = 2 * USEC_SEC;

void bearer_release(struct bearer *b)
{
    b->token = secret_free(b->token);
    b->until = 0;
    b->from_file = false;
}

/* --- JSON --- */

/* A string member, in @dst; "" where there is none. */
struct member {
    const char *name;
    char *dst;
    size_t size;
    uint64_t *number; /* in place of text */
};

static int read_member(struct json *j, const struct member *m)
{
    struct str s;
    if (m->number)
        return json_read_u64(j, m->number, NULL);
    return json_read_str(j, &s, NULL) < 0 || s.n >= m->size || memchr(s.p, 0, s.n) ? -(int)ERR_INVALID : str_copy(m->dst, m->size, s);
}

static int read_object(struct str text, const struct member *members, size_t n)
{
    struct str name;
    enum json_type end = JSON_NULL;
    AUTO_JSON j;
    json_init(&j, text);
    int rc = json_enter(&j, JSON_OBJECT, NULL);
    while (rc == 0 && (rc = json_key(&j, &name, NULL)) == 1) {
        size_t k = 0;
        while (k < n && !str_eq(name, str_from(members[k].name)))
            k++;
        rc = k < n ? read_member(&j, &members[k]) : json_skip(&j, NULL);
    }
    return rc == 0 && json_next(&j, &end, NULL) == 0 && end == JSON_END ? 0 : -(int)ERR_INVALID;
}

/* It goes into a field of a request as it stands. */
static bool is_token(const char *s)
{
    if (!*s)
        return false;
    for (; *s; s++)
        if (*s <= 0x20 || *s > 0x7e)
            return false;
    return true;
}

int bearer_parse(struct str json, struct secret **ret_token, usec_t *ret_life, struct err *err)
{
    char token[BEARER_TOKEN_MAX + 1] = "", type[32] = "";
    uint64_t life = 0;
    const struct member members[] = {{"access_token", token, sizeof(token), NULL}, {"token_type", type, sizeof(type), NULL},
                                     {"expires_in", NULL, 0, &life}};
    bool ok = read_object(json, members, ARRAY_LEN(members)) == 0 && is_token(token) && str_eq_ci(str_from(type), STR("bearer")) && life > 0;
    if (ok) {
        *ret_token = secret_new(str_from(token));
        *ret_life = life < BEARER_LIFE_MAX / USEC_SEC ? life * USEC_SEC : BEARER_LIFE_MAX;
    }
    explicit_bzero(token, sizeof(token));
    return ok ? 0 : err_set(err, ERR_INVALID, "what the control plane gave is no token");
}

/* --- Kept for the next run --- */

static char *file_of(const struct cli *cli)
{
    return str_printf("%s/" TOKEN_FILE, cli->paths.config);
}

void bearer_drop(const struct cli *cli)
{
    AUTO_FREE char *path = file_of(cli);
    (void)unlink(path);
}

/* What does not fit is as if it was not there. */
static void load(struct cli *cli)
{
    struct bearer *b = &cli->bearer;
    AUTO_FREE char *path = file_of(cli);
    AUTO_SECRET_BUF text = BUF_INIT(BEARER_FILE_MAX);
    char token[BEARER_TOKEN_MAX + 1] = "", server[256] = "", certificate[sizeof(b->certificate)] = "";
    uint64_t until = 0;
    const struct member members[] = {{"token", token, sizeof(token), NULL},
                                     {"server", server, sizeof(server), NULL},
                                     {"certificate", certificate, sizeof(certificate), NULL},
                                     {"good_until", NULL, 0, &until}};
    usec_t now = clock_real() / USEC_SEC;
    BUG_ON(!buf_reserve(&text, BEARER_FILE_MAX));
    if (fd_read_file(path, &text, NULL) == 0 && read_object(buf_str(&text), members, ARRAY_LEN(members)) == 0 && is_token(token) &&
        str_eq(str_from(server), str_from(cli->settings.api)) && str_eq(str_from(certificate), str_from(b->certificate)) && until > now &&
        until <= now + BEARER_LIFE_MAX / USEC_SEC) {
        b->token = secret_new(str_from(token));
        b->until = until * USEC_SEC;
        b->from_file = true;
    }
    explicit_bzero(token, sizeof(token));
}

/* A directory that cannot be written costs the next run a request. */
static void keep(const struct cli *cli)
{
    const struct bearer *b = &cli->bearer;
    AUTO_FREE char *path = file_of(cli);
    AUTO_SECRET_BUF text = BUF_INIT(BEARER_FILE_MAX);
    struct jsonw w;
    BUG_ON(!buf_reserve(&text, BEARER_FILE_MAX));
    jsonw_init(&w, &text);
    jsonw_object(&w);
    jsonw_key(&w, "server"), jsonw_string(&w, cli->settings.api);
    jsonw_key(&w, "certificate"), jsonw_string(&w, b->certificate);
    jsonw_key(&w, "good_until"), jsonw_u64(&w, b->until / USEC_SEC);
    jsonw_key(&w, "token"), jsonw_str(&w, secret_reveal(b->token));
    jsonw_object_end(&w);
    if (jsonw_end(&w) == 0)
        (void)fd_write_file(path, text.data, text.len, 0600, NULL);
}

/* --- Asking --- */

/* The body of one request, with an assertion of its own. */
static int make_form(const struct key *key, const char *peer, struct buf *form, struct err *err)
{
    uint8_t bytes[ID_BYTES];
    char id[2 * ID_BYTES + 1];
    AUTO_FREE char *audience = str_printf("https://%s", peer);
    AUTO_SECRET_BUF assertion = BUF_INIT(JWS_MAX);
    BUG_ON(!buf_reserve(&assertion, JWS_MAX));
    rng_bytes(bytes, sizeof(bytes));
    str_hex(bytes, sizeof(bytes), id);
    int rc = assertion_make(key, CLIENT, audience, id, clock_real() / USEC_SEC * USEC_SEC, BEARER_ASSERTION, &assertion, err);
    if (rc < 0)
        return rc;
    /* Nothing in it needs to be escaped. */
    return buf_printf(form,
                      "grant_type=client_credentials&scope=admin&client_id=%s&client_assertion=" STR_FMT
                      "&client_assertion_type=urn%%3Aietf%%3Aparams%%3Aoauth%%3Aclient-assertion-type%%3Ajwt-bearer",
                      CLIENT, STR_ARG(buf_str(&assertion)));
}

static int refusal(unsigned status, struct str json, struct err *err)
{
    char code[64] = "", why[256] = "";
    const struct member members[] = {{"error", code, sizeof(code), NULL}, {"error_description", why, sizeof(why), NULL}};
    bool told = read_object(json, members, ARRAY_LEN(members)) == 0 && is_token(code);
    for (char *c = why; *c; c++)
        if (*c < 0x20 || *c > 0x7e)
            *c = '?';
    enum err_code kind = status == 503 || status == 429 ? ERR_UNAVAILABLE : ERR_UNAUTHENTICATED;
    (void)err_set(err, kind, "the control plane gives no token: %s%s%s (HTTP status %u)", told ? code : "it does not say why", *why ? ": " : "", why,
                  status);
    if (strcmp(why, ASSERTION_EARLY) == 0)
        err_hint(err, "the clock of this machine is ahead of the control plane's: set both right");
    else if (kind == ERR_UNAUTHENTICATED)
        err_hint(err, "`davit up` hands over the key again that tokens are asked for with");
    return -(int)kind;
}

/* One request. 0: there is a token now; 1: the control plane has no such thing; negative. */
static int ask(struct cli *cli, struct rpc_channel *ch, const struct key *key, usec_t deadline, struct err *err)
{
    struct bearer *b = &cli->bearer;
    const struct conn *conn = rpc_channel_conn(ch);
    AUTO_SECRET_BUF form = BUF_INIT(FORM_MAX), answer = BUF_INIT(ANSWER_MAX);
    usec_t life = 0, begin = clock_real();
    unsigned status = 0;
    BUG_ON(!buf_reserve(&form, FORM_MAX) || !buf_reserve(&answer, ANSWER_MAX));
    if (!conn)
        return err_set(err, ERR_UNAVAILABLE, "the connection was lost");
    int rc = make_form(key, conn_peer_addr(conn), &form, err);
    if (rc == 0)
        rc = rpc_channel_post(ch, "/oauth2/token", "application/x-www-form-urlencoded", buf_str(&form), deadline, &status, &answer, err);
    if (rc < 0)
        return rc;
    if (status == 404 || status == 405 || status == 415)
        return 1;
    if (status != 200)
        return refusal(status, buf_str(&answer), err);
    bearer_release(b);
    rc = bearer_parse(buf_str(&answer), &b->token, &life, err);
    if (rc < 0)
        return rc;
    b->until = begin + (life > 2 * BEARER_SPARE ? life - BEARER_SPARE : life / 2);
    keep(cli);
    return 0;
}

static int ask_until(struct cli *cli, struct rpc_channel *ch, const struct key *key, usec_t deadline, struct err *err)
{
    usec_t end = deadline_in(BEARER_TRY), pause = FIRST_PAUSE;
    if (deadline < end)
        end = deadline;
    for (;;) {
        usec_t one = deadline_in(POST_WAIT);
        int rc = ask(cli, ch, key, one < end ? one : end, err);
        if (rc != -(int)ERR_UNAVAILABLE || !rpc_channel_alive(ch) || clock_mono() + pause >= end)
            return rc;
        if ((rc = fiber_sleep(pause)) < 0)
            return err_ensure(err, rc);
        pause = pause * 2 < PAUSE_MAX ? pause * 2 : PAUSE_MAX;
    }
}

static int fetch(struct cli *cli, struct rpc_channel *ch, usec_t deadline, struct err *err)
{
    AUTO_FREE char *path = str_printf("%s/" PKI_ASSERTION ".key", cli->paths.config);
    AUTO_KEY key = NULL;
    int rc = key_load(path, &key, err);
    /* Set up by a version without: if this control plane wants a token, it says what to do. */
    if (rc == -(int)ERR_NOT_FOUND)
        rc = 1;
    if (rc == 0)
        rc = ask_until(cli, ch, key, deadline, err);
    if (rc == 1) {
        cli->bearer.none = true;
        if (err)
            *err = ERR_INIT;
        return 0;
    }
    return rc;
}

static int show(void *arg, struct rpc_channel *ch, usec_t deadline, const char **ret, struct err *err)
{
    struct cli *cli = arg;
    struct bearer *b = &cli->bearer;
    int rc = 0;
    if (!b->none && (!b->token || clock_real() >= b->until))
        rc = fetch(cli, ch, deadline, err);
    *ret = rc == 0 && b->token && !b->none ? secret_reveal(b->token).p : NULL;
    return rc;
}

/* --- In use --- */

void bearer_use(struct cli *cli, struct str certificate)
{
    AUTO_DIGEST d = digest_new();
    bearer_release(&cli->bearer);
    cli->bearer.none = false;
    digest_add(d, certificate.p, certificate.n);
    digest_hex(d, cli->bearer.certificate);
    load(cli);
    rpc_channel_set_bearer(cli->channel, show, cli);
}

bool bearer_refused(struct cli *cli)
{
    bool old = cli->bearer.from_file;
    bearer_drop(cli);
    bearer_release(&cli->bearer);
    return old;
}
