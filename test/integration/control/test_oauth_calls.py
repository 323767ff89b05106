# SPDX-License-Identifier: Apache-2.0
"""Short-lived tokens where they are shown: what 7443 lets in, how the CLI comes by one, also from an independent issuer (npm oidc-provider), and
an independent judge of them (npm jose)."""
import json
import os
import shutil
import subprocess
import sys
import time

import pytest

grpc = pytest.importorskip("grpc")

from lib import pki, proc  # noqa: E402
from lib.daemon import BIN, ROOT, Daemon, generate  # noqa: E402

JS = ROOT / "test/integration/control/js"
NO, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    out = tmp_path_factory.mktemp("stubs")
    try:
        yield generate(out)
    finally:
        sys.path.remove(str(out))


def with_home(d):
    """The user's directory of @d as --home of the CLI."""
    home = d.dir / "home"
    home.mkdir()
    os.symlink(d.user, home / "config")
    (d.user / "cli.json").write_text(json.dumps({"api": f"127.0.0.1:{d.api}"}))
    d.home = home
    return d


@pytest.fixture(scope="module")
def daemon(api):
    d = with_home(Daemon(api)).start()
    yield d
    d.close()


def davit(d, *args, check=True, api=None):
    if api:
        (d.user / "cli.json").write_text(json.dumps({"api": f"127.0.0.1:{api}"}))
    return proc.run([BIN / "davit", *args, "--home", d.home], env=d.env, check=check)


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A folder with the programs and their packages."""
    p = subprocess.run([ROOT / "tools/npm-install", JS], capture_output=True, text=True, check=False, timeout=400)
    if p.returncode:
        pytest.fail("the packages of node cannot be installed: " + p.stderr)
    where = tmp_path_factory.mktemp("node")
    for script in JS.glob("*.mjs"):
        shutil.copy(script, where)
    os.symlink(p.stdout.strip(), where / "node_modules")
    return where


def another_certificate(d):
    """A second one of the same CLI, by the same root: files of key and certificate."""
    key, cert = pki.Authority.load(d.user, "root").leaf("davit://cli", usage="client")
    (d.dir / "other.key").write_bytes(key)
    (d.dir / "other.crt").write_bytes(cert)
    return d.dir / "other.key", d.dir / "other.crt"


def call(d, api, token, key=None, chain=None, method="GetStatus"):
    """What a call with this token, and this certificate, comes to: a code, or None for success."""
    own = {"key": key.read_bytes(), "chain": chain.read_bytes()} if key else {"token": False}
    meta = () if token is None else (("authorization", f"Bearer {token}"),)
    with d.channel(**own) as ch:
        try:
            if method == "GetStatus":
                api.status_grpc.StatusServiceStub(ch).GetStatus(api.status.GetStatusRequest(), metadata=meta, timeout=20)
            elif method == "CreateServer":
                api.servers_grpc.ServerServiceStub(ch).CreateServer(api.servers.CreateServerRequest(), metadata=meta, timeout=20)
            else:
                from davit.admin.v1 import admin_pb2, admin_pb2_grpc
                return admin_pb2_grpc.AdminServiceStub(ch).GetSystemTime(admin_pb2.GetSystemTimeRequest(), metadata=meta, timeout=20).unix_nanos
        except grpc.RpcError as e:
            return e.code()
    return None


@pytest.mark.req("CW-8", "CW-9", "CW-13")
def test_every_call_wants_a_certificate_and_its_token(daemon, api):
    t = daemon.tokens
    token = t.bearer()
    assert call(daemon, api, token) is None
    assert call(daemon, api, None) == NO
    other_key, other_crt = another_certificate(daemon)
    for bad in ("x", token[:-2], token[:-4] + "AAAA", t.assertion(), "davit_0011223344556677_" + "0" * 64, token + ".x"):
        assert call(daemon, api, bad) == NO, bad
    assert call(daemon, api, token, other_key, other_crt) == NO  # bound to another certificate
    theirs = t.ask(context=t.context(other_key, other_crt))[2]["access_token"]
    assert call(daemon, api, theirs, other_key, other_crt) is None
    assert call(daemon, api, theirs) == NO
    assert call(daemon, api, token) is None  # it is not the refusals that count
    gone = t.ask()[2]["access_token"]
    assert call(daemon, api, gone) is None
    assert t.ask(path="/oauth2/revoke", token=gone)[0] == 200
    assert call(daemon, api, gone) == NO


@pytest.mark.req("CW-8")
def test_scopes(daemon, api):
    read = daemon.tokens.ask(scope="read")[2]
    assert read["scope"] == "read"
    assert call(daemon, api, read["access_token"]) is None
    assert call(daemon, api, read["access_token"], method="CreateServer") == DENIED
    assert call(daemon, api, daemon.tokens.bearer(), method="CreateServer") == grpc.StatusCode.INVALID_ARGUMENT
    assert daemon.tokens.ask(scope="read write")[2]["scope"] == "write"
    assert daemon.tokens.ask(scope="agent:self:register")[0] == 400


@pytest.mark.req("CW-15", "CW-16")
def test_system_time_needs_a_certificate_only(daemon, api):
    began = time.time_ns()
    assert began - 5e9 < call(daemon, api, None, method="GetSystemTime") < time.time_ns() + 5e9
    authority = pki.Authority.load(daemon.state, "agents-ca")
    key, leaf = authority.leaf("davit://server/01234567-89ab-cdef-0123-456789abcdef", usage="client")
    (daemon.dir / "a.key").write_bytes(key)
    (daemon.dir / "a.crt").write_bytes(leaf + authority.pem())
    assert call(daemon, api, None, daemon.dir / "a.key", daemon.dir / "a.crt", "GetSystemTime") == DENIED
    # An agent's certificate opens nothing here, whatever token it shows, and gets none.
    assert call(daemon, api, daemon.tokens.bearer(), daemon.dir / "a.key", daemon.dir / "a.crt") == DENIED
    answer = daemon.tokens.ask(context=daemon.tokens.context(daemon.dir / "a.key", daemon.dir / "a.crt"))
    assert answer[0] == 401 and "certificate" in answer[2]["error_description"]
    with daemon.channel(key=False, chain=False) as ch, pytest.raises(grpc.RpcError):
        from davit.admin.v1 import admin_pb2, admin_pb2_grpc
        admin_pb2_grpc.AdminServiceStub(ch).GetSystemTime(admin_pb2.GetSystemTimeRequest(), timeout=20)
    assert proc.run(["curl", "-sf", "-H", "content-type: application/json", "-d", "{}",
                     f"http://127.0.0.1:{daemon.local_web}/davit.admin.v1.AdminService/GetSystemTime"], check=False).rc == 22  # 7441 knows nothing of it


@pytest.mark.req("CW-7")
def test_the_cli_asks_keeps_and_renews(daemon):
    d, kept = daemon, daemon.user / "access-token.json"
    issued = lambda: d.p.text().count("token issued")  # noqa: E731
    before = issued()
    davit(d, "server", "ls", api=d.api)
    first = json.loads(kept.read_text())
    assert issued() == before + 1 and kept.stat().st_mode & 0o077 == 0 and 240 < first["good_until"] - time.time() <= 271
    davit(d, "server", "ls")
    assert issued() == before + 1 and json.loads(kept.read_text()) == first  # the same again
    for spoiled in (first | {"good_until": int(time.time())}, first | {"server": "127.0.0.1:1"}, first | {"certificate": "00"}):
        kept.write_text(json.dumps(spoiled))
        before = issued()
        davit(d, "server", "ls")
        assert issued() == before + 1, spoiled
    # One that the control plane does not know any more is asked for again.
    kept.write_text(json.dumps(first | {"token": first["token"][:-4] + "AAAA"}))
    davit(d, "server", "ls")
    assert issued() == before + 2
    # Of a version without: told what to do.
    kept.unlink()
    (d.user / "assertion.key").rename(d.user / "away")
    got = davit(d, "server", "ls", check=False)
    (d.user / "away").rename(d.user / "assertion.key")
    assert got.rc != 0 and "short-lived token" in got.err and "davit up" in got.err
    # The key was not handed over, or it is another one.
    jwk = (d.state / "assertion.jwk").read_bytes()
    (d.state / "assertion.jwk").unlink()
    got = davit(d, "server", "ls", check=False)
    (d.state / "assertion.jwk").write_bytes(jwk)
    assert got.rc != 0 and "was not handed over" in got.err and "davit up" in got.err
    davit(d, "server", "ls")


@pytest.mark.req("SA-7", "CW-7")
def test_an_independent_judge_accepts_our_tokens(daemon, node):
    t = daemon.tokens
    told = json.loads(proc.run(["node", node / "verify.mjs", t.issuer, daemon.user / "cli.key", daemon.user / "cli.crt", daemon.user / "root.crt",
                                t.bearer()]).out)
    assert told["header"]["alg"] == "ES256" and told["payload"]["scope"] == "admin" and told["payload"]["cnf"]["x5t#S256"]


@pytest.mark.req("SA-7", "CW-7")
def test_the_cli_works_against_an_independent_issuer(daemon, node):
    port, kept = proc.free_port(), daemon.user / "access-token.json"
    kept.unlink(missing_ok=True)
    log = daemon.dir / "issuer.log"
    issuer = proc.Background(["node", node / "issuer.mjs", str(port), daemon.state / "controlplane.key", daemon.state / "controlplane.crt",
                              daemon.user / "root.crt", daemon.state / "assertion.jwk"], log)
    try:
        proc.wait_for(lambda: proc.listens(port), timeout=40, text=f"issuer: {issuer.text()}")
        got = davit(daemon, "server", "ls", check=False, api=port)
        assert "only tokens here" in got.err, (got, issuer.text())
        lines = [json.loads(line) for line in issuer.text().splitlines() if line.startswith("{")]
        seen = [m for m in lines if "path" in m]
        assert len(seen) == 1 and "error" not in seen[0] and seen[0]["bound"] is True, lines
        assert seen[0]["claims"]["scope"] == "admin" and seen[0]["claims"]["client_id"] == "davit-cli"
        davit(daemon, "server", "ls", check=False)
        assert issuer.text().count('"granted":true') == 1  # kept
    finally:
        issuer.stop()
        (daemon.user / "cli.json").write_text(json.dumps({"api": f"127.0.0.1:{daemon.api}"}))
