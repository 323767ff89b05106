# SPDX-License-Identifier: Apache-2.0
"""What the type of secrets cannot forbid is read off the source: who takes their bytes out may not hand them to anything that prints."""
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[3]
PRINTS = re.compile(r"\b(log_\w+|f?printf|snprintf|buf_v?printf|str_v?printf|err_(set|wrap|hint|sys)|puts|fputs|out_\w+)\s*\(")
OPENS = re.compile(r"\bsecret_(reveal|writable)\s*\(")


def arguments(text, at):
    """What stands between the parenthesis that ends at @at and its partner."""
    depth, end = 1, at
    while depth and end < len(text):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        end += 1
    return text[at:end]


def test_no_secret_is_printed():
    seen = 0
    for path in sorted((ROOT / "src").rglob("*.c")):
        text = re.sub(r"/\*.*?\*/", " ", path.read_text(encoding="utf-8"), flags=re.S)
        seen += len(OPENS.findall(text))
        for m in PRINTS.finditer(text):
            said = arguments(text, m.end())
            assert not OPENS.search(said), f"{path}: {m.group()}{' '.join(said.split())}"
    assert seen > 15  # it looks where there is something


def test_a_secret_is_opaque():
    header = (ROOT / "src/base/secret.h").read_text(encoding="utf-8")
    assert "struct secret;" in header and "struct secret {" not in header
