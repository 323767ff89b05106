# SPDX-License-Identifier: Apache-2.0
"""The issuer of short-lived tokens on 7443, against python3-authlib and python3-jwt; attacks on it; what outlives a restart."""
import json
import signal
import sqlite3
import sys
import time
import urllib.parse

import jwt
import pytest

grpc = pytest.importorskip("grpc")

from lib import proc  # noqa: E402
from lib.daemon import Daemon, generate  # noqa: E402
from lib.tokens import JWT_BEARER, Tokens  # noqa: E402


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    out = tmp_path_factory.mktemp("stubs")
    try:
        yield generate(out)
    finally:
        sys.path.remove(str(out))


@pytest.fixture(scope="module")
def daemon(api):
    d = Daemon(api).start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def tokens(daemon):
    return Tokens(daemon.api, daemon.user)


def refused(answer, status=401, error="invalid_client", text=None):
    code, fields, body = answer
    assert (code, body["error"]) == (status, error), body
    assert text is None or text in body["error_description"], body
    assert fields["cache-control"] == "no-store" and fields["content-type"].startswith("application/json")
    return body


@pytest.mark.req("CW-6", "CW-7")
def test_metadata_and_keys(tokens):
    status, _, meta = tokens.request("GET", "/.well-known/oauth-authorization-server")
    assert status == 200 and meta["issuer"] == tokens.issuer and meta["token_endpoint"] == tokens.issuer + "/oauth2/token"
    assert meta["token_endpoint_auth_methods_supported"] == ["private_key_jwt"] and meta["grant_types_supported"] == ["client_credentials"]
    assert meta["token_endpoint_auth_signing_alg_values_supported"] == ["ES256"] and meta["tls_client_certificate_bound_access_tokens"] is True
    status, _, keys = tokens.request("GET", urllib.parse.urlparse(meta["jwks_uri"]).path)
    assert status == 200 and len(keys["keys"]) == 1 and "d" not in keys["keys"][0] and len(keys["keys"][0]["x"]) == 43
    assert tokens.request("POST", "/.well-known/jwks.json")[0] in (404, 405)
    assert tokens.request("GET", "/.well-known/other")[0] == 404


@pytest.mark.req("CW-6", "CW-7", "SA-7")
def test_authlib_gets_introspects_and_revokes(tokens):
    from authlib.integrations.requests_client import OAuth2Session
    from authlib.jose import JsonWebKey
    from authlib.jose import jwt as jose
    from authlib.oauth2.rfc7523 import PrivateKeyJWT
    from requests.adapters import HTTPAdapter

    class ByContext(HTTPAdapter):
        def init_poolmanager(self, *a, **kw):
            super().init_poolmanager(*a, ssl_context=tokens.context(), assert_hostname=False, **kw)

    class Fresh(PrivateKeyJWT):
        """An hour, and one jti for all: what it would say by itself is refused."""
        def sign(self, *a):
            now = int(time.time())
            self.claims = {"iat": now, "exp": now + 60}
            return super().sign(*a)

    endpoint = tokens.issuer + "/oauth2/token"
    session = OAuth2Session("davit-cli", tokens.key(), token_endpoint_auth_method="private_key_jwt", scope="admin",
                            revocation_endpoint_auth_method="private_key_jwt")
    session.register_client_auth_method(Fresh(endpoint, alg="ES256"))
    session.mount("https://", ByContext())
    session.verify = str(tokens.user / "root.crt")
    token = session.fetch_token(endpoint, grant_type="client_credentials", client_id="davit-cli")
    assert token["token_type"] == "Bearer" and token["scope"] == "admin" and token["expires_in"] == 300
    keys = tokens.request("GET", "/.well-known/jwks.json")[2]
    claims = jose.decode(token["access_token"], JsonWebKey.import_key_set(keys))
    claims.validate()
    assert claims.header["typ"] == "at+jwt" and claims["iss"] == claims["aud"] == tokens.issuer and claims["client_id"] == claims["sub"] == "davit-cli"
    assert claims["exp"] - claims["iat"] == 300 and claims["jti"]
    der = jwt.utils.base64url_decode(claims["cnf"]["x5t#S256"])
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    assert der == x509.load_pem_x509_certificate((tokens.user / "cli.crt").read_bytes()).fingerprint(hashes.SHA256())
    told = session.introspect_token(tokens.issuer + "/oauth2/introspect", token=token["access_token"]).json()
    assert told.get("active"), told
    assert told["scope"] == "admin" and told["exp"] == claims["exp"] and told["cnf"] == claims["cnf"]
    assert session.revoke_token(tokens.issuer + "/oauth2/revoke", token=token["access_token"]).status_code == 200
    assert session.introspect_token(tokens.issuer + "/oauth2/introspect", token=token["access_token"]).json() == {"active": False}
    assert session.revoke_token(tokens.issuer + "/oauth2/revoke", token="no token").status_code == 200
    assert session.introspect_token(tokens.issuer + "/oauth2/introspect", token="no token").json() == {"active": False}


