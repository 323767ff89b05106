/* SPDX-License-Identifier: Apache-2.0 */
/* chain — see chain.h. */
#include "ident/chain.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

static void add_text(EVP_MD_CTX *md, struct str s)
{
    char head[24];
    int n = snprintf(head, sizeof(head), "%zu:", s.n);
    BUG_ON(EVP_DigestUpdate(md, head, (size_t)n) != 1 || (s.n && EVP_DigestUpdate(md, s.p, s.n) != 1));
}

static void add_number(EVP_MD_CTX *md, uint64_t v)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%" PRIu64, v);
    add_text(md, (struct str){text, (size_t)n});
}

void chain_hash(const uint8_t previous[CHAIN_HASH_SIZE], const struct chain_entry *e, uint8_t ret[CHAIN_HASH_SIZE])
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    BUG_ON(!md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1 || EVP_DigestUpdate(md, previous, CHAIN_HASH_SIZE) != 1);
    add_number(md, e->number);
    add_number(md, e->time_us);
    const struct str texts[] = {e->actor, e->serial, e->action, e->object, e->outcome, e->code, e->reason, e->request};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        add_text(md, texts[i]);
    add_number(md, e->count);
    add_number(md, e->begun);
    BUG_ON(EVP_DigestFinal_ex(md, ret, NULL) != 1);
    EVP_MD_CTX_free(md);
}

void chain_check_init(struct chain_check *k)
{
    memset(k, 0, sizeof(*k));
}

static bool PRINTF(3, 4) bad(struct chain_check *k, uint64_t number, const char *fmt, ...)
{
    if (k->bad)
        return false;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(k->why, sizeof(k->why), fmt, ap);
    va_end(ap);
    k->bad = number;
    return false;
}

/* What was begun and what of it ended. */
static void follow(struct chain_check *k, const struct chain_entry *e)
{
    for (unsigned i = 0; e->begun && i < k->n_open; i++)
        if (k->open[i] == e->begun)
            k->open[i--] = k->open[--k->n_open];
    if (str_eq(e->action, STR(CHAIN_STARTED)) && k->n_open) {
        uint64_t first = UINT64_MAX;
        for (unsigned i = 0; i < k->n_open; i++)
            first = k->open[i] < first ? k->open[i] : first;
        k->first_interrupted = k->first_interrupted ? k->first_interrupted : first;
        k->interrupted += k->n_open;
        k->n_open = 0;
    }
    if (str_eq(e->outcome, STR(CHAIN_BEGUN)) && k->n_open < CHAIN_OPEN_MAX)
        k->open[k->n_open++] = e->number;
}

bool chain_check_next(struct chain_check *k, const struct chain_entry *e)
{
    uint8_t hash[CHAIN_HASH_SIZE];
    uint64_t wanted = k->last + 1;
    if (k->bad)
        return false;
    if (e->number > wanted)
        return bad(k, wanted, "entry %" PRIu64 " is missing: entry %" PRIu64 " comes after %" PRIu64, wanted, e->number, k->last);
    if (e->number != wanted)
        return bad(k, wanted, "entry %" PRIu64 " stands where %" PRIu64 " should be", e->number, wanted);
    chain_hash(k->hash, e, hash);
    if (memcmp(hash, e->hash, sizeof(hash)) != 0)
        return bad(k, wanted, "entry %" PRIu64 " was changed, or the one before it: its hash does not fit", wanted);
    memcpy(k->hash, hash, sizeof(hash));
    k->last = wanted;
    k->entries++;
    if (str_eq(e->action, STR(CHAIN_BROKEN)))
        return bad(k, wanted, "the control plane found at its start: " STR_FMT, STR_ARG(e->reason));
    follow(k, e);
    return true;
}

bool chain_check_head(struct chain_check *k, uint64_t number, const uint8_t hash[CHAIN_HASH_SIZE], bool exact, const char *where)
{
    if (k->bad)
        return false;
    if (k->last == number && memcmp(k->hash, hash, CHAIN_HASH_SIZE) != 0)
        return bad(k, number, "entry %" PRIu64 " is not the one that %s remembers", number, where);
    if (k->last < number)
        return bad(k, k->last + 1, "the end is cut off: %s remembers entry %" PRIu64 ", the last one is %" PRIu64, where, number, k->last);
    if (exact && k->last != number)
        return bad(k, number + 1, "%s ends with entry %" PRIu64 ", the log goes on to %" PRIu64, where, number, k->last);
    return true;
}
