/* SPDX-License-Identifier: Apache-2.0 */
/* doors — see doors.h. */
#include "control/people/doors.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "control/people/exchange.h"
#include "control/people/people.h"

/* --- Names --- */

/* "name:port", "[::1]:port" or without: the name, "" where it is none. */
static void name_of(const char *host, char dst[256])
{
    struct str s = str_from(host), name;
    dst[0] = '\0';
    if (s.n && *s.p == '[') {
        s = (struct str){s.p + 1, s.n - 1};
        if (!memchr(s.p, ']', s.n))
            return;
        name = str_cut(&s, ']');
        if (s.n && *s.p != ':')
            return;
        s = s.n ? (struct str){s.p + 1, s.n - 1} : s;
    } else {
        name = str_cut(&s, ':');
    }
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return;
    if (name.n < 256)
        (void)str_copy(dst, 256, name);
}

static bool is_address(const char *name)
{
    uint8_t addr[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, name, addr) == 1 || inet_pton(AF_INET6, name, addr) == 1;
}

/* This machine's, and with .local as machines of a network call each other. */
static bool is_own_name(struct str name)
{
    char own[256] = "";
    if (gethostname(own, sizeof(own) - 1) != 0 || !*own)
        return false;
    struct str self = str_from(own);
    if (str_eq_ci(name, self))
        return true;
    struct str first = str_cut(&name, '.');
    return str_eq_ci(name, STR("local")) && str_eq_ci(first, self);
}

bool doors_host_ok(const struct control *c, bool local, const char *host)
{
    char name[256], advertised[ADDRESS_SIZE] = "";
    name_of(text(host), name);
    struct str s = str_from(name);
    if (s.n == 0)
        return false;
    if (str_eq_ci(s, STR("localhost")) || str_eq(s, STR("127.0.0.1")) || str_eq(s, STR("::1")))
        return true;
    if (local)
        return false;
    address_host(text(c->opt.advertise), advertised);
    return is_address(name) || str_eq_ci(s, str_from(text(c->opt.hostname))) || (*advertised && str_eq_ci(s, str_from(advertised))) ||
           is_own_name(s);
}

bool doors_page_ok(bool local, const char *host, const char *origin, const char *site)
{
    if (site && strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0)
        return false;
    if (!origin)
        return true;
    const struct str scheme = local ? STR("http://") : STR("https://");
    struct str o = str_from(origin);
    return str_starts(o, scheme) && str_eq_ci((struct str){o.p + scheme.n, o.n - scheme.n}, str_from(text(host)));
}

/* --- Cookies --- */

static struct str cookie_name(bool local)
{
    return local ? STR("davit") : STR("__Host-davit");
}

struct str doors_cookie(const struct rpc_call *call, bool local)
{
    struct str found = STR("");
    const char *value;
    unsigned n = 0;
    for (size_t i = 0; (value = rpc_call_metadata_at(call, "cookie", i)) != NULL; i++) {
        struct str rest = str_from(value);
        while (rest.n) {
            struct str one = str_trim(str_cut(&rest, ';')), name = str_cut(&one, '=');
            if (!str_eq(name, cookie_name(local)))
                continue;
            found = one;
            n++;
        }
    }
    /* Two of one name: somebody else put one there, and which is ours nobody knows. */
    return n == 1 ? found : STR("");
}

void doors_set_cookie(bool local, const char *secret, char dst[DOOR_COOKIE_SIZE])
{
    struct str name = cookie_name(local);
    (void)snprintf(dst, DOOR_COOKIE_SIZE, STR_FMT "=%s; Path=/; HttpOnly; SameSite=Strict; Max-Age=%llu%s", STR_ARG(name), text(secret),
                   secret ? (unsigned long long)(SESSION_LIFE / USEC_SEC) : 0ULL, local ? "" : "; Secure");
}

/* --- Calls --- */

