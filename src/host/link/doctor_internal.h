/* SPDX-License-Identifier: Apache-2.0 */
/* doctor_internal — what the files of doctor share: the run, and its checks.  Not included elsewhere.  Thread: loop, on the fiber of the run,
 * but for the functions of blocking jobs. */
#ifndef DAVIT_HOST_LINK_DOCTOR_INTERNAL_H
#define DAVIT_HOST_LINK_DOCTOR_INTERNAL_H

#include <sys/stat.h>

#include "docker/docker.h"
#include "host/link/doctor_judge.h"
#include "host/link/link_dial.h"
#include "loop/lane.h"

/* On the heap: a job that hangs keeps it. What a job reads and writes is touched by nobody else until it has ended. */
struct doctor {
    struct loop *loop;
    const struct doctor_options *options;
    struct doctor_report *report;
    usec_t end, deadline; /* of the run; of this check */
    struct lane *lane;    /* one thread */
    struct event job_done;
    int job_rc;
    bool stuck; /* a job did not come back */

    struct agent_config config;
    int config_rc; /* of agent_config_load */
    struct err config_err;
    bool config_asked, config_lost; /* lost: the job that reads it hangs and still has these in its hands */
    struct stat dir_st, file_st, key_st; /* zero where not there */
    char *key_path;
    char *policy_path;
    struct stat policy_st; /* zero where not there */
    int policy_rc;         /* of policy_read */
    struct err policy_err;

    struct docker *docker;
    int docker_rc; /* of docker_ping, then of docker_info_get */
    struct err docker_err;
    bool engine_speaks; /* HTTP at least */
    struct docker_info info;

    struct doctor_socket socket;
    char account[DOCTOR_ACCOUNT_SIZE], group[DOCTOR_ACCOUNT_SIZE];
    bool socket_asked;

    struct doctor_disk disks[2];
    const char *find_name; /* of doctor_find's job */
    char *found;

    int identity_rc;
    struct err identity_err;
    struct doctor_cert cert;
    struct tls_ctx *tls;
    struct tunnel *tunnel;      /* tunnel mode, in place of tls */

    bool skew_known;
    int64_t skew;
};

/* Waits: runs @fn(@d) off the loop until the deadline of this check. 0 or what it returned; -ERR_DEADLINE when it hangs, then nothing may be
 * asked off the loop any more. */
int doctor_block(struct doctor *d, int (*fn)(void *d)) MUST_USE;
/* Waits: the program @name in $PATH, else at the usual places; NULL: not there. The caller frees. */
char *doctor_find(struct doctor *d, const char *name) MUST_USE;
/* Waits: reads the configuration, once. */
void doctor_need_config(struct doctor *d);
/* By --link or as enrolled: is the control plane on this machine, behind a unix socket? */
bool doctor_is_local(const struct doctor *d);

/* The checks. Each waits at most until d->deadline. */
void doctor_check_docker(struct doctor *d, struct doctor_check *c);
void doctor_check_docker_socket(struct doctor *d, struct doctor_check *c);
void doctor_check_docker_group(struct doctor *d, struct doctor_check *c);
void doctor_check_disk_space(struct doctor *d, struct doctor_check *c);
void doctor_check_config(struct doctor *d, struct doctor_check *c);
void doctor_check_policy(struct doctor *d, struct doctor_check *c);
void doctor_check_certificates(struct doctor *d, struct doctor_check *c);
void doctor_check_grpc(struct doctor *d, struct doctor_check *c);
void doctor_check_systemd(struct doctor *d, struct doctor_check *c);
void doctor_check_tailscale(struct doctor *d, struct doctor_check *c);
void doctor_check_engine_api(struct doctor *d, struct doctor_check *c);
void doctor_check_address_pools(struct doctor *d, struct doctor_check *c);
void doctor_check_cgroup(struct doctor *d, struct doctor_check *c);
void doctor_check_bpf(struct doctor *d, struct doctor_check *c);
void doctor_check_log_driver(struct doctor *d, struct doctor_check *c);
void doctor_check_clock(struct doctor *d, struct doctor_check *c);

#endif
