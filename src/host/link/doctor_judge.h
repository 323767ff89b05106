/* SPDX-License-Identifier: Apache-2.0 */
/* doctor_judge — from facts to a verdict: each judge fills result, message and fix of one check and asks nobody. With the parsers that make
 * facts of texts.  Not included outside of doctor*.c and tests.
 * Thread: any.  Input trust: texts are hostile; they are cleaned when they are put into a message. */
#ifndef DAVIT_HOST_LINK_DOCTOR_JUDGE_H
#define DAVIT_HOST_LINK_DOCTOR_JUDGE_H

#include <net/if.h>
#include <sys/types.h>

#include "base/str.h"
#include "host/link/doctor.h"

#define DOCTOR_DISK_WARN ((uint64_t)2000 * 1000 * 1000)
#define DOCTOR_DISK_FAIL ((uint64_t)500 * 1000 * 1000)
enum { DOCTOR_CERT_PART = 5 }; /* a certificate with less than a fifth of its life should have been renewed */
#define DOCTOR_SKEW_WARN (5 * USEC_SEC)
#define DOCTOR_SKEW_FAIL (5 * USEC_MINUTE)
enum { DOCTOR_ACCOUNT_SIZE = 64, DOCTOR_ROUTES_MAX = 512 };

/* Sets the verdict; both texts are cut to fit and cleaned. @fix "" or NULL for none. */
void doctor_say(struct doctor_check *c, enum doctor_result r, const char *fix, const char *fmt, ...) PRINTF(4, 5);

/* --- Accounts and the socket --- */

/* Name and main group of @uid in a passwd file. 0, or 1: not there (@name is then the number). */
int doctor_account(struct str passwd, uid_t uid, char name[DOCTOR_ACCOUNT_SIZE], gid_t *ret_gid) MUST_USE;
/* Name of group @gid in a group file, "" if it is not there; returns whether @account is listed as a member. */
bool doctor_group(struct str group, gid_t gid, const char *account, char name[DOCTOR_ACCOUNT_SIZE]);

struct doctor_socket {
    const char *path;
    int error;       /* errno of stat, 0: there */
    bool is_socket;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    const char *group; /* name of @gid, "" unknown */
    /* Who wants in: the agent's account. */
    const char *account;
    uid_t account_uid;
    gid_t account_gid;
    bool listed;     /* in @group by the group file */
    bool is_self;    /* it is the account of this process, and then: */
    bool accessible; /* the kernel lets us read and write it */
};
/* May the agent's account use the socket? */
void doctor_judge_socket(struct doctor_check *c, const struct doctor_socket *s);
/* Is it in the group that owns the socket, where it needs to be? */
void doctor_judge_group(struct doctor_check *c, const struct doctor_socket *s);

/* --- Machine --- */

struct doctor_disk {
    const char *what; /* "/", "Docker's root" */
    const char *path; /* NULL: not known */
    bool known;       /* else it could not be asked */
    uint64_t free;    /* bytes that an ordinary account may still write */
};
/* The worst of @n decides. */
void doctor_judge_disk(struct doctor_check *c, const struct doctor_disk *d, size_t n);
/* @mode as sysinfo_cgroup. */
void doctor_judge_cgroup(struct doctor_check *c, const char *mode);
/* @release as uname; @bpffs: is it mounted? */
void doctor_judge_bpf(struct doctor_check *c, const char *release, bool bpffs);
/* @show: what `systemctl show` printed; @local: an agent that `davit up` starts. */
void doctor_judge_systemd(struct doctor_check *c, struct str show, bool local);
/* @state as tailscale says, "" if it said nothing that can be read. */
void doctor_judge_tailscale(struct doctor_check *c, bool installed, const char *state, const char *address);
/* @floor: the clock cannot be before it. @skew: ours less the control plane's, where @known. */
void doctor_judge_clock(struct doctor_check *c, usec_t now, usec_t floor, bool known, int64_t skew);

/* --- Enrolment --- */

/* Modes of the directory @dir, of config.yaml in it, and of the private key at @key (0: there is none). */
void doctor_judge_modes(struct doctor_check *c, const char *dir, mode_t dir_mode, mode_t file_mode, const char *key, mode_t key_mode);
struct doctor_cert {
    usec_t issued, not_after;
    bool staged;              /* the present one has not connected yet */
    bool fallback;            /* the newest one cannot be read */
    bool fenced;              /* the agent says that another one uses its identity */
    char error[ERR_MSG_MAX];  /* of the last renewal, as the agent says; "" */
    char refused[ERR_MSG_MAX]; /* why the control plane takes it no more (revoked, removed), as it told the agent; "" */
};
/* The access token of tunnel mode; one that ran out is got back by the agent. */
void doctor_judge_token(struct doctor_check *c, usec_t now, const struct doctor_cert *k);
/* A certificate that holds otherwise. */
void doctor_judge_certificate(struct doctor_check *c, usec_t now, const struct doctor_cert *k);

/* --- Engine --- */

/* The range "1.x".."1.y" that it speaks; ours is stated in docker.h. */
void doctor_judge_api(struct doctor_check *c, const char *min, const char *max);
/* Its default log driver. */
void doctor_judge_log_driver(struct doctor_check *c, const char *driver);

struct doctor_net {
    char name[64]; /* of the Docker network, or of the interface */
    uint32_t addr; /* host order, masked */
    unsigned bits;
    bool bridge;   /* a route by a bridge of this machine */
};
/* "172.17.0.0/16". 0, or -ERR_INVALID for anything else, IPv6 too. */
int doctor_subnet(struct str text, struct doctor_net *ret) MUST_USE;
/* /proc/net/route without default routes and those to one address, which a subnet may well contain. Returns how many, at most @max. */
size_t doctor_routes(struct str text, struct doctor_net *ret, size_t max);
/* Does a subnet of Docker hide what a route leads to? The route by which the host reaches that very network is none. */
void doctor_judge_pools(struct doctor_check *c, const struct doctor_net *subnets, size_t n_subnets, const struct doctor_net *routes,
                        size_t n_routes);

#endif
