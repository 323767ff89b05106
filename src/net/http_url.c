/* SPDX-License-Identifier: Apache-2.0 */
/* http_url — URLs taken apart, and one GET of a URL that a user configured. */
#include <string.h>

#include "net/http_client.h"
#include "net/resolve.h"

int http_url_parse(const char *text, struct http_url *ret, struct err *err)
{
    struct str s = str_from(text);
    struct str scheme = STR("http://");
    ret->tls = str_starts(s, STR("https://"));
    if (ret->tls)
        scheme = STR("https://");
    else if (!str_starts(s, scheme))
        return err_set(err, ERR_INVALID, "\"%.100s\" is no http:// or https:// URL", text);
    s.p += scheme.n;
    s.n -= scheme.n;
    size_t n = strcspn(s.p, "/?#");
    struct str authority = {s.p, n};
    if (n == 0 || memchr(authority.p, '@', n) || str_copy(ret->host_field, 280, authority) != 0)
        return err_set(err, ERR_INVALID, "\"%.100s\": unusable host in the URL", text);
    ret->target = s.p[n] == '/' ? s.p + n : s.p[n] == '\0' ? "/" : NULL;
    if (!ret->target || strchr(ret->target, '#'))
        return err_set(err, ERR_INVALID, "\"%.100s\": unusable path in the URL", text);
    const char *colon = strrchr(ret->host_field, ':');
    bool port = colon && !strchr(colon, ']');
    AUTO_BUF full = BUF_INIT(sizeof(ret->hostport));
    unsigned number;
    if (buf_printf(&full, "%s%s", ret->host_field,
                   port       ? ""
                   : ret->tls ? ":443"
                              : ":80") != 0 ||
        str_copy(ret->hostport, sizeof(ret->hostport), buf_str(&full)) != 0 ||
        net_split_hostport(ret->hostport, ret->host, &number) != 0)
        return err_set(err, ERR_INVALID, "\"%.100s\": unusable host in the URL", text);
    return 0;
}

static int get(struct http_client *client, const char *target, struct buf *out, usec_t deadline, struct err *err)
{
    struct http_exchange *x = NULL;
    struct http_field accept = {"accept", "*/*"};
    struct http_request req = {.method = "GET", .target = target, .fields = &accept, .n_fields = 1};
    int rc = http_request(client, &req, deadline, &x, err);
    if (rc < 0)
        return rc;
    int status = http_head(x)->status;
    if (status == 200)
        rc = http_read_all(x, out, deadline, err);
    else
        rc = err_set(err, status == 404 ? ERR_NOT_FOUND : ERR_UNAVAILABLE, "the server answered with status %d", status);
    http_finish(x);
    return rc;
}

int http_get_url(struct loop *loop, const char *url, struct buf *out, usec_t deadline, struct err *err)
{
    struct http_url u = {0};
    int rc = http_url_parse(url, &u, err);
    if (rc < 0)
        return rc;
    char addr[NET_ADDR_SIZE];
    rc = net_resolve(loop, u.hostport, deadline, addr, sizeof(addr), err);
    if (rc < 0)
        return rc;
    struct tls_ctx *tls = NULL;
    if (u.tls) {
        struct tls_config config = {.verify_host = u.host, .alpn = "http/1.1"};
        rc = tls_ctx_new(&config, &tls, err);
        if (rc < 0)
            return rc;
    }
    struct http_client *client = http_client_new(loop, addr, u.host_field, tls);
    rc = get(client, u.target, out, deadline, err);
    http_client_free(client);
    tls_ctx_unref(tls);
    return rc < 0 ? err_wrap(err, "%.100s", url) : 0;
}
