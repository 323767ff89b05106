/* SPDX-License-Identifier: Apache-2.0 */
/* rpc — one schema, two protocols: gRPC over HTTP/2 and Connect (JSON or proto) over HTTP/1.1 and HTTP/2 from the same handlers.
 * Method tables come from our protoc plugin (proto/, tools/protoc-gen-davit): `davit_link_v1_link_service` for davit.link.v1.LinkService.
 * Messages are protobuf-c structs; inbound ones are pre-scanned (size, depth, UTF-8, NUL, allocation budget) before they are unpacked.
 * Limits: RPC_MESSAGE_MAX per message, RPC_HELD_MAX in all requests of a server that are not yet answered, as they came or unpacked, of
 * which RPC_HELD_STRANGERS_MAX for those who came by TLS without a certificate (UNAVAILABLE), 8 KiB of metadata, RPC_STREAMS_MAX per
 * connection, RPC_QUEUE_MAX bytes queued per stream. Over TLS, who sent no certificate and has no call open for a minute is cut.
 * Thread: loop.  Input trust: peer.  Sources: grpc/grpc doc/PROTOCOL-HTTP2.md, connectrpc.com protocol. */
#ifndef DAVIT_RPC_RPC_H
#define DAVIT_RPC_RPC_H

#include <protobuf-c/protobuf-c.h>

#include "base/buf.h"
#include "net/conn.h"
#include "net/http.h"

enum { RPC_MESSAGE_MAX = 4 * 1024 * 1024, RPC_STREAMS_MAX = 100, RPC_QUEUE_MAX = 1024 * 1024, RPC_DEPTH_MAX = 32 };
enum { RPC_HELD_MAX = 16 * RPC_MESSAGE_MAX, RPC_HELD_STRANGERS_MAX = RPC_HELD_MAX / 4 };
#define RPC_WS_PROTOCOL "davit.connect.v1"
enum { RPC_WS_MAX = 4096 }; /* WebSockets of one server */
enum {
    RPC_REQUEST_META_MAX = 7 * 1024, /* own metadata of a request, counted as name + value + 32 for each field, base64 included */
    RPC_ANSWER_META_MAX = 4 * 1024,  /* of an answer, leading and trailing together: the failure needs the rest of 8 KiB */
    RPC_META_FIELDS_MAX = 48,        /* in either */
    RPC_COMPRESS_MIN = 1024          /* smaller messages are not compressed */
};

/* ---- metadata ---- */
/* One field to send. Names: lower case, [0-9a-z_.-], none that begins with "grpc-" or "connect-" or that HTTP itself uses. Values: printable
 * ASCII without blanks at the ends; where the name ends in "-bin" any bytes (base64 on the wire is our business). */
struct rpc_field {
    const char *name;
    struct str value;
};
/* Metadata as received; also what HTTP and the protocol put there. Values of -bin names are base64 text. Release with rpc_meta_release. */
struct rpc_meta {
    struct buf store; /* "name\0value\0"... */
};
/* Frees what it holds; empty and usable again. */
void rpc_meta_release(struct rpc_meta *m);
/* The @i-th value of @name in order of arrival, or NULL. Borrowed. */
const char *rpc_meta_get(const struct rpc_meta *m, const char *name, size_t i);
/* Appends the bytes of the @i-th value of @name (which ends in "-bin") to @out; values joined by commas are taken apart. 0, 1: there is none,
 * -ERR_INVALID: no base64, -ERR_EXHAUSTED: no room in @out. */
int rpc_meta_bin(const struct rpc_meta *m, const char *name, size_t i, struct buf *out) MUST_USE;

/* ---- tables made by the plugin ---- */
struct rpc_method {
    const char *name; /* "Enroll" */
    const ProtobufCMessageDescriptor *input, *output;
    bool client_streams, server_streams;
    const char *scope;
    /* What a call changes, for the audit log: fields of the input, see options.proto; "-": nothing that has a name. */
    const char *object;
    bool no_side_effects; /* idempotency_level = NO_SIDE_EFFECTS: may be asked by GET */
};
struct rpc_service {
    const char *name; /* "davit.link.v1.EnrollService" */
    const struct rpc_method *methods;
    size_t n_methods;
};

