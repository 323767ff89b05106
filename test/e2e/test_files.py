# SPDX-License-Identifier: Apache-2.0
"""Files in containers: what goes in comes out, whatever the container can do; nothing half, nothing elsewhere, nothing by surprise."""
import io
import json
import os
import pathlib
import re
import shutil
import socket
import stat
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request

import pytest

from lib import images, proc, remote
from lib.tiers import long

NAMES = ["-f", "two\nlines", "caf\u00e9 \u65e5\u672c", "a..b", "with space"]


@pytest.fixture(scope="module")
def up(davit_of_file, busybox_image):
    d = davit_of_file
    d.revive()
    d.run("deploy", "--name", "web", busybox_image)
    return d


@pytest.fixture
def made(docker, busybox_image):
    """made(**host config): a container that nobody started; they go afterwards."""
    names = []

    def make(image=busybox_image, start=False, labels=None, **host):
        name = f"files-{os.getpid()}-{len(names)}"
        docker.remove(name)
        docker.json("POST", "/containers/create", {"Image": image, "Labels": labels or {}, "HostConfig": {"NetworkMode": "none", **host}}, {"name": name})
        names.append(name)
        if start:
            docker.call("POST", f"/containers/{name}/start")
        return name

    yield make
    for name in names:
        docker.remove(name)


def tree(folder):
    """Everything below a folder: {path: (kind, mode, content or target)}."""
    out = {}
    for p in sorted(folder.rglob("*")):
        st = p.lstat()
        what = os.readlink(p) if p.is_symlink() else p.read_bytes() if p.is_file() else ""
        out[str(p.relative_to(folder))] = (stat.S_IFMT(st.st_mode), 0 if p.is_symlink() else stat.S_IMODE(st.st_mode), what)
    return out


def raw(d, *args, given=b""):
    """davit ARGS..., in bytes."""
    return subprocess.run([d.bin / "davit", *args], env=d.env, input=given, capture_output=True, timeout=60, check=True).stdout


def names_in(d, where, *args):
    return [e["name"] for e in d.json("files", "ls", *args, where).get("entries", [])]


