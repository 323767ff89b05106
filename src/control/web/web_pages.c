/* SPDX-License-Identifier: Apache-2.0 */
/* web_pages — see web_pages.h. */
#include "control/web/web_pages.h"

#include <string.h>

#include "control/control_internal.h"
#include "control/people/doors.h"
#include "control/people/exchange.h"
#include "control/work/files.h"
#include "control/web/front_pages.h"

enum { FIELDS_MAX = 16 };

static const char csp[] = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
                          "frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
static const char no_features[] = "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), hid=(), magnetometer=(), "
                                  "microphone=(), midi=(), payment=(), serial=(), usb=()";

/* --- Which file --- */

static int compare(struct str path, const char *other)
{
    size_t n = strlen(other), min = path.n < n ? path.n : n;
    int rc = min ? memcmp(path.p, other, min) : 0;
    return rc ? rc : (path.n > n) - (path.n < n);
}

static const struct asset *by_path(struct str path)
{
    size_t from = 0, to = n_assets;
    while (from < to) {
        size_t at = from + (to - from) / 2;
        int rc = compare(path, assets[at].path);
        if (rc == 0)
            return &assets[at];
        if (rc < 0)
            to = at;
        else
            from = at + 1;
    }
    return NULL;
}

const struct asset *web_pages_find(struct str path)
{
    const struct asset *found = by_path(path);
    if (found || (path.n && memchr(path.p, '.', path.n)))
        return found;
    return by_path(STR("/index.html"));
}

/* --- What the browser has and takes --- */

bool web_pages_takes_gzip(const char *list)
{
    struct str rest = str_from(list);
    while (rest.n) {
        struct str one = str_cut(&rest, ','), name = str_trim(str_cut(&one, ';'));
        if (!str_eq_ci(name, STR("gzip")))
            continue;
        struct str q = str_trim(one);
        return !str_eq(q, STR("q=0")) && !str_starts(q, STR("q=0.0"));
    }
    return false;
}

bool web_pages_has_etag(const char *list, const char *etag)
{
    struct str rest = str_from(list);
    if (str_eq(str_trim(rest), STR("*")))
        return true;
    while (rest.n) {
        struct str one = str_trim(str_cut(&rest, ','));
        if (str_starts(one, STR("W/")))
            one = (struct str){one.p + 2, one.n - 2};
        if (one.n && str_eq(one, str_from(etag)))
            return true;
    }
    return false;
}

/* --- Answers --- */

struct head {
    struct http_field fields[FIELDS_MAX];
    size_t n;
};

static void add(struct head *h, const char *name, const char *value)
{
    h->fields[h->n++] = (struct http_field){name, value};
}

static void guard(struct head *h)
{
    add(h, "content-security-policy", csp);
    add(h, "x-content-type-options", "nosniff");
    add(h, "x-frame-options", "DENY");
    add(h, "referrer-policy", "no-referrer");
    add(h, "cross-origin-opener-policy", "same-origin");
    add(h, "cross-origin-resource-policy", "same-origin");
    add(h, "permissions-policy", no_features);
}

static void plain(struct rpc_page *p, int status, struct str body)
{
    struct head h = {.n = 0};
    add(&h, "content-type", "text/plain");
    add(&h, "cache-control", "no-store");
    if (status == 405)
        add(&h, "allow", "GET, HEAD");
    guard(&h);
    if (rpc_page_begin(p, status, h.fields, h.n, body.n) == 0)
        (void)rpc_page_write(p, body);
}

static const char *host_of(const struct rpc_page *p)
{
    const char *h2 = rpc_page_field(p, ":authority");
    return h2 ? h2 : rpc_page_field(p, "host");
}

/* Only for the public name, which is one of this service: for an address browsers pass it over, and another name may have other services on other
 * ports, of plain HTTP. A browser that met our own certificate passes it over, too, so nobody is locked out. */
static bool is_public_name(const struct control *c, const char *host)
{
    struct str rest = str_from(host);
    return *text(c->opt.hostname) && str_eq_ci(str_cut(&rest, ':'), str_from(c->opt.hostname));
}

static void serve(const struct control *c, struct rpc_page *p, bool local, const struct asset *a)
{
    struct head h = {.n = 0};
    bool gzip = a->gzip.n && web_pages_takes_gzip(rpc_page_field(p, "accept-encoding"));
    bool same = web_pages_has_etag(rpc_page_field(p, "if-none-match"), a->etag);
    struct str body = same ? STR("") : gzip ? a->gzip : a->plain;
    if (!same)
        add(&h, "content-type", a->type);
    add(&h, "etag", a->etag);
    add(&h, "cache-control", a->immutable ? "public, max-age=31536000, immutable" : "no-cache");
    if (a->gzip.n)
        add(&h, "vary", "accept-encoding");
    if (gzip && !same)
        add(&h, "content-encoding", "gzip");
    guard(&h);
    if (!local && is_public_name(c, text(host_of(p))))
        add(&h, "strict-transport-security", "max-age=31536000");
    if (rpc_page_begin(p, same ? 304 : 200, h.fields, h.n, body.n) == 0 && body.n)
        (void)rpc_page_write(p, body);
}

static void answer(struct control *c, struct rpc_page *p, bool local)
{
    struct str rest = str_from(rpc_page_target(p)), path = str_cut(&rest, '?');
    const char *verb = rpc_page_method(p);
    const struct asset *a = web_pages_find(path);
    if (c->stopping)
        plain(p, 503, STR("the control plane is stopping\n"));
    else if (!doors_host_ok(c, local, host_of(p)))
        plain(p, 421, STR("this control plane is not called that; open it by its address, or by the name of davit up --hostname\n"));
    else if (exchange_wanted(p))
        exchange_page(p, c, local);
    else if (file_page_wanted(p))
        file_page(p, c, local);
    else if (!a)
        plain(p, 404, STR("there is nothing here\n"));
    else if (strcmp(verb, "GET") != 0 && strcmp(verb, "HEAD") != 0)
        plain(p, 405, STR("only GET and HEAD\n"));
    else
        serve(c, p, local, a);
}

/* What a server is installed and updated from. */
static bool is_of_front(const struct rpc_page *p)
{
    struct str rest = str_from(rpc_page_target(p)), path = str_cut(&rest, '?');
    return str_eq(path, STR("/install.sh")) || str_starts(path, STR("/releases/"));
}

void web_pages(struct rpc_page *page, void *ctx)
{
    struct control *c = ctx;
    if (is_of_front(page)) {
        front_page(page, ctx);
        return;
    }
    c->fibers++;
    answer(c, page, false);
    control_fiber_end(c);
}

void web_pages_local(struct rpc_page *page, void *ctx)
{
    struct control *c = ctx;
    c->fibers++;
    answer(c, page, true);
    control_fiber_end(c);
}
