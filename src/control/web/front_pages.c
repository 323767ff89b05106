/* SPDX-License-Identifier: Apache-2.0 */
/* front_pages — see front.h: the install script and the files of releases. Files are read on a lane of their own request, piece by piece. */
#include "control/web/front_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "control/web/front.h"
#include "control/servers/releases.h"

enum { PIECE = 128 * 1024, PART_MAX = 128 };

#define READ_WAIT (30 * USEC_SEC)

/* --- Which file --------------------------------------------------------------------------------------------------------------------- */

/* Letters, digits and "._+-", not hidden. */
static bool is_part(struct str s)
{
    if (s.n == 0 || s.n > PART_MAX || *s.p == '.')
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char ch = s.p[i];
        if (!(ch >= 'a' && ch <= 'z') && !(ch >= 'A' && ch <= 'Z') && !(ch >= '0' && ch <= '9') && !memchr("._+-", ch, 4))
            return false;
    }
    return true;
}

/* Only what a release consists of: keys that lie beside it, say, are nobody's business. */
static bool is_release_file(struct str s)
{
    static const char *const names[] = {"release.json", "release.sig", "install.sh", "SHA256SUMS"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (str_eq(s, str_from(names[i])))
            return true;
    return str_starts(s, STR("davit-")) && str_ends(s, STR(".tar"));
}

bool front_release_path(struct str path, struct str *ret_dir, struct str *ret_name)
{
    struct str rest = path, first = str_cut(&rest, '/');
    bool deep = first.n < path.n;
    *ret_dir = deep ? first : STR("");
    *ret_name = deep ? rest : first;
    return is_part(*ret_name) && is_release_file(*ret_name) && (!deep || is_part(first));
}

bool front_host_ok(struct str host)
{
    if (host.n == 0 || host.n > 255)
        return false;
    for (size_t i = 0; i < host.n; i++) {
        char ch = host.p[i];
        if (!(ch >= 'a' && ch <= 'z') && !(ch >= 'A' && ch <= 'Z') && !(ch >= '0' && ch <= '9') && !memchr(".:[]-", ch, 5))
            return false;
    }
    return true;
}

/* A file being read; its jobs run on a lane, one at a time. */
struct reading {
    struct lane *lane;
    char *dir, *sub, *name; /* sub "": none */
    int fd;
    uint64_t size;
    char *piece;
    size_t n; /* bytes in the piece */
};

static void reading_release(struct reading *r)
{
    r->lane = lane_free(r->lane);
    if (r->fd >= 0)
        (void)close(r->fd);
    free(r->dir);
    free(r->sub);
    free(r->name);
    free(r->piece);
}

/* No link is followed below the directory that the user named, and nothing is waited for that is no file. */
static int open_on_lane(void *arg)
{
    struct reading *r = arg;
    struct stat st;
    int rc = -(int)ERR_NOT_FOUND, dir = open(r->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0 && *r->sub) {
        int sub = openat(dir, r->sub, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        (void)close(dir);
        dir = sub;
    }
    if (dir < 0)
        return rc;
    r->fd = openat(dir, r->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    (void)close(dir);
    if (r->fd >= 0 && fstat(r->fd, &st) == 0 && S_ISREG(st.st_mode)) {
        r->size = (uint64_t)st.st_size;
        rc = 0;
    }
    return rc;
}

static int read_on_lane(void *arg)
{
    struct reading *r = arg;
    ssize_t n;
    do
        n = read(r->fd, r->piece, PIECE);
    while (n < 0 && errno == EINTR);
    r->n = n > 0 ? (size_t)n : 0;
    return n > 0 ? 0 : -(int)ERR_DATA_LOSS;
}

/* Waits. 0, -ERR_NOT_FOUND, or another failure. To be released in any case. */
static int reading_open(struct control *c, struct str sub, struct str name, struct reading *r)
{
    *r = (struct reading){.fd = -1};
    if (!*text(c->opt.release_dir))
        return -(int)ERR_NOT_FOUND;
    r->lane = lane_try_new(c->loop, "front", 1, 1);
    if (!r->lane)
        return -(int)ERR_UNAVAILABLE;
    r->dir = str_dup(str_from(c->opt.release_dir));
    r->sub = str_dup(sub);
    r->name = str_dup(name);
    r->piece = mem_zalloc(1, PIECE);
    return lane_call(r->lane, open_on_lane, r, deadline_in(READ_WAIT));
}

/* --- Answers ------------------------------------------------------------------------------------------------------------------------ */

static int head(struct rpc_page *p, int status, const char *type, uint64_t length)
{
    const struct http_field fields[] = {{"content-type", type},
                                        {"cache-control", "no-store"},
                                        {"x-content-type-options", "nosniff"},
                                        {"x-frame-options", "DENY"},
                                        {"content-security-policy", "default-src 'none'; frame-ancestors 'none'"},
                                        {"referrer-policy", "no-referrer"},
                                        {"allow", "GET, HEAD"}};
    return rpc_page_begin(p, status, fields, ARRAY_LEN(fields) - (status != 405), length);
}

static void whole(struct rpc_page *p, int status, const char *type, struct str body)
{
    if (head(p, status, type, body.n) == 0)
        (void)rpc_page_write(p, body);
}

static void failed(struct rpc_page *p, int rc)
{
    if (rc == -(int)ERR_NOT_FOUND)
        whole(p, 404, "text/plain", STR("there is nothing here\n"));
    else if (rc == -(int)ERR_PRECONDITION)
        whole(p, 404, "text/plain", STR("this control plane has no release to install: see davitd --release-dir\n"));
    else
        whole(p, 503, "text/plain", STR("this could not be read; try again later\n"));
}

static const char *type_of(struct str name)
{
    if (str_ends(name, STR(".json")))
        return "application/json";
    return str_ends(name, STR(".tar")) ? "application/x-tar" : "text/plain";
}

static void serve_file(struct control *c, struct rpc_page *p, struct str dir, struct str name)
{
    CLEANUP(reading_release) struct reading r;
    int rc = reading_open(c, dir, name, &r);
    if (rc < 0) {
        failed(p, rc);
        return;
    }
    rc = head(p, 200, type_of(name), r.size);
    for (uint64_t left = r.size; rc == 0 && left; left -= r.n) {
        if (strcmp(rpc_page_method(p), "HEAD") == 0)
            return;
        rc = lane_call(r.lane, read_on_lane, &r, deadline_in(READ_WAIT));
        if (rc == 0 && r.n > left) /* it grew: what was announced is what is sent */
            r.n = (size_t)left;
        if (rc == 0)
            rc = rpc_page_write(p, (struct str){r.piece, r.n});
    }
}

/* --- The script --------------------------------------------------------------------------------------------------------------------- */

static int read_whole(struct control *c, struct str dir, struct str name, struct buf *out)
{
    CLEANUP(reading_release) struct reading r;
    int rc = reading_open(c, dir, name, &r);
    if (rc == 0 && r.size > FRONT_SCRIPT_MAX)
        rc = -(int)ERR_EXHAUSTED;
    while (rc == 0 && out->len < r.size) {
        rc = lane_call(r.lane, read_on_lane, &r, deadline_in(READ_WAIT));
        if (rc == 0)
            rc = buf_append(out, r.piece, r.n);
    }
    return rc;
}

/* The first line that is @from becomes @to. 1: there is none. */
static int put_line(struct buf *script, const char *from, const char *to)
{
    const char *at = strstr(buf_cstr(script), from);
    size_t before, n = strlen(from);
    if (!at)
        return 1;
    before = (size_t)(at - (const char *)script->data);
    AUTO_BUF made = BUF_INIT(2 * FRONT_SCRIPT_MAX);
    int rc = buf_append(&made, script->data, before);
    if (rc == 0)
        rc = buf_append_cstr(&made, to);
    if (rc == 0)
        rc = buf_append(&made, script->data + before + n, script->len - before - n);
    if (rc == 0) {
        buf_release(script);
        *script = made;
        made = BUF_INIT(0);
    }
    return rc;
}

static const char *host_of(const struct rpc_page *p)
{
    const char *h2 = rpc_page_field(p, ":authority");
    return text(h2 ? h2 : rpc_page_field(p, "host"));
}

/* From where it loads, and the key that must be there: the one by which it came, if that is ours. */
static int render(struct control *c, const char *host, const char *directory, struct buf *script)
{
    AUTO_BUF pin = BUF_INIT(128);
    AUTO_BUF line = BUF_INIT(1024);
    const char *public_name = text(c->opt.hostname);
    struct str name = str_from(host);
    bool edge = *public_name && str_eq_ci(str_cut(&name, ':'), str_from(public_name));
    int rc = edge ? 0 : front_pin(c, &pin, NULL);
    if (rc == 0)
        rc = buf_printf(&line, "\nDAVIT_FROM='https://%s/releases%s%s'\nDAVIT_PIN='%s'\n", host, *directory ? "/" : "", directory, buf_cstr(&pin));
    if (rc == 0)
        rc = put_line(script, "\nDAVIT_FROM=''\nDAVIT_PIN=''\n", buf_cstr(&line));
    return rc;
}

static void serve_script(struct control *c, struct rpc_page *p)
{
    const char *host = host_of(p);
    if (!front_host_ok(str_from(host))) {
        whole(p, 400, "text/plain", STR("the name of this host is not one\n"));
        return;
    }
    int rc = releases_refresh(c->releases, NULL);
    struct release_entry *e = rc < 0 ? NULL : releases_newest(c->releases);
    if (!e) {
        failed(p, -(int)ERR_PRECONDITION);
        return;
    }
    e = release_entry_ref(e);
    AUTO_BUF script = BUF_INIT(2 * FRONT_SCRIPT_MAX);
    rc = read_whole(c, str_from(e->directory), STR("install.sh"), &script);
    if (rc == 0)
        rc = render(c, host, e->directory, &script);
    if (rc == 0)
        whole(p, 200, "text/x-shellscript", buf_str(&script));
    else
        failed(p, rc == 1 ? -(int)ERR_INTERNAL : rc);
    e = release_entry_unref(e);
}

static void serve(struct control *c, struct rpc_page *p)
{
    struct str rest = str_from(rpc_page_target(p)), path = str_cut(&rest, '?'), dir, name;
    const char *verb = rpc_page_method(p);
    static const char releases[] = "/releases/";
    bool script = str_eq(path, STR("/install.sh"));
    bool file = str_starts(path, STR(releases)) &&
                front_release_path((struct str){path.p + sizeof(releases) - 1, path.n - (sizeof(releases) - 1)}, &dir, &name);
    if (!script && !file)
        failed(p, -(int)ERR_NOT_FOUND);
    else if (strcmp(verb, "GET") != 0 && strcmp(verb, "HEAD") != 0)
        whole(p, 405, "text/plain", STR("only GET and HEAD\n"));
    else if (script)
        serve_script(c, p);
    else
        serve_file(c, p, dir, name);
}

void front_page(struct rpc_page *page, void *ctx)
{
    struct control *c = ctx;
    c->fibers++;
    if (c->stopping)
        whole(page, 503, "text/plain", STR("the control plane is stopping\n"));
    else
        serve(c, page);
    control_fiber_end(c);
}
