/* SPDX-License-Identifier: Apache-2.0 */
/* check — what a deployment may ask of this machine, whoever sent it. */
#include <string.h>

#include "host/link/policy.h"
#include "host/work/deploy.h"
#include "spec/spec.h"

int deploy_check(const Davit__Link__V1__Deploy *msg, struct err *err)
{
    size_t n = strlen(msg->deployment_id);

    if (n < 8 || n > 64 || strspn(msg->deployment_id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-") != n)
        return err_set(err, ERR_INVALID, "deployment_id is not 8 to 64 letters, digits and '-'");
    return spec_check(msg->spec, err);
}

int deploy_policy(const struct work *w, const Davit__Link__V1__Deploy *msg, const char **ret_reason, struct err *err)
{
    const Davit__Common__V1__ServiceSpec *spec = msg->spec;
    char *options[SPEC_CAPS_MAX];
    struct policy_ask ask = {.image = spec->image, .privileged = (const char *const *)options};

    /* All else that is privileged a spec cannot ask for; its volumes are the engine's. */
    for (; ask.n_privileged < spec->n_cap_add; ask.n_privileged++) {
        const char *cap = spec->cap_add[ask.n_privileged];
        options[ask.n_privileged] = str_printf("cap:%s", str_starts(str_from(cap), STR("CAP_")) ? cap + 4 : cap);
    }
    int rc = policy_check(w->policy, &ask, ret_reason, err);
    for (size_t i = 0; i < ask.n_privileged; i++)
        free(options[i]);
    return rc;
}
