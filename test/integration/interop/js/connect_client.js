// SPDX-License-Identifier: Apache-2.0
// connect_client PKI CLIENT URL TRANSPORT CASE...: the interop cases on @connectrpc/connect. TRANSPORT: grpc, connect-h1, connect-h2, web (fetch),
// with "+json" behind it for JSON and "+gzip" for compressed requests. CLIENT: name of the client certificate, "-" for none.
"use strict";
const assert = require("node:assert");
const { createClient, encodeBinaryHeader, decodeBinaryHeader, Code, ConnectError } = require("@connectrpc/connect");
const { createGrpcTransport, createConnectTransport, compressionGzip } = require("@connectrpc/connect-node");
const web = require("@connectrpc/connect-web");
const { TestService, UnimplementedService } = require("./connect_common.js");
const { INITIAL, TRAILING, INITIAL_VALUE, TRAILING_VALUE, REQUESTS, RESPONSES, SPECIAL, zeros, checkZeros, pki, sleep, main } = require("./cases.js");

const [folder, who, baseUrl, kind, ...names] = process.argv.slice(2);
const [transportName, ...extras] = kind.split("+");
const read = pki(folder);
const methods = [];

function transport(more = {}) {
  const useBinaryFormat = !extras.includes("json");
  if (transportName === "web") {
    const seen = (input, init) => {
      methods.push(init.method);
      return fetch(input, init);
    };
    return web.createConnectTransport({ baseUrl, useBinaryFormat, fetch: seen, ...more });
  }
  const own = who === "-" ? {} : { key: read(`${who}.key`), cert: read(`${who}.pem`) };
  const options = { baseUrl, useBinaryFormat, nodeOptions: { ca: read("ca.pem"), ...own }, ...more };
  if (extras.includes("gzip")) Object.assign(options, { sendCompression: compressionGzip, compressMinBytes: 1024 });
  if (transportName === "grpc") return createGrpcTransport(options);
  return createConnectTransport({ ...options, httpVersion: transportName === "connect-h1" ? "1.1" : "2" });
}

const client = createClient(TestService, transport());
const late = () => ({ timeoutMs: 20000 });
const round = (i) => ({ responseParameters: [{ size: RESPONSES[i] }], payload: { body: zeros(REQUESTS[i]) } });
const rounds = [0, 1, 2, 3].map(round);

async function* stream(items) {
  yield* items;
}

// A stream that goes on when told: {requests, push, end}.
function pushed() {
  const items = [];
  let wake = () => {};
  async function* requests() {
    for (;;) {
      while (items.length) {
        const next = items.shift();
        if (next === null) return;
        yield next;
      }
      await new Promise((done) => (wake = done));
    }
  }
  const push = (item) => {
    items.push(item);
    wake();
  };
  return { requests: requests(), push, end: () => push(null) };
}

async function sizes(responses) {
  const all = [];
  for await (const r of responses) all.push(r.payload.body.length);
  return all;
}

// The failure of @call as ConnectError.
async function failure(call) {
  try {
    await call;
  } catch (e) {
    return ConnectError.from(e);
  }
  throw new Error("the call went well");
}

async function large(extra = {}, options = late()) {
  const r = await client.unaryCall({ responseSize: 314159, payload: { body: zeros(271828) }, ...extra }, options);
  checkZeros(r.payload.body, 314159);
}

async function unaryFails(message) {
  const e = await failure(client.unaryCall({ responseStatus: { code: 2, message } }, late()));
  assert.deepStrictEqual([e.code, e.rawMessage], [Code.Unknown, message]);
}

// Options that send metadata and keep what comes back, and the check of it.
function metadata() {
  const got = {};
  const headers = { [INITIAL]: INITIAL_VALUE, [TRAILING]: encodeBinaryHeader(TRAILING_VALUE) };
  const options = { ...late(), headers, onHeader: (h) => (got.header = h), onTrailer: (t) => (got.trailer = t) };
  const check = () => {
    assert.strictEqual(got.header.get(INITIAL), INITIAL_VALUE);
    assert.deepStrictEqual(Buffer.from(decodeBinaryHeader(got.trailer.get(TRAILING))), TRAILING_VALUE);
  };
  return { options, check };
}

