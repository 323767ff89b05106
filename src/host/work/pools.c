/* SPDX-License-Identifier: Apache-2.0 */
/* pools — see pools.h. */
#include "host/work/pools.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"

enum { ROUTES_MAX_BYTES = 1024 * 1024, ROUTE_FIELDS = 8, TOLD_MAX = 3 };

static uint32_t mask(unsigned bits)
{
    return bits == 0 ? 0 : UINT32_MAX << (32 - bits);
}

static bool overlap(uint32_t a, unsigned a_bits, uint32_t b, unsigned b_bits)
{
    uint32_t m = mask(a_bits < b_bits ? a_bits : b_bits);
    return (a & m) == (b & m);
}

static void put_net(uint32_t base, unsigned bits, char dst[POOL_TEXT_SIZE])
{
    (void)snprintf(dst, POOL_TEXT_SIZE, "%u.%u.%u.%u/%u", base >> 24, base >> 16 & 255, base >> 8 & 255, base & 255, bits);
}

static bool read_address(struct str text, uint32_t *ret)
{
    char copy[INET_ADDRSTRLEN];
    struct in_addr addr;
    if (str_copy(copy, sizeof(copy), text) != 0 || inet_pton(AF_INET, copy, &addr) != 1)
        return false;
    *ret = ntohl(addr.s_addr);
    return true;
}

int pool_parse(struct str text, struct pool *ret, struct err *err)
{
    struct str rest = text, address = str_cut(&rest, '/'), bits = str_cut(&rest, '/');
    uint64_t b = 0, s = 0;
    uint32_t base = 0;
    if (read_address(address, &base) && str_to_u64(bits, 29, &b) == 0 && str_to_u64(rest, 29, &s) == 0 && b >= 8 && s >= b && s - b <= 16 &&
        (base & ~mask((unsigned)b)) == 0) {
        *ret = (struct pool){base, (unsigned)b, (unsigned)s};
        return 0;
    }
    (void)err_set(err, ERR_INVALID, "\"%.*s\" is no address pool", (int)(text.n < 40 ? text.n : 40), text.p);
    err_hint(err, "write NETWORK/BITS/SIZE, for example " POOL_DEFAULT ": networks of 24 bits out of 10.213.0.0/16");
    return -(int)ERR_INVALID;
}

/* --- What has addresses ---- */

void pool_nets_release(struct pool_nets *l)
{
    free(l->items);
    *l = (struct pool_nets){0};
}

static int add(struct pool_nets *l, uint32_t base, unsigned bits, const char *what, struct err *err)
{
    if (l->n >= POOL_NETS_MAX)
        return err_set(err, ERR_EXHAUSTED, "this server has more than %d networks, routes and addresses", POOL_NETS_MAX);
    if ((l->n & (l->n - 1)) == 0) /* 0, 1, 2, 4, 8 ... */
        l->items = mem_resize(l->items, l->n ? 2 * l->n : 1, sizeof(*l->items));
    struct pool_net *n = &l->items[l->n++];
    *n = (struct pool_net){.base = base & mask(bits), .bits = bits};
    (void)str_copy(n->what, sizeof(n->what), str_from(what));
    return 0;
}

int pool_nets_add(struct pool_nets *l, struct str cidr, const char *what, struct err *err)
{
    struct str bits = cidr, address = str_cut(&bits, '/');
    uint64_t b = 32;
    uint32_t base;
    if (!read_address(address, &base) || (bits.n > 0 && str_to_u64(bits, 32, &b) != 0) || b == 0)
        return 1;
    return add(l, base, (unsigned)b, what, err);
}

/* Eight hex digits, the bytes in the order of the network as this machine stores a number. */
static bool read_hex(struct str text, uint32_t *ret)
{
    uint32_t v = 0;
    if (text.n != 8)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        int digit = str_hex_digit(text.p[i]);
        if (digit < 0)
            return false;
        v = v << 4 | (uint32_t)digit;
    }
    *ret = ntohl(v);
    return true;
}

