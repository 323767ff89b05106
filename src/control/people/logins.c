/* SPDX-License-Identifier: Apache-2.0 */
/* logins — see logins.h. */
#include "control/people/logins.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/hmap.h"
#include "base/mem.h"
#include "control/bucket.h"

struct slot {
    uint64_t key; /* 0: never used */
    usec_t full;
};

struct logins {
    struct slot accounts[LOGINS_SLOTS], addresses[LOGINS_SLOTS];
};

struct logins *logins_new(void)
{
    return NEW(struct logins);
}

struct logins *logins_free(struct logins *l)
{
    free(l);
    return NULL;
}

static uint64_t key_of(const void *p, size_t n, uint8_t salt)
{
    uint8_t bytes[288] = {salt};
    size_t take = n < sizeof(bytes) - 1 ? n : sizeof(bytes) - 1;
    if (take)
        memcpy(bytes + 1, p, take);
    uint64_t key = hash_bytes(bytes, take + 1);
    return key ? key : 1;
}

static uint64_t account_key(struct str account, bool local)
{
    return key_of(account.p, account.n, local);
}

static uint64_t address_key(const char *host)
{
    uint8_t addr[sizeof(struct in6_addr)];
    if (inet_pton(AF_INET, host, addr) == 1)
        return key_of(addr, 4, 4);
    if (inet_pton(AF_INET6, host, addr) == 1)
        return key_of(addr, 8, 6);
    return key_of(host, strlen(host), 0);
}

/* The slot of @key, or the one that it may have; that one is full then. */
static struct slot *slot_of(struct slot *slots, uint64_t key)
{
    struct slot *best = slots;
    for (size_t i = 0; i < LOGINS_SLOTS; i++) {
        if (slots[i].key == key)
            return &slots[i];
        if (slots[i].full < best->full)
            best = &slots[i];
    }
    *best = (struct slot){key, 0};
    return best;
}

int logins_take(struct logins *l, struct str account, bool local, const char *host, usec_t now, usec_t *ret_wait)
{
    struct slot *of_address = slot_of(l->addresses, address_key(host));
    struct slot before = *of_address;
    if (bucket_take(&of_address->full, now, LOGINS_ADDRESS_EVERY, LOGINS_ADDRESS_BURST, ret_wait) != 0)
        return 1;
    if (account.n == 0)
        return 0;
    struct slot *of_account = slot_of(l->accounts, account_key(account, local));
    if (bucket_take(&of_account->full, now, LOGINS_ACCOUNT_EVERY, LOGINS_ACCOUNT_BURST, ret_wait) == 0)
        return 0;
    *of_address = before;
    return 1;
}

void logins_good(struct logins *l, struct str account, bool local)
{
    uint64_t key = account_key(account, local);
    for (size_t i = 0; i < LOGINS_SLOTS; i++)
        if (l->accounts[i].key == key)
            l->accounts[i].full = 0;
}