/* ---- server ---- */
struct rpc_call; /* one call being served */
struct rpc_server;

/* Any kind of method, on a fiber. @request is owned by the call; NULL where the client streams: rpc_recv reads its messages. Sends its
 * message(s) with rpc_send and returns 0, or a failure in @err. */
typedef int rpc_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err);

/* Where the client streams, without a stack: for links. All callbacks on the loop, never inside a call of this module. */
struct rpc_stream_handler {
    /* Accept the stream: *ret_state is passed to the others. A failure ends the call with it. */
    int (*open)(struct rpc_call *call, void *ctx, void **ret_state, struct err *err);
    /* One message, owned by the call and freed after the return. */
    void (*message)(void *state, const ProtobufCMessage *message);
    /* The peer sends no more. */
    void (*half_close)(void *state);
    /* rpc_stream_send works again after it had said -ERR_EXHAUSTED. May be NULL. */
    void (*drain)(void *state);
    /* The end, exactly once after a successful open; the call is gone after it. @reason has code ERR_OK after rpc_stream_finish without failure. */
    void (*closed)(void *state, const struct err *reason);
};

/* Exactly one of the two is set; order and number are those of the service's methods. */
struct rpc_handler {
    rpc_run *run;
    const struct rpc_stream_handler *stream;
};

/* May @call be made? Runs before the handler, must not wait. 0 or a failure (UNAUTHENTICATED, DENIED) in @err. */
typedef int rpc_authorize(struct rpc_call *call, void *ctx, const struct rpc_service *service, const struct rpc_method *method,
                          struct err *err);

/* Runs in place of a handler of the kind rpc_run, on the call's fiber: does what it must, calls @run(@call, @run_ctx, @request, @err) at most
 * once, and returns what the call shall end with. */
typedef int rpc_around(struct rpc_call *call, void *ctx, const struct rpc_service *service, const struct rpc_method *method,
                       const ProtobufCMessage *request, rpc_run *run, void *run_ctx, struct err *err);

/* @authorize(@ctx) is asked before every call. Aborts on out of memory. End with rpc_server_free. */
struct rpc_server *rpc_server_new(struct loop *loop, rpc_authorize *authorize, void *ctx) MUST_USE;
/* Cuts everything: `closed` of open streams runs inside; handlers on fibers are cancelled and unwind in later turns, so their ctx must live
 * until the loop has run on. Accepts NULL; returns NULL. */
struct rpc_server *rpc_server_free(struct rpc_server *s);
/* From now on @around(@ctx) runs instead of every handler of the kind rpc_run. Streams without a stack are not touched. NULL: none. */
void rpc_server_set_around(struct rpc_server *s, rpc_around *around, void *ctx);
/* Pages of these origins ("https://dash.example") may make calls over WebSockets, besides those of the host itself. Borrowed. */
void rpc_server_allow_origins(struct rpc_server *s, const char *const *origins, size_t n);
/* A WebSocket at @path begins the call of @method ("/pkg.Service/Method") as one at that path does. One per server; borrowed. */
void rpc_server_alias(struct rpc_server *s, const char *path, const char *method);
/* @fn(@arg) hears of every TLS handshake that failed at a listener of @s: who, and why. */
typedef void rpc_refused(void *arg, const char *peer, const struct err *err);
void rpc_server_on_refused(struct rpc_server *s, rpc_refused *fn, void *arg);
/* @service, @handlers: static. */
void rpc_server_add(struct rpc_server *s, const struct rpc_service *service, const struct rpc_handler *handlers, void *ctx);

/* ---- pages: what is no call ---- */
/* A request for what is neither a method nor for one of the protocols of calls. */
struct rpc_page;
/* Answers @page on a fiber: rpc_page_begin, then as many bytes as it said there. Whoever returns without an answer answers 500; one that falls
 * short of its length is broken off. The body of a PUT can be read; any other is passed over. */
