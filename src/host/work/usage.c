/* SPDX-License-Identifier: Apache-2.0 */
/* usage — parsers of /proc and cgroup texts (kernel: Documentation/admin-guide/cgroup-v1, cgroup-v2.rst, filesystems/proc.rst). */
#include "host/work/usage.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "host/work/mountinfo.h"

/* v1 says "no limit" as the greatest multiple of the page size; nothing real comes near. */
#define V1_NO_LIMIT (UINT64_MAX / 4)

enum { SECTOR = 512 };

static const char *const v1_names[USAGE_CONTROLLERS] = {
    [USAGE_CPU] = "cpuacct", [USAGE_MEMORY] = "memory", [USAGE_IO] = "blkio", [USAGE_PIDS] = "pids"};

static size_t words(struct str line, struct str *dst, size_t max)
{
    size_t n = 0;

    while (n < max) {
        struct str w = str_word(&line);
        if (w.n == 0)
            break;
        dst[n++] = w;
    }
    return n;
}

static uint64_t number(struct str s)
{
    uint64_t v = 0;
    return str_to_u64(s, UINT64_MAX, &v) == 0 ? v : 0;
}

/* Is @name one of the items of a comma list? */
static bool listed(struct str list, const char *name)
{
    while (list.n > 0)
        if (str_eq(str_cut(&list, ','), str_from(name)))
            return true;
    return false;
}

void usage_parse_mountinfo(struct str text, struct usage_mounts *ret)
{
    memset(ret, 0, sizeof(*ret));
    struct mount_entry m;
    int rc;
    while ((rc = mountinfo_next(&text, &m)) != 1) {
        if (rc < 0 || !str_eq(m.root, STR("/")))
            continue;
        if (str_eq(m.type, STR("cgroup2")) && !*ret->v2)
            (void)str_copy(ret->v2, sizeof(ret->v2), m.place);
        if (!str_eq(m.type, STR("cgroup")))
            continue;
        for (int c = 0; c < USAGE_CONTROLLERS; c++)
            if (!*ret->v1[c] && listed(m.super, v1_names[c]))
                (void)str_copy(ret->v1[c], USAGE_PATH_MAX, m.place);
    }
}

static bool join(char dst[USAGE_PATH_MAX], const char *mount, struct str path)
{
    /* "/.." in front: outside of our cgroup namespace. */
    if (!*mount || path.n == 0 || path.p[0] != '/' || str_starts(path, STR("/..")))
        return false;
    int n = snprintf(dst, USAGE_PATH_MAX, "%s" STR_FMT, mount, STR_ARG(path));
    if (n > 0 && n < USAGE_PATH_MAX)
        return true;
    *dst = '\0';
    return false;
}

int usage_parse_cgroup(struct str text, const struct usage_mounts *mounts, struct usage_cgroup *ret)
{
    struct str unified = {0};
    bool any = false;

    memset(ret, 0, sizeof(*ret));
    while (text.n > 0) {
        struct str line = str_cut(&text, '\n');
        struct str id = str_cut(&line, ':');
        struct str controllers = str_cut(&line, ':');
        if (str_eq(id, STR("0")) && controllers.n == 0)
            unified = line;
        for (int c = 0; c < USAGE_CONTROLLERS; c++)
            if (listed(controllers, v1_names[c]))
                any = join(ret->dir[c], mounts->v1[c], line) || any;
    }
    for (int c = 0; c < USAGE_CONTROLLERS; c++) {
        /* A controller that a v1 hierarchy holds is not in the v2 tree. */
        if (*ret->dir[c] || *mounts->v1[c])
            continue;
        ret->v2[c] = join(ret->dir[c], mounts->v2, unified);
        any = any || ret->v2[c];
    }
    return any ? 0 : -ERR_NOT_FOUND;
}

void usage_cpu_stat(struct str text, struct usage *u)
{
    while (text.n > 0) {
        struct str line = str_cut(&text, '\n');
        if (str_eq(str_word(&line), STR("usage_usec")))
            u->cpu_usec = number(str_word(&line));
    }
}

void usage_io_stat(struct str text, struct usage *u)
{
    uint64_t r = 0, w = 0;

    while (text.n > 0) {
        struct str line = str_cut(&text, '\n');
        (void)str_word(&line);
        for (struct str f = str_word(&line); f.n > 0; f = str_word(&line)) {
            struct str key = str_cut(&f, '=');
            if (str_eq(key, STR("rbytes")))
                r += number(f);
            else if (str_eq(key, STR("wbytes")))
                w += number(f);
        }
    }
    u->read_bytes = r;
    u->write_bytes = w;
}

void usage_blkio(struct str text, struct usage *u)
{
    uint64_t r = 0, w = 0;

    while (text.n > 0) {
        struct str f[3], line = str_cut(&text, '\n');
        if (words(line, f, 3) != 3)
            continue;
        if (str_eq(f[1], STR("Read")))
            r += number(f[2]);
        else if (str_eq(f[1], STR("Write")))
            w += number(f[2]);
    }
    u->read_bytes = r;
    u->write_bytes = w;
}

