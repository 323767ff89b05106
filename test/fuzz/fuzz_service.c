/* SPDX-License-Identifier: Apache-2.0 */
/* A service as somebody asks for it, in JSON: what is taken says the same after it was completed once more, and none of its texts says more in the
 * configuration of the way in than it is meant to. */
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "davit/common/v1/service.davit.h"
#include "host/reach/routes.h"
#include "rpc/rpc.h"
#include "spec/registry_name.h"
#include "spec/spec.h"

static size_t lines(struct str s)
{
    size_t n = 0;
    while (s.n) {
        (void)str_cut(&s, '\n');
        n++;
    }
    return n;
}

static void lead(const Davit__Common__V1__ServiceSpec *s)
{
    static const struct ingress_server server = {.name = "web-1", .address = "10.1.2.3", .port = 80};
    const char *hosts[SPEC_ROUTES_MAX];
    AUTO_FREE char *network = str_printf("davit-%s", s->project);
    struct ingress_service in = {
        .project = s->project, .service = s->name, .network = network, .hosts = hosts, .servers = &server, .n_servers = 1};
    struct routes none = {0}, t = {0};
    struct route *r = NULL;
    for (; in.n_hosts < s->n_routes; in.n_hosts++)
        hosts[in.n_hosts] = s->routes[in.n_hosts]->hostname;
    if (!in.n_hosts)
        return;
    struct buf config = BUF_INIT(ROUTES_TEXT_MAX), empty = BUF_INIT(ROUTES_TEXT_MAX), map = BUF_INIT(ROUTES_TEXT_MAX);
    BUG_ON(route_new(&in, &r, NULL) < 0 || routes_with(&none, r, &t, NULL) < 0);
    BUG_ON(routes_config(&none, "g", &empty, NULL) < 0 || routes_config(&t, "g", &config, NULL) < 0 || routes_map(&t, &map, NULL) < 0);
    BUG_ON(lines(buf_str(&map)) != in.n_hosts || lines(buf_str(&config)) > lines(buf_str(&empty)) + 8);
    BUG_ON(memchr(map.data, '\0', map.len) || memchr(config.data, '\0', config.len));
    routes_release(&t);
    buf_release(&config);
    buf_release(&empty);
    buf_release(&map);
}

static void judge(Davit__Common__V1__ServiceSpec *s)
{
    char registry[REGISTRY_NAME_SIZE];
    struct str written;
    struct buf once = BUF_INIT(4 * RPC_MESSAGE_MAX), twice = BUF_INIT(4 * RPC_MESSAGE_MAX);
    registry_of_image(str_from(s->image), registry, &written);
    BUG_ON(rpc_pack(&s->base, &once) != 0);
    spec_complete(s);
    BUG_ON(spec_check(s, NULL) < 0 || rpc_pack(&s->base, &twice) != 0 || !str_eq(buf_str(&once), buf_str(&twice)));
    buf_release(&once);
    buf_release(&twice);
    lead(s);
    spec_pin_image(s, "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
    BUG_ON(spec_check(s, NULL) < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ProtobufCMessage *m = NULL;
    struct err err = ERR_INIT;
    if (rpc_from_json(&davit__common__v1__service_spec__descriptor, (struct str){(const char *)data, size}, &m, NULL) < 0)
        return 0;
    Davit__Common__V1__ServiceSpec *s = (Davit__Common__V1__ServiceSpec *)m;
    spec_complete(s);
    if (spec_check(s, &err) == 0)
        judge(s);
    else
        BUG_ON(!*err.msg);
    (void)rpc_message_free(m);
    return 0;
}
