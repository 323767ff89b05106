/* SPDX-License-Identifier: Apache-2.0 */
/* account — see account.h. */
#include "init/account.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"

/* Lines of a file, one after the other. */
struct lines {
    int fd;
    off_t at;      /* where the next read begins */
    size_t n, pos; /* what is in @buf, and how much of it was handed out */
    bool skip;     /* inside a line that is too long */
    char buf[ACCOUNT_LINE_MAX + 1];
};

/* Moves what is left to the front and reads behind it. False: there is no more. */
static bool lines_fill(struct lines *l)
{
    ssize_t n;

    memmove(l->buf, l->buf + l->pos, l->n - l->pos);
    l->n -= l->pos;
    l->pos = 0;
    if (l->fd < 0 || l->at >= ACCOUNT_FILE_MAX)
        return false;
    do
        n = pread(l->fd, l->buf + l->n, sizeof(l->buf) - l->n, l->at);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return false;
    l->n += (size_t)n;
    l->at += n;
    return true;
}

/* The next line without its end; it lies in @l and is good until the next call. False: that was the last. */
static bool lines_next(struct lines *l, struct str *ret)
{
    for (;;) {
        struct str rest = {l->buf + l->pos, l->n - l->pos};
        const char *end = rest.n > 0 ? memchr(rest.p, '\n', rest.n) : NULL;

        if (end == NULL && rest.n == sizeof(l->buf)) {
            l->skip = true;
            l->pos = l->n;
        }
        if (end == NULL && lines_fill(l))
            continue;
        if (end == NULL && l->n - l->pos == 0)
            return false;
        if (end == NULL)
            end = l->buf + l->n;
        *ret = (struct str){l->buf + l->pos, (size_t)(end - (l->buf + l->pos))};
        l->pos += ret->n + (end < l->buf + l->n);
        if (!l->skip && memchr(ret->p, '\0', ret->n) == NULL)
            return true;
        l->skip = false;
    }
}

static bool to_id(struct str s, uint32_t *ret)
{
    uint64_t v;

    if (str_to_u64(s, UINT32_MAX - 1, &v) < 0)
        return false;
    *ret = (uint32_t)v;
    return true;
}

/* Fits, and has nothing that a terminal or an environment would trip over. */
static bool plain(struct str s, size_t room)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f)
            return false;
    return s.n > 0 && s.n < room;
}

struct entry {
    struct str name, home;
    uint32_t uid, gid;
};

/* name:password:uid:gid:comment:home:shell. The last two may be missing. */
static bool passwd_line(struct str line, struct entry *ret)
{
    struct str field[7];

    for (size_t i = 0; i < ARRAY_LEN(field); i++)
        field[i] = str_cut(&line, ':');
    *ret = (struct entry){.name = field[0], .home = field[5]};
    return plain(field[0], WIRE_USER_SIZE) && strchr("#+-", field[0].p[0]) == NULL && to_id(field[2], &ret->uid) &&
           to_id(field[3], &ret->gid);
}

/* name:password:gid:member,member. */
static bool group_line(struct str line, struct str *ret_name, uint32_t *ret_gid, struct str *ret_members)
{
    *ret_name = str_cut(&line, ':');
    str_cut(&line, ':');
    bool good = to_id(str_cut(&line, ':'), ret_gid);
    *ret_members = str_cut(&line, ':');
    return good && plain(*ret_name, WIRE_USER_SIZE) && strchr("#+-", ret_name->p[0]) == NULL;
}

static bool is_member(struct str members, struct str name)
{
    while (members.n > 0)
        if (str_eq(str_cut(&members, ','), name))
            return true;
    return false;
}

/* Fills @a from the line of that name or, with @numeric, that uid. The first one counts, as everywhere. */
static bool find_user(int fd, struct str user, bool numeric, struct account *a)
{
    struct lines l = {.fd = fd};
    struct str line;
    struct entry e;

    while (lines_next(&l, &line)) {
        if (!passwd_line(line, &e) || (numeric ? e.uid != a->uid : !str_eq(e.name, user)))
            continue;
        a->uid = e.uid;
        a->gid = e.gid;
        (void)str_copy(a->name, sizeof(a->name), e.name);
        if (plain(e.home, sizeof(a->home)) && e.home.p[0] == '/')
            (void)str_copy(a->home, sizeof(a->home), e.home);
        return true;
    }
    return false;
}

static bool find_group(int fd, struct str group, uint32_t *ret_gid)
{
    struct lines l = {.fd = fd};
    struct str line, name, members;
    uint32_t gid;

    while (lines_next(&l, &line))
        if (group_line(line, &name, &gid, &members) && str_eq(name, group)) {
            *ret_gid = gid;
            return true;
        }
    return false;
}

/* Adds the groups that list the account. */
static int add_groups(int fd, struct account *a)
{
    struct lines l = {.fd = fd};
    struct str line, name, members;
    uint32_t gid;

    while (lines_next(&l, &line)) {
        if (!group_line(line, &name, &gid, &members) || gid == a->gid || !is_member(members, str_from(a->name)))
            continue;
        bool known = false;
        for (uint32_t i = 0; i < a->groups_n; i++)
            known = known || a->groups[i] == gid;
        if (known)
            continue;
        if (a->groups_n == WIRE_GROUPS_MAX)
            return -(int)ERR_EXHAUSTED;
        a->groups[a->groups_n++] = gid;
    }
    return 0;
}

static bool all_digits(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.n > 0;
}

static int refuse(int code, const char *why, const char **ret_why)
{
    *ret_why = why;
    return -code;
}

int account_resolve(struct str spec, int passwd_fd, int group_fd, struct account *ret, const char **ret_why)
{
    bool with_group = spec.n > 0 && memchr(spec.p, ':', spec.n) != NULL;
    struct str user, group = spec;

    *ret = (struct account){.home = "/"};
    user = str_cut(&group, ':');
    if (!plain(spec, ACCOUNT_SPEC_MAX + 1) || user.n == 0 || (with_group && group.n == 0) ||
        memchr(group.p, ':', group.n) != NULL)
        return refuse(ERR_INVALID, "it is not NAME[:GROUP] or UID[:GID]", ret_why);
    bool numeric = all_digits(user);
    if (numeric && !to_id(user, &ret->uid))
        return refuse(ERR_INVALID, "the uid is too large", ret_why);
    if (!find_user(passwd_fd, user, numeric, ret) && !numeric)
        return refuse(ERR_NOT_FOUND, "/etc/passwd of the image has no such account", ret_why);
    if (!with_group) {
        if (ret->name[0] != '\0' && add_groups(group_fd, ret) < 0)
            return refuse(ERR_EXHAUSTED, "the account is in more than 64 groups", ret_why);
        return 0;
    }
    if (all_digits(group) && !to_id(group, &ret->gid))
        return refuse(ERR_INVALID, "the gid is too large", ret_why);
    if (!all_digits(group) && !find_group(group_fd, group, &ret->gid))
        return refuse(ERR_NOT_FOUND, "/etc/group of the image has no such group", ret_why);
    return 0;
}

/* A pipe or a device in that place would be waited for without end. */
static int open_regular(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

int account_lookup(struct str spec, struct account *ret, const char **ret_why)
{
    AUTO_FD int passwd_fd = open_regular("/etc/passwd");
    AUTO_FD int group_fd = open_regular("/etc/group");

    return account_resolve(spec, passwd_fd, group_fd, ret, ret_why);
}
