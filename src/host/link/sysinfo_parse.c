/* SPDX-License-Identifier: Apache-2.0 */
/* sysinfo_parse — see sysinfo.h: texts of the host and of its programs, without touching the host. */
#include <arpa/inet.h>
#include <linux/magic.h>
#include <netinet/in.h>
#include <sys/vfs.h>

#include "base/json.h"
#include "host/link/sysinfo.h"

/* RTF_* of linux/route.h, which cannot be included beside net/if.h. */
enum { ROUTE_UP = 1, ROUTE_REJECT = 0x200 };

char *sysinfo_clean(struct str s)
{
    AUTO_BUF out = BUF_INIT(SYSINFO_TEXT_MAX);
    s = str_trim(s);
    while (s.n > 0) {
        size_t n = str_utf8_len(s);
        bool control = n == 1 && ((unsigned char)*s.p < 0x20 || *s.p == 0x7f);
        struct str piece = n == 0 ? STR("\xef\xbf\xbd") : control ? STR(" ") : (struct str){s.p, n};
        if (buf_append_str(&out, piece) != 0)
            break;
        n = n == 0 ? 1 : n;
        s = (struct str){s.p + n, s.n - n};
    }
    return out.len > 0 ? buf_take(&out) : str_dup(STR(""));
}

/* The value of an assignment as a shell would read it: quotes and backslashes go. */
static char *unquote(struct str v)
{
    AUTO_BUF out = BUF_INIT(SYSINFO_TEXT_MAX * 4);
    char quote = '\0';
    for (size_t i = 0; i < v.n; i++) {
        char c = v.p[i];
        if (quote == '\0' && (c == '"' || c == '\'')) {
            quote = c;
            continue;
        }
        if (quote != '\0' && c == quote)
            break;
        if (c == '\\' && quote != '\'' && i + 1 < v.n)
            c = v.p[++i];
        if (buf_append_byte(&out, (uint8_t)c) != 0)
            break;
    }
    return sysinfo_clean(buf_str(&out));
}

char *sysinfo_pretty_name(struct str os_release)
{
    while (os_release.n > 0) {
        struct str line = str_trim(str_cut(&os_release, '\n'));
        struct str key = str_cut(&line, '=');
        if (str_eq(key, STR("PRETTY_NAME")))
            return unquote(line);
    }
    return str_dup(STR(""));
}

uint64_t sysinfo_mem_total(struct str meminfo)
{
    uint64_t kib = 0;
    while (meminfo.n > 0) {
        struct str line = str_cut(&meminfo, '\n');
        if (!str_eq(str_word(&line), STR("MemTotal:")))
            continue;
        return str_to_u64(str_word(&line), UINT64_MAX / 1024, &kib) == 0 ? kib * 1024 : 0;
    }
    return 0;
}

const char *sysinfo_arch(const char *machine)
{
    struct str m = str_from(machine);
    if (str_eq(m, STR("x86_64")))
        return "amd64";
    return str_eq(m, STR("aarch64")) ? "arm64" : machine;
}

/* Up to eight hex digits. */
static bool hex32(struct str s, uint32_t *ret)
{
    uint8_t bytes[4];
    size_t n = 0;
    if (s.n == 0 || s.n % 2 || str_unhex(s, bytes, sizeof(bytes), &n) != 0)
        return false;
    *ret = 0;
    for (size_t i = 0; i < n; i++)
        *ret = *ret << 8 | bytes[i];
    return true;
}

static bool all_zero(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '0')
            return false;
    return s.n > 0;
}

int sysinfo_route4(struct str route, char ret[IFNAMSIZ])
{
    uint64_t best = UINT64_MAX;
    (void)str_cut(&route, '\n'); /* the heads of the columns */
    while (route.n > 0) {
        struct str line = str_cut(&route, '\n');
        struct str name = str_word(&line), dest = str_word(&line);
        uint32_t flags = 0;
        uint64_t metric = 0;
        (void)str_word(&line); /* gateway */
        bool up = hex32(str_word(&line), &flags) && (flags & ROUTE_UP) && !(flags & ROUTE_REJECT);
        (void)str_word(&line);
        (void)str_word(&line);
        if (!up || !all_zero(dest) || str_to_u64(str_word(&line), UINT32_MAX, &metric) != 0 || !all_zero(str_word(&line)))
            continue;
        if (metric < best && name.n < IFNAMSIZ) {
            best = metric;
            (void)str_copy(ret, IFNAMSIZ, name);
        }
    }
    return best == UINT64_MAX ? 1 : 0;
}