@pytest.mark.smoke
@pytest.mark.req("WK-4")
def test_bytes_and_mode_come_back_as_they_went(up, docker, tmp_path):
    data = os.urandom(300_001)
    (tmp_path / "in").write_bytes(data)
    (tmp_path / "in").chmod(0o640)
    up.run("cp", str(tmp_path / "in"), "web:/tmp/bin")
    up.run("cp", "web:/tmp/bin", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == data and stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640
    entry = up.json("files", "ls", "web:/tmp/bin")["entries"][0]
    assert (entry["size"], entry["mode"], entry.get("uid", 0)) == (str(len(data)), 0o640, 0)
    assert raw(up, "files", "cat", "web:/tmp/bin") == data


@pytest.mark.req("WK-4")
def test_folders_names_and_links(up, docker, tmp_path):
    (tmp_path / "src/sub/deep").mkdir(parents=True)
    for n in NAMES:
        (tmp_path / "src/sub" / n).write_text(n)
    (tmp_path / "src/empty").touch(0o600)
    (tmp_path / "src/link").symlink_to("sub/-f")
    (tmp_path / "src/long").mkdir()
    (tmp_path / "src/long" / ("n" * 200)).write_text("long")
    up.run("cp", str(tmp_path / "src"), "web:/tmp")         # into a folder that is there
    up.run("cp", str(tmp_path / "src"), "web:/tmp/new")     # becomes one
    up.run("cp", str(tmp_path / "src") + "/.", "web:/var")  # what is in it
    for where, back in (("/tmp/src", "a"), ("/tmp/new", "b")):
        up.run("cp", f"web:{where}", str(tmp_path / back))
        assert tree(tmp_path / back) == tree(tmp_path / "src")
    assert sorted(names_in(up, "web:/tmp/src/sub")) == sorted([*NAMES, "deep"])
    assert {"empty", "link", "sub"} <= set(names_in(up, "web:/var"))
    for n in NAMES:
        up.run("files", "rm", f"web:/tmp/src/sub/{n}")
    assert names_in(up, "web:/tmp/src/sub") == ["deep"]
    assert "two\\" in up.run("files", "ls", "web:/tmp/new/sub").out  # shown, not obeyed
    up.run("files", "rm", "-r", "web:/tmp/src")
    up.run("files", "rm", "-r", "web:/tmp/new")
    assert "src" not in names_in(up, "web:/tmp")


@pytest.mark.req("WK-4")
def test_what_comes_out_lands_in_its_folder_alone(up, docker, tmp_path):
    docker.exec(container_of(up), ["/bin/sh", "-c", "mkdir -p /tmp/bad && cd /tmp/bad && echo ok >file && ln -s /etc/passwd abs && "
                "ln -s ../../../../etc up && ln -s file good && ln -s . dot && mkfifo pipe && ln file hard"])
    got = up.run("cp", "web:/tmp/bad", str(tmp_path / "out"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["dot", "file", "good", "hard"]
    assert all(n in got.err for n in ("abs", "up", "pipe"))
    assert (tmp_path / "out/hard").read_text() == "ok\n"
    up.run("cp", "web:/tmp/bad/good", str(tmp_path / "followed"))
    assert (tmp_path / "followed").read_text() == "ok\n" and not (tmp_path / "followed").is_symlink()
    # A link that was here before is not written through.
    (tmp_path / "kept").write_text("mine")
    (tmp_path / "out/file").unlink()
    (tmp_path / "out/file").symlink_to(tmp_path / "kept")
    up.run("cp", "web:/tmp/bad/.", str(tmp_path / "out"))
    assert (tmp_path / "kept").read_text() == "mine" and (tmp_path / "out/file").read_text() == "ok\n"
    up.run("files", "rm", "-r", "web:/tmp/bad")


def container_of(d, service="web"):
    mine = {s["id"] for s in d.json("server", "ls").get("servers", [])}
    return next(c["Id"] for c in d.engine.containers(f"davit.service={service}") if c["Labels"].get("davit.server") in mine)


@pytest.mark.req("WK-4")
def test_archives_by_pipe(up, tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        info = tarfile.TarInfo("d/owned")
        info.size, info.mode, info.uid, info.gid = 3, 0o604, 1234, 2345
        t.addfile(info, io.BytesIO(b"abc"))
    raw(up, "cp", "-", "web:/tmp", given=out.getvalue())
    got = raw(up, "cp", "web:/tmp/d", "-")
    m = tarfile.open(fileobj=io.BytesIO(got)).getmember("d/owned")
    assert (m.size, m.mode & 0o7777, m.uid, m.gid) == (3, 0o604, 1234, 2345)
    up.run("files", "rm", "-r", "web:/tmp/d")


@pytest.mark.req("WK-4")
@pytest.mark.parametrize("kind", [long("stopped"), "scratch", "scratch running"])
def test_containers_that_do_not_run_or_have_no_shell(up, docker, made, tmp_path, kind):
    image = "davit-test/busybox:1"
    if "scratch" in kind:
        image = bare(docker)
    name = made(image, start=kind.endswith("running"), Binds=[f"files-{os.getpid()}:/vol"])
    c = ("--container", name)
    (tmp_path / "f").write_bytes(b"\0\xff" * 5000)
    for folder in ("/data", "/vol"):
        up.run("files", "mkdir", *c, f":{folder}/sub") if folder == "/vol" else up.run("files", "mkdir", *c, ":/data")
        up.run("cp", *c, str(tmp_path / "f"), f":{folder}/f")
        up.run("cp", *c, str(tmp_path / "f"), f":{folder}/f")  # over what is there
        up.run("cp", *c, f":{folder}/f", str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == (tmp_path / "f").read_bytes()
        assert "f" in names_in(up, f":{folder}", *c)
        up.run("files", "rm", *c, f":{folder}/f")
        assert "f" not in names_in(up, f":{folder}", *c)
    up.run("files", "rm", "-r", *c, ":/data")
    assert "data" not in names_in(up, ":/", *c)
    assert docker.inspect(name)["State"]["Running"] == kind.endswith("running")
    docker.remove(name)
    docker.call("DELETE", f"/volumes/files-{os.getpid()}")


def bare(docker):
    """An image of one program and nothing else."""
    name = "davit-test/bare:1"
    if not docker.has_image(name):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as t, open(images.BUSYBOX, "rb") as f:
            data = f.read()
            info = tarfile.TarInfo("sleep")
            info.mode, info.size = 0o755, len(data)
            t.addfile(info, io.BytesIO(data))
        docker.import_image(out.getvalue(), name, ['CMD ["/sleep", "1000"]'])
    return name


@pytest.mark.req("WK-4")
def test_a_root_that_is_read_only_is_read_and_not_written(up, docker, made, tmp_path):
    (tmp_path / "f").write_text("x")
    for start in (False, True):
        c = ("--container", made(start=start, ReadonlyRootfs=True))
        assert "passwd" in names_in(up, ":/etc", *c)
        assert up.run("files", "cat", *c, ":/etc/passwd").out.startswith("root:")
        for args in (("cp", *c, str(tmp_path / "f"), ":/etc/f"), ("cp", *c, str(tmp_path), ":/etc/d"), ("files", "rm", *c, ":/etc/passwd"),
                     ("files", "mkdir", *c, ":/etc/d")):
            got = up.run(*args, check=False)
            assert got.rc != 0 and "read-only" in got.err, (args, got)


@pytest.mark.req("WK-4")
def test_what_is_not_there_and_what_may_not_go(up, docker, made, tmp_path):
    for args, said in ((("files", "cat", "web:/none"), "/none"), (("files", "ls", "web:/none"), "/none"), (("cp", "web:/none", str(tmp_path)), "/none"),
                       (("files", "rm", "web:/none"), "/none"), (("files", "cat", "web:/etc"), "folder"), (("files", "rm", "web:/etc"), "/etc"),
                       (("files", "rm", "-r", "web:/"), "/"), (("files", "rm", "-r", "web:/tmp/../etc"), ".."), (("files", "cat", "none:/etc/passwd"), "none")):
        got = up.run(*args, check=False)
        assert got.rc != 0 and said in got.err, (args, got)
    (tmp_path / "f").write_text("x")
    got = up.run("cp", str(tmp_path / "f"), "web:/none/f", check=False)
    assert got.rc != 0 and "/none" in got.err
    up.run("cp", str(tmp_path / "f"), "web:/tmp/full/", check=False)
    up.run("files", "mkdir", "web:/tmp/full")
    up.run("files", "mkdir", "web:/tmp/full")
    up.run("cp", str(tmp_path / "f"), "web:/tmp/full/")
    got = up.run("files", "rm", "web:/tmp/full", check=False)
    assert got.rc != 0 and "--recursive" in got.err
    assert names_in(up, "web:/tmp/full") == ["f"]
    # A link to a folder that no container can do without.
    docker.exec(container_of(up), ["/bin/ln", "-s", "/", "/tmp/full/root"])
    got = up.run("files", "rm", "-r", "web:/tmp/full/root/etc", check=False)
    assert got.rc != 0 and "/etc" in got.err
    up.run("files", "rm", "-r", "web:/tmp/full")
    assert "passwd" in names_in(up, "web:/etc")
    got = up.run("files", "ls", "--container", made(labels={"davit.purpose": "ingress"}), ":/etc", check=False)
    assert got.rc != 0 and "part of Davit" in got.err


@pytest.mark.req("WK-4")
def test_the_audit_log_has_who_touched_what(up, tmp_path):
    up.run("files", "cat", "web:/etc/passwd")
    seen = proc.wait_for(lambda: [e for e in up.json("audit", "ls").get("entries", []) if e["action"] == "file.read" and "/etc/passwd" in e["object"]], 10, text="the entry")
    assert seen[0]["actor"] and "default/web" in seen[0]["object"]


@pytest.fixture
def plain(up, docker):
    """A server whose agent is not root, as the install script makes it: it has the engine's socket and nothing else."""
    before = stat.S_IMODE(os.stat(docker.sock).st_mode)
    os.chmod(docker.sock, 0o666)
    for folder in (up.top, *pathlib.Path(docker.sock).parents):
        if folder.stat().st_uid == os.geteuid() and len(folder.parts) > 2:
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o011)
    up.top.chmod(0o777)
    r = remote.Remote(up, "plain", ("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"))
    r.add()
    r.enroll()
    r.start()
    r.wait()
    yield r
    r.leave()
    os.chmod(docker.sock, before)


def put(docker, container, **entries):
    """Folders and, where they have a target, symbolic links from the root of a container, whether or not it runs; "__" is "/"."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, target in entries.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.type, info.mode, info.linkname = (tarfile.SYMTYPE, 0o777, target) if target else (tarfile.DIRTYPE, 0o755, "")
            t.addfile(info)
    docker.call("PUT", f"/containers/{container}/archive", out.getvalue(), {"Content-Type": "application/x-tar"}, {"path": "/"})


@pytest.fixture
def mounted():
    """A folder of the server with another file system in it: a/nas, and beside it what has none. Not a tmp_path: each run of pytest that begins
    takes the way to those from everybody else."""
    base = pathlib.Path(tempfile.mkdtemp(prefix="davit-mounted."))
    top = base / "srv"
    for folder in ("a/nas", "a/none", "b/sub", "closed/sub"):
        (top / folder).mkdir(parents=True)
    base.chmod(0o755)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", top / "a/nas"], check=True)
    (top / "a/nas/kept").write_text("kept")
    (top / "closed").chmod(0o700)
    yield top
    subprocess.run(["umount", top / "a/nas"], check=True)
    shutil.rmtree(base)


def spares_what_is_mounted(up, docker, made, mounted):
    """The engine hands a folder on with all that is mounted in it; without root its archives would empty that."""
    name = made(bare(docker), Binds=[f"{mounted}:/srv", f"{mounted}/closed/sub:/closed"])
    c = ("--server", "plain", "--container", name)
    (mounted / "closed/sub/in").mkdir()
    for path, said in (("/srv/a", f"at {mounted}/a/nas"), ("/srv/a/nas", f"at {mounted}/a/nas"), ("/closed/in", "cannot see")):
        got = up.run("files", "rm", "-r", *c, ":" + path, check=False)
        assert got.rc != 0 and said in got.err, (path, got)
    assert (mounted / "a/nas/kept").read_text() == "kept" and (mounted / "closed/sub/in").exists()
    up.run("files", "rm", "-r", *c, ":/srv/a/none")
    up.run("files", "rm", "-r", *c, ":/srv/b")
    up.run("files", "rm", *c, ":/srv/a/nas/kept")
    assert sorted(p.name for p in mounted.rglob("*")) == ["a", "closed", "in", "nas", "sub"]


@pytest.mark.all_tier
@pytest.mark.req("WK-4")
def test_an_agent_that_is_not_root(up, docker, made, plain, mounted, tmp_path):
    """All of it in containers without a shell or any other program, and never into what is mounted below."""
    volume = f"files-{os.getpid()}"
    (tmp_path / "f").write_bytes(b"\0\xff" * 5000)
    for start in (True, False):
        name = made(bare(docker), start=start, Binds=[f"{volume}:/data/volume"], Tmpfs={"/memory/here": ""})
        c = ("--server", "plain", "--container", name)
        put(docker, name, d=None, usr__lib=None, memory__here=None, data__volume__kept=None, d__root="/", d__way="/data", d__dangles="/none")
        up.run("files", "mkdir", *c, ":/d/sub")
        for _ in range(1 + start):
            up.run("cp", *c, str(tmp_path / "f"), ":/d/sub/f")
        up.run("cp", *c, ":/d/sub/f", str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == (tmp_path / "f").read_bytes()
        if start:
            assert names_in(up, ":/d/sub", *c) == ["f"] and "usr" in names_in(up, ":/", *c)
        refused = [("/data", "is mounted there"), ("/d/root/usr/lib", "it is /usr/lib"), ("/d/none", "/d/none"), ("/memory", "is mounted there"),
                   ("/d/way/volume", "is mounted there")]
        for path, said in refused[:1] if start else refused:
            got = up.run("files", "rm", "-r", *c, ":" + path, check=False)
            assert got.rc != 0 and said in got.err, (path, got)
        got = up.run("files", "rm", *c, ":/d/sub", check=False)
        assert got.rc != 0 and "--recursive" in got.err
        up.run("files", "rm", *c, ":/d/sub/f")
        up.run("files", "rm", *c, ":/d/sub")
        assert names_in(up, ":/d", *c) == ["dangles", "root", "way"]
        up.run("files", "rm", "-r", *c, ":/d")
        assert "d" not in names_in(up, ":/", *c) and names_in(up, ":/data/volume", *c) == ["kept"]
        if not start:
            up.run("files", "rm", *c, ":/data/volume/kept")
            assert names_in(up, ":/data/volume", *c) == []
        assert docker.inspect(name)["State"]["Running"] == start
        docker.remove(name)
    docker.call("DELETE", f"/volumes/{volume}")
    spares_what_is_mounted(up, docker, made, mounted)


# --- Tickets ------------------------------------------------------------------------------------------------------------------------
class Site:
    """The plain port as a program sees it that has an API token."""

    def __init__(self, d, scope="write"):
        self.base = f"http://127.0.0.1:{d.local_web}"
        self.name = f"files-{os.urandom(4).hex()}"
        out = d.run("token", "add", self.name, "--scope", scope).out
        self.token = re.search(r"davit_[0-9a-f]+_[0-9a-f]+", out).group(0)

    def ask(self, method, path, body=None, **fields):
        req = urllib.request.Request(self.base + path, data=body, method=method,
                                     headers={"Authorization": "Bearer " + self.token, **{k.replace("_", "-"): v for k, v in fields.items()}})
        try:
            with urllib.request.urlopen(req, timeout=20) as r:
                return r.status, r.read(), r.headers
        except urllib.error.HTTPError as e:
            return e.code, e.read(), e.headers

    def ticket(self, path, **more):
        what = {"target": {"project": "default", "service": "web"}, "path": path, **more}
        status, body, _ = self.ask("POST", "/davit.control.v1.FileService/MakeTicket", json.dumps(what).encode(), Content_Type="application/json")
        assert status == 200, body
        return json.loads(body)["path"]


@pytest.mark.req("WK-4")
def test_a_browser_gets_and_puts_by_tickets(up, tmp_path, run):
    site = Site(up)
    data = os.urandom(200_000)
    link = site.ticket("/tmp/<b>\u00e9.html", write=True)
    assert re.fullmatch(r"/files/[0-9a-f]{32}", link)
    status, body, _ = site.ask("PUT", link, data, Content_Type="text/html")
    assert (status, body) == (200, b"200000 bytes\n")
    assert site.ask("PUT", link, data)[0] == 404  # once
    link = site.ticket("/tmp/<b>\u00e9.html")
    assert site.ask("PUT", link, b"x")[0] == 405
    assert site.ask("GET", link)[0] == 404
    status, body, head = site.ask("GET", site.ticket("/tmp/<b>\u00e9.html"))
    assert status == 200 and body == data
    assert head["content-type"] == "application/octet-stream" and head["x-content-type-options"] == "nosniff" and "sandbox" in head["content-security-policy"]
    assert head["content-disposition"] == "attachment; filename=\"_b___.html\"; filename*=UTF-8''%3Cb%3E%C3%A9.html"
    status, body, head = site.ask("GET", site.ticket("/tmp", archive=True))
    assert status == 200 and "tmp.tar" in head["content-disposition"] and "tmp/<b>\u00e9.html" in tarfile.open(fileobj=io.BytesIO(body)).getnames()
    # By HTTP/2, too.
    (tmp_path / "f").write_bytes(data[:150_000])
    curl = ["curl", "-sS", "--http2-prior-knowledge", "-H", "Authorization: Bearer " + site.token]
    got = run([*curl, "-T", str(tmp_path / "f"), site.base + site.ticket("/tmp/h2", write=True)])
    assert got.out == "150000 bytes\n"
    run([*curl, "-o", str(tmp_path / "g"), site.base + site.ticket("/tmp/h2")])
    assert (tmp_path / "g").read_bytes() == data[:150_000]


@pytest.mark.req("WK-4")
def test_a_ticket_is_for_who_made_it_and_as_long_as_they_may(up):
    site, other, reader = Site(up), Site(up), Site(up, "read")
    link = site.ticket("/etc/passwd")
    assert other.ask("GET", link)[0] == 404
    assert site.ask("GET", link)[0] == 404
    assert reader.ask("POST", "/davit.control.v1.FileService/MakeTicket", b"{}", Content_Type="application/json")[0] == 403
    link = site.ticket("/etc/passwd")
    assert reader.ask("GET", link)[0] == 403
    with pytest.raises(urllib.error.HTTPError) as e:
        urllib.request.urlopen(site.base + link, timeout=10)
    assert e.value.code == 401
    assert site.ask("GET", link, Origin="http://evil.example")[0] == 403
    assert site.ask("GET", link)[0] == 200
    link = site.ticket("/etc/passwd")
    up.run("token", "revoke", site.name)
    assert site.ask("GET", link)[0] == 401
    assert site.ask("GET", "/files/" + "0" * 32)[0] == 401


@pytest.mark.req("WK-4")
def test_an_upload_that_breaks_off_changes_nothing(up):
    site = Site(up)
    assert site.ask("PUT", site.ticket("/tmp/old", write=True), b"before")[0] == 200
    link = site.ticket("/tmp/old", write=True)
    with socket.create_connection(("127.0.0.1", up.local_web), timeout=10) as s:
        s.sendall(f"PUT {link} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {site.token}\r\nContent-Length: 1000000\r\n\r\n".encode() + b"x" * 400_000)
    proc.wait_for(lambda: [e for e in up.json("audit", "ls").get("entries", []) if e["action"] == "FileService/WriteFile" and e.get("outcome") == "failed"], 20, text="its end")
    assert up.run("files", "cat", "web:/tmp/old").out == "before"
    assert not [n for n in names_in(up, "web:/tmp") if n.startswith(".davit")]


# --- Much ---------------------------------------------------------------------------------------------------------------------------
def peak(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1)) * 1024


def move_much(up, tmp_path, size):
    with open(tmp_path / "big", "wb") as f:
        block = os.urandom(1 << 20)
        for i in range(size >> 20):
            f.write(i.to_bytes(8, "big") + block[8:])
    pids = [up.pid("davitd"), up.pid("davit-agent")]
    up.run("files", "ls", "web:/tmp")
    before = [peak(p) for p in pids]
    up.run("cp", str(tmp_path / "big"), "web:/tmp/big", timeout=600)
    up.run("cp", "web:/tmp/big", str(tmp_path / "back"), timeout=600)
    after = [peak(p) for p in pids]
    assert up.run("files", "rm", "web:/tmp/big").rc == 0
    with open(tmp_path / "big", "rb") as a, open(tmp_path / "back", "rb") as b:
        while chunk := a.read(1 << 20):
            assert chunk == b.read(1 << 20)
        assert not b.read(1)
    for name in ("big", "back"):
        (tmp_path / name).unlink()
    if os.environ.get("DAVIT_TREE") == "release":  # the sanitizers keep what was freed
        assert all(y - x < 16 << 20 for x, y in zip(before, after)), (before, after)


@pytest.mark.smoke
@pytest.mark.req("WK-4")
def test_much_in_little_memory(up, tmp_path):
    move_much(up, tmp_path, (64 if os.environ.get("DAVIT_TREE") == "release" else 16) << 20)


@pytest.mark.smoke
@pytest.mark.all_tier
@pytest.mark.req("WK-4")
def test_a_gigabyte_in_little_memory(up, tmp_path):
    move_much(up, tmp_path, 1 << 30)
