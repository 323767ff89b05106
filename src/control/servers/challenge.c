/* SPDX-License-Identifier: Apache-2.0 */
/* challenge — see challenge.h. */
#include "control/servers/challenge.h"

#include <string.h>

#include "base/hmap.h"
#include "base/list.h"
#include "base/mem.h"

struct holder {
    struct list nonces; /* struct nonce.of_holder, the oldest first */
    unsigned n;
    char whose[CHALLENGE_WHOSE_SIZE];
};

struct nonce {
    struct list node;      /* in struct challenges.all, the oldest first */
    struct list of_holder;
    struct holder *holder;
    uint8_t client[CHALLENGE_NONCE_SIZE], server[CHALLENGE_NONCE_SIZE];
    enum challenge_purpose purpose;
    usec_t until;
};

struct challenges {
    struct list all;
    struct hmap *by_server_nonce; /* -> struct nonce, owned */
    struct hmap *holders;         /* -> struct holder, owned */
};

static const char *const purposes[] = {[CHALLENGE_ENROLL] = "enroll", [CHALLENGE_RECOVER] = "recover"};

enum challenge_purpose challenge_purpose_of(const char *text)
{
    for (int i = CHALLENGE_ENROLL; text && i < (int)ARRAY_LEN(purposes); i++)
        if (str_eq(str_from(text), str_from(purposes[i])))
            return (enum challenge_purpose)i;
    return CHALLENGE_NONE;
}

struct challenges *challenges_new(void)
{
    struct challenges *ch = NEW(struct challenges);
    list_init(&ch->all);
    ch->by_server_nonce = hmap_new(CHALLENGES_MAX);
    ch->holders = hmap_new(CHALLENGES_MAX);
    return ch;
}

static struct str bytes(const uint8_t nonce[CHALLENGE_NONCE_SIZE])
{
    return (struct str){(const char *)nonce, CHALLENGE_NONCE_SIZE};
}

static void drop(struct challenges *ch, struct nonce *n)
{
    struct holder *h = n->holder;
    list_remove(&n->node);
    list_remove(&n->of_holder);
    (void)hmap_remove(ch->by_server_nonce, bytes(n->server));
    free(n);
    if (--h->n)
        return;
    (void)hmap_remove(ch->holders, str_from(h->whose));
    free(h);
}

struct challenges *challenges_free(struct challenges *ch)
{
    struct nonce *n;
    if (!ch)
        return NULL;
    while ((n = list_first(&ch->all, struct nonce, node)))
        drop(ch, n);
    (void)hmap_free(ch->by_server_nonce);
    (void)hmap_free(ch->holders);
    free(ch);
    return NULL;
}

static void drop_old(struct challenges *ch, usec_t now)
{
    struct nonce *n;
    while ((n = list_first(&ch->all, struct nonce, node)) && n->until <= now)
        drop(ch, n);
}

/* All of them are looked at, which happens only when the table is full: the rate of challenges is limited before they come here. */
static struct holder *greediest(const struct challenges *ch)
{
    struct holder *most = NULL;
    for (struct hmap_entry *e = hmap_first(ch->holders); e; e = hmap_next(e)) {
        struct holder *h = hmap_value(e);
        if (!most || h->n > most->n)
            most = h;
    }
    return most;
}

static void make_room(struct challenges *ch, struct str whose)
{
    struct holder *h = hmap_get(ch->holders, whose);
    bool own = h && h->n >= CHALLENGES_EACH;
    if (!own && hmap_count(ch->by_server_nonce) < CHALLENGES_MAX)
        return;
    if (!own)
        h = greediest(ch);
    struct nonce *oldest = h ? list_first(&h->nonces, struct nonce, of_holder) : NULL;
    BUG_ON(!oldest); /* a full table has holders, and each holds one */
    drop(ch, oldest);
}

static struct holder *holder_of(struct challenges *ch, struct str whose)
{
    struct holder *h = hmap_get(ch->holders, whose);
    if (h)
        return h;
    h = NEW(struct holder);
    list_init(&h->nonces);
    (void)str_copy(h->whose, sizeof(h->whose), whose);
    int rc = hmap_put(ch->holders, whose, h, NULL);
    BUG_ON(rc != 0); /* each holds one at least, and there was room for one more */
    return h;
}

void challenge_make(struct challenges *ch, const char *whose, enum challenge_purpose purpose, const uint8_t client_nonce[CHALLENGE_NONCE_SIZE],
                    usec_t now, uint8_t server_nonce[CHALLENGE_NONCE_SIZE])
{
    char cut[CHALLENGE_WHOSE_SIZE];
    (void)str_copy(cut, sizeof(cut), str_from(whose));
    drop_old(ch, now);
    make_room(ch, str_from(cut));
    struct holder *h = holder_of(ch, str_from(cut));
    struct nonce *n = NEW(struct nonce);
    n->holder = h;
    n->purpose = purpose;
    n->until = clock_add(now, CHALLENGE_LIFE);
    memcpy(n->client, client_nonce, sizeof(n->client));
    rng_bytes(n->server, sizeof(n->server));
    list_init(&n->node);
    list_init(&n->of_holder);
    list_push(&ch->all, &n->node);
    list_push(&h->nonces, &n->of_holder);
    h->n++;
    int rc = hmap_put(ch->by_server_nonce, bytes(n->server), n, NULL);
    BUG_ON(rc != 0);
    memcpy(server_nonce, n->server, sizeof(n->server));
}

int challenge_take(struct challenges *ch, enum challenge_purpose purpose, struct str client_nonce, struct str server_nonce, usec_t now,
                   struct err *err)
{
    struct nonce *n = server_nonce.n == CHALLENGE_NONCE_SIZE ? hmap_get(ch->by_server_nonce, server_nonce) : NULL;
    bool fits = n && n->until > now && n->purpose == purpose && str_eq(bytes(n->client), client_nonce);
    if (n)
        drop(ch, n);
    if (fits)
        return 0;
    (void)err_set(err, ERR_UNAUTHENTICATED, "this challenge is unknown, was used or is too old");
    err_hint(err, "ask for another one");
    return -(int)ERR_UNAUTHENTICATED;
}

size_t challenges_count(const struct challenges *ch)
{
    return hmap_count(ch->by_server_nonce);
}
