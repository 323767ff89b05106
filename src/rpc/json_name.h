/* SPDX-License-Identifier: Apache-2.0 */
/* json_name — what both directions of the JSON transcoder know of fields.  Thread: any. */
#ifndef DAVIT_RPC_JSON_NAME_H
#define DAVIT_RPC_JSON_NAME_H

#include <protobuf-c/protobuf-c.h>

enum { JSON_NAME_MAX = 128 };

/* lowerCamelCase form of a field's name. */
void json_name(const char *name, char dst[JSON_NAME_MAX]);
/* Bytes of one element of a repeated field in memory. */
size_t json_element_size(ProtobufCType type);

#endif
