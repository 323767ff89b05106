/* SPDX-License-Identifier: Apache-2.0 */
/* yaml_tree — see yaml_tree.h. */
#include "yaml/yaml_tree.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct builder {
    yaml_parser_t parser;
    const char *name;
    struct str text;
    struct yaml_node *stack[YAML_DEPTH_MAX];
    struct yaml_node *tail[YAML_DEPTH_MAX]; /* last child of each open node */
    unsigned depth;
    unsigned nodes;
    char *key; /* read, waits for its value */
    unsigned key_line;
    struct yaml_node *root;
};

const char *yaml_type_name(enum yaml_type type)
{
    static const char *const names[] = {[YAML_SCALAR] = "text", [YAML_MAPPING] = "mapping", [YAML_SEQUENCE] = "list"};

    return names[type];
}

/* Depth is bounded by the builder, so recursion is too; siblings are a loop. */
struct yaml_node *yaml_tree_free(struct yaml_node *node)
{
    while (node) {
        struct yaml_node *next = node->next;
        yaml_tree_free(node->first);
        free(node->key);
        free(node->text);
        free(node);
        node = next;
    }
    return NULL;
}

static int refuse(struct builder *b, size_t line, struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "%s line %zu: %s", b->name, line + 1, what);
}

static int check_key(struct builder *b, const struct yaml_node *parent, const yaml_event_t *event, struct err *err)
{
    const char *key = (const char *)event->data.scalar.value;

    if (strlen(key) != event->data.scalar.length)
        return refuse(b, event->start_mark.line, err, "a key holds a NUL byte");
    for (const struct yaml_node *n = parent->first; n; n = n->next)
        if (strcmp(n->key, key) == 0)
            return err_set(err, ERR_INVALID, "%s line %zu: \"%.60s\" stands here twice (first in line %u)", b->name, event->start_mark.line + 1,
                           key, n->line);
    return 0;
}

/* Hangs a new node where the builder stands. */
static int attach(struct builder *b, struct yaml_node *node, struct err *err)
{
    struct yaml_node *parent = b->depth ? b->stack[b->depth - 1] : NULL;

    if (++b->nodes > YAML_NODES_MAX) {
        yaml_tree_free(node);
        return err_set(err, ERR_EXHAUSTED, "%s: more than %d values", b->name, YAML_NODES_MAX);
    }
    if (b->key)
        node->line = b->key_line; /* a block mapping begins in the line below its key */
    node->key = TAKE(b->key);
    if (!parent)
        b->root = node;
    else if (!parent->first)
        parent->first = node;
    else
        b->tail[b->depth - 1]->next = node;
    if (parent)
        b->tail[b->depth - 1] = node;
    return 0;
}

static struct yaml_node *node_new(enum yaml_type type, const yaml_event_t *event)
{
    struct yaml_node *n = calloc(1, sizeof *n);

    BUG_ON(!n);
    n->type = type;
    n->line = (unsigned)event->start_mark.line + 1;
    return n;
}

static bool expects_key(const struct builder *b)
{
    return b->depth > 0 && b->stack[b->depth - 1]->type == YAML_MAPPING && !b->key;
}

static int on_scalar(struct builder *b, const yaml_event_t *event, struct err *err)
{
    const char *text = (const char *)event->data.scalar.value;
    size_t n = event->data.scalar.length;
    int rc;

    if (event->data.scalar.anchor || event->data.scalar.tag)
        return refuse(b, event->start_mark.line, err, "anchors and tags are not allowed");
    if (expects_key(b)) {
        if ((rc = check_key(b, b->stack[b->depth - 1], event, err)) == 0)
            b->key = str_dup((struct str){text, n});
        b->key_line = (unsigned)event->start_mark.line + 1;
        return rc;
    }
    if (memchr(text, 0, n))
        return refuse(b, event->start_mark.line, err, "a value holds a NUL byte");
    struct yaml_node *node = node_new(YAML_SCALAR, event);
    node->text = str_dup((struct str){text, n});
    node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return attach(b, node, err);
}

static int on_open(struct builder *b, enum yaml_type type, const yaml_event_t *event, struct err *err)
{
    bool decorated = type == YAML_MAPPING ? event->data.mapping_start.anchor || event->data.mapping_start.tag
                                          : event->data.sequence_start.anchor || event->data.sequence_start.tag;
    struct yaml_node *node;
    int rc;

    if (decorated)
        return refuse(b, event->start_mark.line, err, "anchors and tags are not allowed");
    if (expects_key(b))
        return refuse(b, event->start_mark.line, err, "a key must be plain text");
    if (b->depth == YAML_DEPTH_MAX)
        return refuse(b, event->start_mark.line, err, "nested too deeply");
    node = node_new(type, event);
    if ((rc = attach(b, node, err)) < 0)
        return rc;
    b->stack[b->depth] = node;
    b->tail[b->depth++] = NULL;
    return 0;
}

/* 1 when the stream has ended. */
static int on_event(struct builder *b, const yaml_event_t *event, struct err *err)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return on_scalar(b, event, err);
    case YAML_MAPPING_START_EVENT:
        return on_open(b, YAML_MAPPING, event, err);
    case YAML_SEQUENCE_START_EVENT:
        return on_open(b, YAML_SEQUENCE, event, err);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        b->depth--;
        return 0;
    case YAML_ALIAS_EVENT:
        return refuse(b, event->start_mark.line, err, "aliases are not allowed");
    case YAML_DOCUMENT_START_EVENT:
        return b->root ? refuse(b, event->start_mark.line, err, "only one document is allowed") : 0;
    case YAML_STREAM_END_EVENT:
        return 1;
    default:
        return 0;
    }
}

/* Line, from 0, where the parser stumbled: its reader, which judges bytes before they are tokens, knows an offset only. */
static size_t problem_line(const struct builder *b)
{
    size_t line = 0;

    if (b->parser.error != YAML_READER_ERROR)
        return b->parser.problem_mark.line;
    for (size_t i = 0; i < b->parser.problem_offset && i < b->text.n; i++)
        line += b->text.p[i] == '\n';
    return line;
}

static int run(struct builder *b, struct err *err)
{
    yaml_event_t event;
    int rc = 0;

    while (rc == 0) {
        if (!yaml_parser_parse(&b->parser, &event))
            return refuse(b, problem_line(b), err, b->parser.problem ? b->parser.problem : "this is not YAML");
        rc = on_event(b, &event, err);
        yaml_event_delete(&event);
    }
    return rc < 0 ? rc : 0;
}

int yaml_parse(struct str text, const char *name, struct yaml_node **ret, struct err *err)
{
    struct builder b = {.name = name, .text = text.p ? text : STR("")};
    int rc;

    if (!yaml_parser_initialize(&b.parser))
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    yaml_parser_set_input_string(&b.parser, (const unsigned char *)b.text.p, b.text.n);
    yaml_parser_set_encoding(&b.parser, YAML_UTF8_ENCODING);
    rc = run(&b, err);
    yaml_parser_delete(&b.parser);
    free(b.key);
    if (rc == 0 && !b.root) {
        b.root = calloc(1, sizeof *b.root);
        BUG_ON(!b.root);
        b.root->type = YAML_MAPPING;
        b.root->line = 1;
    }
    if (rc < 0)
        b.root = yaml_tree_free(b.root);
    *ret = b.root;
    return rc;
}
