/* SPDX-License-Identifier: Apache-2.0 */
/* yaml_tree — a YAML text as a small tree of our own (libyaml behind this wall): mappings, sequences, scalars as text, each with its line.
 * Refused: aliases, anchors, tags, several documents, duplicate keys, keys that are no scalars, depth over YAML_DEPTH_MAX, more than
 * YAML_NODES_MAX nodes.
 * Input trust: hostile files.  Thread: any. */
#ifndef DAVIT_YAML_YAML_TREE_H
#define DAVIT_YAML_YAML_TREE_H

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

enum { YAML_DEPTH_MAX = 8, YAML_NODES_MAX = 20000 };

enum yaml_type { YAML_SCALAR, YAML_MAPPING, YAML_SEQUENCE };

struct yaml_node {
    enum yaml_type type;
    unsigned line;           /* from 1; in a mapping that of the key */
    char *key;               /* in a mapping, else NULL */
    char *text;              /* scalar; may hold no NUL */
    bool plain;              /* scalar without quotes: an empty one is null */
    struct yaml_node *first; /* children in order */
    struct yaml_node *next;  /* sibling */
};

/* @name stands in messages. *ret is freed by yaml_tree_free; an empty document gives an empty mapping. -ERR_INVALID with line. */
int yaml_parse(struct str text, const char *name, struct yaml_node **ret, struct err *err) MUST_USE;
/* Accepts NULL. Returns NULL. (libyaml exports a yaml_free, which ours would replace.) */
struct yaml_node *yaml_tree_free(struct yaml_node *root);
/* "mapping", "list", "text": for messages. */
const char *yaml_type_name(enum yaml_type type);

#endif
