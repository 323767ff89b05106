/* SPDX-License-Identifier: Apache-2.0 */
/* address — see address.h. The ranges are those of the IANA special-purpose registries. */
#include "control/servers/address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

#include "base/str.h"

struct range4 {
    uint32_t base;
    unsigned bits;
    enum address_kind kind;
};

static const struct range4 ranges4[] = {
    {0x00000000, 8, ADDRESS_NONE},     {0x0A000000, 8, ADDRESS_PRIVATE},  {0x64400000, 10, ADDRESS_TAILNET},
    {0x7F000000, 8, ADDRESS_LOCAL},    {0xA9FE0000, 16, ADDRESS_LOCAL},   {0xAC100000, 12, ADDRESS_PRIVATE},
    {0xC0000000, 24, ADDRESS_PRIVATE}, {0xC0000200, 24, ADDRESS_PRIVATE}, {0xC0A80000, 16, ADDRESS_PRIVATE},
    {0xC6120000, 15, ADDRESS_PRIVATE}, {0xC6336400, 24, ADDRESS_PRIVATE}, {0xCB007100, 24, ADDRESS_PRIVATE},
    {0xE0000000, 4, ADDRESS_NONE},     {0xF0000000, 4, ADDRESS_NONE},
};

static enum address_kind kind4(uint32_t a)
{
    for (size_t i = 0; i < ARRAY_LEN(ranges4); i++)
        if (((a ^ ranges4[i].base) >> (32 - ranges4[i].bits)) == 0)
            return ranges4[i].kind;
    return ADDRESS_GLOBAL;
}

static enum address_kind kind6(const uint8_t a[16])
{
    static const uint8_t tailnet[6] = {0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0};
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    static const uint8_t zero[15] = {0};
    if (memcmp(a, mapped, sizeof(mapped)) == 0)
        return kind4((uint32_t)a[12] << 24 | (uint32_t)a[13] << 16 | (uint32_t)a[14] << 8 | a[15]);
    if (memcmp(a, zero, sizeof(zero)) == 0)
        return a[15] == 1 ? ADDRESS_LOCAL : ADDRESS_NONE;
    if (memcmp(a, tailnet, sizeof(tailnet)) == 0)
        return ADDRESS_TAILNET;
    if ((a[0] & 0xfe) == 0xfc)
        return ADDRESS_PRIVATE;
    if (a[0] == 0xfe && (a[1] & 0xc0) == 0x80)
        return ADDRESS_LOCAL;
    if ((a[0] & 0xe0) != 0x20)
        return ADDRESS_NONE;
    if (a[0] == 0x20 && a[1] == 0x01 && a[2] == 0x0d && a[3] == 0xb8)
        return ADDRESS_PRIVATE;
    return ADDRESS_GLOBAL;
}

enum address_kind address_kind_of(const char *text)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (!text)
        return ADDRESS_NONE;
    if (inet_pton(AF_INET, text, &v4) == 1)
        return kind4(ntohl(v4.s_addr));
    if (inet_pton(AF_INET6, text, &v6) == 1)
        return kind6(v6.s6_addr);
    return ADDRESS_NONE;
}

void address_host(const char *peer, char dst[ADDRESS_SIZE])
{
    struct str s = str_from(peer);
    dst[0] = '\0';
    if (str_starts(s, STR("unix")))
        return;
    if (s.n && s.p[0] == '[') {
        struct str rest = {s.p + 1, s.n - 1};
        s = str_cut(&rest, ']');
    } else {
        const char *first = memchr(s.p, ':', s.n);
        if (first && !memchr(first + 1, ':', s.n - (size_t)(first + 1 - s.p)))
            s.n = (size_t)(first - s.p);
    }
    if (s.n < ADDRESS_SIZE)
        (void)str_copy(dst, ADDRESS_SIZE, s);
}

static void keep(char dst[ADDRESS_SIZE], const char *text)
{
    (void)str_copy(dst, ADDRESS_SIZE, str_from(text));
}

void address_public(const char *seen, const Davit__Common__V1__SystemInfo *system, char dst[ADDRESS_SIZE])
{
    dst[0] = '\0';
    if (address_kind_of(seen) == ADDRESS_GLOBAL)
        keep(dst, seen);
    else if (system && address_kind_of(system->looked_up_address) == ADDRESS_GLOBAL)
        keep(dst, system->looked_up_address);
}

static const char *lan_of(const Davit__Common__V1__SystemInfo *system)
{
    if (address_kind_of(system->default_route_address) > ADDRESS_LOCAL)
        return system->default_route_address;
    for (size_t i = 0; i < system->n_lan_addresses; i++)
        if (address_kind_of(system->lan_addresses[i]) > ADDRESS_LOCAL)
            return system->lan_addresses[i];
    return NULL;
}

const char *address_preferred(const char *user, const char *public_address, const Davit__Common__V1__SystemInfo *system,
                              char dst[ADDRESS_SIZE])
{
    dst[0] = '\0';
    if (user && *user) {
        keep(dst, user);
        return "user";
    }
    if (public_address && *public_address) {
        keep(dst, public_address);
        return "public";
    }
    if (!system)
        return "";
    const Davit__Common__V1__Tailscale *t = system->tailscale;
    if (t && t->installed && str_eq(str_from(t->state), STR("Running")) && address_kind_of(t->address) == ADDRESS_TAILNET) {
        keep(dst, t->address);
        return "tailnet";
    }
    const char *lan = lan_of(system);
    if (!lan)
        return "";
    keep(dst, lan);
    return "lan";
}

int address_reachable(char dst[ADDRESS_SIZE])
{
    struct ifaddrs *list = NULL;
    enum address_kind best = ADDRESS_PRIVATE;
    dst[0] = '\0';
    if (getifaddrs(&list) != 0)
        return 1;
    for (struct ifaddrs *i = list; i; i = i->ifa_next) {
        /* Links to agents are dialled by IPv4 first: an IPv6 address is not offered, for not every server has it. */
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || !(i->ifa_flags & IFF_UP))
            continue;
        struct sockaddr_in sin;
        memcpy(&sin, i->ifa_addr, sizeof(sin));
        enum address_kind kind = kind4(ntohl(sin.sin_addr.s_addr));
        if (kind > best && inet_ntop(AF_INET, &sin.sin_addr, dst, ADDRESS_SIZE))
            best = kind;
    }
    freeifaddrs(list);
    return dst[0] ? 0 : 1;
}
