# SPDX-License-Identifier: Apache-2.0
"""Who comes in by 7441 and 7440: the first link, passwords, sessions, API tokens; and what pages of others can make a browser do there."""
import contextlib
import asyncio
import base64
import hashlib
import http.client
import json
import os
import re
import signal
import sqlite3
import ssl
import sys
import time

import pytest

pytest.importorskip("grpc")
websockets = pytest.importorskip("websockets")

from lib import proc  # noqa: E402
from lib.daemon import BIN, Daemon, generate  # noqa: E402

PASSWORD = "correct horse battery"
NAME = "cp.example"
OPEN = {"GetSession", "SetUpOwner", "Login", "Logout"}
DAY = 86400 * 10**6


def context():
    ctx = ssl.create_default_context()
    ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
    return ctx


class Plane(Daemon):
    """A control plane as browsers see it; a cookie is kept by whoever logged in."""

    def __init__(self, api, more=()):
        self.web = proc.free_port()
        super().__init__(api, ["--web-listen", f"127.0.0.1:{self.web}", "--hostname", NAME, *more])

    def start(self):
        super().start()
        proc.wait_for(lambda: proc.listens(self.web) and proc.listens(self.local_web), text="7440 and 7441")
        return self

    def ask(self, verb, path, body=None, headers=None, web=False, source="127.0.0.1"):
        port, more = (self.web, {"context": context()}) if web else (self.local_web, {})
        kind = http.client.HTTPSConnection if web else http.client.HTTPConnection
        c = kind("127.0.0.1", port, timeout=30, source_address=(source, 0), **more)
        try:
            c.request(verb, path, body=body, headers=headers or {})
            r = c.getresponse()
            return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()
        finally:
            c.close()

    def call(self, method, body=None, cookie=None, token=None, **more):
        """A call in JSON: (status, answer, fields)."""
        headers = {"content-type": "application/json"} | more.pop("headers", {})
        if cookie:
            headers["cookie"] = cookie
        if token:
            headers["authorization"] = f"Bearer {token}"
        status, fields, text = self.ask("POST", f"/davit.control.v1.{method}", json.dumps(body or {}).encode(), headers, **more)
        return status, json.loads(text) if text[:1] == b"{" else text, fields

    def good(self, method, body=None, **more):
        status, answer, _ = self.call(method, body, **more)
        assert status == 200, (method, status, answer)
        return answer

    def cli(self, *args, **more):
        config = self.dir / "config"
        if not config.exists():
            config.symlink_to(self.user)
            (self.user / "cli.json").write_text(json.dumps({"api": f"127.0.0.1:{self.api}"}))
        return proc.run([BIN / "davit", *args], env=self.env | {"DAVIT_HOME": str(self.dir)}, **more)

    def dashboard(self, *args):
        return json.loads(self.cli("dashboard", "--output", "json", *args).out)

    def secret(self, *args):
        return self.dashboard(*args)["setup"].split("#")[1]

    def set_up(self, password=PASSWORD, **more):
        return cookie_of(self.call("SessionService/SetUpOwner", {"secret": self.secret("--reset"), "password": password}, **more))

    def login(self, password=PASSWORD, name="owner", **more):
        return self.call("SessionService/Login", {"name": name, "password": password}, **more)

    def rows(self, sql):
        with contextlib.closing(sqlite3.connect(f"file:{self.state}/control.db?mode=ro", uri=True)) as db:
            return db.execute(sql).fetchall()

    def change(self, *sql):
        """Statements while nobody holds the database."""
        assert self.p.stop() == 0, self.p.text()[-4000:]
        # Closed before davitd opens it: a connection that outlives the file of shared memory has readers after it look at the old one.
        with contextlib.closing(sqlite3.connect(self.state / "control.db")) as db, db:
            for s in sql:
                db.execute(s)
        self.start()

    def audit(self, action):
        return [e for e in map(json.loads, self.cli("audit", "export").out.splitlines()) if e["action"] == action]

    def on_disk(self, *secrets):
        """Which of @secrets stand in a file of the state directory or in the log."""
        files = [p.read_bytes() for p in self.state.rglob("*") if p.is_file()] + [self.p.text().encode()]
        return [s for s in secrets if any(s.encode() in f for f in files)]


def cookie_of(answer):
    status, body, fields = answer
    assert status == 200, (status, body)
    return fields["set-cookie"].split(";")[0]


