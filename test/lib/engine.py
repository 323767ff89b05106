# SPDX-License-Identifier: Apache-2.0
"""engine: just enough of the Docker Engine API for tests to look behind Davit's back. It shares no code with the product."""
import base64
import http.client
import json
import socket
import urllib.parse

VERSION = "/v1.41"


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path, timeout):
        super().__init__("docker", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class EngineError(Exception):
    """An answer of the engine that is an error."""

    def __init__(self, status, text):
        super().__init__(f"{status}: {text}")
        self.status = status


class Engine:
    def __init__(self, sock):
        self.sock = sock
        self.host = "unix://" + sock

    def call(self, method, path, body=None, headers=None, query=None, timeout=60):
        """One call; returns the raw body. @body: bytes, or anything that becomes JSON."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        if query:
            path += "?" + urllib.parse.urlencode(query, doseq=True)
        c = UnixConnection(self.sock, timeout)
        try:
            c.request(method, VERSION + path, body, headers)
            r = c.getresponse()
            data = r.read()
        finally:
            c.close()
        if r.status >= 400:
            raise EngineError(r.status, data.decode(errors="replace").strip())
        return data

    def json(self, method, path, body=None, query=None):
        data = self.call(method, path, body, query=query)
        return json.loads(data) if data else None

    def answers(self):
        try:
            return self.call("GET", "/_ping", timeout=5) == b"OK"
        except (OSError, EngineError):
            return False

    # --- Looking -------------------------------------------------------------------------------------------------------------
    def containers(self, label=None, every=True):
        """Containers, newest first; @label "key" or "key=value" narrows."""
        filters = {"label": [label]} if label else {}
        return self.json("GET", "/containers/json", query={"all": int(every), "filters": json.dumps(filters)})

    def inspect(self, name):
        return self.json("GET", f"/containers/{name}/json")

    def networks(self, label=None):
        filters = {"label": [label]} if label else {}
        return self.json("GET", "/networks", query={"filters": json.dumps(filters)})

    def volumes(self, label=None):
        filters = {"label": [label]} if label else {}
        return self.json("GET", "/volumes", query={"filters": json.dumps(filters)})["Volumes"] or []

    def has_image(self, name):
        try:
            self.json("GET", f"/images/{name}/json")
            return True
        except EngineError:
            return False

    def image_comment(self, name):
        """What import_image() was told to write into it; None: there is no such image."""
        try:
            return self.json("GET", f"/images/{name}/json").get("Comment", "")
        except EngineError:
            return None

    def exec(self, name, cmd):
        """Runs @cmd in a container; returns (exit status, output, both streams together)."""
        made = self.json("POST", f"/containers/{name}/exec",
                         {"Cmd": cmd, "AttachStdout": True, "AttachStderr": True, "Tty": True})
        out = self.call("POST", f"/exec/{made['Id']}/start", {"Tty": True})
        return self.json("GET", f"/exec/{made['Id']}/json")["ExitCode"], out.decode(errors="replace")

    # --- Changing ------------------------------------------------------------------------------------------------------------
    def remove(self, name):
        """Removes a container, running or not, with its anonymous volumes. A missing one is fine."""
        try:
            self.call("DELETE", f"/containers/{name}", query={"force": 1, "v": 1})
        except EngineError as e:
            if e.status != 404:
                raise

    def remove_image(self, name):
        try:
            self.call("DELETE", f"/images/{name}", query={"force": 1})
        except EngineError as e:
            if e.status != 404:
                raise

    def import_image(self, tar, name, changes, comment=""):
        """An image of one layer from the bytes of a tar; @changes and @comment as in `docker import --change --message`."""
        repo, _, tag = name.rpartition(":")
        self.call("POST", "/images/create", tar, {"Content-Type": "application/x-tar"},
                  {"fromSrc": "-", "repo": repo, "tag": tag, "changes": changes, "message": comment})

    def push(self, name, user="", password=""):
        """Pushes NAME:TAG to the registry in it."""
        auth = base64.urlsafe_b64encode(json.dumps({"username": user, "password": password}).encode()).decode()
        repo, _, tag = name.rpartition(":")
        out = self.call("POST", f"/images/{repo}/push", b"", {"X-Registry-Auth": auth}, {"tag": tag})
        for line in out.splitlines():
            said = json.loads(line)
            if "error" in said:
                raise EngineError(500, said["error"])

    def tag(self, name, new):
        repo, _, tag = new.rpartition(":")
        self.call("POST", f"/images/{name}/tag", b"", query={"repo": repo, "tag": tag})
