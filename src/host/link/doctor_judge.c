/* SPDX-License-Identifier: Apache-2.0 */
/* doctor_judge — see doctor_judge.h: machine, enrolment, engine. */
#include "host/link/doctor_judge.h"

#include <arpa/inet.h>
#include <stdarg.h>

#include "docker/docker.h"

enum { KERNEL_MAJOR = 5, KERNEL_MINOR = 15, OVERLAPS_SHOWN = 3 };

/* --- Saying it --- */

/* Control characters, tricks and what is not UTF-8 become "?", in place. */
static void clean(char *text)
{
    for (struct str s = str_from(text); s.n > 0;) {
        size_t n = str_utf8_len(s);
        struct str c = {s.p, n};
        unsigned char first = (unsigned char)s.p[0];
        size_t step = n ? n : 1;
        if (n == 0 || (n == 1 && (first < 0x20 || first == 0x7f)) || str_is_trick(c))
            memset((char *)(uintptr_t)s.p, '?', step);
        s = (struct str){s.p + step, s.n - step};
    }
}

void doctor_say(struct doctor_check *c, enum doctor_result r, const char *fix, const char *fmt, ...)
{
    AUTO_BUF text = BUF_INIT(64 * 1024);
    va_list ap;
    va_start(ap, fmt);
    int rc = buf_vprintf(&text, fmt, ap);
    va_end(ap);
    c->result = r;
    (void)str_copy(c->message, sizeof(c->message), rc == 0 ? buf_str(&text) : STR("too long to be told"));
    (void)str_copy(c->fix, sizeof(c->fix), str_from(fix));
    clean(c->message);
    clean(c->fix);
}

/* --- Machine --- */

void doctor_judge_disk(struct doctor_check *c, const struct doctor_disk *d, size_t n)
{
    AUTO_BUF text = BUF_INIT(4096);
    enum doctor_result worst = DOCTOR_OK, r;
    bool unknown = false;
    for (size_t i = 0; i < n; i++) {
        const char *path = d[i].path ? d[i].path : "";
        bool twice = *path && !str_eq(str_from(path), str_from(d[i].what));
        (void)buf_printf(&text, "%s%s%s%s%s: ", i ? "; " : "", d[i].what, twice ? " (" : "", twice ? path : "", twice ? ")" : "");
        if (!d[i].known) {
            unknown = true;
            r = DOCTOR_WARN;
            (void)buf_append_cstr(&text, d[i].path ? "cannot be seen from here" : "not known, since the engine did not say where it is");
        } else {
            r = d[i].free < DOCTOR_DISK_FAIL ? DOCTOR_FAIL : d[i].free < DOCTOR_DISK_WARN ? DOCTOR_WARN : DOCTOR_OK;
            (void)buf_printf(&text, "%.1f GB free", (double)d[i].free / 1e9);
        }
        worst = r > worst ? r : worst;
    }
    const char *fix = worst == DOCTOR_OK                ? NULL
                      : worst == DOCTOR_WARN && unknown ? "mend the docker check first, then run doctor as root on the machine of the engine"
                                                        : "free space: docker image prune -a, docker system df, journalctl --vacuum-size=200M";
    doctor_say(c, worst, fix, "%s", buf_cstr(&text));
}

void doctor_judge_cgroup(struct doctor_check *c, const char *mode)
{
    struct str m = str_from(mode);
    const char *fix = "boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line (the default since Debian 11)";
    if (str_eq(m, STR("v2")))
        doctor_say(c, DOCTOR_OK, NULL, "cgroup v2");
    else if (str_eq(m, STR("hybrid")))
        doctor_say(c, DOCTOR_WARN, fix, "cgroup v1 with v2 beside it (hybrid): limits hold, but no pressure figures and no delegation");
    else if (str_eq(m, STR("v1")))
        doctor_say(c, DOCTOR_WARN, fix, "cgroup v1: limits hold, but no pressure figures, no delegation, no filters per group");
    else
        doctor_say(c, DOCTOR_WARN, "mount cgroup2 at /sys/fs/cgroup", "no cgroup hierarchy is mounted at /sys/fs/cgroup: limits cannot be set");
}

