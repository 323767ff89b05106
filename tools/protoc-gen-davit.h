/* SPDX-License-Identifier: Apache-2.0 */
/* protoc-gen-davit — what the files of the plugin share: protoc-gen-davit.c (request, services, response), -messages.c (checks and side
 * tables of messages), -pbc.c (protoc-gen-c behind us), -text.c (memory, names, complaints).  Build-time tool: memory is freed by exit. */
#ifndef PROTOC_GEN_DAVIT_H
#define PROTOC_GEN_DAVIT_H

#ifndef _GNU_SOURCE
#    define _GNU_SOURCE
#endif
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "google/protobuf/compiler/plugin.pb-c.h"

typedef Google__Protobuf__Compiler__CodeGeneratorRequest request_t;
typedef Google__Protobuf__Compiler__CodeGeneratorResponse response_t;
typedef Google__Protobuf__Compiler__CodeGeneratorResponse__File out_file_t;
typedef Google__Protobuf__FileDescriptorProto file_t;
typedef Google__Protobuf__DescriptorProto message_t;
typedef Google__Protobuf__FieldDescriptorProto field_t;
typedef Google__Protobuf__MethodDescriptorProto method_t;
typedef Google__Protobuf__ServiceDescriptorProto service_t;

enum { INPUT_MAX = 64 * 1024 * 1024 };

/* ---- -text.c ---- */
/* Notes a complaint about the schema; the first ones are shown, and there is no output. */
void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* All complaints, one a line, or NULL. */
char *complaints(void);
/* Ends the plugin: the machine fails, not the schema. */
void die(const char *what) __attribute__((noreturn));
/* reallocarray that does not fail. */
void *grow(void *p, size_t count, size_t size);
/* printf into fresh memory. */
char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "davit.link.v1.LinkService" with "__" -> "davit__link__v1__link_service", as protobuf-c names things. */
char *snake(const char *full, const char *dot);
/* All of @f. */
uint8_t *read_all(FILE *f, size_t *ret_n);

/* ---- -messages.c ---- */
/* Remembers the messages of a file, nested ones too, under their full names (".pkg.Outer.Inner"). */
void collect(const char *prefix, message_t *const *messages, size_t n);
/* One of them, or NULL. */
const message_t *find(const char *name);
/* Complains of what the message code cannot carry. */
void check_message(const char *full, const message_t *m);
/* Writes the side tables of @m and of what is nested in it. */
void emit_message(FILE *c, const char *full, const message_t *m);

/* ---- -pbc.c ---- */
/* Runs protoc-gen-c at @program on @q and adds its files to @r: with proto3 optional as oneofs of one member, and the side tables in the
 * descriptors. Changes @q. */
void run_protoc_gen_c(const char *program, request_t *q, response_t *r);

#endif
