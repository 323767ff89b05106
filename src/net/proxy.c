/* SPDX-License-Identifier: Apache-2.0 */
/* proxy — see proxy.h. */
#include "net/proxy.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/secret.h"
#include "net/conn_internal.h"
#include "net/http.h"
#include "net/resolve.h"

enum { HOST_SIZE = 256, ADDR_BYTES = 16, READ_SIZE = 4096 };

struct proxy {
    unsigned refs;
    char *addr;
    char *credentials; /* for Proxy-Authorization, or NULL */
};

struct proxy *proxy_ref(struct proxy *p)
{
    p->refs++;
    return p;
}

struct proxy *proxy_unref(struct proxy *p)
{
    if (!p || --p->refs > 0)
        return NULL;
    if (p->credentials)
        explicit_bzero(p->credentials, strlen(p->credentials));
    free(p->credentials);
    free(p->addr);
    free(p);
    return NULL;
}

const char *proxy_addr(const struct proxy *p)
{
    return p->addr;
}

/* --- Who goes without ---- */

/* An address as 16 bytes, IPv4 mapped. Zone and brackets are none of it. */
static bool to_bytes(const char *host, uint8_t dst[ADDR_BYTES])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    memcpy(dst, mapped, sizeof(mapped));
    return inet_pton(AF_INET, host, dst + 12) == 1 || inet_pton(AF_INET6, host, dst) == 1;
}

static bool is_loopback(const char *host)
{
    static const uint8_t one[ADDR_BYTES] = {[15] = 1};
    uint8_t a[ADDR_BYTES];
    if (!to_bytes(host, a))
        return str_eq_ci(str_from(host), STR("localhost"));
    return memcmp(a, one, sizeof(one)) == 0 || (a[10] == 0xff && a[11] == 0xff && a[12] == 127);
}

static bool same_bits(const uint8_t *a, const uint8_t *b, size_t bits)
{
    size_t whole = bits / 8, rest = bits % 8;
    if (memcmp(a, b, whole) != 0)
        return false;
    return rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0;
}

/* @word is an address, or ADDRESS/BITS, that @host (an address) lies in. */
static bool address_fits(struct str word, const char *host)
{
    char text[HOST_SIZE];
    uint8_t net[ADDR_BYTES], own[ADDR_BYTES];
    struct str rest = word, address = str_cut(&rest, '/');
    uint64_t bits = 0;
    bool prefix = address.n < word.n;
    if (str_copy(text, sizeof(text), address) != 0 || !to_bytes(text, net) || !to_bytes(host, own))
        return false;
    bool v4 = strchr(text, '.') && !strchr(text, ':');
    if (prefix && str_to_u64(rest, v4 ? 32 : 128, &bits) != 0)
        return false;
    return same_bits(net, own, !prefix ? 128 : v4 ? (size_t)bits + 96 : (size_t)bits);
}

/* @word is @host or a name above it; a dot in front changes nothing. */
static bool name_fits(struct str word, const char *host)
{
    struct str h = str_from(host);
    while (word.n && (*word.p == '.' || *word.p == '*')) {
        word.p++;
        word.n--;
    }
    if (word.n == 0 || word.n > h.n)
        return false;
    struct str tail = {h.p + h.n - word.n, word.n};
    return str_eq_ci(tail, word) && (tail.p == h.p || tail.p[-1] == '.');
}

/* Takes ":port" off the end of @word: false if it is another port than @port. */
static bool port_fits(struct str *word, unsigned port)
{
    char text[HOST_SIZE], host[HOST_SIZE];
    unsigned own;
    const char *colon = memchr(word->p, ':', word->n);
    bool bracket = word->n && *word->p == '[';
    if (!bracket && (!colon || memchr(colon + 1, ':', word->n - (size_t)(colon + 1 - word->p))))
        return true; /* none, or an IPv6 address without brackets */
    if (str_copy(text, sizeof(text), *word) == 0 && net_split_hostport(text, host, &own) == 0) {
        if (own != port)
            return false;
        size_t n = strlen(host);
        *word = (struct str){word->p + (bracket ? 1 : 0), n};
    } else if (bracket && word->n > 2 && word->p[word->n - 1] == ']') {
        *word = (struct str){word->p + 1, word->n - 2};
    }
    return true;
}

