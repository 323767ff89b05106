# SPDX-License-Identifier: Apache-2.0
"""test_contain: the agent's part of sandboxes against a real engine and the real supervisor; the control plane is played by lib.sandboxes."""
import io
import tarfile
import time

import pytest

from lib import images
from lib.sandboxes import Control, clean, name_of

RUNNING, FAILED, STOPPED = "SANDBOX_STATE_RUNNING", "SANDBOX_STATE_FAILED", "SANDBOX_STATE_STOPPED"
START, STOP, REMOVE = "ACTION_START", "ACTION_STOP", "ACTION_REMOVE"
SLEEP = ["/bin/busybox", "sleep", "1000"]


@pytest.fixture(scope="module")
def control(docker, tmp_path_factory):
    with Control(docker.sock, tmp_path_factory.mktemp("agent") / "sandboxes") as c:
        yield c
    clean(docker, c.server)


@pytest.fixture(scope="module")
def scratch_image(docker):
    """An image that has one file, /busybox, and nothing else: no shell, no /etc, no /tmp."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        info = tarfile.TarInfo("busybox")
        with open(images.BUSYBOX, "rb") as f:
            data = f.read()
        info.size, info.mode = len(data), 0o755
        t.addfile(info, io.BytesIO(data))
    docker.import_image(out.getvalue(), "davit-test/scratch:1", ['ENTRYPOINT ["/busybox"]', 'CMD ["sleep", "1000"]', "USER 1000:1000"])
    return "davit-test/scratch:1"


def processes(docker, box):
    return docker.json("GET", f"/containers/{name_of(box)}/top", query={"ps_args": "-eo pid,uid,args"})["Processes"]


@pytest.mark.req("SA-1", "CW-106")
def test_images_as_they_are(control, docker, busybox_image, scratch_image):
    for image, more in ((busybox_image, {"command": SLEEP, "project": "shop"}), (scratch_image, {"readOnly": True})):
        box, r = control.create(image, **more)
        assert "failure" not in r and r["outcome"] == "running", (r, docker.call("GET", f"/containers/{name_of(box)}/logs?stdout=1&stderr=1"))
        c = docker.inspect(name_of(box))
        assert c["Id"] == r["containerId"] and c["Config"]["Labels"]["davit.sandbox"] == box["id"]
        assert c["Path"] == "/.davit/davit-init" and c["State"]["Running"]
        mounts = {m["Destination"]: m for m in c["Mounts"]}
        assert mounts["/.davit"]["Name"].startswith("davit-runtime-") and not mounts["/.davit"]["RW"]
        ran = [p for p in processes(docker, box) if "sleep" in p[2] and "davit-init" not in p[2]]
        assert len(ran) == 1 and ran[0][1] == ("0" if image == busybox_image else "1000")
        assert list(c["NetworkSettings"]["Networks"]) == ["davit-net"]
        assert control.act(box, REMOVE, volumes=True)["outcome"] == "removed"