int sysinfo_route6(struct str route, char ret[IFNAMSIZ])
{
    uint64_t best = UINT64_MAX;
    while (route.n > 0) {
        struct str line = str_cut(&route, '\n');
        struct str dest = str_word(&line), prefix = str_word(&line);
        uint32_t metric = 0, flags = 0;
        for (int i = 0; i < 3; i++)
            (void)str_word(&line); /* source, its length, next hop */
        bool metric_ok = hex32(str_word(&line), &metric);
        (void)str_word(&line);
        (void)str_word(&line);
        bool up = hex32(str_word(&line), &flags) && (flags & ROUTE_UP) && !(flags & ROUTE_REJECT);
        struct str name = str_word(&line);
        if (!metric_ok || !up || !all_zero(dest) || !all_zero(prefix) || str_eq(name, STR("lo")) || name.n == 0)
            continue;
        if (metric < best && name.n < IFNAMSIZ) {
            best = metric;
            (void)str_copy(ret, IFNAMSIZ, name);
        }
    }
    return best == UINT64_MAX ? 1 : 0;
}

bool sysinfo_own_interface(const char *name, unsigned flags)
{
    static const char *const foreign[] = {"docker", "br-", "veth", "davit", "cni", "podman", "virbr"};
    struct str n = str_from(name);
    if (!(flags & IFF_UP) || (flags & IFF_LOOPBACK))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++)
        if (str_starts(n, str_from(foreign[i])))
            return false;
    return true;
}

bool sysinfo_own_address(const struct sockaddr *sa, char dst[SYSINFO_ADDRESS_SIZE])
{
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof(in));
        uint32_t a = ntohl(in.sin_addr.s_addr);
        if (a == 0 || a >> 24 == 127 || a >> 16 == 0xa9fe || a >> 28 >= 14)
            return false;
        return inet_ntop(AF_INET, &in.sin_addr, dst, SYSINFO_ADDRESS_SIZE) != NULL;
    }
    if (sa->sa_family != AF_INET6)
        return false;
    struct sockaddr_in6 in6;
    memcpy(&in6, sa, sizeof(in6));
    const struct in6_addr *a6 = &in6.sin6_addr;
    if (IN6_IS_ADDR_UNSPECIFIED(a6) || IN6_IS_ADDR_LOOPBACK(a6) || IN6_IS_ADDR_LINKLOCAL(a6) || IN6_IS_ADDR_MULTICAST(a6))
        return false;
    return inet_ntop(AF_INET6, a6, dst, SYSINFO_ADDRESS_SIZE) != NULL;
}

int sysinfo_public_address(struct str answer, char dst[SYSINFO_ADDRESS_SIZE], struct err *err)
{
    char text[SYSINFO_ADDRESS_SIZE];
    uint8_t address[16];
    while (answer.n > 0 && (answer.p[answer.n - 1] == '\n' || answer.p[answer.n - 1] == '\r'))
        answer.n--;
    answer = str_trim(answer);
    if (answer.n == 0 || answer.n >= sizeof(text) || memchr(answer.p, '\0', answer.n))
        return err_set(err, ERR_INVALID, "the look-up URL did not answer with an IP address");
    (void)str_copy(text, sizeof(text), answer);
    int family = memchr(text, ':', answer.n) ? AF_INET6 : AF_INET;
    if (inet_pton(family, text, address) != 1 || !inet_ntop(family, address, dst, SYSINFO_ADDRESS_SIZE))
        return err_set(err, ERR_INVALID, "the look-up URL did not answer with an IP address");
    return 0;
}

/* --- tailscale ---- */

struct tailnet {
    char *state, *name, *address;
};

