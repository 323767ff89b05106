# SPDX-License-Identifier: Apache-2.0
"""7440: what it serves and what not, over HTTP/1.1 and HTTP/2, to strangers of all kinds."""
import base64
import hashlib
import http.client
import os
import re
import socket
import ssl
import subprocess
import sys

import pytest

grpc = pytest.importorskip("grpc")

from lib import proc, release  # noqa: E402
from lib.daemon import BUILD, Daemon, generate  # noqa: E402

BIN = BUILD / "test/integration/update"
TAR = "davit-0.1.0-linux-amd64.tar"
SIZE, BIG = 3 * 1024 * 1024, 96 * 1024 * 1024


class Plane(Daemon):
    def command(self):
        return [BIN / "davitd", *super().command()[1:]]


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    top = tmp_path_factory.mktemp("front")
    stubs, releases = top / "stubs", top / "releases"
    for folder in (stubs, releases, releases / "sub"):
        folder.mkdir()
    program = top / "davit-agent"
    program.write_bytes(os.urandom(SIZE))
    release.make(releases, "0.1.0", {"linux-amd64": {"davit-agent": program}}, scratch=top)
    (releases / "sub" / "release.json").write_text("{}\n")
    (releases / "secret.key").write_text("a secret\n")
    (releases / ".hidden").write_text("a secret\n")
    (top / "outside").mkdir()
    (top / "outside" / "release.json").write_text("a secret\n")
    (releases / "davit-link.tar").symlink_to(program)
    (releases / "away").symlink_to(top / "outside")
    os.mkfifo(releases / "davit-pipe.tar")
    (releases / "davit-folder.tar").mkdir()
    api = generate(stubs)
    web = proc.free_port()
    p = Plane(api, ["--web-listen", f"127.0.0.1:{web}", "--release-dir", releases]).start()
    p.web, p.releases = web, releases
    try:
        assert not proc.listens(web)  # before the first remote server nobody needs it
        with p.channel() as ch:
            p.line = p.modules.servers_grpc.ServerServiceStub(ch).CreateServer(p.modules.servers.CreateServerRequest(name="web-1"), timeout=20).install_command
        yield p
    finally:
        p.close()
        sys.path.remove(str(stubs))


def context():
    ctx = ssl.create_default_context()
    ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
    return ctx


def ask(plane, path, verb="GET", headers=None, body=None):
    c = http.client.HTTPSConnection("127.0.0.1", plane.web, timeout=20, context=context())
    try:
        c.request(verb, path, body=body, headers=headers or {})
        r = c.getresponse()
        return r.status, dict((k.lower(), v) for k, v in r.getheaders()), r.read()
    finally:
        c.close()


def curl(plane, path, *more):
    """The answer by HTTP/2: (status, body)."""
    p = subprocess.run(["curl", "-sk", "--http2", "--path-as-is", "-w", "\n%{http_version} %{http_code}", *more, f"https://127.0.0.1:{plane.web}{path}"],
                       capture_output=True, timeout=30, check=True)
    body, _, last = p.stdout.rpartition(b"\n")
    version, code = last.decode().split()
    assert version == "2"
    return int(code), body


@pytest.mark.req("CL-37")
def test_files_of_a_release(plane):
    whole = (plane.releases / TAR).read_bytes()
    assert len(whole) > SIZE
    for name in ("release.json", "release.sig", "SHA256SUMS", "install.sh", TAR):
        status, fields, body = ask(plane, f"/releases/{name}")
        assert status == 200 and body == (plane.releases / name).read_bytes() and fields["content-length"] == str(len(body))
        assert fields["x-content-type-options"] == "nosniff" and "default-src 'none'" in fields["content-security-policy"]
        assert curl(plane, f"/releases/{name}") == (200, body)
    assert ask(plane, "/releases/sub/release.json")[2] == b"{}\n"
    for answer in (ask(plane, f"/releases/{TAR}", "HEAD"), ask(plane, f"/releases/{TAR}?x=1", "HEAD")):
        assert answer[0] == 200 and answer[1]["content-length"] == str(len(whole)) and answer[2] == b""
    assert curl(plane, f"/releases/{TAR}", "-I", "-o", "/dev/null")[0] == 200


