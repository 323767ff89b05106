# SPDX-License-Identifier: Apache-2.0
"""davit: a whole Davit of its own for one test: state in a temporary home, free ports, the programs of the tree under test."""
import json
import os

from lib import proc


class Davit:
    def __init__(self, bin_dir, engine, home):
        self.bin, self.engine, self.home = bin_dir, engine, home
        self.background = []

    @property
    def env(self):
        keep = {k: v for k, v in os.environ.items() if k in ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS")}
        return keep | {"HOME": str(self.home), "DAVIT_HOME": str(self.home / "davit"), "LANG": "C.UTF-8", "DOCKER_HOST": self.engine.host}

    def run(self, *args, **more):
        """davit ARGS..., to its end; proc.run's keywords."""
        return proc.run([self.bin / "davit", *args], env=self.env, **more)

    def json(self, *args, **more):
        """The same with --output json, parsed."""
        return json.loads(self.run(*args, "--output", "json", **more).out)

    def start(self, program, *args):
        """A program of the tree in the background: lib.proc.Background, ended with this object."""
        log = self.home / f"{program}.{len(self.background)}.log"
        b = proc.Background([self.bin / program, *args], log, env=self.env)
        self.background.append(b)
        return b

    def close(self):
        for b in reversed(self.background):
            b.stop()
