/* SPDX-License-Identifier: Apache-2.0 */
/* list — intrusive doubly linked list. A node lives inside its owner; being unlinked is visible (both pointers to itself).
 * Ownership: the list owns nothing; whoever frees an object unlinks it first.  Thread: the owner's. */
#ifndef DAVIT_BASE_LIST_H
#define DAVIT_BASE_LIST_H

#include <stdbool.h>

#include "base/cleanup.h"

struct list {
    struct list *prev, *next;
};

#define LIST_INIT(head) ((struct list){&(head), &(head)})

/* Makes an empty head, or an unlinked node. */
static inline void list_init(struct list *l)
{
    l->prev = l->next = l;
}
static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}
/* Is this node in some list? */
static inline bool list_linked(const struct list *n)
{
    return n->next != n;
}
/* Links @n, which must be unlinked, at the end. */
static inline void list_push(struct list *head, struct list *n)
{
#ifdef __clang_analyzer__
    /* A list is a ring: told, because it is never seen to be made. */
    if (head->prev == NULL)
        __builtin_unreachable();
#endif
    n->prev = head->prev;
    n->next = head;
    head->prev->next = n;
    head->prev = n;
}
/* Links @n at the front. */
static inline void list_unshift(struct list *head, struct list *n)
{
    list_push(head->next, n);
}
/* Unlinks @n; harmless when it is unlinked already. */
static inline void list_remove(struct list *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    list_init(n);
}
/* First node unlinked, or NULL. */
static inline struct list *list_pop(struct list *head)
{
    struct list *n = head->next;
    if (n == head)
        return NULL;
    list_remove(n);
    return n;
}

#define list_entry(node, type, member) CONTAINER_OF(node, type, member)
#define list_first(head, type, member) (list_empty(head) ? NULL : list_entry((head)->next, type, member))

#define LIST_JOIN_(a, b) a##b
#define LIST_NAME_(a, b) LIST_JOIN_(a, b)
#define LIST_EACH_(it, head, type, member, node_, next_)                                               \
    for (struct list *node_ = (head)->next, *next_ = node_->next;                                      \
         node_ != (head) && ((it) = list_entry(node_, type, member), 1); node_ = next_, next_ = node_->next)

/* @it (type *) over the list; the current element may be unlinked and freed inside, no other. May be nested. */
#define list_each(it, head, type, member) \
    LIST_EACH_(it, head, type, member, LIST_NAME_(node_, __LINE__), LIST_NAME_(next_, __LINE__))

#endif
