/* SPDX-License-Identifier: Apache-2.0 */
/* tickets — see tickets.h. */
#include "control/work/tickets.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

struct ticket {
    char name[TICKET_NAME_SIZE], pass[PASS_ID_SIZE];
    usec_t until;
    ProtobufCMessage *what;
    struct list node;
};

struct tickets {
    struct list all; /* in order of making */
    unsigned n;
};

struct tickets *tickets_new(void)
{
    struct tickets *t = NEW(struct tickets);
    list_init(&t->all);
    return t;
}

static void ticket_drop(struct tickets *t, struct ticket *one)
{
    list_remove(&one->node);
    t->n--;
    (void)rpc_message_free(one->what);
    free(one);
}

struct tickets *tickets_free(struct tickets *t)
{
    struct ticket *one;
    while (t && (one = list_first(&t->all, struct ticket, node)))
        ticket_drop(t, one);
    free(t);
    return NULL;
}

/* Those that are too old are the first ones. */
static void drop_old(struct tickets *t, usec_t now)
{
    struct ticket *one;
    while ((one = list_first(&t->all, struct ticket, node)) && one->until <= now)
        ticket_drop(t, one);
}

static void make_room(struct tickets *t, const char *pass)
{
    struct ticket *one, *oldest = NULL;
    unsigned n = 0;
    list_each(one, &t->all, struct ticket, node) {
        if (strcmp(one->pass, pass) != 0)
            continue;
        oldest = oldest ? oldest : one;
        n++;
    }
    if (n >= TICKETS_EACH)
        ticket_drop(t, oldest);
}

int tickets_make(struct tickets *t, const char *pass, const Davit__Control__V1__MakeTicketRequest *what, usec_t now,
                 char ret_name[TICKET_NAME_SIZE], struct err *err)
{
    uint8_t random[(TICKET_NAME_SIZE - 1) / 2];
    ProtobufCMessage *copy = NULL;
    if (protobuf_c_message_get_packed_size(&what->base) > TICKET_WHAT_MAX)
        return err_set(err, ERR_INVALID, "path: it is too long");
    drop_old(t, now);
    make_room(t, pass);
    if (t->n >= TICKETS_MAX || rpc_copy(&what->base, &copy) != 0)
        return err_set(err, ERR_EXHAUSTED, "too many files are about to be moved; try again in a minute");
    struct ticket *one = NEW(struct ticket);
    rng_bytes(random, sizeof(random));
    str_hex(random, sizeof(random), one->name);
    (void)str_copy(one->pass, sizeof(one->pass), str_from(pass));
    one->until = now + TICKET_LIFE;
    one->what = copy;
    list_init(&one->node);
    list_push(&t->all, &one->node);
    t->n++;
    (void)str_copy(ret_name, TICKET_NAME_SIZE, str_from(one->name));
    return 0;
}

Davit__Control__V1__MakeTicketRequest *tickets_take(struct tickets *t, struct str name, const char *pass, usec_t now)
{
    struct ticket *one, *found = NULL;
    drop_old(t, now);
    list_each(one, &t->all, struct ticket, node)
        if (str_eq_secret(name, str_from(one->name)))
            found = one;
    if (!found)
        return NULL;
    ProtobufCMessage *what = strcmp(found->pass, pass) == 0 ? TAKE(found->what) : NULL;
    ticket_drop(t, found);
    return (Davit__Control__V1__MakeTicketRequest *)what;
}
