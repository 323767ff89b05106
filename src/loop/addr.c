/* SPDX-License-Identifier: Apache-2.0 */
/* addr — numeric addresses as text. */
#include "loop/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <uv.h>

#include "base/str.h"

static int parse_unix(struct str path, struct addr *ret, struct err *err)
{
    if (path.n == 0 || path.p[0] != '/')
        return err_set(err, ERR_INVALID, "the path of a unix socket must be absolute");
    if (path.n >= sizeof(ret->un.sun_path))
        return err_set(err, ERR_INVALID, "the path of a unix socket has at most %zu bytes", sizeof(ret->un.sun_path) - 1);
    ret->is_unix = true;
    ret->un.sun_family = AF_UNIX;
    memcpy(ret->un.sun_path, path.p, path.n);
    return 0;
}

int addr_parse(const char *text, struct addr *ret, struct err *err)
{
    struct str s = str_from(text), host;
    char buf[64];
    uint64_t port;
    const char *colon;
    bool v6;
    int rc;

    memset(ret, 0, sizeof(*ret));
    if (str_starts(s, STR("unix:")))
        return parse_unix((struct str){s.p + 5, s.n - 5}, ret, err);
    colon = s.n > 0 ? strrchr(text, ':') : NULL;
    if (!colon)
        return err_set(err, ERR_INVALID, "\"%s\" is not host:port", text ? text : "");
    host = (struct str){s.p, (size_t)(colon - s.p)};
    v6 = host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
    if (v6)
        host = (struct str){host.p + 1, host.n - 2};
    if (str_to_u64(str_from(colon + 1), 65535, &port) < 0)
        return err_set(err, ERR_INVALID, "\"%s\" has no port between 0 and 65535", text);
    if (str_copy(buf, sizeof(buf), host) != 0)
        return err_set(err, ERR_INVALID, "the host in \"%s\" is too long", text);
    rc = v6 ? uv_ip6_addr(buf, (int)port, (struct sockaddr_in6 *)(void *)&ret->storage)
            : uv_ip4_addr(buf, (int)port, (struct sockaddr_in *)(void *)&ret->storage);
    if (rc < 0)
        return err_set(err, ERR_INVALID, "\"%s\" has no numeric host", text);
    return 0;
}

char *addr_text(const struct sockaddr *sa)
{
    char host[INET6_ADDRSTRLEN];

    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)sa;

        (void)inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        return str_printf("%s:%u", host, (unsigned)ntohs(in->sin_port));
    }
    if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)sa;
        unsigned port = ntohs(in6->sin6_port);

        if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
            (void)inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], host, sizeof(host));
            return str_printf("%s:%u", host, port);
        }
        (void)inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        return str_printf("[%s]:%u", host, port);
    }
    return str_printf("unix");
}