static bool goes_without(const char *no_proxy, const char *host, unsigned port)
{
    struct str rest = str_from(no_proxy ? no_proxy : "");
    if (is_loopback(host))
        return true;
    while (rest.n) {
        struct str word = str_trim(str_cut(&rest, ','));
        if (str_eq(word, STR("*")))
            return true;
        if (word.n && port_fits(&word, port) && (address_fits(word, host) || name_fits(word, host)))
            return true;
    }
    return false;
}

/* --- Which ---- */

/* Percent-decoded into @out. */
static int unescape(struct str s, struct buf *out)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t byte = (uint8_t)s.p[i];
        size_t n = 0;
        if (byte == '%') {
            if (s.n - i < 3 || str_unhex((struct str){s.p + i + 1, 2}, &byte, 1, &n) < 0)
                return -(int)ERR_INVALID;
            i += 2;
        }
        if (byte < 0x20 || byte == 0x7f)
            return -(int)ERR_INVALID;
        int rc = buf_append_byte(out, byte);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* "user:password" of a URL becomes what the field Proxy-Authorization says. */
static int take_credentials(struct proxy *p, struct str s, struct err *err)
{
    AUTO_SECRET_BUF plain = BUF_INIT(PROXY_TEXT_MAX);
    struct str rest = s, user = str_cut(&rest, ':');
    int rc = unescape(user, &plain);
    if (rc == 0 && plain.len && memchr(plain.data, ':', plain.len))
        rc = -(int)ERR_INVALID; /* Basic has no way to say it */
    if (rc == 0)
        rc = buf_append_byte(&plain, ':');
    if (rc == 0)
        rc = unescape(rest, &plain);
    if (rc < 0)
        return err_set(err, ERR_INVALID, "HTTPS_PROXY: the credentials in it are malformed");
    p->credentials = str_base64(plain.data, plain.len);
    return 0;
}

static int parse(struct proxy *p, struct str s, struct err *err)
{
    char host[HOST_SIZE];
    unsigned port;
    if (s.n > PROXY_TEXT_MAX)
        return err_set(err, ERR_INVALID, "HTTPS_PROXY is longer than %d bytes", PROXY_TEXT_MAX);
    const char *scheme = memmem(s.p, s.n, "://", 3);
    if (scheme && !str_starts(s, STR("http://")))
        return err_set(err, ERR_UNIMPLEMENTED, "HTTPS_PROXY: only proxies of the kind http:// are spoken to");
    if (scheme)
        s = (struct str){s.p + 7, s.n - 7};
    while (s.n && s.p[s.n - 1] == '/')
        s.n--;
    const char *at = s.n ? memrchr(s.p, '@', s.n) : NULL;
    if (at) {
        int rc = take_credentials(p, (struct str){s.p, (size_t)(at - s.p)}, err);
        if (rc < 0)
            return rc;
        s = (struct str){at + 1, s.n - (size_t)(at + 1 - s.p)};
    }
    AUTO_FREE char *with = str_printf(STR_FMT ":80", STR_ARG(s));
    p->addr = str_dup(s);
    if (net_split_hostport(p->addr, host, &port) == 0)
        return 0;
    free(p->addr);
    p->addr = str_dup(str_from(with));
    return net_split_hostport(p->addr, host, &port) == 0 ? 0 : err_set(err, ERR_INVALID, "HTTPS_PROXY names no HOST:PORT");
}

int proxy_choose(const char *https_proxy, const char *no_proxy, const char *hostport, struct proxy **ret, struct err *err)
{
    char host[HOST_SIZE];
    unsigned port;
    struct str text = str_trim(str_from(https_proxy ? https_proxy : ""));
    *ret = NULL;
    if (text.n == 0)
        return 0;
    if (net_split_hostport(hostport, host, &port) < 0)
        return err_set(err, ERR_INVALID, "\"%s\" is no HOST:PORT", hostport);
    if (goes_without(no_proxy, host, port))
        return 0;
    struct proxy *p = NEW(struct proxy);
    p->refs = 1;
    int rc = parse(p, text, err);
    if (rc < 0)
        return proxy_unref(p), rc;
    *ret = p;
    return 0;
}

