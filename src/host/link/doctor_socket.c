/* SPDX-License-Identifier: Apache-2.0 */
/* doctor_socket — see doctor_judge.h: accounts, and who may use the engine's socket. */
#include <errno.h>

#include "host/link/doctor_judge.h"

enum { FIELDS = 4 };

static void cut_fields(struct str line, struct str f[FIELDS])
{
    for (size_t i = 0; i < FIELDS; i++)
        f[i] = str_cut(&line, ':');
}

int doctor_account(struct str passwd, uid_t uid, char name[DOCTOR_ACCOUNT_SIZE], gid_t *ret_gid)
{
    while (passwd.n > 0) {
        struct str f[FIELDS];
        uint64_t id = 0, gid = 0;
        cut_fields(str_cut(&passwd, '\n'), f);
        if (f[0].n == 0 || str_to_u64(f[2], UINT32_MAX, &id) != 0 || id != uid || str_to_u64(f[3], UINT32_MAX, &gid) != 0)
            continue;
        (void)str_copy(name, DOCTOR_ACCOUNT_SIZE, f[0]);
        *ret_gid = (gid_t)gid;
        return 0;
    }
    (void)snprintf(name, DOCTOR_ACCOUNT_SIZE, "%u", (unsigned)uid);
    return 1;
}

bool doctor_group(struct str group, gid_t gid, const char *account, char name[DOCTOR_ACCOUNT_SIZE])
{
    name[0] = '\0';
    while (group.n > 0) {
        struct str f[FIELDS];
        uint64_t id = 0;
        cut_fields(str_cut(&group, '\n'), f);
        if (f[0].n == 0 || str_to_u64(f[2], UINT32_MAX, &id) != 0 || id != gid)
            continue;
        (void)str_copy(name, DOCTOR_ACCOUNT_SIZE, f[0]);
        while (f[3].n > 0)
            if (str_eq(str_cut(&f[3], ','), str_from(account)))
                return true;
        return false;
    }
    return false;
}

static bool in_group(const struct doctor_socket *s)
{
    return s->listed || s->account_gid == s->gid;
}

/* As the kernel would decide for an account that logs in now. */
static bool allowed(const struct doctor_socket *s)
{
    const mode_t both = 06;
    if (s->account_uid == 0)
        return true;
    if (s->account_uid == s->uid)
        return (s->mode >> 6 & both) == both;
    return ((in_group(s) ? s->mode >> 3 : s->mode) & both) == both;
}

void doctor_judge_socket(struct doctor_check *c, const struct doctor_socket *s)
{
    AUTO_FREE char *fix = str_printf("usermod -aG %s %s, then restart the agent", *s->group ? s->group : "docker", s->account);
    if (s->error == ENOENT || s->error == ENOTDIR)
        doctor_say(c, DOCTOR_FAIL, "start the engine (systemctl start docker), or name its socket with --docker", "%s does not exist", s->path);
    else if (s->error)
        doctor_say(c, DOCTOR_FAIL, "run doctor as root, or name the socket with --docker", "%s cannot be looked at: %s", s->path,
                   strerrordesc_np(s->error));
    else if (!s->is_socket)
        doctor_say(c, DOCTOR_FAIL, "name the engine's socket with --docker", "%s is no socket", s->path);
    else if (s->is_self && !s->accessible && allowed(s))
        doctor_say(c, DOCTOR_FAIL, "log in again, or restart the agent: a process keeps the groups it was born with",
                   "%s: %s is in the group %s, but this process is not yet", s->path, s->account, s->group);
    else if (s->is_self ? !s->accessible : !allowed(s))
        doctor_say(c, DOCTOR_FAIL, fix, "%s: %s may not read and write it", s->path, s->account);
    else
        doctor_say(c, DOCTOR_OK, NULL, "%s: %s may use it", s->path, s->account);
}

void doctor_judge_group(struct doctor_check *c, const struct doctor_socket *s)
{
    AUTO_FREE char *fix = str_printf("usermod -aG %s %s, then restart the agent", *s->group ? s->group : "docker", s->account);
    if (s->account_uid == 0)
        doctor_say(c, DOCTOR_OK, NULL, "%s needs no group", s->account);
    else if (s->error || !s->is_socket)
        doctor_say(c, DOCTOR_WARN, "mend docker_socket first", "which group is needed is not known without the socket");
    else if (s->account_uid == s->uid)
        doctor_say(c, DOCTOR_OK, NULL, "%s owns the socket and needs no group", s->account);
    else if (in_group(s))
        doctor_say(c, DOCTOR_OK, NULL, "%s is in the group %s", s->account, s->group);
    else
        doctor_say(c, DOCTOR_WARN, fix, "%s is not in the group %s of the socket", s->account, *s->group ? s->group : "(without a name)");
}