void doctor_judge_bpf(struct doctor_check *c, const char *release, bool bpffs)
{
    struct str rest = str_from(release), major_text = str_cut(&rest, '.'), minor_text = {rest.p, 0};
    uint64_t major = 0, minor = 0;
    while (minor_text.n < rest.n && rest.p[minor_text.n] >= '0' && rest.p[minor_text.n] <= '9')
        minor_text.n++;
    if (str_to_u64(major_text, 1000, &major) != 0 || str_to_u64(minor_text, 100000, &minor) != 0)
        doctor_say(c, DOCTOR_WARN, "run doctor on Linux 5.15 or later", "the kernel's version \"%s\" cannot be read", release);
    else if (major < KERNEL_MAJOR || (major == KERNEL_MAJOR && minor < KERNEL_MINOR))
        doctor_say(c, DOCTOR_WARN, "install kernel 5.15 or later", "kernel %s is older than 5.15: BPF programs of later features will not load",
                   release);
    else if (!bpffs)
        doctor_say(c, DOCTOR_WARN, "mount -t bpf bpf /sys/fs/bpf (systemd does it at boot)", "kernel %s, but no bpf file system at /sys/fs/bpf",
                   release);
    else
        doctor_say(c, DOCTOR_OK, NULL, "kernel %s, bpf file system mounted", release);
}

static struct str property(struct str show, struct str name)
{
    while (show.n > 0) {
        struct str value = str_cut(&show, '\n'), key = str_cut(&value, '=');
        if (str_eq(key, name))
            return value;
    }
    return STR("");
}

void doctor_judge_systemd(struct doctor_check *c, struct str show, bool local)
{
    struct str load = property(show, STR("LoadState")), active = property(show, STR("ActiveState"));
    struct str file = property(show, STR("UnitFileState"));
    if (load.n == 0 || active.n == 0)
        doctor_say(c, DOCTOR_WARN, "see to it by other means that davit-agent run starts at boot", "systemctl does not say how the unit is");
    else if (!str_eq(load, STR("loaded")) && local)
        doctor_say(c, DOCTOR_OK, NULL, "no unit davit-agent.service: this agent is started by davit up");
    else if (!str_eq(load, STR("loaded")))
        doctor_say(c, DOCTOR_WARN, "install the unit davit-agent.service, then systemctl enable --now davit-agent",
                   "the unit davit-agent.service is not installed (" STR_FMT ")", STR_ARG(load));
    else if (str_eq(active, STR("failed")))
        doctor_say(c, DOCTOR_FAIL, "journalctl -u davit-agent -n 50 tells why; then systemctl restart davit-agent",
                   "the unit davit-agent.service failed");
    else if (!str_eq(active, STR("active")))
        doctor_say(c, DOCTOR_WARN, "systemctl enable --now davit-agent", "the unit davit-agent.service is not active (" STR_FMT ")",
                   STR_ARG(active));
    else if (str_eq(file, STR("disabled")))
        doctor_say(c, DOCTOR_WARN, "systemctl enable davit-agent", "the unit davit-agent.service is active, but will not start at boot");
    else
        doctor_say(c, DOCTOR_OK, NULL, "the unit davit-agent.service is installed and active");
}

void doctor_judge_tailscale(struct doctor_check *c, bool installed, const char *state, const char *address)
{
    if (!installed)
        doctor_say(c, DOCTOR_WARN, "nothing to do unless this server shall be reached through a tailnet: then install tailscale",
                   "tailscale is not installed");
    else if (!*state)
        doctor_say(c, DOCTOR_WARN, "systemctl start tailscaled", "tailscale is installed but does not answer");
    else if (!str_eq(str_from(state), STR("Running")))
        doctor_say(c, DOCTOR_WARN, "tailscale up", "tailscale is not connected (%s)", state);
    else
        doctor_say(c, DOCTOR_OK, NULL, "connected as %s", *address ? address : "a node without an address");
}