static const char *either(const char *lower, const char *upper)
{
    const char *value = getenv(lower);
    return value ? value : getenv(upper);
}

int proxy_from_env(const char *hostport, struct proxy **ret, struct err *err)
{
    return proxy_choose(either("https_proxy", "HTTPS_PROXY"), either("no_proxy", "NO_PROXY"), hostport, ret, err);
}

/* --- The dial ---- */

struct answer {
    int status;
    bool done;
};

static int on_head(void *arg, struct http_head *head)
{
    struct answer *a = arg;
    a->status = head->status;
    return 0;
}

static int on_body(void *arg, struct str bytes)
{
    (void)arg;
    (void)bytes;
    return 0;
}

static int on_end(void *arg)
{
    struct answer *a = arg;
    a->done = true;
    return 0;
}

/* The proxy's answer; what lies behind it belongs to nobody, since the client of TLS speaks first. */
static int read_answer(struct conn *c, struct answer *a, usec_t deadline, struct err *err)
{
    static const struct http_parser_handler handler = {on_head, on_body, on_end};
    char piece[READ_SIZE];
    int rc = 0;
    struct http_parser *p = http_parser_new(false, &handler, a);
    http_parser_no_body(p);
    while (rc == 0 && !a->done) {
        size_t n = 0, used = 0;
        rc = conn_read(c, piece, sizeof(piece), deadline, &n, err);
        if (rc == 0 && n == 0)
            rc = err_set(err, ERR_UNAVAILABLE, "the proxy closed the connection before it answered");
        if (rc == 0)
            rc = http_parser_feed(p, (struct str){piece, n}, &used, err);
        if (rc == 0 && a->done && a->status / 100 == 2 && used < n)
            rc = err_set(err, ERR_INVALID, "the proxy sent something behind its answer");
    }
    (void)http_parser_free(p);
    return rc;
}

static int ask(struct conn *c, const struct proxy *p, const char *hostport, usec_t deadline, struct err *err)
{
    AUTO_SECRET_BUF out = BUF_INIT(2 * PROXY_TEXT_MAX + 1024);
    struct answer a = {0};
    int rc = buf_printf(&out, "CONNECT %s HTTP/1.1\r\nhost: %s\r\nuser-agent: davit/" DAVIT_VERSION "\r\n", hostport, hostport);
    if (rc == 0 && p->credentials)
        rc = buf_printf(&out, "proxy-authorization: Basic %s\r\n", p->credentials);
    if (rc == 0)
        rc = buf_append_cstr(&out, "\r\n");
    if (rc < 0)
        return err_set(err, ERR_INVALID, "the request to the proxy is too long");
    rc = conn_write_wait(c, out.data, out.len, deadline, err);
    if (rc == 0)
        rc = read_answer(c, &a, deadline, err);
    if (rc < 0)
        return rc;
    if (a.status == 407 || a.status == 401) { /* tinyproxy says the latter to wrong ones */
        (void)err_set(err, ERR_DENIED, "it wants %s", p->credentials ? "other credentials" : "credentials");
        err_hint(err, "HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT, with what is not a letter or digit percent-encoded");
        return -(int)ERR_DENIED;
    }
    return a.status / 100 == 2 ? 0 : err_set(err, ERR_UNAVAILABLE, "it answered with status %d to CONNECT %s", a.status, hostport);
}

int proxy_dial(struct loop *loop, const struct proxy *p, const char *hostport, struct tls_ctx *tls, const char *server_name,
               usec_t deadline, struct conn **ret, struct err *err)
{
    char numeric[NET_ADDR_SIZE];
    struct conn *c = NULL;
    int rc = net_resolve(loop, p->addr, deadline, numeric, sizeof(numeric), err);
    if (rc == 0)
        rc = conn_dial(loop, numeric, NULL, NULL, deadline, &c, err);
    if (rc == 0)
        rc = ask(c, p, hostport, deadline, err);
    if (rc < 0) {
        (void)conn_close(c);
        return err_wrap(err, "the proxy at %s", p->addr);
    }
    conn_set_handler(c, NULL, NULL);
    if (tls)
        rc = conn_start_tls(c, tls, server_name, deadline, err);
    if (rc < 0)
        c = conn_close(c);
    *ret = c;
    return rc;
}