static int add_route(struct pool_nets *l, struct str line, struct err *err)
{
    struct str field[ROUTE_FIELDS];
    char what[POOL_WHAT_SIZE];
    uint32_t base, m;
    for (size_t i = 0; i < ROUTE_FIELDS; i++)
        field[i] = str_trim(str_cut(&line, '\t'));
    if (!field[0].n || field[0].n >= IFNAMSIZ || !read_hex(field[1], &base) || !read_hex(field[7], &m) || (~m & (~m + 1)) != 0)
        return err_set(err, ERR_INVALID, "a line of /proc/net/route is not understood");
    if (m == 0)
        return 0;
    (void)snprintf(what, sizeof(what), "route by %.*s", STR_ARG(field[0]));
    return add(l, base, (unsigned)__builtin_popcount(m), what, err);
}

int pool_nets_routes(struct pool_nets *l, struct str text, struct err *err)
{
    int rc = 0;
    (void)str_cut(&text, '\n'); /* names of the columns */
    while (rc == 0 && text.n > 0) {
        struct str line = str_cut(&text, '\n');
        if (str_trim(line).n > 0)
            rc = add_route(l, line, err);
    }
    return rc;
}

static int add_addresses(struct pool_nets *l, struct err *err)
{
    struct ifaddrs *all = NULL;
    int rc = 0;
    if (getifaddrs(&all) < 0)
        return err_sys(err, errno, "cannot list this machine's addresses");
    for (const struct ifaddrs *i = all; i && rc == 0; i = i->ifa_next) {
        struct sockaddr_in a, m;
        char what[POOL_WHAT_SIZE];
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || !i->ifa_netmask)
            continue;
        memcpy(&a, i->ifa_addr, sizeof(a));
        memcpy(&m, i->ifa_netmask, sizeof(m));
        (void)snprintf(what, sizeof(what), "address of %.40s", i->ifa_name);
        rc = add(l, ntohl(a.sin_addr.s_addr), (unsigned)__builtin_popcount(m.sin_addr.s_addr), what, err);
    }
    freeifaddrs(all);
    return rc;
}

int pool_nets_host(struct pool_nets *l, struct err *err)
{
    AUTO_BUF text = BUF_INIT(ROUTES_MAX_BYTES);
    int rc = fd_read_file("/proc/net/route", &text, err);
    if (rc == 0)
        rc = pool_nets_routes(l, buf_str(&text), err);
    return rc < 0 ? rc : add_addresses(l, err);
}

/* --- The choice ---- */

static const struct pool_net *in_the_way(const struct pool_nets *used, uint32_t base, unsigned bits)
{
    for (size_t i = 0; i < used->n; i++)
        if (overlap(base, bits, used->items[i].base, used->items[i].bits))
            return &used->items[i];
    return NULL;
}

static int exhausted(const struct pool *pools, size_t n, const struct pool_nets *used, struct err *err)
{
    AUTO_BUF text = BUF_INIT(ERR_MSG_MAX);
    char net[POOL_TEXT_SIZE];
    size_t hits = 0;
    for (size_t i = 0; i < used->n; i++) {
        bool hit = false;
        for (size_t k = 0; k < n && !hit; k++)
            hit = overlap(pools[k].base, pools[k].bits, used->items[i].base, used->items[i].bits);
        if (!hit || ++hits > TOLD_MAX)
            continue;
        put_net(used->items[i].base, used->items[i].bits, net);
        (void)buf_printf(&text, "%s%s (%s)", hits > 1 ? ", " : "", net, used->items[i].what);
    }
    if (hits > TOLD_MAX)
        (void)buf_printf(&text, " and %zu more", hits - TOLD_MAX);
    (void)err_set(err, ERR_EXHAUSTED, "no address range is left for another network; in use: %s", buf_cstr(&text));
    err_hint(err, "remove services or networks that nothing needs, or give the agent another --address-pool");
    return -(int)ERR_EXHAUSTED;
}

int pool_choose(const struct pool *pools, size_t n, const struct pool_nets *used, char ret[POOL_TEXT_SIZE], struct err *err)
{
    for (size_t k = 0; k < n; k++) {
        const struct pool *p = &pools[k];
        uint64_t step = UINT64_C(1) << (32 - p->size), end = (uint64_t)p->base + (UINT64_C(1) << (32 - p->bits));
        for (uint64_t base = p->base; base < end; base += step) {
            if (in_the_way(used, (uint32_t)base, p->size))
                continue;
            put_net((uint32_t)base, p->size, ret);
            return 0;
        }
    }
    return exhausted(pools, n, used, err);
}
