/* SPDX-License-Identifier: Apache-2.0 */
/* check — what a deployment may ask of this machine, whoever sent it. */
#include <string.h>

#include "host/work/deploy.h"
#include "spec/spec.h"

int deploy_check(const Davit__Link__V1__Deploy *msg, struct err *err)
{
    size_t n = strlen(msg->deployment_id);

    if (n < 8 || n > 64 || strspn(msg->deployment_id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-") != n)
        return err_set(err, ERR_INVALID, "deployment_id is not 8 to 64 letters, digits and '-'");
    return spec_check(msg->spec, err);
}