typedef void rpc_page_handler(struct rpc_page *page, void *ctx);
/* @handler(@ctx) gets every request that is no call. Without one they are 404, as before. */
void rpc_server_set_pages(struct rpc_server *s, rpc_page_handler *handler, void *ctx);
/* POST below @prefix ("/oauth2/", borrowed) is for the handler of pages, too, of whatever type. */
void rpc_server_take_posts(struct rpc_server *s, const char *prefix);
/* Pages that are answered at the same time: of a server, and of one address (the net of 64 bits); above, 503. What waits to be sent of one is
 * RPC_PAGE_AHEAD at most, of which the peer must take a part within RPC_PAGE_STALL. */
enum { RPC_PAGES_MAX = 64, RPC_PAGES_SOURCE_MAX = 16, RPC_PAGE_AHEAD = 256 * 1024 };
#define RPC_PAGE_STALL (60 * USEC_SEC)
/* "GET", ...; the target as sent, query included; a field of the request or NULL. Borrowed. */
const char *rpc_page_method(const struct rpc_page *p);
const char *rpc_page_target(const struct rpc_page *p);
const char *rpc_page_field(const struct rpc_page *p, const char *name);
/* The call that a page is for those who judge calls (cookies, callers). Borrowed. */
struct rpc_call *rpc_page_call(const struct rpc_page *p);
/* Waits for the next part of the body of a PUT or POST. 0 with *ret, borrowed until the next call; 1: there is no more; negative: the peer has
 * gone or sent nothing for RPC_PAGE_STALL. What is not read stays with the peer, but for 64 KiB. Before an answer is begun. */
int rpc_page_read(struct rpc_page *p, struct str *ret) MUST_USE;
/* Sends the head, with content-length @length, or without one for RPC_PAGE_OPEN: then the body is whole after rpc_page_end, and broken off without.
 * Once. 0, or negative when the peer has gone. Names of @fields are lower case. */
#define RPC_PAGE_OPEN UINT64_MAX
int rpc_page_begin(struct rpc_page *p, int status, const struct http_field *fields, size_t n, uint64_t length) MUST_USE;
/* Waits for room, then sends a part of the body; to HEAD nothing. 0, negative: gone, too slow, or beyond the length. */
int rpc_page_write(struct rpc_page *p, struct str bytes) MUST_USE;
/* All of a body of RPC_PAGE_OPEN was written. */
void rpc_page_end(struct rpc_page *p);

/* What a server bears. Per listener: connections that are open (handshakes included), and a token bucket for new ones; who is over it is cut
 * before the handshake. An address that comes again and again has half of the bucket, so that it keeps no other out; who comes by HTTP/2 over
 * TLS without a certificate shares a quarter of the connections with all such, the oldest are cut for the newest. Per server: handlers that
 * run on fibers at the same time; a call over it is UNAVAILABLE. */
struct rpc_limits {
    unsigned conns, accept_burst, accept_per_sec, running;
    usec_t max_age;      /* of HTTP/2 connections, give or take a tenth; then they drain. 0: any */
    unsigned of_source;  /* connections of one address that are open at a listener; one more is cut. 0: any */
    size_t message, held; /* in place of RPC_MESSAGE_MAX for requests, and of RPC_HELD_MAX; 0: those */
    bool h2_only;        /* who speaks HTTP/1.1 is cut */
};
enum { RPC_CONNS_MAX = 20000, RPC_ACCEPT_BURST = 2000, RPC_ACCEPT_PER_SEC = 500, RPC_RUNNING_MAX = 2000 };
/* Replaces the limits, which begin as the constants above. What is open already stays. */
void rpc_server_set_limits(struct rpc_server *s, const struct rpc_limits *limits);
/* How many WebSockets at once, in place of RPC_WS_MAX; one more is answered by 503. */
void rpc_server_limit_sockets(struct rpc_server *s, unsigned max);
/* For metrics and tests. HTTP/1.1 connections are counted by their own server once they are known as such. */
struct rpc_stats {
    size_t conns;           /* open */
    unsigned running;       /* handlers on fibers */
    uint64_t conns_refused; /* cut before the handshake */
    uint64_t calls_refused; /* for want of a fiber or of memory for requests */
};
void rpc_server_stats(const struct rpc_server *s, struct rpc_stats *ret);
/* Listens; by ALPN (TLS) or by the HTTP/2 preface (plain, unix) decides between HTTP/2 and HTTP/1.1. */
int rpc_server_listen(struct rpc_server *s, const char *addr, mode_t unix_mode, struct tls_ctx *tls, struct err *err) MUST_USE;
/* Replaces the certificate of the listener at @addr for new connections (renewal). 0 or -ERR_NOT_FOUND. */
int rpc_server_set_tls(struct rpc_server *s, const char *addr, struct tls_ctx *tls) MUST_USE;
/* Address of the @i-th listener as bound, or NULL. */
const char *rpc_server_addr(const struct rpc_server *s, size_t i);
/* Stops accepting, sends GOAWAY; open calls go on. */
void rpc_server_drain(struct rpc_server *s);

