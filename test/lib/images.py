# SPDX-License-Identifier: Apache-2.0
"""images: container images made on the spot from Debian's busybox-static; no registry is asked."""
import hashlib
import io
import json
import subprocess
import tarfile

BUSYBOX = "/bin/busybox"


def applets():
    out = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True, timeout=10)
    return [a for a in out.stdout.split() if a != "busybox"]


def tar_of(files):
    """A tar with busybox, its applets in /bin, the folders a program expects, and @files {path: text or (text, mode)}."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:

        def add(name, data=b"", kind=tarfile.REGTYPE, mode=0o644, link=""):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.size, info.linkname = kind, mode, len(data), link
            t.addfile(info, io.BytesIO(data))

        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("var", 0o755), ("root", 0o700)):
            add(folder, kind=tarfile.DIRTYPE, mode=mode)
        with open(BUSYBOX, "rb") as f:
            add("bin/busybox", f.read(), mode=0o755)
        for a in applets():
            add("bin/" + a, kind=tarfile.SYMTYPE, link="busybox")
        add("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        add("etc/group", b"root:x:0:\nnogroup:x:65534:\n")
        made = set()
        for name, content in files.items():
            text, mode = content if isinstance(content, tuple) else (content, 0o644)
            parts = name.strip("/").split("/")
            for i in range(1, len(parts)):
                folder = "/".join(parts[:i])
                if folder not in made and folder not in ("bin", "etc", "tmp", "var", "root"):
                    add(folder, kind=tarfile.DIRTYPE, mode=0o755)
                    made.add(folder)
            add("/".join(parts), text.encode() if isinstance(text, str) else text, mode=mode)
    return out.getvalue()


_made = set()


def make(engine, name, cmd, files=None, changes=()):
    """Makes image @name that runs @cmd (a list); returns the name. Repeating it is cheap: an image of that name is kept if it is the same one.
    An older one, from before its test was changed, gives way; two tests that mean different things by one name are an assertion: which of the two
    gets the other's depends on their order, and what follows from it is a riddle."""
    files, changes = files or {}, [f"CMD {json.dumps(cmd)}", "ENV PATH=/bin", *changes]
    mark = "davit-test " + hashlib.sha256(json.dumps([files, changes], sort_keys=True).encode()).hexdigest()
    found = engine.image_comment(name)
    if found != mark:
        assert found is None or (engine.sock, name) not in _made, f"two images are to be called {name}"
        engine.import_image(tar_of(files), name, changes, mark)
    _made.add((engine.sock, name))
    return name


# PID 1 has no default action for SIGTERM: without the trap every stop would take its whole time limit.
WAITING = "trap 'exit 0' TERM INT\n"


def busybox(engine, name="davit-test/busybox:1"):
    return make(engine, name, ["/bin/sh", "-c", WAITING + "while :; do sleep 1 & wait $!; done"])


def web(engine, name="davit-test/web:1", hello="hello\n"):
    """busybox httpd on 8080; /health says ok; says "ready" on stdout and each request on stderr."""
    start = WAITING + "httpd -f -v -p ${PORT:-8080} -h /www &\necho ready\nwait $!\n"
    return make(engine, name, ["/bin/sh", "/start"], {"www/health": "ok\n", "www/index.html": hello, "start": (start, 0o755)},
                ["EXPOSE 8080"])


def script(engine, name, text, **more):
    """An image whose PID 1 is a shell that runs @text."""
    return make(engine, name, ["/bin/sh", "/start"], {"start": (text, 0o755)}, **more)