def test_refusals_do_not_fill_the_log(daemon, tokens):
    for _ in range(40):
        refused(tokens.ask("no assertion"))
    lines = [line for line in (daemon.dir / "log").read_text().splitlines() if "token refused" in line]
    assert 1 <= len(lines) <= 25


@pytest.mark.req("CW-92", "SA-7")
def test_an_assertion_is_one_exchange(tokens):
    a = tokens.assertion()
    assert tokens.ask(a)[0] == 200
    refused(tokens.ask(a), text="used before")
    b = tokens.assertion()
    refused(tokens.ask(b, scope="root"), 400, "invalid_scope")
    refused(tokens.ask(b), text="used before")  # it failed, and is spent all the same
    c = tokens.assertion()
    refused(tokens.ask(c, grant_type="password"), 400, "unsupported_grant_type")
    refused(tokens.ask(c), text="used before")
    # The same id by another assertion of the same client.
    refused(tokens.ask(tokens.assertion(jti=jwt.decode(a, options={"verify_signature": False})["jti"])), text="used before")


@pytest.mark.req("CW-117")
def test_clocks(tokens):
    now = int(time.time())
    refused(tokens.ask(tokens.assertion(iat=now + 30, exp=now + 60)), text="Token used before issued")
    assert tokens.ask(tokens.assertion(iat=now + 8, exp=now + 38))[0] == 200  # within the skew
    refused(tokens.ask(tokens.assertion(iat=now - 60, exp=now - 1)), text="expired")
    refused(tokens.ask(tokens.assertion(exp=now + 3600)), text="too far ahead")


@pytest.mark.req("CW-7", "CW-8")
def test_attacks_on_assertions(tokens):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    public = serialization.load_pem_private_key(tokens.key(), None).public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    other, big = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
    good = tokens.assertion()
    for what, assertion in {
            "alg none": jwt.encode(jwt.decode(good, options={"verify_signature": False}), None, algorithm="none"),
            "HS256 with the public key": tokens.assertion(key=public, algorithm="HS256"),
            "RS256": tokens.assertion(key=big, algorithm="RS256"),
            "another key": tokens.assertion(key=other),
            "another client": tokens.assertion(iss="davit-agent", sub="davit-agent"),
            "aud": tokens.assertion(aud="https://127.0.0.1:1"),
            "several aud": tokens.assertion(aud=[tokens.issuer, "https://other.example"]),
            "no jti": tokens.assertion(drop=("jti",)),
            "no iat": tokens.assertion(drop=("iat",)),
            "no exp": tokens.assertion(drop=("exp",)),
            "kid": tokens.assertion(headers={"kid": "other"}),
            "cut": good[:-3],
            "empty signature": good.rsplit(".", 1)[0] + ".",
            "nothing": "x",
            "long": "x" * 5000}.items():
        assert refused(tokens.ask(assertion))["error_description"], what
    assert tokens.ask(good)[0] == 200  # nothing of that spent it


@pytest.mark.req("CW-8")
def test_requests_that_are_none(tokens):
    form = {"content-type": "application/x-www-form-urlencoded"}
    post = lambda body, headers=form, path="/oauth2/token": tokens.request("POST", path, body, headers)  # noqa: E731
    good = urllib.parse.urlencode({"grant_type": "client_credentials", "client_assertion_type": JWT_BEARER,
                                   "client_assertion": tokens.assertion()})
    refused(tokens.request("GET", "/oauth2/token"), 405, "invalid_request")
    refused(post(json.dumps({"grant_type": "client_credentials"}), {"content-type": "application/json"}), 400, "invalid_request")
    refused(post(good, {}), 400, "invalid_request")
    refused(post(good + "&scope=admin&scope=read"), 400, "invalid_request", "twice")
    refused(post(good + "&x=%zz"), 400, "invalid_request")
    refused(post(good + "".join(f"&p{i}=1" for i in range(14))), 400, "invalid_request", "too many")
    refused(post(good + "&pad=" + "x" * (8192 - len(good) - 4)), 413, "invalid_request")
    refused(post(good + "&client_secret=x"), 400, "invalid_request")
    refused(post(good, form | {"authorization": "Basic eDp5"}), 400, "invalid_request")
    refused(post(good + "&client_id=other"))
    refused(post("grant_type=client_credentials"))
    refused(tokens.ask(client_assertion_type="urn:other"))
    refused(tokens.ask(grant_type=None), 400, "invalid_request")
    refused(tokens.ask(path="/oauth2/introspect"), 400, "invalid_request")
    assert tokens.request("POST", "/oauth2/other", good, form)[0] == 404
    status, fields, answer = post(good + "&pad=" + "x" * (8192 - len(good) - 5))  # at the limit
    assert status == 200 and fields["cache-control"] == "no-store", answer


