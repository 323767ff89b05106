// SPDX-License-Identifier: Apache-2.0
// verify.mjs ISSUER KEY CERTIFICATE ROOT TOKEN: judges an access token of davitd as an independent resource server would (jose), by the keys that its
// metadata names; a line of JSON.
import { readFileSync } from 'node:fs';
import https from 'node:https';
import { createLocalJWKSet, decodeProtectedHeader, jwtVerify } from 'jose';

const [issuer, key, cert, root, token] = process.argv.slice(2);
const agent = new https.Agent({ key: readFileSync(key), cert: readFileSync(cert), ca: readFileSync(root), checkServerIdentity: () => undefined });
const get = (url) => new Promise((ok, bad) => https.get(url, { agent }, (r) => {
  let text = '';
  r.on('data', (d) => { text += d; }).on('end', () => ok(JSON.parse(text)));
}).on('error', bad));
const meta = await get(`${issuer}/.well-known/oauth-authorization-server`);
const { payload } = await jwtVerify(token, createLocalJWKSet(await get(meta.jwks_uri)), { issuer: meta.issuer, audience: issuer, typ: 'at+jwt' });
console.log(JSON.stringify({ header: decodeProtectedHeader(token), payload }));
