/* SPDX-License-Identifier: Apache-2.0 */
/* Calls against canned answers over a unix socket: version, errors, limits, pulls, engines that are not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "docker/docker.h"
#include "net/http_server.h"
#include "net/on_fiber.h"

#define SOON deadline_in(10 * USEC_SEC)

static const char *version = "1.41";
static int status = 200;
static struct str answer;
static char target[512], auth[512];
static unsigned pings;
static unsigned looks; /* at what is in a container that find it there; those behind them fail */

static void handler(void *arg, struct http_call *call)
{
    (void)arg;
    const struct http_head *head = http_call_head(call);
    if (strcmp(head->target, "/_ping") == 0) {
        struct http_field f = {"Api-Version", version};
        pings++;
        (void)http_reply_fields(call, 200, &f, 1, STR("OK"));
        return;
    }
    if (looks && strcmp(head->method, "HEAD") == 0) {
        struct http_field f = {"X-Docker-Container-Path-Stat", "eyJuYW1lIjoieCIsInNpemUiOjEsIm1vZGUiOjQyMH0="}; /* {"name":"x","size":1,"mode":420} */
        (void)http_reply_fields(call, --looks ? 200 : 503, &f, 1, STR(""));
        return;
    }
    const char *given = http_field(head, "x-registry-auth");
    str_copy(target, sizeof(target), str_from(head->target));
    str_copy(auth, sizeof(auth), str_from(given ? given : ""));
    (void)http_reply(call, status, "application/json", answer);
}

struct rig {
    char dir[32], addr[64];
    struct http_server *server;
    struct docker *d;
};

static void rig_open(struct rig *r, struct loop *loop)
{
    struct err err = ERR_INIT;
    *r = (struct rig){.dir = "/tmp/davit-test-XXXXXX"};
    CHECK(mkdtemp(r->dir));
    (void)snprintf(r->addr, sizeof(r->addr), "unix://%s/s", r->dir);
    char plain[64];
    (void)snprintf(plain, sizeof(plain), "unix:%s/s", r->dir);
    r->server = http_server_new(loop, handler, NULL, 1 << 20);
    CHECK_OK(http_server_listen(r->server, plain, 0600, NULL, &err));
    CHECK_OK(docker_new(loop, r->addr, &r->d, &err));
    version = "1.41";
    status = 200;
    answer = STR("{}");
    pings = 0;
}

static void rig_close(struct rig *r)
{
    docker_free(r->d);
    http_server_free(r->server);
    (void)unlink(r->addr + 7);
    (void)rmdir(r->dir);
}

static void versions(struct loop *loop)
{
    struct rig r;
    struct err err = ERR_INIT;
    struct docker_info i = {0};
    static const struct {
        const char *theirs, *ours;
    } cases[] = {{"1.41", "1.41"}, {"1.45", "1.45"}, {"1.51", "1.45"}, {"1.40", NULL}, {"2.1", NULL}, {"x", NULL}, {"1.", NULL}};
    for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
        rig_open(&r, loop);
        version = cases[k].theirs;
        answer =
            STR("{\"ServerVersion\":\"20.10.24\",\"NCPU\":2,\"MemTotal\":1024,\"CgroupVersion\":\"2\",\"ID\":null,\"Name\":5}");
        int rc = docker_info_get(r.d, &i, SOON, &err);
        if (cases[k].ours) {
            CHECK(rc == 0 && strcmp(i.api, cases[k].ours) == 0 && strcmp(i.version, "20.10.24") == 0 && i.ncpu == 2);
            CHECK(i.cgroup_version == 2 && *i.id == '\0' && *i.hostname == '\0' && *i.kernel == '\0');
            docker_info_release(&i);
            CHECK_OK(docker_info_get(r.d, &i, SOON, &err));
            CHECK(pings == 1);
            docker_info_release(&i);
        } else {
            CHECK(rc == -(int)ERR_PRECONDITION && i.pool == NULL);
        }
        rig_close(&r);
    }
}

