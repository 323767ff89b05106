/* SPDX-License-Identifier: Apache-2.0 */
/* selftest — what a new version of the agent must be able to do before the old one tries it; see agent.h. */
#include "docker/docker.h"
#include "host/link/agent.h"
#include "host/link/agent_config.h"
#include "host/link/link_dial.h"
#include "loop/loop.h"

static int check(struct agent_config *c, struct err *err)
{
    CLEANUP(agent_identity_release) struct agent_identity id = {0};
    struct tls_ctx *tls = NULL;
    int rc = agent_config_load(c, err);
    if (rc == 1)
        return err_set(err, ERR_PRECONDITION, "%s holds no enrolment", c->dir);
    if (rc < 0 || !str_eq(str_from(c->auth_mode), STR("mtls")))
        return rc;
    rc = agent_identity_load(c, &id, err);
    if (rc >= 0 && id.cert_pem.len)
        rc = link_tls_identity(&id, &tls, err);
    (void)tls_ctx_unref(tls);
    return rc < 0 ? rc : 0;
}

int agent_selftest(const struct agent_options *o, struct err *err)
{
    struct agent_config c = {0};
    struct docker *docker = NULL;
    struct loop *loop = loop_new();
    int rc = agent_config_init(&c, o->config_dir, err);
    if (rc == 0)
        rc = check(&c, err);
    if (rc == 0)
        rc = docker_new(loop, o->docker, &docker, err);
    (void)docker_free(docker);
    agent_config_release(&c);
    (void)loop_free(loop);
    return rc;
}
