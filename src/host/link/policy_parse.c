/* SPDX-License-Identifier: Apache-2.0 */
/* policy_parse — the text of a policy to its rules, and the rules to words for people. */
#include <string.h>

#include "base/mem.h"
#include "host/link/policy.h"
#include "spec/spec.h"
#include "yaml/yaml_tree.h"

struct reader {
    const char *name;
    struct err *err;
};

/* A key of the file: where its rule goes, what it is about, and what an item of its list must be; no item: allow and forbid alone. */
struct policy_key {
    const char *name;
    size_t offset;
    const char *about;
    int (*item)(const struct reader *r, unsigned line, struct str item);
};

static bool all_of(struct str s, const char *extra)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!plain && !(c && strchr(extra, c)))
            return false;
    }
    return s.n > 0;
}

static int bad_item(const struct reader *r, unsigned line, struct str item, const char *want)
{
    struct str shown = {item.p, item.n < 80 ? item.n : 80};
    return err_set(r->err, ERR_INVALID, "%s line %u: \"%.*s\" is not allowed; %s", r->name, line, STR_ARG(shown), want);
}

static int image_item(const struct reader *r, unsigned line, struct str item)
{
    const char *slash = item.n ? memchr(item.p, '/', item.n) : NULL;
    struct str host = {item.p, slash ? (size_t)(slash - item.p) : 0};
    bool registry = host.n && (memchr(host.p, '.', host.n) || memchr(host.p, ':', host.n) || str_eq(host, STR("localhost")));
    struct str path = {slash ? slash + 1 : item.p, slash ? item.n - host.n - 1 : 0};
    bool parts = path.n > 0 && path.p[0] != '/' && path.p[path.n - 1] != '/';
    for (size_t i = 1; parts && i < path.n; i++)
        parts = path.p[i] != '/' || path.p[i - 1] != '/';
    if (registry && parts && all_of(host, ".-:*[]") && all_of(path, "._-/*"))
        return 0;
    return bad_item(r, line, item, "REGISTRY/REPOSITORY without tag, such as docker.io/library/* or registry.example.org:5000/team/app");
}

static int privileged_item(const struct reader *r, unsigned line, struct str item)
{
    static const char *const whole[] = {"privileged", "network:host", "pid:host", "ipc:host", "network:open"};
    for (size_t i = 0; i < ARRAY_LEN(whole); i++)
        if (str_eq(item, str_from(whole[i])))
            return 0;
    struct str rest = item, kind = str_cut(&rest, ':');
    if (str_eq(kind, STR("cap")) && spec_is_capability(rest))
        return 0;
    if (str_eq(kind, STR("cap")) && !str_starts(rest, STR("CAP_")))
        return bad_item(r, line, item, "cap:NAME wants a capability of Linux, as cap:NET_ADMIN");
    if (str_eq(kind, STR("device")) && str_starts(rest, STR("/dev/")) && policy_path_below("/dev", rest.p))
        return 0;
    if (str_eq(kind, STR("security")) && all_of(rest, "=:_-./"))
        return 0;
    if ((str_eq(kind, STR("target")) || str_eq(kind, STR("source"))) && spec_is_right(item))
        return 0;
    return bad_item(r, line, item,
                    "privileged, cap:NAME, network:host, network:open, pid:host, ipc:host, device:/dev/NAME, security:OPTION, target:/PATH, "
                    "source:/PATH");
}

static int mount_item(const struct reader *r, unsigned line, struct str item)
{
    return policy_path_below("/", item.p) ? 0 : bad_item(r, line, item, "an absolute path without \".\" and \"..\"");
}

static const struct policy_key keys[] = {
    {"exec", offsetof(struct policy, exec), "commands inside containers", NULL},
    {"self-update", offsetof(struct policy, update), "updates of the agent", NULL},
    {"images", offsetof(struct policy, images), "images", image_item},
    {"privileged", offsetof(struct policy, privileged), "privileged options", privileged_item},
    {"mounts", offsetof(struct policy, mounts), "folders of this machine in containers", mount_item},
    {"docker-socket", offsetof(struct policy, socket), "the Docker socket in containers", NULL},
    {"sandboxes", offsetof(struct policy, sandboxes), "sandboxes", NULL},
};

static struct policy_list *list_of(struct policy *p, const struct policy_key *key)
{
    return (struct policy_list *)(void *)((char *)p + key->offset);
}