@pytest.mark.req("CL-37")
def test_what_is_not_for_everybody(plane):
    for path in ("/releases/", "/releases/secret.key", "/releases/.hidden", "/releases/davit-link.tar", "/releases/away/release.json",
                 "/releases/davit-pipe.tar", "/releases/davit-folder.tar", "/releases/../releases/release.json", "/releases/sub/../release.json",
                 "/releases/%2e%2e/release.json", "/releases//release.json", "/releases/sub/sub/release.json", "/releases/release.json/",
                 "/releases/" + "a" * 4000, "/install.sh/", "//install.sh", "/install.sh%00"):
        status, _, body = ask(plane, path)
        assert status == 404 and b"secret" not in body, path
        if len(path) < 200:
            assert curl(plane, path)[0] == 404, path
    # What has no dot is a page of the dashboard's, and nothing else.
    for path in ("/", "/releases", "/healthz", "/metrics"):
        status, fields, body = ask(plane, path)
        assert status == 200 and fields["content-type"].startswith("text/html") and b"davit_" not in body and curl(plane, path)[0] == 200, path
    assert ask(plane, "/install.sh", "POST", body=b"x")[0] == 405
    assert ask(plane, "/install.sh", "DELETE")[1]["allow"] == "GET, HEAD"
    # Nothing to send: curl takes an answer that comes before its body is out for a failure of the stream.
    assert curl(plane, "/releases/release.json", "-X", "PUT", "-H", "content-type: text/plain")[0] == 405
    # A method that is not there is told in the protocol of calls.
    status, _, body = ask(plane, "/davit.control.v1.ServerService/Nothing", "POST", {"content-type": "application/json"}, b"{}")
    assert status == 501 and b"no such method" in body


@pytest.mark.req("CL-37")
def test_the_script_says_where_it_came_from(plane):
    pin = re.search(r"sha256//[A-Za-z0-9+/]{43}=", plane.line).group()
    with socket.create_connection(("127.0.0.1", plane.web), timeout=10) as s, context().wrap_socket(s) as t:
        der = t.getpeercert(binary_form=True)
    key = subprocess.run(["openssl", "x509", "-inform", "DER", "-pubkey", "-noout"], input=der, capture_output=True, check=True).stdout
    spki = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=key, capture_output=True, check=True).stdout
    assert pin == "sha256//" + base64.b64encode(hashlib.sha256(spki).digest()).decode()
    for host in ("cp.example:7440", "[2001:db8::1]:7440", "192.0.2.1"):
        status, _, body = ask(plane, "/install.sh", headers={"Host": host})
        assert status == 200 and f"\nDAVIT_FROM='https://{host}/releases'\nDAVIT_PIN='{pin}'\n".encode() in body
        assert subprocess.run(["sh", "-n"], input=body, check=False, timeout=10).returncode == 0
    for host in ("a';reboot;'", "a b", "$(id)", "a" * 256, ""):
        status, _, body = ask(plane, "/install.sh", headers={"Host": host})
        assert status == 400 and b"DAVIT_FROM" not in body, host


@pytest.mark.req("CL-37")
def test_who_reads_slowly_holds_up_nobody_else(plane):
    """Sixteen answers for one address at most; what is not taken waits in the file and not in memory."""
    with open(plane.releases / "sub" / "davit-big.tar", "wb") as f:
        f.truncate(BIG)
    held, before = [], int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{plane.p.pid}/status", encoding="ascii").read()).group(1))
    try:
        for _ in range(16):
            raw = socket.socket()
            raw.settimeout(20)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            raw.connect(("127.0.0.1", plane.web))
            t = context().wrap_socket(raw)
            held.append(t)
            t.sendall(b"GET /releases/sub/davit-big.tar HTTP/1.1\r\nHost: x\r\n\r\n")
            assert t.recv(12) == b"HTTP/1.1 200"
        assert ask(plane, "/releases/release.json")[0] == 503
        assert curl(plane, "/releases/release.json")[0] == 503
        after = int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{plane.p.pid}/status", encoding="ascii").read()).group(1))
        assert after - before < 4 * BIG // 1024, "whole files are held in memory"  # a sanitizer keeps 256 MiB of what was freed
    finally:
        for t in held:
            t.close()
    proc.wait_for(lambda: ask(plane, "/releases/release.json")[0] == 200, 20, text="room again")


@pytest.mark.req("CL-37")
def test_a_file_that_shrinks_is_broken_off(plane):
    path = plane.releases / "sub" / "davit-x.tar"
    path.write_bytes(bytes(SIZE))
    with context().wrap_socket(socket.create_connection(("127.0.0.1", plane.web), timeout=20)) as t:
        t.sendall(b"GET /releases/sub/davit-x.tar HTTP/1.1\r\nHost: x\r\n\r\n")
        got = t.recv(1000)
        os.truncate(path, 1000)
        while True:
            more = t.recv(65536)
            if not more:
                break
            got += more
    assert got.startswith(b"HTTP/1.1 200") and len(got) < SIZE
    path.unlink()
