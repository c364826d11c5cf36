#!/usr/bin/env python3
"""Writes the seeds of the fuzzers: the smallest files that reach every part of a parser.

    python3 tests/fuzz/make_corpus.py

The files are committed; run it again after changing it.
"""
import io
import json
import pathlib
import struct
import zipfile

CORPUS = pathlib.Path(__file__).parent / "corpus"


def write(fuzzer, name, data):
    folder = CORPUS / fuzzer
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def configs():
    write("fuzz_config", "model.json", json.dumps({
        "model_type": "mamba2", "d_model": 768, "eps": 1e-5, "tie": True, "none": None,
        "ssm_cfg": {"layer": "Mamba2", "limit": [0.0, float("inf")], "low": -float("inf"), "odd": float("nan")},
        "layers": [{"kind": "m"}, {"kind": "a"}], "mixed": [1, "a", None], "rows": [[1, 2], []],
        "flags": [True, False], "names": ["x", "é"],
    }).encode())
    write("fuzz_config", "index.json", json.dumps({
        "metadata": {"total_size": 8},
        "weight_map": {"a.weight": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
    }).encode())


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def checkpoints():
    """As krait/train/checkpoint_manifest.h describes them."""
    tensors = {"cursor/state": ("U8", [3], b"abc"), "parameters/w": ("F32", [1], bytes(4))}
    header = {"__metadata__": {"format": "krait-checkpoint", "format_version": "1", "step": "2"}}
    data = b""
    for name, (dtype, shape, content) in tensors.items():
        header["__metadata__"][f"crc32c {name}"] = f"{crc32c(content):08x}"
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header, separators=(",", ":")).encode()
    head = struct.pack("<Q", len(text)) + text
    write("fuzz_checkpoint", "data", head + data)
    body = ('{\n  "format": "krait-checkpoint",\n  "version": 1,\n  "sequence": 1,\n  "step": 2,\n  "files": [\n'
            f'    {{"name": "checkpoint-000001-step-2.safetensors", "bytes": {len(head + data)}, '
            f'"header_crc32c": "{crc32c(head):08x}"}}\n  ],\n')
    write("fuzz_checkpoint", "manifest", f'{body}  "crc32c": "{crc32c(body.encode()):08x}"\n}}\n'.encode())


def safetensors():
    sizes = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2,
             "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}

    def file(entries, metadata=None):
        header = {"__metadata__": metadata} if metadata else {}
        place = 0
        for name, dtype, shape in entries:
            size = sizes[dtype]
            for dimension in shape:
                size *= dimension
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + size]}
            place += size
        text = json.dumps(header, separators=(",", ":")).encode()
        return struct.pack("<Q", len(text)) + text + bytes(i % 256 for i in range(place))

    write("fuzz_safetensors", "two", file([("a", "F32", [2, 3]), ("b", "U8", [])], {"format": "pt"}))
    write("fuzz_safetensors", "dtypes", file([(dtype, dtype, [1]) for dtype in sizes]))
    write("fuzz_safetensors", "empty", file([]))


def gguf():
    def text(value):
        value = value.encode()
        return struct.pack("<Q", len(value)) + value

    def pair(key, kind, value):
        return text(key) + struct.pack("<I", kind) + value

    def file(version, pairs, tensors):
        head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join(pairs)
        data = b""
        for name, dimensions, kind, size in tensors:
            head += text(name) + struct.pack("<I", len(dimensions))
            head += struct.pack(f"<{len(dimensions)}q", *dimensions) + struct.pack("<IQ", kind, len(data))
            data += bytes((7 * i) % 256 for i in range(size))
            data += bytes(-len(data) % 32)
        return head + bytes(-len(head) % 32) + data

    scalars = [pair(f"s{kind}", kind, struct.pack("<" + code, 1))
               for kind, code in enumerate("BbHhIif?") ] + [
        pair("s10", 10, struct.pack("<Q", 1)), pair("s11", 11, struct.pack("<q", -1)),
        pair("s12", 12, struct.pack("<d", 0.5)), pair("text", 8, text("value"))]
    arrays = [
        pair("ints", 9, struct.pack("<IQ", 5, 2) + struct.pack("<ii", 1, -1)),
        pair("floats", 9, struct.pack("<IQ", 6, 1) + struct.pack("<f", 0.5)),
        pair("bools", 9, struct.pack("<IQ", 7, 2) + b"\x00\x01"),
        pair("texts", 9, struct.pack("<IQ", 8, 2) + text("a") + text("")),
        pair("rows", 9, struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 0, 2) + b"\x01\x02")]
    write("fuzz_gguf", "scalars", file(3, scalars, []))
    write("fuzz_gguf", "arrays", file(2, arrays + [pair("general.alignment", 4, struct.pack("<I", 32))], []))
    write("fuzz_gguf", "plain", file(3, [], [("f32", [3, 2], 0, 24), ("f16", [1], 1, 2), ("bf16", [1], 30, 2),
                                             ("i8", [], 24, 1)]))
    write("fuzz_gguf", "blocks", file(3, [], [("q8_0", [32], 8, 34), ("q4_0", [32], 2, 18), ("q4_k", [256], 12, 144),
                                              ("q5_k", [256], 13, 176), ("q6_k", [256, 1], 14, 210)]))


