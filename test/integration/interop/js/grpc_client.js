// SPDX-License-Identifier: Apache-2.0
// grpc_client PKI CLIENT ADDR CASE...: the interop cases on @grpc/grpc-js over TLS with the client certificate CLIENT ("-": none).
"use strict";
const assert = require("node:assert");
const { grpc, testing } = require("./grpc_common.js");
const { INITIAL, TRAILING, INITIAL_VALUE, TRAILING_VALUE, REQUESTS, RESPONSES, SPECIAL, zeros, checkZeros, pki, main } = require("./cases.js");

const [folder, who, addr, ...names] = process.argv.slice(2);
const read = pki(folder);
const creds =
  who === "-"
    ? grpc.credentials.createSsl(read("ca.pem"))
    : grpc.credentials.createSsl(read("ca.pem"), read(`${who}.key`), read(`${who}.pem`));
const gzip = { "grpc.default_compression_algorithm": 2 };
const stub = new testing.TestService(addr, creds);
const within = (ms) => ({ deadline: Date.now() + ms });
const { status } = grpc;

// {error, response, header, trailer} of a call with one response.
function single(client, method, request, metadata = new grpc.Metadata(), options = within(20000)) {
  return new Promise((done) => {
    const r = {};
    const call = client[method](request, metadata, options, (error, response) => {
      r.error = error;
      r.response = response;
      if (r.trailer) done(r);
    });
    call.on("metadata", (header) => (r.header = header));
    call.on("status", (s) => {
      r.trailer = s.metadata;
      if ("error" in r) done(r);
    });
  });
}

async function fine(...call) {
  const r = await single(...call);
  assert.ifError(r.error);
  return r.response;
}

const largeRequest = { responseSize: 314159, payload: { body: zeros(271828) } };

async function large(client, request = largeRequest) {
  checkZeros((await fine(client, "UnaryCall", request)).payload.body, 314159);
}

// {responses, status, header}; @onResponse(call, n) after each response.
function collect(call, onResponse = () => {}) {
  return new Promise((done) => {
    const r = { responses: [] };
    call.on("metadata", (header) => (r.header = header));
    call.on("data", (response) => {
      r.responses.push(response.payload.body.length);
      onResponse(call, r.responses.length);
    });
    call.on("error", () => {});
    call.on("status", (s) => done({ ...r, status: s }));
  });
}

const round = (i) => ({ responseParameters: [{ size: RESPONSES[i] }], payload: { body: zeros(REQUESTS[i]) } });

async function sum(client) {
  const answer = new Promise((done, failed) => {
    const call = client.StreamingInputCall(within(20000), (error, response) => (error ? failed(error) : done(response)));
    for (const n of REQUESTS) call.write({ payload: { body: zeros(n) } });
    call.end();
  });
  assert.strictEqual((await answer).aggregatedPayloadSize, 74922);
}

function echoed(header, trailer) {
  assert.deepStrictEqual(header.get(INITIAL), [INITIAL_VALUE]);
  assert.deepStrictEqual(trailer.get(TRAILING), [TRAILING_VALUE]);
}

async function unaryFails(message) {
  const { error } = await single(stub, "UnaryCall", { responseStatus: { code: 2, message } });
  assert.strictEqual(error.code, status.UNKNOWN);
  assert.strictEqual(error.details, message);
}

async function unimplemented(client) {
  assert.strictEqual((await single(client, "UnimplementedCall", {})).error.code, status.UNIMPLEMENTED);
}

const all = {
  empty_unary: () => fine(stub, "EmptyCall", {}),
  large_unary: () => large(stub),
  compressed_unary: () => large(new testing.TestService(addr, creds, gzip), { ...largeRequest, responseCompressed: { value: true } }),
  concurrent_large_unary: () => Promise.all(Array.from({ length: 20 }, () => large(stub))),
  client_streaming: () => sum(stub),
  compressed_streaming: () => sum(new testing.TestService(addr, creds, gzip)),
  server_streaming: async () => {
    const r = await collect(stub.StreamingOutputCall({ responseParameters: RESPONSES.map((size) => ({ size })) }, within(20000)));
    assert.deepStrictEqual([r.status.code, r.responses], [status.OK, RESPONSES]);
  },
  ping_pong: async () => {
    const call = stub.FullDuplexCall(within(20000));
    call.write(round(0));
    const r = await collect(call, (c, n) => (n < 4 ? c.write(round(n)) : c.end()));
    assert.deepStrictEqual([r.status.code, r.responses], [status.OK, RESPONSES]);
  },
  half_duplex: async () => {
    const call = stub.HalfDuplexCall(within(20000));
    for (let i = 0; i < 4; i++) call.write(round(i));
    call.end();
    const r = await collect(call);
    assert.deepStrictEqual([r.status.code, r.responses], [status.OK, RESPONSES]);
  },
  empty_stream: async () => {
    const call = stub.FullDuplexCall(within(20000));
    call.end();
    const r = await collect(call);
    assert.deepStrictEqual([r.status.code, r.responses], [status.OK, []]);
  },
  cancel_after_begin: async () => {
    const error = await new Promise((done) => stub.StreamingInputCall(within(20000), done).cancel());
    assert.strictEqual(error.code, status.CANCELLED);
    await all.empty_unary();
  },
  cancel_after_first_response: async () => {
    const call = stub.FullDuplexCall(within(20000));
    call.write(round(0));
    const r = await collect(call, (c) => c.cancel());
    assert.deepStrictEqual([r.status.code, r.responses], [status.CANCELLED, [RESPONSES[0]]]);
    await all.empty_unary();
  },
  timeout_on_sleeping_server: async () => {
    const call = stub.FullDuplexCall(within(100));
    call.write({ payload: { body: zeros(27182) } });
    assert.strictEqual((await collect(call)).status.code, status.DEADLINE_EXCEEDED);
    await all.empty_unary();
  },
  status_code_and_message: async () => {
    await unaryFails("test status message");
    const call = stub.FullDuplexCall(within(20000));
    call.write({ responseStatus: { code: 2, message: "test status message" } });
    call.end();
    const r = await collect(call);
    assert.deepStrictEqual([r.status.code, r.status.details], [status.UNKNOWN, "test status message"]);
  },
  special_status_message: () => unaryFails(SPECIAL),
  unimplemented_method: () => unimplemented(stub),
  unimplemented_service: () => unimplemented(new testing.UnimplementedService(addr, creds)),
  custom_metadata: async () => {
    const metadata = new grpc.Metadata();
    metadata.set(INITIAL, INITIAL_VALUE);
    metadata.set(TRAILING, TRAILING_VALUE);
    const one = await single(stub, "UnaryCall", largeRequest, metadata);
    assert.ifError(one.error);
    echoed(one.header, one.trailer);
    const call = stub.FullDuplexCall(metadata, within(20000));
    call.write({ responseParameters: [{ size: 314159 }], payload: { body: zeros(271828) } });
    call.end();
    const r = await collect(call);
    assert.deepStrictEqual([r.status.code, r.responses], [status.OK, [314159]]);
    echoed(r.header, r.status.metadata);
  },
  // Not of the published list: what the server says it knows us by; and that without a certificate it does not talk to us.
  username: async () => {
    const r = await fine(stub, "UnaryCall", { fillUsername: true });
    assert.strictEqual(r.username, "davit://server/interop");
  },
  refused: async () => assert.strictEqual((await single(stub, "EmptyCall", {})).error.code, status.UNAVAILABLE),
};

main(all, names);