static const char *once(const struct rpc_call *call, const char *name, bool *ret_twice)
{
    *ret_twice = *ret_twice || rpc_call_metadata_at(call, name, 1) != NULL;
    return rpc_call_metadata(call, name);
}

int doors_judge_page(const struct control *c, const struct rpc_call *call, bool local, struct err *err)
{
    bool twice = false;
    const char *h2 = once(call, ":authority", &twice), *h1 = once(call, "host", &twice), *host = h2 ? h2 : h1;
    const char *origin = once(call, "origin", &twice), *site = once(call, "sec-fetch-site", &twice);
    if (twice)
        return err_set(err, ERR_DENIED, "a field that may come once came twice");
    if (!doors_host_ok(c, local, host)) {
        (void)err_set(err, ERR_DENIED, "this control plane is not called \"%.100s\"", text(host));
        err_hint(err, local ? "open it as 127.0.0.1 or localhost" : "open it by its address or by the name of davit up --hostname");
        return -(int)ERR_DENIED;
    }
    if (!doors_page_ok(local, host, origin, site))
        return err_set(err, ERR_DENIED, "pages of another origin may not make calls here");
    return 0;
}

static int not_in(struct err *err, const char *what, const char *hint)
{
    (void)err_set(err, ERR_UNAUTHENTICATED, "%s", what);
    err_hint(err, "%s", hint);
    return -(int)ERR_UNAUTHENTICATED;
}

/* *ret NULL: nothing was shown. A token that is none is not made up for by a cookie. */
int doors_find_pass(struct control *c, struct rpc_call *call, bool local, struct pass **ret, enum pass_scope *ret_scope, struct err *err)
{
    *ret = NULL;
    if (rpc_call_metadata(call, "authorization")) {
        const char *bearer = authz_bearer(call);
        struct err why = ERR_INIT;
        *ret = bearer ? passes_token(c->passes, str_from(bearer)) : NULL;
        if (!*ret && bearer && strchr(bearer, '.')) {
            *ret = exchange_pass(c, str_from(bearer), local, ret_scope, &why);
            return *ret ? 0 : not_in(err, why.msg, "POST /oauth2/token gives another for a session or an API token");
        }
        return *ret ? 0 : not_in(err, "this API token is not one that holds", "davit token add NAME makes one");
    }
    struct str cookie = doors_cookie(call, local);
    if (cookie.n)
        *ret = passes_session(c->passes, cookie, local);
    return 0;
}

int doors_judge(struct control *c, struct rpc_call *call, bool local, const struct rpc_method *method, struct err *err)
{
    enum pass_scope wanted = scope_of(method->scope);
    bool open = str_eq(str_from(method->scope), STR("public"));
    struct pass *pass = NULL;
    enum pass_scope limit = SCOPE_NONE;
    /* What is told here is for who asked; there is room for both. */
    (void)rpc_call_set_header(call, "cache-control", STR("no-store"));
    (void)rpc_call_set_header(call, "x-content-type-options", STR("nosniff"));
    int rc = doors_judge_page(c, call, local, err);
    if (rc == 0)
        rc = doors_find_pass(c, call, local, &pass, &limit, err);
    if (rc < 0)
        return rc;
    struct caller *k = passes_bind(c->passes, pass, call, local);
    k->exchanged = limit != SCOPE_NONE;
    k->scope = k->exchanged && limit < k->scope ? limit : k->scope;
    if (pass)
        rpc_call_vouch(call);
    if (open)
        return 0;
    if (wanted == SCOPE_NONE)
        return err_set(err, ERR_DENIED, "%s is not served here", method->name);
    if (!pass)
        return not_in(err, "you are not logged in", people_have_owner(c->people) ? "log in, or send an API token: authorization: Bearer davit_..."
                                                                                : "davit dashboard prints the link to begin with");
    if (k->scope < wanted)
        return err_set(err, ERR_DENIED, "%s \"%s\" has the scope %s, this needs %s", k->exchanged ? "the access token of" : "the API token",
                       pass->name, scope_name(k->scope), scope_name(wanted));
    return 0;
}