void doctor_judge_clock(struct doctor_check *c, usec_t now, usec_t floor, bool known, int64_t skew)
{
    const char *fix = "set the clock and keep it right: timedatectl set-ntp true, or chrony";
    char text[CLOCK_TEXT_SIZE], least[CLOCK_TEXT_SIZE];
    clock_format(now, 0, text);
    clock_format(floor, 0, least);
    uint64_t off = skew < 0 ? 0 - (uint64_t)skew : (uint64_t)skew;
    const char *way = skew < 0 ? "behind" : "ahead of";
    if (now < floor)
        doctor_say(c, DOCTOR_FAIL, fix, "the clock says %s, but it is later than %s", text, least);
    else if (known && off > DOCTOR_SKEW_FAIL)
        doctor_say(c, DOCTOR_FAIL, fix, "the clock is %.0f s %s the control plane's", (double)off / 1e6, way);
    else if (known && off > DOCTOR_SKEW_WARN)
        doctor_say(c, DOCTOR_WARN, fix, "the clock is %.1f s %s the control plane's", (double)off / 1e6, way);
    else if (known)
        doctor_say(c, DOCTOR_OK, NULL, "%s, %.3f s %s the control plane's", text, (double)off / 1e6, way);
    else
        doctor_say(c, DOCTOR_OK, NULL, "%s is possible; not compared, since the control plane did not tell its time", text);
}

/* --- Enrolment --- */

void doctor_judge_modes(struct doctor_check *c, const char *dir, mode_t dir_mode, mode_t file_mode, const char *key, mode_t key_mode)
{
    AUTO_FREE char *fix = str_printf("chmod 700 %s && chmod 600 %s/config.yaml", dir, dir);
    AUTO_FREE char *key_fix = str_printf("chmod 600 %s; if others may have read it, enroll again with --force", key);
    if (key_mode & 077)
        doctor_say(c, DOCTOR_FAIL, key_fix, "others may read or change the private key %s (mode %03o)", key, (unsigned)key_mode & 0777);
    else if ((dir_mode | file_mode) & 022)
        doctor_say(c, DOCTOR_FAIL, fix, "others may change what is in %s", dir);
    else if ((dir_mode | file_mode) & 077)
        doctor_say(c, DOCTOR_WARN, fix, "others may look into %s (modes %03o, %03o)", dir, (unsigned)dir_mode & 0777, (unsigned)file_mode & 0777);
    else
        doctor_say(c, DOCTOR_OK, NULL, "%s/config.yaml is readable, and by nobody else", dir);
}

static const char token[] = "make a token on the control plane with \"davit server token NAME\" and enroll again with --force";

void doctor_judge_certificate(struct doctor_check *c, usec_t now, const struct doctor_cert *k)
{
    const char *reach = "see that the agent runs and reaches the control plane (check grpc): it renews by itself";
    char until[CLOCK_TEXT_SIZE];
    usec_t life = k->not_after > k->issued ? k->not_after - k->issued : 0;
    clock_format(k->not_after, 0, until);
    if (k->fenced)
        doctor_say(c, DOCTOR_FAIL, "stop the other one (a copied disk?), or enroll this one with --force under a name of its own",
                   "another agent uses the identity of this server; this one is idle");
    else if (*k->refused)
        doctor_say(c, DOCTOR_FAIL, token, "the control plane takes this certificate no more: %s", k->refused);
    else if (k->not_after <= now)
        doctor_say(c, DOCTOR_FAIL, token, "the certificate of this server expired at %s", until);
    else if (k->fallback)
        doctor_say(c, DOCTOR_WARN, token, "the newest certificate cannot be read; the one before it is used, until %s", until);
    else if (*k->error)
        doctor_say(c, DOCTOR_WARN, reach, "the certificate holds until %s; its renewal failed: %s", until, k->error);
    else if (k->not_after - now < life / DOCTOR_CERT_PART)
        doctor_say(c, DOCTOR_WARN, reach, "the certificate of this server expires soon, at %s", until);
    else
        doctor_say(c, DOCTOR_OK, NULL, "key, certificate and root fit together, until %s (%llu days)%s", until,
                   (unsigned long long)((k->not_after - now) / USEC_DAY), k->staged ? "; it is new and has not connected yet" : "");
}

