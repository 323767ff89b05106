# SPDX-License-Identifier: Apache-2.0
"""The JSON transcoder of src/rpc against python3-protobuf's json_format: random messages of every kind of field, both ways."""
import json
import math
import os
import pathlib
import random
import struct
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("DAVIT_BUILD", ROOT / "build/asan"))

json_format = pytest.importorskip("google.protobuf.json_format")
MESSAGES = 2500
INVALID = 3
UNKNOWN_TO_THE_ORACLE = {"rep_null"}  # it writes them but does not read them


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """The python class of davit.test.v1.Every."""
    out = tmp_path_factory.mktemp("every")
    subprocess.run(["protoc", f"-I{HERE}", f"--python_out={out}", "every.proto"], check=True, timeout=60)
    sys.path.insert(0, str(out))
    try:
        import every_pb2
        yield every_pb2.Every
    finally:
        sys.path.remove(str(out))


@pytest.fixture(scope="module")
def transcode():
    """transcode(kind, bytes) -> (code, bytes): see transcode.c."""
    with subprocess.Popen([BUILD / "test/unit/rpc/rpc-transcode"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        def call(kind, data):
            p.stdin.write(kind + struct.pack(">I", len(data)) + data)
            p.stdin.flush()
            code, n = struct.unpack(">BI", p.stdout.read(5))
            return code, p.stdout.read(n)
        yield call
        p.stdin.close()
        assert p.wait(20) == 0


# --- random messages ----------------------------------------------------------------------------------------------------------
def words(r):
    alphabet = 'ab z"\\/\b\f\n\r\t\x01\x7f\u00e9\u2028\u2620\uffff\U0001f600'
    return "".join(r.choice(alphabet) for _ in range(r.choice((0, 1, 3, 20))))


def whole(r, bits, signed):
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return r.choice((0, 1, low, high, r.randint(low, high), r.randint(max(low, -1000), 1000)))


def real(r, single, finite=False):
    """Any but -0.0: protobuf-c takes that for unset where a field has no presence."""
    special = () if finite else (math.nan, math.inf, -math.inf)
    while True:
        v = r.choice((0.0, 1.0, -2.5, 0.1, 1e21, 123456789.0, 5e-324, r.uniform(-1e6, 1e6), r.random() * 10 ** r.randint(-300, 300),
                      struct.unpack("<d", struct.pack("<Q", r.getrandbits(64)))[0], *special))
        if single and math.isfinite(v):
            v = struct.unpack("<f", struct.pack("<I", r.getrandbits(32)))[0] if abs(v) > 3e38 else struct.unpack("<f", struct.pack("<f", v))[0]
        if (v != 0 or math.copysign(1, v) > 0) and (math.isfinite(v) or not finite):
            return v


def scalar(r, f):
    t = f.type
    if t in (f.TYPE_INT32, f.TYPE_SINT32, f.TYPE_SFIXED32):
        return whole(r, 32, True)
    if t in (f.TYPE_UINT32, f.TYPE_FIXED32):
        return whole(r, 32, False)
    if t in (f.TYPE_INT64, f.TYPE_SINT64, f.TYPE_SFIXED64):
        return whole(r, 64, True)
    if t in (f.TYPE_UINT64, f.TYPE_FIXED64):
        return whole(r, 64, False)
    if t in (f.TYPE_FLOAT, f.TYPE_DOUBLE):
        return real(r, t == f.TYPE_FLOAT)
    if t == f.TYPE_BOOL:
        return r.random() < 0.5
    if t == f.TYPE_STRING:
        return words(r)
    if t == f.TYPE_BYTES:
        return r.randbytes(r.choice((0, 1, 2, 3, 50)))
    values = [v.number for v in f.enum_type.values]
    return r.choice(values) if f.enum_type.name == "NullValue" else r.choice((*values, 77, -1))


def fill_value(r, v, depth):
    kind = r.choice(("null", "number", "string", "bool") if depth > 2 else ("null", "number", "string", "bool", "list", "struct"))
    if kind == "null":
        v.null_value = 0
    elif kind == "number":
        v.number_value = real(r, False, finite=True)
    elif kind == "string":
        v.string_value = words(r)
    elif kind == "bool":
        v.bool_value = r.random() < 0.5
    elif kind == "list":
        v.list_value.SetInParent()
        for _ in range(r.randint(0, 3)):
            fill_value(r, v.list_value.values.add(), depth + 1)
    else:
        v.struct_value.SetInParent()
        for _ in range(r.randint(0, 3)):
            fill_value(r, v.struct_value.fields[words(r)], depth + 1)


def fill_any(r, m, every, depth):
    content = r.choice((every.Leaf(name=words(r), numbers=[whole(r, 64, True)]), every().time, every().span, every().empty, every().box_u64,
                        every().value, every().object, every().mask, every().any))
    if content.DESCRIPTOR.name == "Any" and depth > 1:
        content = every.Leaf()
    elif content.DESCRIPTOR.name != "Leaf":
        fill(r, content, every, depth + 1)
    m.Pack(content, r.choice(("type.googleapis.com/", "example.org/x/")))


def fill(r, m, every, depth=0):
    name = m.DESCRIPTOR.name
    m.SetInParent()
    if name == "Timestamp":
        m.seconds = r.choice((-62135596800, 253402300799, 0, r.randint(-62135596800, 253402300799), r.randint(0, 2 * 10 ** 9)))
        m.nanos = r.choice((0, 999999999, 1, 500000000, 1000, r.randint(0, 999999999)))
    elif name == "Duration":
        m.seconds = r.choice((0, 1, 315576000000 - 1, r.randint(0, 10 ** 6)))
        m.nanos = r.choice((0, 999999999, 1, 500000000, 1000))
        if r.random() < 0.5:
            m.seconds, m.nanos = -m.seconds, -m.nanos
    elif name == "FieldMask":
        m.paths.extend(r.sample(["a", "foo_bar", "x.y_z.w", "two2_times"], r.randint(0, 4)))
    elif name == "Value":
        fill_value(r, m, depth)
    elif name == "Any":
        fill_any(r, m, every, depth)
    else:
        fill_fields(r, m, every, depth)


def fill_fields(r, m, every, depth):
    for f in m.DESCRIPTOR.fields:
        if f.name in UNKNOWN_TO_THE_ORACLE or r.random() > (0.12 if m.DESCRIPTOR.name == "Every" else 0.6):
            continue
        is_message = f.type == f.TYPE_MESSAGE
        if is_message and f.message_type.GetOptions().map_entry:
            key, value = f.message_type.fields_by_name["key"], f.message_type.fields_by_name["value"]
            for _ in range(r.randint(0, 4)):
                if value.type == value.TYPE_MESSAGE:
                    fill(r, getattr(m, f.name)[scalar(r, key)], every, depth + 1)
                else:
                    getattr(m, f.name)[scalar(r, key)] = scalar(r, value)
        elif f.label == f.LABEL_REPEATED:
            for _ in range(r.randint(0, 4)):
                if is_message:
                    fill(r, getattr(m, f.name).add(), every, depth + 1)
                else:
                    getattr(m, f.name).append(scalar(r, f))
        elif is_message:
            fill(r, getattr(m, f.name), every, depth + 1)
        else:
            setattr(m, f.name, scalar(r, f))


def shuffled(r, v):
    if isinstance(v, dict):
        items = [(k, shuffled(r, w)) for k, w in v.items()]
        r.shuffle(items)
        return dict(items)
    return [shuffled(r, w) for w in v] if isinstance(v, list) else v


NUMBERS = {"i64", "s64", "sf64", "u64", "f64", "optU64", "boxI64", "boxU64"}


def respelled(r, v):
    """The same in other words: numbers without quotes or with, null for what is not there."""
    v = dict(v)
    for k in NUMBERS & v.keys():
        if r.random() < 0.5:
            v[k] = int(v[k])
    for k in {"i32", "u32", "db", "optI32"} & v.keys():
        if r.random() < 0.5:
            v[k] = str(v[k])
    if "repTime" not in v:
        v["repTime"] = None
    if "by" in v:
        v["by"] = v["by"].replace("+", "-").replace("/", "_").rstrip("=" if r.random() < 0.5 else "")
    return v


@pytest.fixture
def seed():
    n = int(os.environ.get("DAVIT_SEED", random.randrange(1 << 32)))
    print(f"DAVIT_SEED={n}")
    return n


def test_wire_to_json(every, transcode, seed):
    r = random.Random(seed)
    for i in range(MESSAGES):
        m = every()
        fill(r, m, every)
        code, text = transcode(b"w", m.SerializeToString())
        assert code == 0, (i, text)
        want = json_format.MessageToDict(m)
        assert json.loads(text) == want, i
        assert json_format.MessageToDict(json_format.Parse(text, every())) == want, i


def test_json_to_wire(every, transcode, seed):
    r = random.Random(seed)
    for i in range(MESSAGES):
        m = every()
        fill(r, m, every)
        want = json_format.MessageToDict(m)
        own = r.random() < 0.5
        shape = json_format.MessageToDict(m, preserving_proto_field_name=own)
        shape = shuffled(r, shape if own else respelled(r, want))
        text = json.dumps(shape, ensure_ascii=r.random() < 0.5, indent=r.choice((None, 1))).encode()
        code, wire = transcode(b"j", text)
        assert code == 0, (i, wire, text)
        assert json_format.MessageToDict(every.FromString(wire)) == want, i


# What json_format refuses as well.
REFUSED = [
    '{"time":"2001-02-30T00:00:00Z"}', '{"time":"2001-02-03T04:05:06"}', '{"time":"0000-12-31T00:00:00Z"}', '{"time":1}', '{"time":""}',
    '{"time":"10000-01-01T00:00:00Z"}', '{"time":"2001-02-03T04:05:06.0000000001Z"}', '{"time":"2001-02-03T24:00:00Z"}',
    '{"span":"1"}', '{"span":1}', '{"span":"315576000001s"}', '{"span":"-315576000001s"}', '{"span":"1.0000000001s"}', '{"span":""}',
    '{"mask":"foo_bar"}', '{"mask":1}', '{"object":[]}', '{"list":{}}', '{"object":{"a":1,"a":2}}', '{"mapSt":[]}', '{"mapI32":{"1":null}}',
    '{"mapI32":{"x":"a"}}', '{"mapI32":{"2147483648":"a"}}', '{"mapBo":{"TRUE":"1"}}', '{"mapBo":{"1":"1"}}', '{"repValue":{}}',
    '{"repI32":[null]}', '{"repBox":[null]}', '{"any":{"value":1}}', '{"any":{"@type":"x"}}', '{"any":{"@type":"x/davit.test.v1.None"}}',
    '{"any":{"@type":"x/google.protobuf.Duration"}}', '{"any":{"@type":"x/google.protobuf.Duration","value":"1"}}', '{"any":[]}',
    '{"boxU64":"-1"}', '{"boxBo":1}', '{"optI32":1.5}', '{"choiceSt":"a","choiceU32":1}', '{"leaf":[]}', '{"en":"KIND_TWO"}',
    '{"db":1e400}', '{"fl":1e39}', '{"u32":-1}', '{"i32":"1 "}', '{"by":"a"}', '{"st":"\\ud800"}', '{"st":1}', '{"bo":"true"}', '1', '']
# What it lets pass and we do not.
STRICTER = [
    '{"time":"2001-02-03t04:05:06z"}', '{"span":".5s"}', '{"span":"+1s"}', '{"mask":"a,,b"}', '{"st":"\\u0000"}', '{"object":{"\\u0000":1}}',
    '{"i32":01}', '{"i32":1,"i32":1}', '{"i32":1} x', '{"opt_i32":1,"optI32":1}', '{"mapSt":{"a":{},"a":{}}}', '{"mapBo":{"true":1,"true":2}}',
    '{"mapI32":{"1":"a","1":"b"}}', '{"mapI32":{" 1":"a"}}', '[]']


@pytest.mark.parametrize("text", REFUSED + STRICTER)
def test_refused(every, transcode, text):
    code, why = transcode(b"j", text.encode())
    assert code == INVALID and why, why
    if text in REFUSED:
        with pytest.raises((json_format.ParseError, ValueError, TypeError, AttributeError, KeyError)):
            m = every()
            json_format.Parse(text, m)
            m.SerializeToString().decode("ascii")  # a lone surrogate fails here


# What a message of the wire may hold and JSON cannot tell.
@pytest.mark.parametrize("build", [
    lambda m: setattr(m.time, "seconds", 253402300800), lambda m: setattr(m.time, "seconds", -62135596801),
    lambda m: setattr(m.time, "nanos", 1000000000), lambda m: setattr(m.time, "nanos", -1),
    lambda m: setattr(m.span, "seconds", 315576000001), lambda m: (setattr(m.span, "seconds", 1), setattr(m.span, "nanos", -1)),
    lambda m: m.mask.paths.append("fooBar"), lambda m: m.mask.paths.append("foo__bar"), lambda m: m.value.SetInParent(),
    lambda m: setattr(m.value, "number_value", math.nan), lambda m: setattr(m.any, "type_url", "x/unknown.Type"),
    lambda m: (setattr(m.any, "type_url", "x/google.protobuf.Duration"), setattr(m.any, "value", b"\xff"))])
def test_not_representable(every, transcode, build):
    m = every()
    build(m)
    code, why = transcode(b"w", m.SerializeToString())
    assert code == INVALID and why


def test_last_key_of_a_map_wins(every, transcode):
    """As every reader of the wire form has it; JSON may name a key once only."""
    entries = b"".join(every(map_st={"k": every.Leaf(name=n)}).SerializeToString() for n in ("first", "second", "last"))
    code, text = transcode(b"w", entries)
    assert code == 0 and json.loads(text) == json_format.MessageToDict(every.FromString(entries)) == {"mapSt": {"k": {"name": "last"}}}


# --- the plugin -----------------------------------------------------------------------------------------------------------------
def plugin(tmp_path, text, option=""):
    (tmp_path / "x.proto").write_text('syntax = "proto3"; package p;\n' + text)
    return subprocess.run(["protoc", f"-I{tmp_path}", f"--plugin=protoc-gen-davit={BUILD / 'proto/protoc-gen-davit'}", f"--davit_out={option}{tmp_path}",
                           "x.proto"], capture_output=True, text=True, check=False, timeout=30)


def test_plugin_writes_side_tables(tmp_path):
    p = plugin(tmp_path, 'message M { optional string a_b = 2; map<string, int32> m = 1; oneof o { int32 c = 3 [json_name = "d\\"?"]; } }', "c=protoc-gen-c:")
    assert p.returncode == 0, p.stderr
    table = (tmp_path / "x.davit.c").read_text()
    assert '{"m", 0, RPC_FIELD_MAP},\n    {"aB", 0, RPC_FIELD_OPTIONAL},\n    {"d\\042\\077", "o", 0},' in table
    assert "p__m__mentry__meta = {RPC_KIND_MAP_ENTRY, 2, 2," in table
    c = (tmp_path / "x.pb-c.c").read_text()
    assert "(void *)&p__m__meta,NULL,NULL" in c and "(void *)&p__m__mentry__meta,NULL,NULL" in c
    assert "_a_b_case" in (tmp_path / "x.pb-c.h").read_text()


def test_plugin_limits_fields(tmp_path):
    fields = [f"int32 f{i} = {i};" for i in range(1, 258)]
    assert plugin(tmp_path, f"message M {{ {' '.join(fields[:256])} }}").returncode == 0
    p = plugin(tmp_path, f"message M {{ {' '.join(fields)} }}")
    assert p.returncode != 0 and "p.M: more than 256 fields" in p.stderr


def test_plugin_tells_what_protoc_gen_c_says(tmp_path):
    p = plugin(tmp_path, "message M { }", "c=false:")
    assert p.returncode != 0 and "protoc-gen-c failed" in p.stderr