@pytest.mark.req("CW-10")
def test_the_key_stays_with_its_user(daemon, tokens):
    key = tokens.key()
    assert (daemon.user / "assertion.key").stat().st_mode & 0o077 == 0
    for p in daemon.state.rglob("*"):
        assert not p.is_file() or (key not in p.read_bytes() and p.name != "assertion.key"), p
    assert "d" not in json.loads((daemon.state / "assertion.jwk").read_text())


@pytest.mark.req("SA-7", "CW-92", "CW-8")
def test_restart_and_a_store_that_is_full(api):
    d = Daemon(api).start()
    t = Tokens(d.api, d.user)
    try:
        a = t.assertion()
        token = t.ask(a)[2]["access_token"]
        gone = t.ask()[2]["access_token"]
        assert t.ask(path="/oauth2/revoke", token=gone)[0] == 200
        d.p.stop(signal.SIGKILL)
        d.start()
        refused(t.ask(a), text="used before")
        assert t.ask(path="/oauth2/introspect", token=token)[2]["active"] is True
        assert t.ask(path="/oauth2/introspect", token=gone)[2] == {"active": False}
        # Without the key of the client there is nothing; damaged, neither; and it may come back at any time.
        jwk = d.state / "assertion.jwk"
        text = jwk.read_bytes()
        jwk.write_bytes(b"{}")
        refused(t.ask(), 503, "temporarily_unavailable", "davit up")
        jwk.unlink()
        refused(t.ask(), text="davit up")
        jwk.write_bytes(text)
        assert t.ask()[0] == 200
        # Full: one below the limit, at it, and again when what is old has gone.
        until = int((time.time() + 60) * 1e6)
        with sqlite3.connect(d.state / "control.db", timeout=20) as db:
            have = db.execute("SELECT count(*) FROM used_assertions").fetchone()[0]
            db.executemany("INSERT INTO used_assertions VALUES (?, 'davit-cli', ?)", ((f"x{i}", until) for i in range(8191 - have)))
        assert t.ask()[0] == 200
        refused(t.ask(), 503, "temporarily_unavailable", "too many assertions")
        with sqlite3.connect(d.state / "control.db", timeout=20) as db:
            db.execute("UPDATE used_assertions SET expires_us = ? WHERE id LIKE 'x%'", (int((time.time() - 700) * 1e6),))
        assert t.ask()[0] == 200
        with sqlite3.connect(d.state / "control.db", timeout=20) as db:
            assert db.execute("SELECT count(*) FROM used_assertions").fetchone()[0] < 20
            db.execute("DROP TABLE used_assertions")
        refused(t.ask(), 503, "temporarily_unavailable", "store")
    finally:
        d.p.stop()
        d.close()


@pytest.mark.req("CW-68")
def test_a_port_of_its_own_when_it_is_set(api, daemon):
    assert not proc.listens(4444)
    second = proc.free_port()
    d = Daemon(api, ["--token-listen", f"127.0.0.1:{second}"]).start()
    t = Tokens(second, d.user)
    try:
        for aud in (t.issuer + "/oauth2/token", d.tokens.issuer, d.tokens.issuer + "/oauth2/token"):
            assert t.ask(t.assertion(aud=aud))[0] == 200, aud
        refused(t.ask(t.assertion(aud=t.issuer)), text="aud")
        token = t.ask(t.assertion(aud=d.tokens.issuer))[2]["access_token"]
        assert d.tokens.ask(path="/oauth2/introspect", token=token)[2]["active"] is True
        status, _, _ = t.request("POST", "/davit.control.v1.StatusService/GetStatus", "{}",
                                 {"content-type": "application/json", "authorization": f"Bearer {token}"})
        assert status == 501  # nothing else is there
        assert d.p.stop() == 0
        r = proc.run([*d.command()[:-1], f"0.0.0.0:{second}"], check=False)
        assert r.rc != 0 and "token-listen" in r.err and "loopback" in r.err
    finally:
        d.close()


@pytest.mark.req("CW-7")
def test_rate(tokens):
    """What one client asks is limited; last, for it leaves the bucket empty."""
    good = tokens.assertion(exp=int(time.time()) - 1, iat=int(time.time()) - 30)
    body = urllib.parse.urlencode({"client_assertion_type": JWT_BEARER, "client_assertion": good})
    c = tokens.connect()
    c.connect()
    for i in range(2000):
        c.request("POST", "/oauth2/token", body, {"content-type": "application/x-www-form-urlencoded"})
        r = c.getresponse()
        r.read()
        if r.status != 401:
            break
    c.close()
    assert r.status == 429 and r.getheader("retry-after") == "1" and i >= 50
