// SPDX-License-Identifier: Apache-2.0
// connect_server PKI: grpc.testing.TestService on @connectrpc/connect-node, which speaks gRPC too, over TLS with required client certificates.
// Prints its address; ends on SIGTERM.
"use strict";
const http2 = require("node:http2");
const { ConnectError, encodeBinaryHeader, decodeBinaryHeader } = require("@connectrpc/connect");
const { connectNodeAdapter } = require("@connectrpc/connect-node");
const { TestService } = require("./connect_common.js");
const { INITIAL, TRAILING, zeros, sleep, pki } = require("./cases.js");

function echoMetadata(context) {
  const initial = context.requestHeader.get(INITIAL);
  if (initial !== null) context.responseHeader.set(INITIAL, initial);
  const trailing = context.requestHeader.get(TRAILING);
  if (trailing !== null) context.responseTrailer.set(TRAILING, encodeBinaryHeader(decodeBinaryHeader(trailing)));
}

function wantedFailure(request) {
  if (request.responseStatus?.code) throw new ConnectError(request.responseStatus.message, request.responseStatus.code);
}

function unaryCall(request, context) {
  echoMetadata(context);
  wantedFailure(request);
  return { payload: { body: zeros(request.responseSize) } };
}

async function* respond(request) {
  wantedFailure(request);
  for (const p of request.responseParameters) {
    if (p.intervalUs) await sleep(p.intervalUs / 1000);
    yield { payload: { body: zeros(p.size) } };
  }
}

const service = {
  emptyCall: () => ({}),
  unaryCall,
  cacheableUnaryCall: unaryCall,
  streamingOutputCall: respond,
  async streamingInputCall(requests) {
    let aggregatedPayloadSize = 0;
    for await (const request of requests) aggregatedPayloadSize += request.payload.body.length;
    return { aggregatedPayloadSize };
  },
  async *fullDuplexCall(requests, context) {
    echoMetadata(context);
    for await (const request of requests) yield* respond(request);
  },
  async *halfDuplexCall(requests) {
    const all = [];
    for await (const request of requests) all.push(request);
    for (const request of all) yield* respond(request);
  },
};

function main() {
  const read = pki(process.argv[2]);
  const options = { key: read("server.key"), cert: read("server.pem"), ca: read("ca.pem"), requestCert: true, rejectUnauthorized: true };
  const server = http2.createSecureServer(options, connectNodeAdapter({ routes: (router) => router.service(TestService, service) }));
  server.listen(0, "127.0.0.1", () => console.log(`127.0.0.1:${server.address().port}`));
  process.on("SIGTERM", () => process.exit(0));
}

main();
