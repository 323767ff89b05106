# SPDX-License-Identifier: Apache-2.0
"""haproxy_image: an image of Debian's haproxy, made on the spot: the program, the libraries that it is linked with, and busybox beside it."""
import hashlib
import pathlib
import subprocess

from lib import images

HAPROXY = "/usr/sbin/haproxy"
NAME = "davit-test/haproxy:1"


def libraries(program):
    """Paths as the program looks for them; what they lead to is copied."""
    out = subprocess.run(["ldd", program], capture_output=True, text=True, check=True, timeout=20).stdout
    return [w for line in out.splitlines() for w in line.split() if w.startswith("/")]


def make(engine, name=NAME):
    """Makes the image once per engine; returns its name."""
    files = {p.lstrip("/"): (pathlib.Path(p).read_bytes(), 0o755) for p in [HAPROXY, *libraries(HAPROXY)]}
    mark = "davit-test " + hashlib.sha256(b"".join(k.encode() + v[0] for k, v in sorted(files.items()))).hexdigest()
    if engine.image_comment(name) != mark:
        engine.import_image(images.tar_of(files), name, ["ENV PATH=/usr/sbin:/bin", 'CMD ["haproxy"]'], mark)
    return name