static void errors(struct loop *loop)
{
    struct rig r;
    struct err err = ERR_INIT;
    struct docker_container c = {0};
    rig_open(&r, loop);
    status = 404;
    answer = STR("{\"message\":\"No such container: \\u0000x\\n\"}");
    CHECK(docker_container_inspect(r.d, "x/../y?z", &c, SOON, &err) == -(int)ERR_NOT_FOUND);
    CHECK(strcmp(target, "/v1.41/containers/x%2F..%2Fy%3Fz/json") == 0);
    CHECK(docker_container_inspect(r.d, "..", &c, SOON, &err) == -(int)ERR_INVALID);
    status = 304;
    CHECK(docker_container_start(r.d, "x", SOON, &err) == DOCKER_UNCHANGED);
    status = 500;
    answer = STR("<html>");
    CHECK(docker_container_start(r.d, "x", SOON, &err) == -(int)ERR_UNKNOWN);
    status = 200;
    answer = STR("{\"Id\":");
    CHECK(docker_container_inspect(r.d, "x", &c, SOON, &err) == -(int)ERR_INVALID && c.pool == NULL);
    char *big = malloc(DOCKER_REPLY_MAX + 1);
    CHECK(big);
    memset(big, ' ', DOCKER_REPLY_MAX + 1);
    memcpy(big, "{}", 2);
    answer = (struct str){big, DOCKER_REPLY_MAX};
    CHECK_OK(docker_container_inspect(r.d, "x", &c, SOON, &err));
    CHECK(*c.id == '\0' && *c.name == '\0' && *c.health_log == '\0' && *c.restart == '\0' && c.state == DOCKER_STATE_UNKNOWN);
    docker_container_release(&c);
    answer.n++;
    CHECK(docker_container_inspect(r.d, "x", &c, SOON, &err) == -(int)ERR_EXHAUSTED);
    free(big);
    rig_close(&r);
}

static int on_progress(void *arg, const struct docker_progress *p)
{
    unsigned *seen = arg;
    if (p->total == 100 && p->current == 50 && strcmp(p->layer, "abc") == 0)
        (*seen)++;
    return strcmp(p->status, "give up") == 0 ? -(int)ERR_ABORTED : 0;
}

static void pulls(struct loop *loop)
{
    struct rig r;
    struct err err = ERR_INIT;
    char digest[DOCKER_DIGEST_SIZE];
    unsigned seen = 0;
    rig_open(&r, loop);
    answer = STR("{\"status\":\"Downloading\",\"progressDetail\":{\"current\":50,\"total\":100},\"id\":\"abc\"}\r\n"
                 "{\"status\":\"Digest: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"}\r\n");
    struct docker_auth a = {"r:5000", "u", "p\"w"};
    CHECK_OK(docker_pull(r.d, "r:5000/a/b", &a, on_progress, &seen, digest, SOON, &err));
    CHECK(seen == 1 && strncmp(digest, "sha256:0123", 11) == 0);
    CHECK(strcmp(target, "/v1.41/images/create?fromImage=r%3A5000%2Fa%2Fb&tag=latest") == 0);
    char json[256];
    size_t n = 0;
    CHECK_OK(str_unbase64(str_from(auth), json, sizeof(json), &n));
    CHECK(str_eq((struct str){json, n}, STR("{\"username\":\"u\",\"password\":\"p\\\"w\",\"serveraddress\":\"r:5000\"}")));
    CHECK_OK(docker_pull(r.d, "a:1@sha256:00", NULL, NULL, NULL, NULL, SOON, &err));
    CHECK(strcmp(target, "/v1.41/images/create?fromImage=a&tag=sha256%3A00") == 0 && !*auth);
    answer = STR("{\"status\":\"x\"}{\"error\":\"unauthorized: authentication required\",\"errorDetail\":{}}");
    CHECK(docker_pull(r.d, "a", NULL, NULL, NULL, digest, SOON, &err) == -(int)ERR_UNAUTHENTICATED && *err.hint && !*digest);
    answer = STR("{\"status\":\"give up\"}");
    CHECK(docker_pull(r.d, "a", NULL, on_progress, &seen, NULL, SOON, &err) == -(int)ERR_ABORTED);
    CHECK(docker_pull(r.d, ":1", NULL, NULL, NULL, NULL, SOON, &err) == -(int)ERR_INVALID);
    rig_close(&r);
}

/* req: WK-5 */
static void images(struct loop *loop)
{
    struct rig r;
    struct err err = ERR_INIT;
    struct docker_images l = {0};
    struct docker_auth a = {"r:5000", "u", "p"};
    char digest[DOCKER_DIGEST_SIZE];
    rig_open(&r, loop);
    answer = STR("[{\"Id\":\"sha256:1\",\"RepoTags\":[\"a:1\",\"<none>:<none>\"],\"RepoDigests\":null,\"Size\":5,\"Created\":7},"
                 "{\"RepoTags\":[\"<none>:<none>\"],\"RepoDigests\":[\"<none>@<none>\",\"a@sha256:2\"],\"Size\":-1}]");
    CHECK_OK(docker_image_list(r.d, &l, SOON, &err));
    CHECK(l.n == 2 && strcmp(l.items[0].id, "sha256:1") == 0 && l.items[0].size == 5 && l.items[0].created == 7);
    CHECK(l.items[0].n_repo_tags == 1 && l.items[0].n_repo_digests == 0 && !*l.items[1].id && l.items[1].size == 0);
    CHECK(l.items[1].n_repo_tags == 0 && l.items[1].n_repo_digests == 1 && strcmp(l.items[1].repo_digests[0], "a@sha256:2") == 0);
    docker_images_release(&l);
    answer = STR("{\"Descriptor\":{\"digest\":\"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"}}");
    CHECK_OK(docker_image_remote(r.d, "r:5000/a/b:1", &a, digest, SOON, &err));
    CHECK(strncmp(digest, "sha256:0123", 11) == 0 && strlen(digest) == 71 && *auth);
    CHECK(strcmp(target, "/v1.41/distribution/r%3A5000%2Fa%2Fb%3A1/json") == 0);
    answer = STR("{\"Descriptor\":{\"digest\":\"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0\"}}");
    CHECK(docker_image_remote(r.d, "a", NULL, digest, SOON, &err) == -(int)ERR_INVALID && !*digest && !*auth);
    answer = STR("{}");
    CHECK(docker_image_remote(r.d, "a", NULL, digest, SOON, &err) == -(int)ERR_INVALID);
    rig_close(&r);
}