/* Waits for room, then queues one response message (a unary handler calls it once). 0, -ERR_CANCELLED (peer gone, deadline), ... */
int rpc_send(struct rpc_call *call, const ProtobufCMessage *message) MUST_USE;
/* Waits for the next message of a client that streams (*ret: rpc_message_free). What is not taken stays with the peer beyond one message and
 * its window. 0; 1: it sends no more; -ERR_CANCELLED (peer gone, deadline), or what is wrong with the message: the handler returns it. */
int rpc_recv(struct rpc_call *call, ProtobufCMessage **ret, struct err *err) MUST_USE;
/* Metadata of the answer: leading, until the first rpc_send, and trailing, until the end. Copies. 0, -ERR_INVALID for a field that may not be
 * sent, -ERR_EXHAUSTED past RPC_ANSWER_META_MAX or RPC_META_FIELDS_MAX, -ERR_PRECONDITION when it is too late. */
int rpc_call_set_header(struct rpc_call *call, const char *name, struct str value) MUST_USE;
int rpc_call_set_trailer(struct rpc_call *call, const char *name, struct str value) MUST_USE;
/* Messages over RPC_COMPRESS_MIN may go compressed if the caller takes that. Before the first rpc_send, and only where the answer does not mix
 * secrets with what a peer chose. */
void rpc_call_compress(struct rpc_call *call);
/* Streams without a stack: never waits. -ERR_EXHAUSTED above RPC_QUEUE_MAX (wait for drain), -ERR_UNAVAILABLE when over, -ERR_RANGE: @message may
 * never be sent, as JSON it is over RPC_MESSAGE_MAX for instance. */
int rpc_stream_send(struct rpc_call *call, const ProtobufCMessage *message) MUST_USE;
size_t rpc_stream_queued(const struct rpc_call *call);
/* On a fiber's call: rpc_stream_send may be used, too, by whoever runs before the handler returns, and @fn(@arg) is called when it works again after
 * it had said -ERR_EXHAUSTED. NULL: nobody is told any more. */
void rpc_call_on_room(struct rpc_call *call, void (*fn)(void *arg), void *arg);
/* Ends the call; @failure NULL: success. `closed` follows in a later turn. */
void rpc_stream_finish(struct rpc_call *call, const struct err *failure);

/* The connection that it came by. Borrowed. NULL once the peer has gone or the call has ended. */
struct conn *rpc_call_conn(const struct rpc_call *call);
/* Absolute monotonic deadline of the caller, USEC_INFINITY if none. */
usec_t rpc_call_deadline(const struct rpc_call *call);
const struct rpc_method *rpc_call_method(const struct rpc_call *call);
/* Request metadata by lower-case name, or NULL. Borrowed. */
const char *rpc_call_metadata(const struct rpc_call *call, const char *name);
/* The @i-th value of several, and the bytes of a -bin value: as rpc_meta_get and rpc_meta_bin. */
const char *rpc_call_metadata_at(const struct rpc_call *call, const char *name, size_t i);
int rpc_call_metadata_bin(const struct rpc_call *call, const char *name, size_t i, struct buf *out) MUST_USE;
/* Who makes @call has proved who they are, though not by a certificate: their connection is no stranger's any more. */
void rpc_call_vouch(struct rpc_call *call);
/* What authorize found out about who calls, kept with @call: @free(@who) runs when nothing asks @call any more, which may be after its end. Once. */
void rpc_call_set_caller(struct rpc_call *call, void *who, void (*free)(void *who));
/* NULL: none was set. */
void *rpc_call_caller(const struct rpc_call *call);
/* Has the caller gone? For server streaming handlers that wait for something else (their waits are cancelled as well). */
bool rpc_call_cancelled(const struct rpc_call *call);

