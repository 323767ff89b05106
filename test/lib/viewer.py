# SPDX-License-Identifier: Apache-2.0
"""viewer: what a window does with WatchService: one WebSocket, topics that come and go, messages by id as they come."""
import asyncio
import contextlib
import queue
import ssl
import threading
import time

import websockets

PATH = "/davit.control.v1.WatchService/Watch"


class Viewer:
    """v = Viewer(daemon, watch_pb2); v.ask(1, servers={}); v.until(1, lambda m: m.ready). Ended by close()."""

    path = PATH

    def __init__(self, daemon, pb, slow=False, cookie=None):
        self.pb, self.daemon, self.slow, self.cookie = pb, daemon, slow, cookie
        self.inbox, self.opened, self.end = {}, threading.Event(), None
        self.any = queue.Queue()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        assert self.opened.wait(20), "no stream"
        if self.end:
            raise self.end

    def _run(self):
        asyncio.set_event_loop(self.loop)
        with contextlib.suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self._serve())

    def _context(self):
        context = ssl.create_default_context(cadata=self.daemon.root().decode())
        context.check_hostname = False
        context.load_cert_chain(self.daemon.user / "cli.crt", self.daemon.user / "cli.key")
        return context

    async def _serve(self):
        options = {"max_queue": 1, "read_limit": 2048, "close_timeout": 0.1} if self.slow else {}
        if self.cookie:  # as a page of 7441
            where = f"127.0.0.1:{self.daemon.local_web}"
            options |= {"uri": f"ws://{where}{self.path}?encoding=proto", "origin": f"http://{where}", "extra_headers": {"cookie": self.cookie}}
        else:
            options |= {"uri": f"wss://127.0.0.1:{self.daemon.api}{self.path}?encoding=proto", "ssl": self._context(),
                        "extra_headers": {"authorization": f"Bearer {self.daemon.tokens.bearer()}"}}
        try:
            async with websockets.connect(subprotocols=["davit.connect.v1"], max_size=None, open_timeout=20, **options) as self.ws:
                self.task = asyncio.current_task()
                self.opened.set()
                if self.slow:
                    await asyncio.sleep(3600)
                async for data in self.ws:
                    self._take(data)
        except Exception as e:  # told by whoever waits
            self.end = self.end or e
        self.end = self.end or EOFError("closed")
        self.opened.set()
        self.any.put(None)

    def _take(self, data):
        if data[0] & 2:
            self.end = EOFError(data[5:].decode())
            return
        m = self.pb.WatchResponse.FromString(data[5:])
        self.inbox.setdefault(m.id, []).append(m)
        self.any.put(m.id)

    def send(self, message):
        payload = message if isinstance(message, bytes) else message.SerializeToString()
        envelope = b"\0" + len(payload).to_bytes(4, "big") + payload
        asyncio.run_coroutine_threadsafe(self.ws.send(envelope), self.loop).result(20)

    def ask(self, topic, **what):
        """Topics as keywords: ask(1, services={"project": "shop"}); ask(1, unsubscribe=True)."""
        self.send(self.pb.WatchRequest(id=topic, **what))

    def got(self, topic):
        return self.inbox.get(topic, [])

    def until(self, topic, fits, timeout=20):
        """Waits for the first message of @topic that @fits, from the first that came; takes it and all before away, and returns them."""
        end = time.monotonic() + timeout
        while True:
            for i, m in enumerate(self.got(topic)):
                if fits(m):
                    taken = self.inbox[topic][:i + 1]
                    del self.inbox[topic][:i + 1]
                    return taken
            assert not self.end, f"the stream ended: {self.end}; {self.got(topic)[-3:]}"
            left = end - time.monotonic()
            assert left > 0, f"nothing fits in {timeout} s: {self.got(topic)[-5:]}"
            with contextlib.suppress(queue.Empty):
                self.any.get(timeout=left)

    def snapshot(self, topic, timeout=20):
        """What is told up to `ready`."""
        return self.until(topic, lambda m: m.ready, timeout)[:-1]

    def ended(self, timeout=20):
        """Waits for the end of the stream; its reason."""
        deadline = time.monotonic() + timeout
        while not self.end:
            assert time.monotonic() < deadline, "the stream goes on"
            time.sleep(0.05)
        return str(self.end)

    def close(self):
        if not self.loop.is_closed() and self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.task.cancel)
            self.thread.join(20)
