/* SPDX-License-Identifier: Apache-2.0 */
/* policy.yaml: anything is refused with a message or becomes rules within their limits, which answer every question. */
#include <stdint.h>
#include <stdlib.h>

#include "host/link/policy.h"

static void check(const struct policy_list *l)
{
    BUG_ON(l->n > POLICY_ITEMS_MAX || (l->rule == POLICY_LISTED) != (l->n > 0));
    for (size_t i = 0; i < l->n; i++)
        BUG_ON(!l->items[i] || str_from(l->items[i]).n > POLICY_ITEM_MAX);
}

/* The end of the text is also what is asked about. */
static void ask(const struct policy *p, const char *word)
{
    const struct policy_ask about = {.image = word, .privileged = &word, .n_privileged = 1, .mounts = &word, .n_mounts = 1};
    const char *reason = NULL;
    AUTO_FREE char *name = NULL;
    int rc = policy_judge(p, "policy.yaml", &about, &reason, NULL);
    BUG_ON((rc < 0) != (reason != NULL));
    if (policy_image_name(word, &name, NULL) == 0)
        (void)policy_image_fits(word, name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    struct policy p;
    struct err err = ERR_INIT;
    AUTO_FREE char *word = str_dup(size > 40 ? (struct str){text.p + size - 40, 40} : text);

    if (policy_parse(text, "policy.yaml", &p, &err) < 0) {
        BUG_ON(!err.msg[0] || p.images.n || p.mounts.n || p.privileged.n);
        p = (struct policy){.images = {.rule = POLICY_FORBID}};
    }
    check(&p.images);
    check(&p.privileged);
    check(&p.mounts);
    ask(&p, word);
    policy_release(&p);
    return 0;
}