/* ---- client (gRPC over HTTP/2; or, where something between carries none, Connect over a WebSocket for each call) ---- */
struct rpc_channel;
struct rpc_stream;
struct proxy;

struct rpc_dial {
    const char *addr;        /* as conn_dial; with @proxy "name:port" as the proxy shall see it */
    const char *authority;   /* what the peer is called ("cp.example.org"); NULL: addr */
    struct tls_ctx *tls;     /* NULL: plain. Its ALPN: "h2", or with @websocket "http/1.1" */
    const char *server_name; /* SNI, or NULL */
    struct proxy *proxy;     /* NULL: none */
    usec_t keepalive;        /* as rpc_channel_open; WebSockets have their own (ws.h) */
    bool websocket;          /* nothing is connected yet: each call makes its connection, and waits for it, RPC_OPEN_WAIT at most */
};
#define RPC_OPEN_WAIT (20 * USEC_SEC)
/* As rpc_channel_open. What a call over WebSockets cannot have: leading metadata from the peer, compression. */
int rpc_channel_open_with(struct loop *loop, const struct rpc_dial *dial, usec_t deadline, struct rpc_channel **ret, struct err *err) MUST_USE;

/* Waits: connects. Ends with rpc_channel_close. keepalive: PING after @keepalive of silence, dead after 20 s without an answer; 0: none. */
int rpc_channel_open(struct loop *loop, const char *addr, struct tls_ctx *tls, usec_t keepalive, usec_t deadline,
                     struct rpc_channel **ret, struct err *err) MUST_USE;
/* Open streams end with -ERR_UNAVAILABLE. Accepts NULL; returns NULL. */
struct rpc_channel *rpc_channel_close(struct rpc_channel *ch);
/* Its present connection, NULL with WebSockets. Borrowed. A unary call makes another where the peer takes no new calls on this one (GOAWAY). */
struct conn *rpc_channel_conn(const struct rpc_channel *ch);
/* Does the present connection take calls? */
bool rpc_channel_alive(const struct rpc_channel *ch);
/* The keepalive for the next channel to this peer: more than its own if the peer said that it pings too often. */
usec_t rpc_channel_keepalive(const struct rpc_channel *ch);

/* From now on every call of @ch shows what @fn gives: a token for "authorization: Bearer", or NULL for none. @fn may wait and make posts on @ch, but
 * no calls; what it gives is borrowed until it is asked again. */
typedef int rpc_bearer(void *arg, struct rpc_channel *ch, usec_t deadline, const char **ret, struct err *err);
void rpc_channel_set_bearer(struct rpc_channel *ch, rpc_bearer *fn, void *arg);
/* Waits: POST of @body to @path on the connection of @ch, and what comes back: *ret_status, and the body appended to @out. Not with WebSockets
 * (-ERR_UNIMPLEMENTED). -ERR_EXHAUSTED: the answer does not fit. */
int rpc_channel_post(struct rpc_channel *ch, const char *path, const char *content_type, struct str body, usec_t deadline, unsigned *ret_status,
                     struct buf *out, struct err *err) MUST_USE;

/* Waits. *ret is freed by the caller with rpc_message_free. A failure of the peer arrives in @err with its code, message and hint. @deadline
 * travels. What the peer did nothing of (a refused stream, a GOAWAY before it) is tried once more, on a new connection where it must be. */
