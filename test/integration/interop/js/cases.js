// SPDX-License-Identifier: Apache-2.0
// What the programs here share: numbers of the published cases, the metadata that is echoed, how cases are run and told.
"use strict";
const assert = require("node:assert");
const fs = require("node:fs");
const path = require("node:path");

exports.INITIAL = "x-grpc-test-echo-initial";
exports.TRAILING = "x-grpc-test-echo-trailing-bin";
exports.INITIAL_VALUE = "test_initial_metadata_value";
exports.TRAILING_VALUE = Buffer.from([0xab, 0xab, 0xab]);
exports.REQUESTS = [27182, 8, 1828, 45904];
exports.RESPONSES = [31415, 9, 2653, 58979];
exports.SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
exports.sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// A function that reads a file of the test's key infrastructure.
exports.pki = (folder) => (name) => fs.readFileSync(path.join(folder, name));

// Payloads are zeros.
exports.zeros = (n) => Buffer.alloc(n);
exports.checkZeros = (body, n) => {
  assert.strictEqual(body.length, n);
  assert.ok(exports.zeros(n).equals(Buffer.from(body)), "all zeros");
};

// Runs the cases in @names of @all; one line "ok CASE" for each that passed; exit status 1 if one did not.
exports.main = async (all, names) => {
  let failed = 0;
  for (const name of names) {
    let timer;
    try {
      const late = new Promise((_, fail) => (timer = setTimeout(() => fail(new Error("took too long")), 30000)));
      await Promise.race([all[name](), late]);
      console.log(`ok ${name}`);
    } catch (e) {
      console.log(`FAILED ${name}: ${e.stack}`);
      failed = 1;
    } finally {
      clearTimeout(timer);
    }
  }
  process.exit(failed);
};