def value(cookie):
    return cookie.split("=")[1]


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    out = tmp_path_factory.mktemp("stubs")
    try:
        yield generate(out)
    finally:
        sys.path.remove(str(out))


@pytest.fixture
def plane(api):
    p = Plane(api).start()
    yield p
    p.close()


@pytest.fixture(scope="module")
def shared(api):
    """One that has an owner; tests leave the password as it is."""
    p = Plane(api).start()
    p.set_up()
    yield p
    p.close()


def methods():
    """Every method of the API: (path, scope, does anything stream?)."""
    from davit.control.v1 import (audit_pb2, controlplane_pb2, credentials_pb2, doctor_pb2, people_pb2, servers_pb2, status_pb2, updates_pb2, watch_pb2,
                                  workloads_pb2)
    from davit.options.v1 import options_pb2
    found = []
    for module in (audit_pb2, controlplane_pb2, credentials_pb2, doctor_pb2, people_pb2, servers_pb2, status_pb2, updates_pb2, watch_pb2, workloads_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for m in service.methods:
                scope = m.GetOptions().Extensions[options_pb2.scope]
                found.append((f"{service.name}/{m.name}", scope, m.server_streaming or m.client_streaming))
    assert len(found) > 30
    return found


def stream(port, cookie=None, token=None, origin=None):
    """A Watch over a WebSocket, not entered yet."""
    headers = ({"Cookie": cookie} if cookie else {}) | ({"Authorization": f"Bearer {token}"} if token else {})
    return websockets.connect(f"ws://127.0.0.1:{port}/davit.control.v1.WatchService/Watch", subprotocols=["davit.connect.v1"], extra_headers=headers,
                              origin=origin, open_timeout=20, close_timeout=1)


def cut(plane, act, **who):
    """Opens a stream, acts, and waits for its end: (what the end says, seconds from the act)."""

    async def go():
        async with stream(plane.local_web, **who) as ws:
            await ws.send(json.dumps({"id": 1, "servers": {}}))
            assert (await asyncio.wait_for(ws.recv(), 20))[0] == 0
            await asyncio.get_running_loop().run_in_executor(None, act)
            began = time.monotonic()
            while True:
                data = await asyncio.wait_for(ws.recv(), 20)
                if data[0] & 2:
                    return json.loads(data[5:])["error"], time.monotonic() - began

    return asyncio.run(go())


# --- The first start --------------------------------------------------------------------------------------------------------------
def nothing_is_open(plane):
    for web in (False, True):
        for path, scope, streams in methods()[::9 if web else 1]:
            if path.split("/")[1] in OPEN:
                continue
            kind = "application/connect+json" if streams else "application/json"
            if path == "WatchService/Watch":
                continue  # below: by HTTP/1.1 it is a WebSocket
            status, answer, _ = plane.call(path, headers={"content-type": kind}, web=web)
            assert status == 401 or (streams and status == 200 and b"unauthenticated" in answer), (path, scope, status, answer)
        assert "ownerExists" not in plane.good("SessionService/GetSession", web=web) and "version" not in plane.good("SessionService/GetSession", web=web)
        for secret in ("", "0" * 64, "owner"):
            body = {"secret": secret, "name": "owner", "password": PASSWORD}
            assert plane.call("SessionService/SetUpOwner", body, web=web)[0] == 403
    with pytest.raises(websockets.InvalidStatusCode, match="401"):
        cut(plane, lambda: None)
    for name, password in (("owner", "owner"), ("owner", ""), ("admin", "admin"), ("owner", "0123456789"), ("root", PASSWORD)):
        status, answer, fields = plane.login(password, name)
        assert status == 401 and answer["message"] == "the name or the password is wrong" and "set-cookie" not in fields
    assert plane.rows("SELECT count(*) FROM people") == [(0,)] and plane.rows("SELECT count(*) FROM sessions") == [(0,)]


@pytest.mark.req("PE-1")
def test_before_there_is_an_owner_only_the_link_opens_anything(plane):
    nothing_is_open(plane)
    first = plane.dashboard()
    assert first["ownerExists"] is False and first["setup"] == f"http://127.0.0.1:{plane.local_web}/setup#" + first["setup"].split("#")[1]
    void, secret = first["setup"].split("#")[1], plane.secret()
    assert len(secret) == 64 and plane.on_disk(void, secret) == []
    assert plane.rows("SELECT hex(hash) FROM setup_links") == [(hashlib.sha256(secret.encode()).hexdigest().upper(),)]

    def use(secret, password=PASSWORD, **more):
        return plane.call("SessionService/SetUpOwner", {"secret": secret, "password": password} | more)

    assert use(void)[0] == 403
    # What is no password leaves the link as it is.
    for password in ("123456789", "x" * 257, "0123456789\0"):
        assert use(secret, password)[0] == 400
    assert use(secret, name="The Owner")[0] == 400 and use(secret, name="x" * 65)[0] == 400
    status, answer, fields = use(secret, "x" * 256)
    assert status == 200 and answer["person"] == {"name": "owner", "role": "owner"}
    assert re.fullmatch(r"davit=[0-9a-f]{64}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000", fields["set-cookie"])
    cookie = fields["set-cookie"].split(";")[0]
    assert plane.good("SessionService/GetSession", cookie=cookie)["person"]["name"] == "owner"
    assert use(secret)[0] == 403 and plane.rows("SELECT count(*) FROM setup_links") == [(0,)]
    assert plane.on_disk(secret, value(cookie), "x" * 256) == []
    # From now on there is only the address; a new link comes with --reset, and ends what there was.
    assert plane.dashboard() == {"dashboard": f"http://127.0.0.1:{plane.local_web}/", "setup": None, "expiresUs": "0", "ownerExists": True}
    assert "version" in plane.good("SessionService/GetSession", cookie=cookie)
    again = cookie_of(use(plane.secret("--reset"), "0123456789"))
    assert "person" not in plane.good("SessionService/GetSession", cookie=cookie)
    assert plane.good("SessionService/GetSession", cookie=again)["person"]["name"] == "owner"
    # Nobody comes by the password with a session.
    assert plane.call("SessionService/CreateSetupLink", cookie=again)[0] == 403
    # One that is too old.
    secret = plane.secret("--reset")
    plane.change(f"UPDATE setup_links SET expires_us = {int(time.time() * 10**6)}")
    assert use(secret)[0] == 403
    assert [e["outcome"] for e in plane.audit("setup")].count("ok") == 2 and any(e["outcome"] == "refused" for e in plane.audit("setup"))


@pytest.mark.req("PE-1")
def test_davit_up_prints_it(api, tmp_path):
    p = Plane(api)
    account = ("--user", "nobody") if os.geteuid() == 0 else ()
    os.chmod(p.dir, 0o755)
    home = p.dir / "home"
    ports = [a for name, port in (("api", p.api), ("link", p.link), ("health", p.health), ("web", p.web), ("local-web", p.local_web))
             for a in (f"--{name}-listen", f"127.0.0.1:{port}")]

    def davit(*args, **more):
        return proc.run([BIN / "davit", *args, "--home", home], env=p.env, timeout=90, **more)

    try:
        out = davit("up", "--no-agent", *ports, *account).out
        secret = re.search(rf"http://127\.0\.0\.1:{p.local_web}/setup#([0-9a-f]{{64}})\n", out)[1]
        p.call("SessionService/SetUpOwner", {"secret": secret, "password": PASSWORD})
        again = davit("up", "--no-agent", *ports, *account).out
        assert f"Dashboard: http://127.0.0.1:{p.local_web}/\n" in again and "setup" not in again
        assert "dashboard" in davit("status").out
        # Not where others could reach it.
        davitd = proc.run([BIN / "davitd", "--state-dir", p.state, "--local-web-listen", "0.0.0.0:7441", "--api-listen", "127.0.0.1:0", "--health-listen",
                           "127.0.0.1:0", "--link-socket", p.socket], check=False)
        assert davitd.rc != 0 and "not an address of loopback" in davitd.err
    finally:
        davit("down", "--purge", check=False)
        p.close()


# --- Passwords and sessions -------------------------------------------------------------------------------------------------------
@pytest.mark.req("PE-2")
def test_the_password_is_kept_as_a_memory_hard_hash(shared):
    (kept,), = shared.rows("SELECT password FROM people")
    _, kind, cost, salt, digest = kept.split("$")
    assert (kind, cost) == ("scrypt", "ln=15,r=8,p=1")
    salt, digest = (base64.b64decode(x + "=" * (-len(x) % 4)) for x in (salt, digest))
    assert len(salt) == 16 and hashlib.scrypt(PASSWORD.encode(), salt=salt, n=2**15, r=8, p=1, maxmem=2**26, dklen=32) == digest
    assert shared.on_disk(PASSWORD) == []


@pytest.mark.req("PE-2")
def test_sessions_begin_rotate_and_end(shared):
    p, kinds = shared, {}
    for web in (False, True):
        status, _, fields = p.login(web=web)
        kinds[web] = fields["set-cookie"]
        assert status == 200 and fields["cache-control"] == "no-store"
    assert re.fullmatch(r"__Host-davit=[0-9a-f]{64}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000; Secure", kinds[True])
    assert re.fullmatch(r"davit=[0-9a-f]{64}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000", kinds[False])
    one = kinds[False].split(";")[0]
    hashes = {h for h, in p.rows("SELECT hex(hash) FROM sessions")}
    assert hashlib.sha256(value(one).encode()).hexdigest().upper() in hashes and p.on_disk(value(one)) == []

    def alive(cookie, **more):
        return "person" in p.good("SessionService/GetSession", cookie=cookie, **more)

    # A login with a cookie has a new secret, and the one before opens nothing.
    two = cookie_of(p.login(cookie=one))
    assert two != one and not alive(one) and alive(two)
    # Cookies that are not one of ours, and two of a name.
    assert not alive("davit=" + "0" * 64) and not alive("davit=x") and not alive(f"davit=1; {two}") and alive(f"other=1; {two}; more=2")
    assert not alive("__Host-" + two) and not alive(two, web=True)
    # Any service of this machine may have read the cookie of 7441: where others come in it opens nothing, by whatever name, nor the other way round.
    far = kinds[True].split(";")[0]
    assert alive(far, web=True) and not alive("__Host-" + two, web=True) and not alive("davit=" + value(far))
    # The others are seen and ended from here.
    agent = "Mozilla/5.0 \u202e<script>alert(1)</script>"
    three = cookie_of(p.login(headers={"user-agent": (agent + "x" * 300).encode()}, source="127.0.0.7"))
    listed = p.good("SessionService/ListSessions", cookie=two)["sessions"]
    mine = [s for s in listed if s.get("current")]
    other = [s for s in listed if "Mozilla" in s.get("userAgent", "")]
    assert len(mine) == 1 and len(other) == 1 and other[0]["address"] == "127.0.0.7"
    assert len(other[0]["userAgent"].encode()) <= 200 and "\u202e" not in other[0]["userAgent"]
    assert p.good("SessionService/RevokeSession", {"sessionId": other[0]["id"]}, cookie=two) == {"revoked": 1}
    assert not alive(three) and p.call("StatusService/GetStatus", cookie=three)[0] == 401
    assert p.call("SessionService/RevokeSession", {"sessionId": other[0]["id"]}, cookie=two)[0] == 404
    # At the limit the one that was unused for the longest makes room; all but one's own are ended at once. The store says the same.
    now, have = int(time.time() * 10**6), p.rows("SELECT count(*) FROM sessions")[0][0]
    p.change(*(f"INSERT INTO sessions SELECT '{i:036x}', id, x'{i:064x}', {now}, {now - DAY + i}, {now + DAY}, '', '' FROM people" for i in range(256 - have)))
    last = cookie_of(p.login())
    for _ in range(2):
        ids = {s["id"] for s in p.good("SessionService/ListSessions", cookie=last)["sessions"]}
        assert alive(two) and len(ids) == 256 and f"{0:036x}" not in ids and f"{1:036x}" in ids
        p.change()
    assert p.good("SessionService/RevokeSession", {"allOthers": True}, cookie=two) == {"revoked": 255} and not alive(last) and alive(two)
    p.change()
    assert len(p.good("SessionService/ListSessions", cookie=two)["sessions"]) == 1
    # Logged out.
    status, _, fields = p.call("SessionService/Logout", cookie=two)
    assert status == 200 and fields["set-cookie"] == "davit=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0" and not alive(two)
    assert p.call("SessionService/Logout")[0] == 200
    # What they did is theirs in the log.
    assert p.audit("SessionService/RevokeSession")[-1]["actor"] == "person:owner"
    assert p.audit("login")[-1]["outcome"] == "ok" and p.audit("logout")[-1]["actor"] == "person:owner"


@pytest.mark.req("PE-2")
def test_a_session_that_is_ended_is_cut_at_once(shared):
    p = shared
    keeper, victim = cookie_of(p.login()), cookie_of(p.login())
    number = p.good("SessionService/GetSession", cookie=victim)["sessionId"]
    error, took = cut(p, lambda: p.good("SessionService/RevokeSession", {"sessionId": number}, cookie=keeper), cookie=victim)
    assert error["code"] == "unauthenticated" and "ended" in error["message"] and took < 2
    error, took = cut(p, lambda: p.call("SessionService/Logout", cookie=keeper), cookie=keeper)
    assert error["code"] == "unauthenticated" and took < 2
    error, _ = cut(p, lambda: p.set_up(), cookie=cookie_of(p.login()))
    assert error["code"] == "unauthenticated"


@pytest.mark.req("PE-2")
def test_another_password_ends_all_other_sessions(plane):
    p = plane
    one, two = p.set_up(), cookie_of(p.login())
    change = {"oldPassword": PASSWORD, "newPassword": "another " + PASSWORD}
    assert p.call("SessionService/ChangePassword", change | {"oldPassword": PASSWORD + "x"}, cookie=one)[0] == 403
    assert p.call("SessionService/ChangePassword", change | {"newPassword": "123456789"}, cookie=one)[0] == 400
    new = cookie_of(p.call("SessionService/ChangePassword", change, cookie=one))
    for cookie, alive in ((one, False), (two, False), (new, True)):
        assert ("person" in p.good("SessionService/GetSession", cookie=cookie)) is alive
    assert p.login()[0] == 401 and p.login(change["newPassword"])[0] == 200
    # They outlive a restart and a kill; idle for seven days or old they are not.
    assert p.p.stop(signal.SIGKILL) != 0
    p.start()
    assert "person" in p.good("SessionService/GetSession", cookie=new) and "person" not in p.good("SessionService/GetSession", cookie=one)
    now = int(time.time() * 10**6)
    cases = [(cookie_of(p.login(change["newPassword"])), *case) for case in
             (("used_us", now - 7 * DAY + 60 * 10**6, True), ("used_us", now - 7 * DAY - 10**6, False), ("expires_us", now - 1, False))]
    p.change(*(f"UPDATE sessions SET {field} = {at} WHERE hash = x'{hashlib.sha256(value(cookie).encode()).hexdigest()}'" for cookie, field, at, _ in cases))
    for cookie, field, _, alive in cases:
        assert ("person" in p.good("SessionService/GetSession", cookie=cookie)) is alive, field
    # A backup may hold sessions that were ended after it was made: what was restored has none.
    assert "person" in p.good("SessionService/GetSession", cookie=new) and p.p.stop() == 0
    (p.state / "restored").write_text(f"{now} 0\n")
    p.start()
    assert "person" not in p.good("SessionService/GetSession", cookie=new) and p.rows("SELECT count(*) FROM sessions") == [(0,)]


@pytest.mark.req("PE-2")
def test_logins_are_limited_per_account_and_per_address(plane):
    p = plane
    p.set_up()
    took = {}
    for name in ("owner", "stranger"):
        took[name] = []
        for _ in range(3):
            began = time.monotonic()
            assert p.login("wrong password", name)[0] == 401
            took[name].append(time.monotonic() - began)
    # A name that nobody has takes as long.
    assert 0.3 < min(took["stranger"]) / min(took["owner"]) < 3.3, took
    # Ten for an account (right ones give them back), whoever asks at 7441, and one more a minute.
    began, wrong = time.monotonic(), 3
    while (answer := p.login("wrong password", source=f"127.0.0.{10 + wrong}"))[0] == 401:
        wrong += 1
    assert 10 <= wrong <= 11 + (time.monotonic() - began) // 60, wrong
    status, answer, fields = p.login(source="127.0.0.50")
    assert status == 429 and answer["code"] == "resource_exhausted" and "set-cookie" not in fields
    assert 0 < int(re.search(r"try again in (\d+) s", fields["davit-hint"])[1] or 0) <= 61
    # From elsewhere it is another bucket: who knows the password comes in.
    assert p.login(web=True)[0] == 200
    # Twenty for an address, by whatever name, and one more each ten seconds. (A word that is too short to be a password costs no work.)
    began, wrong = time.monotonic(), 0
    while p.login("short", f"n{wrong}", source="127.0.0.40", web=True)[0] == 401:
        wrong += 1
    assert 20 <= wrong <= 21 + (time.monotonic() - began) // 10, wrong
    assert p.login(source="127.0.0.40", web=True)[0] == 429
    assert p.login(source="127.0.0.41", web=True)[0] == 200
    # A link is limited by address too, and what was refused is in the log.
    assert p.call("SessionService/SetUpOwner", {"secret": "0" * 64, "password": PASSWORD}, source="127.0.0.40", web=True)[0] == 429
    refused = [e for e in p.audit("login") if e["outcome"] == "refused"]
    assert {e["code"] for e in refused} == {"unauthenticated", "resource_exhausted"} and any(e["actor"] == "addr:127.0.0.40" for e in refused)


# --- API tokens -------------------------------------------------------------------------------------------------------------------
@pytest.mark.req("PE-6")
def test_tokens_are_shown_once_kept_hashed_and_scoped(shared):
    p, cookie = shared, cookie_of(shared.login())
    tokens = {}
    for scope in ("read", "write", "admin"):
        made = p.good("ApiTokenService/CreateApiToken", {"name": f"t-{scope}", "scope": scope}, cookie=cookie)
        tokens[scope] = made["secret"]
        assert re.fullmatch(rf"davit_{made['token']['id']}_[0-9a-f]{{64}}", made["secret"]) and made["token"]["createdBy"] == "person:owner"
        assert abs(int(made["token"]["expiresUs"]) - int(made["token"]["createdUs"]) - 30 * DAY) < 10**6
    listed = p.ask("POST", "/davit.control.v1.ApiTokenService/ListApiTokens", b"{}", {"content-type": "application/json", "cookie": cookie})[2].decode()
    secrets = [t.split("_")[2] for t in tokens.values()]
    assert "t-write" in listed and not any(s in listed for s in secrets) and p.on_disk(*tokens.values(), *secrets) == []
    assert {h for h, in p.rows("SELECT hex(hash) FROM api_tokens")} >= {hashlib.sha256(s.encode()).hexdigest().upper() for s in secrets}
    # Every method wants its scope; each scope holds those before.
    rank = ["read", "write", "admin"]
    for path, scope, streams in methods():
        for have, token in tokens.items():
            if path == "WatchService/Watch" or scope == "public" or rank.index(have) >= rank.index(scope):
                continue
            status, answer, _ = p.call(path, token=token, headers={"content-type": "application/connect+json" if streams else "application/json"})
            assert status == 403 or (streams and b"permission_denied" in answer), (path, scope, have, status, answer)
    assert all(p.call("StatusService/GetStatus", token=t, web=web)[0] == 200 for t in tokens.values() for web in (False, True))
    assert p.call("ServerService/CreateServer", {"name": "by-token"}, token=tokens["admin"])[0] == 200
    assert p.audit("ServerService/CreateServer")[-1]["actor"] == "token:t-admin"
    # No token makes a token, a password or a link, whatever its scope.
    for path, body in (("ApiTokenService/CreateApiToken", {"name": "child", "scope": "read"}), ("SessionService/CreateSetupLink", {}),
                       ("SessionService/ChangePassword", {"oldPassword": PASSWORD, "newPassword": PASSWORD + "x"})):
        assert p.call(path, body, token=tokens["admin"])[0] == 403, path
    assert p.rows("SELECT count(*) FROM api_tokens WHERE name = 'child'") == [(0,)]
    # When and from where.
    p.good("StatusService/GetStatus", token=tokens["read"], source="127.0.0.9")
    seen = {t["name"]: t for t in p.good("ApiTokenService/ListApiTokens", cookie=cookie)["tokens"]}
    assert seen["t-read"]["usedFrom"] == "127.0.0.9" and abs(int(seen["t-read"]["usedUs"]) / 10**6 - time.time()) < 60
    p.change()
    assert p.rows("SELECT used_us > 0, used_from FROM api_tokens WHERE name = 't-read'") == [(1, "127.0.0.9")]
    # What is none is not made up for by a cookie.
    bad = [tokens["read"][:-1], tokens["read"] + "0", tokens["read"][:-1] + ("0" if tokens["read"][-1] != "0" else "1"), "davit_" + "0" * 16 + "_" + secrets[0],
           "davit__", "x", tokens["read"].upper()]
    for token in bad:
        assert p.call("StatusService/GetStatus", token=token, cookie=cookie)[0] == 401, token
    assert p.call("StatusService/GetStatus", headers={"authorization": "Basic b3duZXI6eA=="}, cookie=cookie)[0] == 401
    assert "person" not in p.good("SessionService/GetSession", token=tokens["admin"])


@pytest.mark.req("PE-6")
def test_tokens_expire_and_are_revoked_at_once(shared):
    p, year = shared, 366 * 86400
    cookie = cookie_of(p.login())

    def make(**more):
        return p.call("ApiTokenService/CreateApiToken", {"name": "ci", "scope": "read"} | more, cookie=cookie)

    for wrong in ({"name": ""}, {"name": "x" * 65}, {"name": "a b"}, {"name": "<b>"}, {"scope": ""}, {"scope": "root"}, {"ttlS": str(year + 1)}):
        assert make(**wrong)[0] == 400, wrong
    assert make(name="x" * 64, ttlS=str(year))[0] == 200
    token = make()[1]["secret"]
    assert make()[0] == 409
    error, took = cut(p, lambda: p.cli("token", "revoke", "ci"), token=token)
    assert error["code"] == "unauthenticated" and "revoked" in error["message"] and took < 5
    assert p.call("StatusService/GetStatus", token=token)[0] == 401 and p.cli("token", "revoke", "ci", check=False).rc == 3
    token = make(ttlS="2")[1]["secret"]
    assert p.call("StatusService/GetStatus", token=token)[0] == 200
    error, _ = cut(p, lambda: None, token=token)
    assert error["code"] == "unauthenticated" and "expired" in error["message"]
    assert p.call("StatusService/GetStatus", token=token)[0] == 401
    listed = p.cli("token", "ls").out
    assert "revoked" in listed and "expired" in listed and "good" in listed
    made = json.loads(p.cli("token", "add", "by-cli", "--scope", "admin", "--expires", "1h", "--output", "json").out)
    assert made["token"]["createdBy"] == "davit://cli" and p.call("StatusService/GetStatus", token=made["secret"])[0] == 200
    # At the limit, and beyond; revoked ones do not count.
    now = int(time.time() * 10**6)
    have, = p.rows(f"SELECT count(*) FROM api_tokens WHERE revoked_us = 0 AND expires_us > {now}")[0]
    p.change(*(f"INSERT INTO api_tokens VALUES ('{i:016x}', x'{i:064x}', 'n{i}', 'read', 'x', {now}, {now + DAY}, 0, '', 0)" for i in range(1, 256 - have)))
    assert make(name="last")[0] == 200 and make(name="beyond")[0] == 429
    assert p.good("ApiTokenService/RevokeApiToken", {"token": "last"}, cookie=cookie) == {} and make(name="now")[0] == 200
    p.change("DELETE FROM api_tokens")


# --- What pages of others can do --------------------------------------------------------------------------------------------------
GUARD = {"x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer", "cross-origin-opener-policy": "same-origin",
         "cross-origin-resource-policy": "same-origin"}


@pytest.mark.req("PE-13")
def test_every_page_is_guarded(shared):
    p = shared
    for web in (False, True):
        for verb, path, wanted in (("GET", "/", 200), ("HEAD", "/", 200), ("GET", "/servers/web-1", 200), ("GET", "/setup", 200), ("GET", "/none.js", 404),
                                   ("GET", "/../etc/passwd", 404), ("GET", "/%2e%2e/x.y", 404), ("POST", "/", 405), ("PUT", "/index.html", 405)):
            status, fields, body = p.ask(verb, path, web=web)
            assert status == wanted, (verb, path, status)
            assert all(fields[k] == v for k, v in GUARD.items()), fields
            policy = dict(part.strip().split(" ", 1) for part in fields["content-security-policy"].split(";"))
            assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'" and policy["style-src"] == "'self'"
            assert policy["frame-ancestors"] == "'none'" and policy["base-uri"] == "'none'" and policy["form-action"] == "'self'"
            assert "unsafe" not in fields["content-security-policy"] and "camera=()" in fields["permissions-policy"]
            assert not [f for f in fields if f.startswith("access-control")] and "strict-transport-security" not in fields
            if wanted == 200 and verb == "GET":
                assert b"<!doctype html>" in body.lower() and fields["cache-control"] == "no-cache" and not re.search(rb"<script(?![^>]* src=)|style=|<style| on\w+=", body)
                assert p.ask("GET", path, headers={"if-none-match": fields["etag"]}, web=web)[0] == 304
    assert p.ask("GET", "/", headers={"host": NAME}, web=True)[1]["strict-transport-security"] == "max-age=31536000"


@pytest.mark.req("PE-13")
def test_only_by_our_own_names(shared):
    p, cookie = shared, cookie_of(shared.login())
    secure = cookie_of(shared.login(web=True))
    ours = {False: ["127.0.0.1", "localhost", "[::1]"], True: ["127.0.0.1", "localhost", NAME, "192.0.2.9", "[2001:db8::1]", "127.0.0.1:1"]}
    others = {False: ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "192.0.2.9", NAME, "", "[::1", "127.0.0.1:80:80", "127.0.0.1@evil"],
              True: ["evil.example", NAME + ".evil.example", "x" + NAME, "", "1.2.3.4.evil.example"]}
    for web, mine in ((False, cookie), (True, secure)):
        for host in [*ours[web], f"localhost:{p.local_web}"]:
            assert p.ask("GET", "/", headers={"host": host}, web=web)[0] == 200, host
            assert p.call("StatusService/GetStatus", cookie=mine, headers={"host": host}, web=web)[0] == 200, host
        for host in others[web]:
            assert p.ask("GET", "/", headers={"host": host}, web=web)[0] in (400, 421), host
            for method in ("StatusService/GetStatus", "SessionService/GetSession"):
                assert p.call(method, cookie=mine, headers={"host": host}, web=web)[0] in (400, 403), host