int rpc_unary(struct rpc_channel *ch, const struct rpc_service *service, const char *method, const ProtobufCMessage *request,
              usec_t deadline, ProtobufCMessage **ret, struct err *err) MUST_USE;

/* What else a call may be given. Zeroed but for the deadline: as without. */
struct rpc_options {
    usec_t deadline; /* of the whole call; USEC_INFINITY: none */
    const struct rpc_field *metadata;
    size_t n_metadata;
    bool compress;                     /* messages over RPC_COMPRESS_MIN, by gzip; for peers that are known to take it */
    struct rpc_meta *header, *trailer; /* rpc_unary_with: filled where not NULL, also on failure; the caller releases them */
};
/* As rpc_unary. -ERR_INVALID or -ERR_EXHAUSTED for metadata that may not be sent. */
int rpc_unary_with(struct rpc_channel *ch, const struct rpc_service *service, const char *method, const ProtobufCMessage *request,
                   const struct rpc_options *options, ProtobufCMessage **ret, struct err *err) MUST_USE;
/* As rpc_stream_open. */
int rpc_stream_open_with(struct rpc_channel *ch, const struct rpc_service *service, const char *method,
                         const struct rpc_options *options, struct rpc_stream **ret, struct err *err) MUST_USE;
/* Leading metadata (empty until it came: after the first message it has) and trailing metadata (after the end). Borrowed from @s. Where the
 * peer failed at once, all of it is trailing. */
const struct rpc_meta *rpc_stream_header(const struct rpc_stream *s);
const struct rpc_meta *rpc_stream_trailer(const struct rpc_stream *s);

/* Opens a call of any kind (waits with WebSockets). @deadline of the whole call, USEC_INFINITY: none. Ends with rpc_stream_close (which cancels it
 * if it is not over). */
int rpc_stream_open(struct rpc_channel *ch, const struct rpc_service *service, const char *method, usec_t deadline,
                    struct rpc_stream **ret, struct err *err) MUST_USE;
/* Waits while more than RPC_QUEUE_MAX is queued. */
int rpc_stream_put(struct rpc_stream *s, const ProtobufCMessage *message, usec_t deadline, struct err *err) MUST_USE;
/* No more messages from us. */
void rpc_stream_half_close(struct rpc_stream *s);
/* Waits for the next message (*ret: rpc_message_free). 0; 1: the call ended with OK; negative: its failure. */
int rpc_stream_get(struct rpc_stream *s, usec_t deadline, ProtobufCMessage **ret, struct err *err) MUST_USE;
/* A fiber that waits there for a message waits no longer: -ERR_DEADLINE. */
void rpc_stream_wake(struct rpc_stream *s);
/* Did the peer itself say how the call ended, and not only the connection? */
bool rpc_stream_told(const struct rpc_stream *s);
struct rpc_stream *rpc_stream_close(struct rpc_stream *s);

/* Accepts NULL; returns NULL. */
void *rpc_message_free(void *message);

/* ---- messages ---- */
/* Checked unpack: limits, depth, UTF-8, no NUL in strings, at most 8 MiB allocated. -ERR_INVALID or -ERR_EXHAUSTED. */
int rpc_unpack(const ProtobufCMessageDescriptor *type, struct str bytes, ProtobufCMessage **ret, struct err *err) MUST_USE;
/* Appends the wire form. */
int rpc_pack(const ProtobufCMessage *message, struct buf *out) MUST_USE;
/* ProtoJSON both ways (developers: protobuf.dev JSON mapping): lowerCamelCase keys, 64-bit integers as strings, enums by name, bytes in base64. */
int rpc_to_json(const ProtobufCMessage *message, struct buf *out, struct err *err) MUST_USE;
/* Unknown keys are passed over; duplicates refused. *ret: rpc_message_free. */
int rpc_from_json(const ProtobufCMessageDescriptor *type, struct str json, ProtobufCMessage **ret, struct err *err) MUST_USE;
/* Deep copy. */
int rpc_copy(const ProtobufCMessage *message, ProtobufCMessage **ret) MUST_USE;

#endif
