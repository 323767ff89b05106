// SPDX-License-Identifier: Apache-2.0
// issuer.mjs PORT KEY CHAIN ROOT CLIENT_JWK: an independent issuer (oidc-provider) in the place of a control plane, HTTP/2 over mutual TLS. Calls of
// gRPC are not served, but their tokens judged (jose), and a line of JSON told about each.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import { createLocalJWKSet, exportJWK, generateKeyPair, jwtVerify } from 'jose';
import { Provider } from 'oidc-provider';

const [port, key, chain, root, clientJwk] = process.argv.slice(2);
const issuer = `https://127.0.0.1:${port}`;
const own = { ...(await exportJWK((await generateKeyPair('ES256', { extractable: true })).privateKey)), alg: 'ES256', use: 'sig', kid: 'own' };
const { d: _, ...open } = own;
const peer = (req) => req.stream.session.socket.getPeerCertificate().raw;
const provider = new Provider(issuer, {
  clients: [{
    client_id: 'davit-cli', grant_types: ['client_credentials'], redirect_uris: [], response_types: [], scope: 'admin',
    token_endpoint_auth_method: 'private_key_jwt', token_endpoint_auth_signing_alg: 'ES256', id_token_signed_response_alg: 'ES256',
    tls_client_certificate_bound_access_tokens: true,
    jwks: { keys: [JSON.parse(readFileSync(clientJwk))] },
  }],
  clientAuthMethods: ['private_key_jwt'],
  enabledJWA: { clientAuthSigningAlgValues: ['ES256'] },
  features: {
    clientCredentials: { enabled: true }, devInteractions: { enabled: false },
    mTLS: { enabled: true, certificateBoundAccessTokens: true, getCertificate: (ctx) =>
      `-----BEGIN CERTIFICATE-----\n${peer(ctx.req).toString('base64').match(/.{1,64}/g).join('\n')}\n-----END CERTIFICATE-----\n` },
    resourceIndicators: { enabled: true, defaultResource: () => issuer, useGrantedResource: () => true, getResourceServerInfo: () =>
      ({ scope: 'admin', audience: issuer, accessTokenTTL: 300, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } }) },
  },
  jwks: { keys: [own] }, routes: { token: '/oauth2/token' }, scopes: ['admin'],
});
const tell = (what) => console.log(JSON.stringify(what));
provider.on('grant.error', (ctx, err) => tell({ error: err.message, detail: err.error_detail }));
provider.on('server_error', (ctx, err) => tell({ error: String(err.stack) }));
provider.on('grant.success', () => tell({ granted: true }));
const pages = provider.callback();

async function call(req, res) {
  const token = (req.headers.authorization || '').replace(/^Bearer /, '');
  const told = { path: req.url };
  try {
    const { payload } = await jwtVerify(token, createLocalJWKSet({ keys: [open] }), { issuer, audience: issuer, typ: 'at+jwt' });
    told.claims = payload;
    told.bound = payload.cnf?.['x5t#S256'] === createHash('sha256').update(peer(req)).digest('base64url');
  } catch (e) {
    told.error = String(e);
  }
  tell(told);
  res.stream.respond({ ':status': 200, 'content-type': 'application/grpc+proto', 'grpc-status': '12', 'grpc-message': 'only tokens here' },
    { endStream: true });
}

http2.createSecureServer({ key: readFileSync(key), cert: readFileSync(chain), ca: readFileSync(root), requestCert: true, rejectUnauthorized: true,
  minVersion: 'TLSv1.3' }, (req, res) => (req.url.startsWith('/davit.') ? call : pages)(req, res))
  .listen(Number(port), '127.0.0.1', () => tell({ ready: true }));