@pytest.mark.req("PE-13")
def test_pages_of_others_can_do_nothing_with_the_cookie(shared):
    p = shared
    for web in (False, True):
        cookie, port = cookie_of(p.login(web=web)), p.web if web else p.local_web
        scheme, name = ("https" if web else "http"), f"csrf-{web}".lower()
        own = f"{scheme}://127.0.0.1:{port}"
        body, path = json.dumps({"name": name}).encode(), "/davit.control.v1.ServerService/CreateServer"
        # What a form or a simple fetch can send is no call.
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "text/plain; application/json"):
            for origin in ("https://evil.example", own):
                status, fields, _ = p.ask("POST", path, body, {"content-type": kind, "cookie": cookie, "origin": origin}, web=web)
                assert status in (403, 405, 415) and not [f for f in fields if f.startswith("access-control")], (kind, status)
        # With our content type, from elsewhere: also from another port of this host, which is the same site.
        foreign = [{"origin": o} for o in ("https://evil.example", "null", "", f"{scheme}://127.0.0.1:1", f"{scheme}://localhost:{port}", f"{own}.evil.example",
                                           f"{'http' if web else 'https'}://127.0.0.1:{port}", f"{own}/", "file://")]
        foreign += [{"sec-fetch-site": s} for s in ("cross-site", "same-site", "")]
        foreign += [{"origin": own, "sec-fetch-site": "cross-site"}]
        for headers in foreign:
            status, answer, fields = p.call("ServerService/CreateServer", {"name": name}, cookie=cookie, headers=headers, web=web)
            assert status == 403 and not [f for f in fields if f.startswith("access-control")], (headers, status, answer)
            if headers not in (foreign[0], foreign[-2]):
                continue
            # Nor begin a session that is not the person's own, nor end theirs.
            status, _, fields = p.call("SessionService/Login", {"name": "owner", "password": PASSWORD}, headers=headers, web=web)
            assert status == 403 and "set-cookie" not in fields
            assert p.call("SessionService/Logout", cookie=cookie, headers=headers, web=web)[0] == 403
        status, fields, _ = p.ask("OPTIONS", path, headers={"origin": "https://evil.example", "access-control-request-method": "POST"}, web=web)
        assert status >= 400 and not [f for f in fields if f.startswith("access-control")]
        status, _, answer = p.ask("GET", "/davit.control.v1.ServerService/ListServers?encoding=json&message=%7B%7D&connect=v1",
                                  headers={"cookie": cookie, "sec-fetch-site": "cross-site"}, web=web)
        assert status == 403 and b"servers" not in answer
        assert name not in str(p.good("ServerService/ListServers", cookie=cookie, web=web))
        # Our own page does it.
        assert p.call("ServerService/CreateServer", {"name": name}, cookie=cookie, headers={"origin": own, "sec-fetch-site": "same-origin"}, web=web)[0] == 200
        assert name in str(p.good("ServerService/ListServers", cookie=cookie, web=web))


@pytest.mark.req("PE-13")
def test_no_stream_for_a_page_of_others(shared):
    cookie = cookie_of(shared.login())

    async def go(origin):
        async with stream(shared.local_web, cookie=cookie, origin=origin) as ws:
            await ws.send(json.dumps({"id": 1, "servers": {}}))
            return (await asyncio.wait_for(ws.recv(), 20))[0]

    for origin in ("https://evil.example", f"https://127.0.0.1:{shared.local_web}", "http://127.0.0.1:1", "null"):
        with pytest.raises(websockets.InvalidStatusCode, match="403"):
            asyncio.run(go(origin))
    assert asyncio.run(go(f"http://127.0.0.1:{shared.local_web}")) == 0