const all = {
  empty_unary: () => client.emptyCall({}, late()),
  large_unary: () => large(),
  compressed_unary: () => large({ responseCompressed: { value: true } }),
  concurrent_large_unary: () => Promise.all(Array.from({ length: 20 }, () => large())),
  client_streaming: async () => {
    const r = await client.streamingInputCall(stream(REQUESTS.map((n) => ({ payload: { body: zeros(n) } }))), late());
    assert.strictEqual(r.aggregatedPayloadSize, 74922);
  },
  compressed_streaming: () => all.client_streaming(),
  server_streaming: async () => {
    const q = { responseParameters: RESPONSES.map((size) => ({ size, compressed: { value: true } })) };
    assert.deepStrictEqual(await sizes(client.streamingOutputCall(q, late())), RESPONSES);
  },
  ping_pong: async () => {
    const out = pushed();
    out.push(rounds[0]);
    let n = 0;
    for await (const r of client.fullDuplexCall(out.requests, late())) {
      checkZeros(r.payload.body, RESPONSES[n++]);
      if (n < 4) out.push(rounds[n]);
      else out.end();
    }
    assert.strictEqual(n, 4);
  },
  half_duplex: async () => assert.deepStrictEqual(await sizes(client.halfDuplexCall(stream(rounds), late())), RESPONSES),
  empty_stream: async () => assert.deepStrictEqual(await sizes(client.fullDuplexCall(stream([]), late())), []),
  cancel_after_begin: async () => {
    const abort = new AbortController();
    const call = client.streamingInputCall(pushed().requests, { signal: abort.signal });
    abort.abort();
    assert.strictEqual((await failure(call)).code, Code.Canceled);
    await all.empty_unary();
  },
  cancel_after_first_response: async () => {
    const abort = new AbortController();
    const out = pushed();
    out.push(rounds[0]);
    const e = await failure(
      (async () => {
        for await (const r of client.fullDuplexCall(out.requests, { signal: abort.signal })) {
          checkZeros(r.payload.body, RESPONSES[0]);
          abort.abort();
        }
      })(),
    );
    assert.strictEqual(e.code, Code.Canceled);
    await all.empty_unary();
  },
  timeout_on_sleeping_server: async () => {
    const q = { responseParameters: [{ size: 1, intervalUs: 20000000 }] };
    const e = await failure(sizes(client.streamingOutputCall(q, { timeoutMs: 200 })));
    assert.strictEqual(e.code, Code.DeadlineExceeded);
    await all.empty_unary();
  },
  status_code_and_message: async () => {
    await unaryFails("test status message");
    const q = { responseStatus: { code: 2, message: "test status message" } };
    const call = transportName === "grpc" || transportName === "connect-h2" ? client.fullDuplexCall(stream([q]), late()) : client.streamingOutputCall(q, late());
    const e = await failure(sizes(call));
    assert.deepStrictEqual([e.code, e.rawMessage], [Code.Unknown, "test status message"]);
  },
  special_status_message: () => unaryFails(SPECIAL),
  unimplemented_method: async () => assert.strictEqual((await failure(client.unimplementedCall({}, late()))).code, Code.Unimplemented),
  unimplemented_service: async () => {
    const other = createClient(UnimplementedService, transport());
    assert.strictEqual((await failure(other.unimplementedCall({}, late()))).code, Code.Unimplemented);
  },
  custom_metadata: async () => {
    const one = metadata();
    await large({}, one.options);
    one.check();
    // A failed call tells both as metadata of the failure.
    const failed = await failure(client.unaryCall({ responseStatus: { code: 9, message: "no" } }, metadata().options));
    assert.strictEqual(failed.code, Code.FailedPrecondition);
    assert.deepStrictEqual(Buffer.from(decodeBinaryHeader(failed.metadata.get(TRAILING))), TRAILING_VALUE);
    if (transportName === "web" || transportName === "connect-h1") return; // no full duplex there
    const two = metadata();
    assert.deepStrictEqual(await sizes(client.fullDuplexCall(stream([rounds[0]]), two.options)), [RESPONSES[0]]);
    two.check();
  },
  // Not of the published list.
  all_codes: async () => {
    for (let code = 1; code <= 16; code++) {
      const e = await failure(client.unaryCall({ responseStatus: { code, message: `code ${code}` } }, late()));
      assert.deepStrictEqual([e.code, e.rawMessage], [code, `code ${code}`]);
    }
  },
  // A call that may be repeated goes by GET, with the message in the address.
  get: async () => {
    const getting = createClient(TestService, transport({ useHttpGet: true }));
    const r = await getting.cacheableUnaryCall({ responseSize: 1000, payload: { body: zeros(100) } }, late());
    checkZeros(r.payload.body, 1000);
    if (transportName === "web") assert.strictEqual(methods.at(-1), "GET");
    const e = await failure(getting.cacheableUnaryCall({ responseStatus: { code: 5, message: "gone ☠" } }, late()));
    assert.deepStrictEqual([e.code, e.rawMessage], [Code.NotFound, "gone ☠"]);
  },
  unary_timeout: async () => {
    const q = { responseParameters: [{ size: 1, intervalUs: 20000000 }] };
    const begun = Date.now();
    assert.strictEqual((await failure(sizes(client.streamingOutputCall(q, { timeoutMs: 300 })))).code, Code.DeadlineExceeded);
    assert.ok(Date.now() - begun < 10000);
    await sleep(10);
  },
  refused: async () => assert.strictEqual((await failure(client.emptyCall({}, late()))).code, Code.Unavailable),
};

main(all, names);
