/* SPDX-License-Identifier: Apache-2.0 */
/* fill — a call that fills the snapshot volume of a sandbox that is to be made: the tar that comes goes to the engine as it is, owners and all, by a
 * container that never starts. A repeat begins with an empty volume. */
#include "host/contain/contain_internal.h"

#include <string.h>

#include "host/link/policy.h"
#include "host/work/admit.h"

#define FILL_LIMIT (30 * USEC_MINUTE)

struct source {
    struct call *c;
    struct str left;
    bool over;
};

static int next(void *arg, void *dst, size_t size, size_t *ret_n)
{
    struct source *s = arg;

    while (s->left.n == 0 && !s->over) {
        int rc = call_input(s->c, &s->left, deadline_in(5 * USEC_MINUTE));
        if (rc < 0)
            return rc;
        s->over = rc == 1;
    }
    return source_of_str(&s->left, dst, size, ret_n);
}

int sandbox_fill(void *arg, struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err)
{
    struct contain *k = arg;
    const char *id = call_open_message(c)->sandbox_fill->sandbox_id;
    usec_t deadline = deadline_in(FILL_LIMIT);
    struct source source = {.c = c};
    char helper[DOCKER_ID_SIZE];

    if (!str_is_label(str_from(id)) || strlen(id) != 36)
        return err_set(err, ERR_INVALID, "the id of a sandbox is a UUID");
    const struct policy_ask ask = {.sandbox = true};
    int rc = policy_check(k->w->policy, &ask, reason, err);
    if (rc == 0)
        rc = admit_check(k->w, call_open_message(c)->sandbox_fill->force, NULL, reason, err);
    if (rc < 0)
        return rc;
    AUTO_FREE char *volume = workspace_volume(id);
    const struct docker_pair labels[] = {SANDBOX_LABELS(k, id)};
    rc = docker_volume_remove(k->w->docker, volume, false, deadline, err);
    if (rc == -ERR_PRECONDITION) {
        *reason = "in_use";
        return rc;
    }
    if (rc >= 0)
        rc = docker_volume_ensure(k->w->docker, volume, labels, ARRAY_LEN(labels), deadline, err);
    if (rc >= 0)
        rc = runtime_helper(k, volume, helper, deadline, err);
    if (rc < 0)
        return rc;
    rc = docker_archive_put(k->w->docker, helper, RUNTIME_HELPER_DIR, next, &source, deadline, err);
    (void)docker_container_remove(k->w->docker, helper, true, false, deadline_in(ENGINE_CALL), NULL);
    if (rc < 0) {
        (void)docker_volume_remove(k->w->docker, volume, true, deadline_in(ENGINE_CALL), NULL);
        return rc;
    }
    end->result_case = DAVIT__LINK__V1__CALL_END__RESULT_OUTCOME;
    end->outcome = str_dup(STR("filled"));
    return 0;
}
