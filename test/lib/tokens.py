# SPDX-License-Identifier: Apache-2.0
"""tokens: short-lived tokens of a davitd, asked for as any client would: an assertion made with python3-jwt, a form over mutual TLS."""
import http.client
import json
import pathlib
import ssl
import threading
import time
import urllib.parse
import uuid

import jwt

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Tokens:
    """t = Tokens(port, user): the user's directory of keys. t.bearer() is good for a while longer; t.ask(...) makes one request."""

    def __init__(self, port, user):
        self.port, self.user = port, pathlib.Path(user)
        self.issuer = f"https://127.0.0.1:{port}"
        self.lock, self.token, self.until = threading.Lock(), None, 0

    def key(self):
        return (self.user / "assertion.key").read_bytes()

    def assertion(self, key=None, algorithm="ES256", headers=None, drop=(), **claims):
        now = int(time.time())
        all_claims = {"iss": "davit-cli", "sub": "davit-cli", "aud": self.issuer, "jti": str(uuid.uuid4()), "iat": now, "exp": now + 30} | claims
        return jwt.encode({k: v for k, v in all_claims.items() if k not in drop}, key or self.key(), algorithm=algorithm, headers=headers)

    def context(self, key=None, chain=None):
        context = ssl.create_default_context(cafile=self.user / "root.crt")
        context.check_hostname = False
        context.load_cert_chain(chain or self.user / "cli.crt", key or self.user / "cli.key")
        return context

    def connect(self, context=None):
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=context or self.context(), timeout=20)

    def request(self, method, path, body=None, headers=None, context=None):
        """Status, fields (lower case), body as JSON."""
        c = self.connect(context)
        try:
            c.request(method, path, body, headers or {})
            r = c.getresponse()
            text = r.read()
            return r.status, {k.lower(): v for k, v in r.getheaders()}, json.loads(text) if text else None
        finally:
            c.close()

    def ask(self, assertion=None, path="/oauth2/token", context=None, **more):
        form = {"grant_type": "client_credentials", "client_assertion_type": JWT_BEARER, "client_assertion": assertion or self.assertion()} | more
        body = urllib.parse.urlencode({k: v for k, v in form.items() if v is not None})
        return self.request("POST", path, body, {"content-type": "application/x-www-form-urlencoded"}, context)

    def bearer(self):
        with self.lock:
            if time.time() > self.until:
                status, _, answer = self.ask()
                assert status == 200, answer
                self.token, self.until = answer["access_token"], time.time() + answer["expires_in"] - 30
            return self.token

    def forget(self):
        with self.lock:
            self.until = 0