/* req: CB-13 */
static void lists_of_what_is_used(struct loop *loop)
{
    struct rig r;
    struct err err = ERR_INIT;
    struct docker_summaries c = {0};
    struct docker_volumes v = {0};
    rig_open(&r, loop);
    answer = STR("[{\"Id\":\"1\",\"Names\":[\"/x\"],\"Mounts\":[{\"Type\":\"volume\",\"Name\":\"v\",\"Destination\":\"/v\"},"
                 "{\"Type\":\"bind\",\"Source\":\"/srv\",\"Name\":\"b\"},{\"Type\":\"tmpfs\"}]},{\"Id\":\"2\",\"Mounts\":null}]");
    CHECK_OK(docker_container_list(r.d, NULL, 0, &c, SOON, &err));
    CHECK(c.n == 2 && c.items[0].n_volumes == 1 && strcmp(c.items[0].volumes[0], "v") == 0 && c.items[1].n_volumes == 0);
    docker_summaries_release(&c);
    answer = STR("{\"Volumes\":[{\"Name\":\"v\"}],\"Warnings\":null}");
    CHECK_OK(docker_volume_list(r.d, NULL, &v, SOON, &err));
    CHECK(v.n == 1 && !v.incomplete);
    docker_volumes_release(&v);
    answer = STR("{\"Volumes\":[{\"Name\":\"v\"}],\"Warnings\":[\"a driver does not answer\"]}");
    CHECK_OK(docker_volume_list(r.d, NULL, &v, SOON, &err));
    CHECK(v.n == 1 && v.incomplete);
    docker_volumes_release(&v);
    rig_close(&r);
}

/* What the engine would not remove is one thing; that nobody knows, another. */
static void removals(struct loop *loop)
{
    struct rig r;
    struct err err = ERR_INIT;
    rig_open(&r, loop);
    looks = 3;
    CHECK(docker_archive_remove(r.d, "c", "/tmp", "x", SOON, &err) == -(int)ERR_PRECONDITION && strstr(err.msg, "left it where it was"));
    looks = 2;
    err = ERR_INIT;
    CHECK(docker_archive_remove(r.d, "c", "/tmp", "x", SOON, &err) == -(int)ERR_UNAVAILABLE && err.code == ERR_UNAVAILABLE);
    looks = 0;
    rig_close(&r);
}

static void absent(struct loop *loop)
{
    struct rig r;
    struct err err = ERR_INIT;
    rig_open(&r, loop);
    CHECK_OK(docker_ping(r.d, SOON, &err));
    CHECK(strcmp(docker_api(r.d), "1.41") == 0);
    r.server = http_server_free(r.server);
    CHECK(docker_container_start(r.d, "x", SOON, &err) == -(int)ERR_UNAVAILABLE);
    CHECK(strstr(err.hint, "running") && *docker_api(r.d) == '\0'); /* asked again when it is back */
    struct docker *d = NULL;
    CHECK(docker_new(loop, "http://x", &d, &err) == -(int)ERR_INVALID);
    CHECK_OK(docker_new(loop, "unix:///nonexistent/docker.sock", &d, &err));
    CHECK(docker_ping(d, SOON, &err) == -(int)ERR_UNAVAILABLE);
    docker_free(d);
    rig_close(&r);
}

#define CASE(name)                                                                                                               \
    static void test_##name(void **state)                                                                                        \
    {                                                                                                                            \
        (void)state;                                                                                                             \
        on_fiber(name);                                                                                                          \
    }
CASE(versions)
CASE(errors)
CASE(pulls)
CASE(images)
CASE(lists_of_what_is_used)
CASE(removals)
CASE(absent)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_pulls),
        cmocka_unit_test(test_images),
        cmocka_unit_test(test_lists_of_what_is_used),
        cmocka_unit_test(test_removals),
        cmocka_unit_test(test_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