void doctor_judge_token(struct doctor_check *c, usec_t now, const struct doctor_cert *k)
{
    const char *reach = "see that the agent runs and reaches the control plane (check grpc): it gets another by itself";
    char until[CLOCK_TEXT_SIZE];
    clock_format(k->not_after, 0, until);
    if (k->fenced)
        doctor_say(c, DOCTOR_FAIL, "stop the other one (a copied disk?), or enroll this one with --force under a name of its own",
                   "another agent uses the identity of this server; this one is idle");
    else if (*k->refused)
        doctor_say(c, DOCTOR_FAIL, token, "the control plane takes this server no more: %s", k->refused);
    else if (k->not_after == 0)
        doctor_say(c, DOCTOR_WARN, reach, "there is no access token");
    else if (k->not_after <= now)
        doctor_say(c, DOCTOR_WARN, reach, "the access token of this server expired at %s", until);
    else if (*k->error)
        doctor_say(c, DOCTOR_WARN, reach, "the access token holds until %s; its renewal failed: %s", until, k->error);
    else
        doctor_say(c, DOCTOR_OK, NULL, "key, root and access token fit together; tunnel mode; the token holds until %s", until);
}

/* --- Engine --- */

static bool api_minor(const char *text, uint64_t *ret)
{
    struct str s = str_from(text);
    return str_eq(str_cut(&s, '.'), STR("1")) && str_to_u64(s, 9999, ret) == 0;
}

void doctor_judge_api(struct doctor_check *c, const char *min, const char *max)
{
    uint64_t lo = 0, hi = 0;
    if (!api_minor(max, &hi) || (*min && !api_minor(min, &lo)))
        doctor_say(c, DOCTOR_FAIL, "name the socket of a Docker Engine with --docker", "what answers does not tell the API versions that it speaks");
    else if (hi < DOCKER_API_OURS_MIN)
        doctor_say(c, DOCTOR_FAIL, "install Docker Engine 20.10 or later", "the engine speaks API %s at most; 1.%d is needed", max,
                   DOCKER_API_OURS_MIN);
    else if (lo > DOCKER_API_OURS_MAX)
        doctor_say(c, DOCTOR_FAIL, "update davit-agent", "the engine speaks API %s at least; this agent knows 1.%d", min,
                   DOCKER_API_OURS_MAX);
    else
        doctor_say(c, DOCTOR_OK, NULL, "the engine speaks %s to %s, this agent 1.%d to 1.%d", *min ? min : "?", max,
                   DOCKER_API_OURS_MIN, DOCKER_API_OURS_MAX);
}

void doctor_judge_log_driver(struct doctor_check *c, const char *driver)
{
    static const char *const readable[] = {"json-file", "local", "journald"};
    const char *fix = "set \"log-driver\": \"json-file\" in /etc/docker/daemon.json and restart the engine";
    for (size_t i = 0; i < ARRAY_LEN(readable); i++)
        if (str_eq(str_from(driver), str_from(readable[i]))) {
            doctor_say(c, DOCTOR_OK, NULL, "%s", driver);
            return;
        }
    if (!*driver)
        doctor_say(c, DOCTOR_WARN, fix, "the engine does not say which log driver it uses");
    else
        doctor_say(c, DOCTOR_WARN, fix,
                   "logs of the engine's default driver %s cannot be read back (Davit's own containers use json-file all the same)", driver);
}

