/* SPDX-License-Identifier: Apache-2.0 */
/* check — what a deployment may ask of this machine, whoever sent it. */
#include <string.h>

#include "host/link/policy.h"
#include "host/work/deploy.h"
#include "host/work/rights.h"
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
    const char *mounts[SPEC_BINDS_MAX];
    char **words = NULL;
    struct policy_ask ask = {.image = spec->image, .mounts = mounts};

    /* Its volumes are the engine's: no policy asks about those. */
    for (; ask.n_mounts < spec->n_binds && ask.n_mounts < SPEC_BINDS_MAX; ask.n_mounts++)
        mounts[ask.n_mounts] = spec->binds[ask.n_mounts]->source;
    ask.n_privileged = rights_words(spec, &words);
    ask.privileged = (const char *const *)words;
    int rc = policy_check(w->policy, &ask, ret_reason, err);
    for (size_t i = 0; i < ask.n_privileged; i++)
        free(words[i]);
    free(words);
    return rc < 0 ? rc : rights_sources(w, spec, ret_reason, err);
}