static void tailnet_release(struct tailnet *t)
{
    free(t->state);
    free(t->name);
    free(t->address);
}

static void keep(char **at, struct str value)
{
    free(*at);
    *at = sysinfo_clean(value);
}

/* The first IPv4 address of an array of texts, if none is known yet; null is an empty array. */
static int read_addresses(struct json *outer, struct tailnet *t, struct err *err)
{
    AUTO_JSON j = {0};
    struct str raw = {0}, s;
    uint8_t address[4];
    int rc = json_read_raw(outer, &raw, err);
    json_init(&j, raw);
    if (rc < 0 || str_eq(raw, STR("null")) || (rc = json_enter(&j, JSON_ARRAY, err)) < 0)
        return rc;
    while ((rc = json_item(&j, err)) == 1) {
        if ((rc = json_read_str(&j, &s, err)) < 0)
            return rc;
        AUTO_FREE char *text = str_dup(s);
        if (!t->address && inet_pton(AF_INET, text, address) == 1)
            t->address = str_dup(str_from(text));
    }
    return rc;
}

static int read_self(struct json *outer, struct tailnet *t, struct err *err)
{
    AUTO_JSON j = {0};
    struct str raw = {0}, key, value;
    int rc = json_read_raw(outer, &raw, err);
    json_init(&j, raw);
    if (rc < 0 || str_eq(raw, STR("null")) || (rc = json_enter(&j, JSON_OBJECT, err)) < 0)
        return rc;
    while ((rc = json_key(&j, &key, err)) == 1) {
        if (str_eq(key, STR("DNSName"))) {
            if ((rc = json_read_str(&j, &value, err)) == 0)
                keep(&t->name, str_ends(value, STR(".")) ? (struct str){value.p, value.n - 1} : value);
        } else if (str_eq(key, STR("TailscaleIPs"))) {
            rc = read_addresses(&j, t, err);
        } else {
            rc = json_skip(&j, err);
        }
        if (rc < 0)
            return rc;
    }
    return rc;
}

static int read_status(struct json *j, struct tailnet *t, struct err *err)
{
    struct str key, value;
    int rc = json_enter(j, JSON_OBJECT, err);
    if (rc < 0)
        return rc;
    while ((rc = json_key(j, &key, err)) == 1) {
        if (str_eq(key, STR("BackendState"))) {
            if ((rc = json_read_str(j, &value, err)) == 0)
                keep(&t->state, value);
        } else if (str_eq(key, STR("TailscaleIPs"))) {
            rc = read_addresses(j, t, err);
        } else if (str_eq(key, STR("Self"))) {
            rc = read_self(j, t, err);
        } else {
            rc = json_skip(j, err);
        }
        if (rc < 0)
            return rc;
    }
    return rc;
}

/* Fresh memory for a text of a message, or the one that protobuf-c does not free. */
static char *field(char **from)
{
    if (!*from || !**from)
        return (char *)(uintptr_t)protobuf_c_empty_string;
    return TAKE(*from);
}

int sysinfo_tailscale(struct str json, Davit__Common__V1__Tailscale *ret, struct err *err)
{
    CLEANUP(tailnet_release) struct tailnet t = {0};
    AUTO_JSON j = {0};
    json_init(&j, json);
    int rc = read_status(&j, &t, err);
    if (rc < 0)
        return rc;
    ret->state = field(&t.state);
    ret->hostname = field(&t.name);
    ret->address = field(&t.address);
    return 0;
}

const char *sysinfo_cgroup(const char *cgroup_root)
{
    AUTO_FREE char *unified = str_printf("%s/unified", cgroup_root);
    struct statfs fs;
    if (statfs(cgroup_root, &fs) != 0)
        return "";
    if (fs.f_type == CGROUP2_SUPER_MAGIC)
        return "v2";
    if (statfs(unified, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC)
        return "hybrid";
    AUTO_FREE char *memory = str_printf("%s/memory", cgroup_root);
    return statfs(memory, &fs) == 0 && fs.f_type == CGROUP_SUPER_MAGIC ? "v1" : "";
}
