/* SPDX-License-Identifier: Apache-2.0 */
/* registry_name — see registry_name.h. */
#include "spec/registry_name.h"

#include <string.h>

enum { HOST_MAX = 253, PORT_MAX = 65535 };

static const char *const hubs[] = {"", "docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"};

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static void normalise(struct str s, char dst[REGISTRY_NAME_SIZE])
{
    (void)str_copy(dst, REGISTRY_NAME_SIZE, s);
    for (char *p = dst; *p; p++)
        *p = lower(*p);
    for (size_t i = 0; i < sizeof(hubs) / sizeof(hubs[0]); i++)
        if (strcmp(dst, hubs[i]) == 0)
            (void)str_copy(dst, REGISTRY_NAME_SIZE, STR(REGISTRY_HUB));
}

static bool alnum(char c)
{
    return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z');
}

static bool is_server(struct str s)
{
    struct str port = s;
    struct str host = str_cut(&port, ':');
    uint64_t n = 1;
    if (!host.n || host.n > HOST_MAX || !alnum(host.p[0]) || !alnum(host.p[host.n - 1]))
        return false;
    for (size_t i = 0; i < host.n; i++)
        if (!alnum(host.p[i]) && host.p[i] != '-' && host.p[i] != '.')
            return false;
    /* As in an image: without a dot and a port it would be a folder of the hub. */
    if (host.n == s.n && !memchr(host.p, '.', host.n) && !str_eq_ci(host, STR("localhost")))
        return false;
    return host.n == s.n || (port.n <= 5 && str_to_u64(port, PORT_MAX, &n) == 0 && n > 0);
}

static void drop_tail(struct str *s, struct str tail)
{
    if (str_ends(*s, tail))
        s->n -= tail.n;
}

int registry_name(struct str server, char dst[REGISTRY_NAME_SIZE], struct err *err)
{
    static const char *const schemes[] = {"https://", "http://"};
    struct str s = str_trim(server);
    for (size_t i = 0; i < 2; i++) {
        struct str scheme = str_from(schemes[i]);
        if (s.n > scheme.n && str_eq_ci((struct str){s.p, scheme.n}, scheme)) {
            s = (struct str){s.p + scheme.n, s.n - scheme.n};
            break;
        }
    }
    drop_tail(&s, STR("/"));
    drop_tail(&s, STR("/v1"));
    drop_tail(&s, STR("/v2"));
    if (s.n && memchr(s.p, '@', s.n)) { /* not shown again: it may be "user:password@host" */
        (void)err_set(err, ERR_INVALID, "server: a registry is named without who logs in");
        err_hint(err, "write host or host:port, and the user with --user");
        return -(int)ERR_INVALID;
    }
    if (s.n && !is_server(s)) {
        (void)err_set(err, ERR_INVALID, "server: \"%.*s\" is no registry", (int)(server.n < 80 ? server.n : 80), server.p ? server.p : "");
        err_hint(err, "write host or host:port, as in the image's name; leave it out for " REGISTRY_HUB);
        return -(int)ERR_INVALID;
    }
    normalise(s, dst);
    return 0;
}

void registry_of_image(struct str image, char dst[REGISTRY_NAME_SIZE], struct str *ret_written)
{
    struct str rest = image;
    struct str head = str_cut(&rest, '/');
    bool named = head.n < image.n && (memchr(head.p, '.', head.n) || memchr(head.p, ':', head.n) || str_eq_ci(head, STR("localhost")));
    if (!named)
        head = (struct str){"", 0};
    normalise(head, dst);
    if (ret_written)
        *ret_written = head;
}