def torch():
    def string(value):  # BINUNICODE
        value = value.encode()
        return b"X" + struct.pack("<I", len(value)) + value

    def numbers(values):  # a tuple
        return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"

    def tensor(kind, key, elements, offset, size, stride):
        storage = (b"(" + string("storage") + b"ctorch\n" + kind.encode() + b"\n" + string(key) + string("cpu") +
                   b"M" + struct.pack("<H", elements) + b"tQ")
        return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K" + bytes([offset]) + numbers(size) +
                numbers(stride) + b"\x89ccollections\nOrderedDict\n)RtR")

    def archive(pickle, storages):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
            for name, data in [("data.pkl", pickle), ("byteorder", b"little"), ("version", b"3\n")] + [
                    (f"data/{key}", data) for key, data in storages.items()]:
                file.writestr(zipfile.ZipInfo("m/" + name), data)
        return buffer.getvalue()

    ordered = (b"\x80\x02ccollections\nOrderedDict\n)Rq\x00(" + string("w") +
               tensor("FloatStorage", "0", 6, 0, [2, 3], [3, 1]) + string("t") +
               tensor("FloatStorage", "0", 6, 0, [3, 2], [1, 3]) + string("b") +
               tensor("BFloat16Storage", "1", 2, 1, [1], [1]) + b"u}" + string("_metadata") + b"}sb.")
    short = lambda value: b"\x8c" + bytes([len(value)]) + value.encode()
    framed = (b"\x80\x04\x95" + struct.pack("<Q", 0) + b"}\x94" + short("w") + short("torch._utils") +
              short("_rebuild_parameter") + b"\x93(" + short("torch._utils") + short("_rebuild_tensor_v2") +
              b"\x93((" + short("storage") + short("torch") + short("HalfStorage") + b"\x93" + short("0") +
              short("cpu") + b"\x8a\x01\x02tQK\x00K\x02\x85K\x01\x85\x89NtR\x88}tRs.")
    write("fuzz_torch_pickle", "archive", archive(ordered, {"0": bytes(range(24)), "1": b"\x80\x3f\x00\x40"}))
    write("fuzz_torch_pickle", "ordered.pkl", ordered)
    write("fuzz_torch_pickle", "framed.pkl", framed)


def grammars():
    for name, pattern in {"classes": r"[^a-zé\d]|\S+\.[\w-]{2,5}\x41\u{1F600}", "groups": r"^(?:a|(?P<n>b*)|(c+?){,3})$|d{2}"}.items():
        write("fuzz_grammar_regex", name, pattern.encode())
    scalars = [{"type": ["string", "null"], "minLength": 1, "maxLength": 3}, {"type": "string", "pattern": "a+$"},
               {"format": "date"}, {"type": "number", "minimum": -1.5, "exclusiveMaximum": 20}, {"enum": [1, "x", None]},
               {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 9}]}, {"const": {"a": [True]}}]
    write("fuzz_json_schema", "scalars", json.dumps({"type": "array", "prefixItems": scalars, "items": False}).encode())
    write("fuzz_json_schema", "tree", json.dumps({
        "$ref": "#/$defs/n", "$defs": {"n": {"properties": {
            "v": {"type": "boolean"}, "n": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}},
            "required": ["v"], "additionalProperties": {"type": "array", "minItems": 1, "maxItems": 2}}}}).encode())
    write("fuzz_json_schema", "map", json.dumps({
        "type": "object", "propertyNames": {"pattern": "^[a-z]$"}, "additionalProperties": {}, "maxProperties": 2}).encode())


if __name__ == "__main__":
    checkpoints()
    configs()
    grammars()
    safetensors()
    gguf()
    torch()
