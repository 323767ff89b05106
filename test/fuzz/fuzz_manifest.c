/* SPDX-License-Identifier: Apache-2.0 */
/* davit.yaml: anything is refused with a message or becomes specs whose every service has a name and an image. */
#include <stdint.h>

#include "cli/manifest.h"
#include "spec/spec.h"

static void check(const Davit__Common__V1__ServiceSpec *spec)
{
    BUG_ON(!str_is_label(str_from(spec->project)) || !str_is_label(str_from(spec->name)) || !*spec->image);
    BUG_ON(spec->n_env > MANIFEST_LIST_MAX || spec->n_ports > MANIFEST_LIST_MAX || spec->n_command > MANIFEST_LIST_MAX);
    for (size_t i = 0; i < spec->n_ports; i++)
        BUG_ON(spec->ports[i]->host_port == 0 || spec->ports[i]->host_port > 65535 || spec->ports[i]->container_port == 0);
    BUG_ON(spec->n_routes > MANIFEST_LIST_MAX || spec->replicas > SPEC_REPLICAS_MAX);
    for (size_t i = 0; i < spec->n_routes; i++)
        BUG_ON(!spec->routes[i]->hostname[0] || spec->routes[i]->port > 65535);
    for (size_t i = 0; i < spec->n_volumes; i++)
        BUG_ON(spec->volumes[i]->path[0] != '/');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct manifest m;
    struct err err = ERR_INIT;

    if (manifest_parse((struct str){(const char *)data, size}, "davit.yaml", &m, &err) < 0) {
        BUG_ON(!err.msg[0] || m.n > 0);
        return 0;
    }
    for (size_t i = 0; i < m.n; i++)
        check(m.services[i]);
    manifest_release(&m);
    return 0;
}
