/* SPDX-License-Identifier: Apache-2.0 */
/* share — see rpc_internal.h: how much an address took of late. */
#include <arpa/inet.h>
#include <string.h>

#include "rpc/rpc_internal.h"

enum { SHARE_BURST = 64, SHARE_PER_SEC = 4 };

bool server_source(const char *peer, uint8_t dst[RPC_SOURCE_SIZE])
{
    char text[INET6_ADDRSTRLEN];
    uint8_t addr[sizeof(struct in6_addr)] = {0};
    const char *colon = strrchr(peer, ':');
    bool six = *peer == '[' && colon > peer + 1;
    if (!colon || str_copy(text, sizeof(text), (struct str){peer + six, (size_t)(colon - peer) - (six ? 2 : 0)}) != 0 ||
        inet_pton(six ? AF_INET6 : AF_INET, text, addr) != 1)
        return false;
    memcpy(dst, addr, RPC_SOURCE_SIZE);
    return true;
}

bool shares_take(struct shares *all, const uint8_t source[RPC_SOURCE_SIZE], usec_t now)
{
    unsigned over = 0;
    for (size_t row = 0; row < SHARE_ROWS; row++) {
        uint64_t hash = all->seed + row;
        for (size_t i = 0; i < RPC_SOURCE_SIZE; i++) {
            hash = (hash ^ source[i]) * 0x9e3779b97f4a7c15ULL;
            hash ^= hash >> 29;
        }
        struct share *s = &all->rows[row][hash % SHARE_SLOTS];
        uint64_t gained = (now - s->at) / (USEC_SEC / SHARE_PER_SEC);
        if (gained) {
            s->used = gained < s->used ? s->used - (unsigned)gained : 0;
            s->at = now;
        }
        over += s->used >= SHARE_BURST;
        s->used += s->used < 2 * SHARE_BURST;
    }
    return over == SHARE_ROWS;
}
