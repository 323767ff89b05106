// SPDX-License-Identifier: Apache-2.0
// grpc_server PKI: grpc.testing.TestService on @grpc/grpc-js over TLS with required client certificates. Prints its address; ends on SIGTERM.
"use strict";
const { grpc, testing } = require("./grpc_common.js");
const { INITIAL, TRAILING, zeros, sleep, pki } = require("./cases.js");

function echoMetadata(call) {
  const trailer = new grpc.Metadata();
  const initial = call.metadata.get(INITIAL);
  if (initial.length) {
    const header = new grpc.Metadata();
    header.set(INITIAL, initial[0]);
    call.sendMetadata(header);
  }
  for (const value of call.metadata.get(TRAILING)) trailer.add(TRAILING, value);
  return trailer;
}

function wantedFailure(request, trailer) {
  const status = request.responseStatus;
  return status && status.code ? { code: status.code, details: status.message, metadata: trailer } : null;
}

function unary(call, answer) {
  const trailer = echoMetadata(call);
  const failure = wantedFailure(call.request, trailer);
  if (failure) answer(failure);
  else answer(null, { payload: { body: zeros(call.request.responseSize) } }, trailer);
}

async function respond(call, request, trailer) {
  const failure = wantedFailure(request, trailer);
  if (failure) {
    call.emit("error", failure);
    return false;
  }
  for (const p of request.responseParameters) {
    if (p.intervalUs) await sleep(p.intervalUs / 1000);
    call.write({ payload: { body: zeros(p.size) } });
  }
  return true;
}

// Each request after the answers to the one before.
function duplex(call) {
  const trailer = echoMetadata(call);
  let last = Promise.resolve(true);
  const then = (step) => (last = last.then((open) => open && step()));
  call.on("data", (request) => then(() => respond(call, request, trailer)));
  call.on("end", () => then(() => call.end(trailer)));
  call.on("error", () => {}); // the client has gone
}

function halfDuplex(call) {
  const requests = [];
  call.on("data", (request) => requests.push(request));
  call.on("end", async () => {
    for (const request of requests) if (!(await respond(call, request))) return;
    call.end();
  });
  call.on("error", () => {});
}

function main() {
  const read = pki(process.argv[2]);
  const server = new grpc.Server();
  server.addService(
    Object.fromEntries(Object.entries(testing.TestService.service).filter(([name]) => name !== "UnimplementedCall")),
    {
      EmptyCall: (call, answer) => answer(null, {}),
      UnaryCall: unary,
      CacheableUnaryCall: unary,
      StreamingOutputCall: async (call) => {
        if (await respond(call, call.request)) call.end();
      },
      StreamingInputCall: (call, answer) => {
        let sum = 0;
        call.on("data", (request) => (sum += request.payload.body.length));
        call.on("end", () => answer(null, { aggregatedPayloadSize: sum }));
        call.on("error", () => {});
      },
      FullDuplexCall: duplex,
      HalfDuplexCall: halfDuplex,
    },
  );
  const own = { private_key: read("server.key"), cert_chain: read("server.pem") };
  server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createSsl(read("ca.pem"), [own], true), (err, port) => {
    if (err) throw err;
    console.log(`127.0.0.1:${port}`);
  });
  process.on("SIGTERM", () => {
    server.forceShutdown();
    process.exit(0);
  });
}

main();