int usage_number(struct str text, uint64_t *ret)
{
    struct str s = str_trim(str_cut(&text, '\n'));

    if (str_eq(s, STR("max"))) {
        *ret = 0;
        return 0;
    }
    uint64_t v = 0;
    int rc = str_to_u64(s, UINT64_MAX, &v);
    if (rc < 0)
        return -ERR_INVALID;
    *ret = v >= V1_NO_LIMIT ? 0 : v;
    return 0;
}

uint64_t usage_inactive_file(struct str text, bool v2)
{
    struct str key = v2 ? STR("inactive_file") : STR("total_inactive_file");

    while (text.n > 0) {
        struct str line = str_cut(&text, '\n');
        if (str_eq(str_word(&line), key))
            return number(str_word(&line));
    }
    return 0;
}

/* Devices whose bytes are counted by a physical one as well, or never leave the machine. */
static bool is_virtual_net(struct str name)
{
    static const char *const prefixes[] = {"veth", "br-", "docker",    "virbr", "cni",   "tun",
                                           "tap",  "wg",  "tailscale", "ifb",   "dummy", "vxlan"};

    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        if (str_starts(name, str_from(prefixes[i])))
            return true;
    return false;
}

void usage_net_dev(struct str text, bool host, struct usage *u)
{
    uint64_t rx = 0, tx = 0;

    while (text.n > 0) {
        struct str f[16], line = str_cut(&text, '\n');
        if (!memchr(line.p, ':', line.n))
            continue; /* the two lines of headings */
        struct str name = str_trim(str_cut(&line, ':'));
        if (str_eq(name, STR("lo")) || (host && is_virtual_net(name)) || words(line, f, 16) < 9)
            continue;
        rx += number(f[0]);
        tx += number(f[8]);
    }
    u->rx_bytes = rx;
    u->tx_bytes = tx;
}

void usage_proc_stat(struct str text, uint64_t hz, struct usage *u)
{
    while (text.n > 0 && hz > 0) {
        struct str f[9], line = str_cut(&text, '\n');
        size_t n = words(line, f, 9);
        uint64_t ticks = 0;
        /* cpu user nice system idle iowait irq softirq steal */
        if (n < 5 || !str_eq(f[0], STR("cpu")))
            continue;
        for (size_t i = 1; i < n; i++)
            if (i != 4 && i != 5)
                ticks += number(f[i]);
        u->cpu_usec = ticks / hz * 1000000 + ticks % hz * 1000000 / hz;
        return;
    }
}

void usage_meminfo(struct str text, struct usage *u)
{
    uint64_t total = 0, available = 0;

    while (text.n > 0) {
        struct str line = str_cut(&text, '\n');
        struct str key = str_cut(&line, ':');
        if (str_eq(key, STR("MemTotal")))
            total = number(str_word(&line));
        else if (str_eq(key, STR("MemAvailable")))
            available = number(str_word(&line));
    }
    if (total == 0 || total > UINT64_MAX / 1024)
        return;
    u->memory_limit = total * 1024;
    u->memory = available < total ? (total - available) * 1024 : 0;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A disk, not a partition of one and not a device made of others. */
static bool is_whole_disk(struct str name)
{
    static const char *const no[] = {"loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd"};
    size_t n = name.n;

    for (size_t i = 0; i < ARRAY_LEN(no); i++)
        if (str_starts(name, str_from(no[i])))
            return false;
    while (n > 0 && is_digit(name.p[n - 1]))
        n--;
    if (n == name.n)
        return n > 0;
    /* A name that ends in digits: nvme0n1 and mmcblk0 are disks, nvme0n1p2, mmcblk0p1 and vda1 are not. */
    if (str_starts(name, STR("nvme")) || str_starts(name, STR("mmcblk")))
        return n > 0 && name.p[n - 1] != 'p';
    return false;
}

void usage_diskstats(struct str text, struct usage *u)
{
    uint64_t r = 0, w = 0;

    while (text.n > 0) {
        struct str f[10], line = str_cut(&text, '\n');
        /* major minor name reads merged sectors ms writes merged sectors */
        if (words(line, f, 10) < 10 || !is_whole_disk(f[2]))
            continue;
        r += number(f[5]) * SECTOR;
        w += number(f[9]) * SECTOR;
    }
    u->read_bytes = r;
    u->write_bytes = w;
}

uint32_t usage_cpu_milli(uint64_t cpu_before, uint64_t cpu_now, uint64_t elapsed_usec)
{
    if (elapsed_usec == 0 || cpu_now <= cpu_before)
        return 0;
    uint64_t used = cpu_now - cpu_before;
    if (used > UINT64_MAX / 1000)
        return 0;
    uint64_t milli = used * 1000 / elapsed_usec;
    return milli > UINT32_MAX ? UINT32_MAX : (uint32_t)milli;
}
