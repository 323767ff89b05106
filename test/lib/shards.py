# SPDX-License-Identifier: Apache-2.0
"""shards: several runs of pytest over the same tests at once, each test once: whoever is free takes the longest file that is left.

A file of tests is the unit, since fixtures of a module and the order within it hold. DAVIT_SHARE names a folder that the runs share: a file of tests
belongs to the run that made the mark of its name in there. DAVIT_DURATIONS: what the files took last time, SECONDS<TAB>FILE, the later line
counting; a file that is not in there is guessed by its number of tests. Nothing but the order depends on it."""
import hashlib
import os
import pathlib
import time

GUESS = 3.0  # seconds a test


def read_durations(paths):
    """{file: seconds} from files that may be missing."""
    found = {}
    for path in paths:
        try:
            text = pathlib.Path(path).read_text(encoding="utf-8")
        except OSError:
            continue
        for line in text.splitlines():
            seconds, _, name = line.partition("\t")
            if name and not line.startswith("#"):
                found[name] = float(seconds)
    return found


def in_order(items, durations):
    """[(file, its items)], the longest first."""
    files = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    return sorted(files.items(), key=lambda f: (-durations.get(f[0], GUESS * len(f[1])), f[0]))


class Share:
    def __init__(self, folder, durations):
        self.folder, self.durations = pathlib.Path(folder), durations

    def claim(self, name):
        mark = self.folder / hashlib.sha256(name.encode()).hexdigest()[:16]
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return False
        return True

    def files(self, items):
        """The files of tests that fall to this run, each claimed when it is asked for."""
        files = in_order(items, self.durations)
        (self.folder / "collected").write_text(str(len(items)), encoding="utf-8")
        return ((name, tests) for name, tests in files if self.claim(name))


def run(session, share, took):
    """The loop of pytest over the files of @share; took(file, seconds) hears what each took."""
    files = share.files(session.items)
    now = next(files, None)
    while now:
        name, tests = now
        began = time.monotonic()
        for i, item in enumerate(tests):
            if i + 1 < len(tests):
                following = tests[i + 1]
            else:
                # Claimed before the last one runs: pytest keeps the fixtures that the next one needs too.
                now = next(files, None)
                following = now[1][0] if now else None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
        took(name, time.monotonic() - began)