static int read_items(const struct reader *r, const struct yaml_node *node, const struct policy_key *key, struct policy_list *ret)
{
    size_t n = 0;
    for (const struct yaml_node *i = node->first; i; i = i->next)
        n++;
    if (n > POLICY_ITEMS_MAX)
        return err_set(r->err, ERR_INVALID, "%s line %u: %s has %zu items; at most %d are allowed", r->name, node->line, key->name, n,
                       POLICY_ITEMS_MAX);
    ret->rule = n ? POLICY_LISTED : POLICY_FORBID; /* a list of nothing */
    ret->items = n ? mem_zalloc(n, sizeof(char *)) : NULL;
    for (const struct yaml_node *i = node->first; i; i = i->next) {
        if (i->type != YAML_SCALAR)
            return err_set(r->err, ERR_INVALID, "%s line %u: an item of %s is a %s, not text", r->name, i->line, key->name, yaml_type_name(i->type));
        struct str item = str_from(i->text);
        if (item.n > POLICY_ITEM_MAX)
            return bad_item(r, i->line, item, "it is too long");
        int rc = key->item(r, i->line, item);
        if (rc < 0)
            return rc;
        ret->items[ret->n++] = str_dup(item);
    }
    return 0;
}

static int read_key(const struct reader *r, const struct yaml_node *node, struct policy *p)
{
    const struct policy_key *key = NULL;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (strcmp(node->key, keys[i].name) == 0)
            key = &keys[i];
    if (!key)
        return err_set(r->err, ERR_INVALID, "%s line %u: \"%.60s\" is no key; exec, self-update, images, privileged, mounts, docker-socket, "
                       "sandboxes are",
                       r->name, node->line, node->key);
    struct policy_list *list = list_of(p, key);
    list->line = node->line;
    if (node->type == YAML_SEQUENCE && key->item)
        return read_items(r, node, key, list);
    struct str word = str_from(node->type == YAML_SCALAR ? node->text : NULL);
    if (str_eq(word, STR("allow")) || str_eq(word, STR("forbid"))) {
        list->rule = str_eq(word, STR("forbid")) ? POLICY_FORBID : POLICY_ALLOW;
        return 0;
    }
    return err_set(r->err, ERR_INVALID, "%s line %u: %s must be allow%s", r->name, node->line, key->name,
                   key->item ? ", forbid or a list of what is allowed" : " or forbid");
}

int policy_parse(struct str text, const char *name, struct policy *ret, struct err *err)
{
    const struct reader r = {.name = name, .err = err};
    struct yaml_node *root = NULL;
    *ret = (struct policy){0};
    int rc = yaml_parse(text, name, &root, err);
    if (rc < 0)
        return rc == -(int)ERR_INVALID ? rc : err_set(err, ERR_INVALID, "%s: too much in it", name);
    if (root->type != YAML_MAPPING)
        rc = err_set(err, ERR_INVALID, "%s line %u: a %s where keys are expected", name, root->line, yaml_type_name(root->type));
    for (const struct yaml_node *n = root->first; rc == 0 && n; n = n->next)
        rc = read_key(&r, n, ret);
    yaml_tree_free(root);
    if (rc < 0)
        policy_release(ret);
    return rc;
}

void policy_release(struct policy *p)
{
    for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
        struct policy_list *list = list_of(p, &keys[k]);
        for (size_t i = 0; i < list->n; i++)
            free(list->items[i]);
        free(list->items);
    }
    *p = (struct policy){0};
}

int policy_report(FILE *out, const char *path, bool named, struct err *err)
{
    struct policy p;
    int rc = policy_read(path, &p, err);
    if (rc < 0)
        return rc;
    if (rc == 1 && named)
        return err_set(err, ERR_NOT_FOUND, "%s is not there", path);
    if (rc == 1)
        fprintf(out, "%s is not there: nothing is forbidden\n", path);
    else
        policy_explain(out, &p);
    policy_release(&p);
    return 0;
}

void policy_explain(FILE *out, const struct policy *p)
{
    static const char *const words[] = {[POLICY_ALLOW] = "allowed", [POLICY_FORBID] = "forbidden", [POLICY_LISTED] = "forbidden but for"};
    for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
        const struct policy_list *list = list_of((struct policy *)(uintptr_t)p, &keys[k]);
        fprintf(out, "%-14s %s: %s", keys[k].name, keys[k].about, words[list->rule]);
        for (size_t i = 0; i < list->n; i++)
            fprintf(out, "%s %s", i ? "," : "", list->items[i]);
        fputs(list->line ? "\n" : " (not in the file)\n", out);
    }
}
