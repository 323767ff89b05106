/* SPDX-License-Identifier: Apache-2.0 */
/* Which addresses a network gets: pools as an owner wrote them, networks as the engine and routes as the kernel tell them. Each line
 * begins with what it is: p a pool, n a network, anything else the table of routes from there on. What is chosen is free and out of a
 * pool, whatever came. */
#include <stdint.h>

#include "base/mem.h"
#include "host/work/pools.h"

static bool inside(uint32_t base, unsigned bits, uint32_t of, unsigned of_bits)
{
    return bits >= of_bits && (base & (UINT32_MAX << (32 - of_bits))) == of;
}

static void judge(const struct pool *pools, size_t n, const struct pool_nets *used, const char *text)
{
    struct pool_nets got = {0};
    bool in_pool = false;
    BUG_ON(pool_nets_add(&got, str_from(text), "chosen", NULL) != 0);
    uint32_t base = got.items[0].base;
    unsigned bits = got.items[0].bits;
    for (size_t i = 0; i < n; i++)
        in_pool = in_pool || (bits == pools[i].size && inside(base, bits, pools[i].base, pools[i].bits));
    BUG_ON(!in_pool);
    for (size_t i = 0; i < used->n; i++) {
        const struct pool_net *u = &used->items[i];
        BUG_ON(inside(base, bits, u->base, u->bits) || inside(u->base, u->bits, base, bits));
    }
    pool_nets_release(&got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = {(const char *)data, size};
    struct pool pools[POOLS_MAX];
    struct pool_nets used = {0};
    char text[POOL_TEXT_SIZE];
    size_t n = 0;
    struct err err = ERR_INIT;
    while (rest.n) {
        if (*rest.p != 'p' && *rest.p != 'n') {
            (void)pool_nets_routes(&used, rest, &err);
            break;
        }
        bool pool = *rest.p == 'p';
        struct str line = str_cut(&rest, '\n');
        line = (struct str){line.p + 1, line.n - 1};
        if (pool && n < POOLS_MAX)
            n += pool_parse(line, &pools[n], &err) == 0;
        else if (!pool)
            (void)pool_nets_add(&used, line, "network x", &err);
    }
    BUG_ON(used.n > POOL_NETS_MAX);
    int rc = pool_choose(pools, n, &used, text, &err);
    if (rc == 0)
        judge(pools, n, &used, text);
    else
        BUG_ON(rc != -(int)ERR_EXHAUSTED);
    pool_nets_release(&used);
    return 0;
}
