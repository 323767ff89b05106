/* SPDX-License-Identifier: Apache-2.0 */
/* endpoint — see endpoint.h. */
#include "net/endpoint.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/str.h"
#include "loop/stream.h"

static bool has_upper(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] >= 'A' && s.p[i] <= 'Z')
            return true;
    return false;
}

static bool digits_only(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return true;
}

/* 0.0.0.0 and :: are for listening. */
static bool names_no_host(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    return (inet_pton(AF_INET, host, &v4) == 1 && v4.s_addr == INADDR_ANY) || (inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_UNSPECIFIED(&v6));
}

static int check_host(const struct endpoint *e, struct err *err)
{
    struct in_addr v4;
    struct str host = str_from(e->host), rest = host, last = host;
    if (names_no_host(e->host))
        return err_set(err, ERR_INVALID, "\"%s\" is where one listens; others need an address or a name of this machine", e->host);
    if (e->v6 || inet_pton(AF_INET, e->host, &v4) == 1)
        return 0;
    if (has_upper(host))
        return err_set(err, ERR_INVALID, "\"%s\" is to be written in lower case", e->host);
    if (!str_is_dns_name(host))
        return err_set(err, ERR_INVALID, "\"%s\" is neither a host name nor a numeric address", e->host);
    while (rest.n > 0)
        last = str_cut(&rest, '.');
    /* A name cannot end so: it is a slip in an IPv4 address. */
    return digits_only(last) ? err_set(err, ERR_INVALID, "\"%s\" is no IPv4 address", e->host) : 0;
}

/* Cuts @s into host and port; *ret_port.p is NULL where none is named. */
static int take_apart(const char *text, struct str *ret_host, struct str *ret_port, bool *ret_v6, struct err *err)
{
    struct str s = str_from(text);
    struct in6_addr any;
    *ret_port = (struct str){NULL, 0};
    *ret_v6 = text && inet_pton(AF_INET6, text, &any) == 1;
    if (*ret_v6) {
        *ret_host = s;
        return 0;
    }
    if (s.n > 0 && s.p[0] == '[') {
        struct str rest = {s.p + 1, s.n - 1};
        *ret_host = str_cut(&rest, ']');
        *ret_v6 = true;
        if (!memchr(s.p, ']', s.n) || (rest.n > 0 && rest.p[0] != ':'))
            return err_set(err, ERR_INVALID, "\"%.200s\" is no HOST[:PORT]", text);
        if (rest.n > 0)
            *ret_port = (struct str){rest.p + 1, rest.n - 1};
        return 0;
    }
    const char *colon = s.n > 0 ? memchr(s.p, ':', s.n) : NULL;
    *ret_host = colon ? (struct str){s.p, (size_t)(colon - s.p)} : s;
    if (colon)
        *ret_port = str_from(colon + 1);
    return 0;
}

int endpoint_parse(const char *text, struct endpoint *ret, struct err *err)
{
    struct in6_addr any;
    struct str host, port;
    uint64_t number = 0;
    *ret = (struct endpoint){0};
    int rc = take_apart(text, &host, &port, &ret->v6, err);
    if (rc < 0)
        return rc;
    if (host.n == 0)
        return err_set(err, ERR_INVALID, "\"%.200s\" names no host", text ? text : "");
    if (str_copy(ret->host, sizeof(ret->host), host) != 0)
        return err_set(err, ERR_INVALID, "\"%.80s...\" is too long for a host name", text);
    if (ret->v6 && inet_pton(AF_INET6, ret->host, &any) != 1)
        return err_set(err, ERR_INVALID, "\"%.200s\" is no IPv6 address", ret->host);
    if (port.p && (str_to_u64(port, 65535, &number) < 0 || number == 0))
        return err_set(err, ERR_INVALID, "\"%.200s\" has no port between 1 and 65535", text);
    ret->port = (unsigned)number;
    return check_host(ret, err);
}

static int check_listen(const char *value, bool tcp, struct err *err)
{
    uint64_t port = 0;
    int rc = listener_check(value, err);
    if (rc < 0 || !tcp)
        return rc;
    if (str_starts(str_from(value), STR("unix:")) || str_to_u64(str_from(strrchr(value, ':') + 1), 65535, &port) < 0 || port == 0)
        return err_set(err, ERR_INVALID, "\"%.200s\" has no port between 1 and 65535", value);
    return 0;
}

static bool is_loopback(struct str host)
{
    char plain[INET6_ADDRSTRLEN];
    struct in_addr v4;
    struct in6_addr v6;
    if (host.n > 2 && host.p[0] == '[')
        host = (struct str){host.p + 1, host.n - 2};
    if (str_copy(plain, sizeof(plain), host) != 0)
        return false;
    if (inet_pton(AF_INET, plain, &v4) == 1)
        return (ntohl(v4.s_addr) >> 24) == IN_LOOPBACKNET;
    return inet_pton(AF_INET6, plain, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static int check_local(const char *value, struct err *err)
{
    if (str_eq(str_from(value), STR("none")))
        return 0;
    int rc = listener_check(value, err);
    if (rc == 0 && !is_loopback((struct str){value, (size_t)(strrchr(value, ':') - value)}))
        return err_set(err, ERR_INVALID, "%.100s is not an address of loopback", value);
    return rc;
}

static int check_name(const char *value, struct err *err)
{
    struct endpoint e;
    int rc = endpoint_parse(value, &e, err);
    if (rc == 0 && (e.v6 || e.port))
        return err_set(err, ERR_INVALID, "\"%.200s\" is no name alone", value);
    return rc;
}

int endpoint_check(enum endpoint_kind kind, const char *option, const char *value, struct err *err)
{
    static const char *const forms[] = {
        [ENDPOINT_LISTEN] = "write ADDR:PORT, as 0.0.0.0:7442 or [::]:7442",
        [ENDPOINT_LISTEN_TCP] = "write ADDR:PORT, as 0.0.0.0:7442 or [::]:7442",
        [ENDPOINT_LOCAL] = "write an address of loopback, as 127.0.0.1:7441, or none: it is for this machine only",
        [ENDPOINT_REACH] = "write HOST or HOST:PORT, as cp.example.com, 203.0.113.7:7442 or [2001:db8::1]:7442",
        [ENDPOINT_NAME] = "write the name alone, as davit.example.com",
    };
    struct endpoint e;
    int rc = 0;
    if (!value || !*value)
        return 0;
    switch (kind) {
    case ENDPOINT_LISTEN: rc = check_listen(value, false, err); break;
    case ENDPOINT_LISTEN_TCP: rc = check_listen(value, true, err); break;
    case ENDPOINT_LOCAL: rc = check_local(value, err); break;
    case ENDPOINT_REACH: rc = endpoint_parse(value, &e, err); break;
    case ENDPOINT_NAME: rc = check_name(value, err); break;
    }
    if (rc < 0) {
        (void)err_wrap(err, "--%s", option);
        err_hint(err, "%s", forms[kind]);
    }
    return rc;
}