int doctor_subnet(struct str text, struct doctor_net *ret)
{
    uint64_t part = 0, bits = 0;
    uint32_t addr = 0;
    struct str rest = text, host = str_cut(&rest, '/');
    if (host.n == text.n || str_to_u64(rest, 32, &bits) != 0)
        return -(int)ERR_INVALID;
    for (int i = 0; i < 4; i++) {
        bool more = memchr(host.p, '.', host.n) != NULL;
        if (more != (i < 3) || str_to_u64(str_cut(&host, '.'), 255, &part) != 0)
            return -(int)ERR_INVALID;
        addr = addr << 8 | (uint32_t)part;
    }
    ret->bits = (unsigned)bits;
    ret->addr = bits ? addr & (uint32_t)(UINT32_MAX << (32 - bits)) : 0;
    return 0;
}

/* The kernel prints the bytes of the address as a number of this machine. */
static bool hex_address(struct str s, uint32_t *ret)
{
    uint32_t raw = 0;
    size_t n = 0;
    uint8_t b[4];
    if (s.n != 8 || str_unhex(s, b, sizeof(b), &n) != 0)
        return false;
    raw = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    *ret = ntohl(raw);
    return true;
}

size_t doctor_routes(struct str text, struct doctor_net *ret, size_t max)
{
    enum { COLUMNS = 8, UP = 1 };
    size_t n = 0;
    (void)str_cut(&text, '\n');
    while (text.n > 0 && n < max) {
        struct str line = str_cut(&text, '\n'), col[COLUMNS];
        uint32_t addr, mask;
        uint64_t flags = 0;
        for (size_t i = 0; i < COLUMNS; i++)
            col[i] = str_word(&line);
        uint8_t b[2];
        size_t got = 0;
        if (!hex_address(col[1], &addr) || !hex_address(col[7], &mask) || str_unhex(col[3], b, sizeof(b), &got) != 0 || got != 2)
            continue;
        flags = b[1];
        if (!(flags & UP) || mask == 0 || mask == UINT32_MAX)
            continue;
        struct doctor_net *r = &ret[n++];
        *r = (struct doctor_net){.addr = addr & mask, .bits = (unsigned)__builtin_popcount(mask)};
        (void)str_copy(r->name, sizeof(r->name), col[0]);
    }
    return n;
}

static bool overlap(const struct doctor_net *a, const struct doctor_net *b)
{
    unsigned bits = a->bits < b->bits ? a->bits : b->bits;
    uint32_t mask = bits ? (uint32_t)(UINT32_MAX << (32 - bits)) : 0;
    return (a->addr & mask) == (b->addr & mask);
}

static int put_net(struct buf *out, const struct doctor_net *n)
{
    return buf_printf(out, "%s %u.%u.%u.%u/%u", n->name, n->addr >> 24, n->addr >> 16 & 255, n->addr >> 8 & 255, n->addr & 255, n->bits);
}

void doctor_judge_pools(struct doctor_check *c, const struct doctor_net *subnets, size_t n_subnets, const struct doctor_net *routes,
                        size_t n_routes)
{
    AUTO_BUF text = BUF_INIT(4096);
    size_t found = 0;
    for (size_t i = 0; i < n_subnets; i++)
        for (size_t k = 0; k < n_routes; k++) {
            bool same = subnets[i].addr == routes[k].addr && subnets[i].bits == routes[k].bits;
            if ((same && routes[k].bridge) || !overlap(&subnets[i], &routes[k]) || ++found > OVERLAPS_SHOWN)
                continue;
            (void)buf_append_cstr(&text, found > 1 ? "; network " : "network ");
            (void)put_net(&text, &subnets[i]);
            (void)buf_append_cstr(&text, " and the route by ");
            (void)put_net(&text, &routes[k]);
        }
    if (found > OVERLAPS_SHOWN)
        (void)buf_printf(&text, " and %zu more", found - OVERLAPS_SHOWN);
    if (found)
        doctor_say(c, DOCTOR_WARN, "remove the network, and set \"default-address-pools\" in /etc/docker/daemon.json to ranges that are free here",
                   "subnets of Docker hide what this machine has a route to: %s", buf_cstr(&text));
    else
        doctor_say(c, DOCTOR_OK, NULL, "%zu subnet%s of Docker, none in the way of a route", n_subnets, n_subnets == 1 ? "" : "s");
}
