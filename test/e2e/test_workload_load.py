# SPDX-License-Identifier: Apache-2.0
"""A service under constant load, 200 requests a second by its hostname, while it is deployed anew and scaled: no request fails."""
import http.client
import threading
import time

import pytest

from lib import haproxy_image, proc
from lib.ingress import CONTAINER

RATE, CLIENTS = 200, 10
HEALTH = ("--health", "8080/health", "--health-interval", "200ms", "--health-timeout", "2s", "--health-grace", "10s")


class Rate:
    """CLIENTS threads that send RATE requests a second in all, at fixed times; half of them keep their connections."""

    def __init__(self, port, host):
        self.port, self.host, self.failed, self.count, self.stop = port, host, [], 0, threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(CLIENTS)]

    def once(self, c):
        c.request("GET", "/health", headers={"Host": self.host})
        r = c.getresponse()
        body = r.read()
        if r.status != 200 or body != b"ok\n":
            self.failed.append((r.status, body[:80]))
        self.count += 1
        return r.will_close

    def run(self, number):
        c, due = None, time.monotonic() + number / RATE
        while not self.stop.is_set():
            time.sleep(max(0, due - time.monotonic()))
            due += CLIENTS / RATE
            c = c or http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                if self.once(c) or number % 2:
                    c.close()
                    c = None
            except (OSError, http.client.HTTPException) as e:
                self.failed.append(repr(e))
                c = None

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *exc):
        self.stop.set()
        for t in self.threads:
            t.join(40)


def serves(port, host):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        c.request("GET", "/health", headers={"Host": host})
        return c.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        c.close()


def alone(d, docker, port, by_hand=False):
    """Without a control plane, everything of the server ended, as by a reboot: what is missing comes back, with its routes and with what a container
    may do. @by_hand: also what somebody removes while the agent runs."""
    def ours():
        return [docker.inspect(c["Id"]) for c in docker.containers("davit.service=web") if c["Labels"]["davit.server"] == server]

    def whole():
        return len(ours()) == len(before) and all(c["State"]["Running"] for c in ours()) and serves(port, "web.test")

    server = d.json("server", "ls")["servers"][0]["id"]
    before, agent = ours(), d.words("davit-agent")
    d.kill("davitd")
    if by_hand:
        docker.remove(before[0]["Id"])
        proc.wait_for(whole, 30, text="what was removed by hand")
    d.kill("davit-agent")
    docker.remove(CONTAINER)
    stopped = ours()
    docker.remove(stopped[0]["Id"])
    for c in stopped[1:]:
        docker.call("POST", f"/containers/{c['Id']}/kill")
    d.start("davit-agent", *agent)
    proc.wait_for(whole, 60, text="all of it, by the agent alone")
    for was, now in zip(sorted(before, key=lambda c: c["Name"]), sorted(ours(), key=lambda c: c["Name"])):
        same = ("CapAdd", "CapDrop", "SecurityOpt", "PidsLimit", "Memory", "NetworkMode")
        assert was["Name"] == now["Name"] and was["Image"] == now["Image"] and all(was["HostConfig"][k] == now["HostConfig"][k] for k in same)


def through(d, docker, image, times, after=lambda port: None):
    """Deploys anew and scales, @times each, under load."""
    port = proc.free_port()
    d.up("--ingress-listen", f"127.0.0.1:{port}", "--ingress-image", haproxy_image.make(docker))
    try:
        words = ("deploy", "--name", "web", "--route", "web.test:8080", *HEALTH, "--force")
        d.run(*words, "--env", "V=0", image)
        began = time.monotonic()
        with Rate(port, "web.test") as load:
            for i in range(times):
                d.run(*words, "--env", f"V={i + 1}", image)
                d.run("scale", "web", str(1 + (i + 1) % 3))
        seconds = time.monotonic() - began
        print(f"{times} deployments and {times} scalings in {seconds:.1f} s: {load.count} requests, {len(load.failed)} failed")
        assert not load.failed, load.failed[:5]
        assert load.count > (RATE * seconds / 2 if times >= 20 else 20 * times), "it was no such load"
        after(port)
        d.run("rm", "web")
    finally:
        d.down(check=False)  # an agent that runs would make it again
        docker.remove(CONTAINER)


@pytest.mark.req("WK-13", "WK-8", "WK-16")
def test_two_deployments_and_scalings_under_load_lose_no_request_and_the_server_goes_on_alone(davit, docker, web_image):
    def after(port):
        alone(davit, docker, port)
        davit.up()

    through(davit, docker, web_image, 2, after)


@pytest.mark.all_tier
@pytest.mark.req("WK-13", "WK-8", "WK-16")
def test_twenty_deployments_and_scalings_under_load_lose_no_request_and_the_server_goes_on_alone(davit, docker, web_image):
    def after(port):
        alone(davit, docker, port, by_hand=True)
        davit.up()

    through(davit, docker, web_image, 20, after)
