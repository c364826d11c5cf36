#!/usr/bin/env python3
"""Writes the seeds of the tokenizer fuzzers: small tokenizers that name every part, and texts.

    python3 tests/fuzz/make_tokenizer_corpus.py

The files are committed; run it again after changing it.
"""
import json
import struct

from make_corpus import write


def tokenizer_json(name, model, **parts):
    added = [{"id": 0, "content": "<|end|>", "special": True},
             {"id": 90, "content": "  ", "normalized": True, "lstrip": True, "rstrip": True, "single_word": True}]
    root = {"added_tokens": added, "model": model, **parts}
    write("fuzz_tokenizer_json", name, json.dumps(root, ensure_ascii=False, separators=(",", ":")).encode())


def jsons():
    letters = ["<|end|>", "Ġ", "a", "e", "h", "t", "x", "1", "+", "Ċ", "Ã", "©"]
    vocab = {token: i for i, token in enumerate(letters + ["he", "Ġt", "Ã©"])}
    bpe = {"type": "BPE", "vocab": vocab, "merges": ["h e", ["Ġ", "t"], "Ã ©"], "ignore_merges": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}
    split = {"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}| ?\\p{L}+"}, "behavior": "Contiguous", "invert": True}
    tokenizer_json("byte_level.json", bpe, normalizer={"type": "NFC"}, pre_tokenizer=byte_level,
                   decoder={"type": "ByteLevel"})
    tokenizer_json("sequence.json", bpe, normalizer={"type": "Sequence", "normalizers": [
        {"type": "NFKD"}, {"type": "Lowercase"}, {"type": "Strip", "strip_left": True, "strip_right": False},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "x"}]},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [
            {"type": "Punctuation", "behavior": "MergedWithPrevious"}, {"type": "Digits", "individual_digits": True},
            {"type": "Whitespace"}, split, byte_level, {"type": "WhitespaceSplit"}]},
        decoder={"type": "ByteLevel"},
        post_processor={"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|end|>"}},
                                                                 {"Sequence": {"id": "A"}}]})
    fallback = {token: i for i, token in enumerate(["<unk>", "▁", "a", "▁a"] + [f"<0x{b:02X}>" for b in range(60, 70)])}
    tokenizer_json("fallback.json", {"type": "BPE", "vocab": fallback, "merges": ["▁ a"], "byte_fallback": True,
                                     "fuse_unk": True, "unk_token": "<unk>"},
                   normalizer={"type": "Sequence", "normalizers": [
                       {"type": "Prepend", "prepend": "▁"},
                       {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
                   decoder={"type": "Sequence", "decoders": [
                       {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
                       {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    tokenizer_json("unigram.json", {"type": "Unigram", "unk_id": 0, "vocab": [
        ["<unk>", 0], ["▁", -2.5], ["a", -3], ["▁a", -2], ["he", -4]]}, normalizer={"type": "NFKC"},
        pre_tokenizer=metaspace, decoder=metaspace)


def texts():
    for name, text in [("english", b"\x05The king's 12 men won't, he said.  \n\n  x"),
                       ("mixed", "\x40e\u0301 漢字👩\u200d👩 1234567 a\u00a0 \t\r\n<|end|> <|en".encode()),
                       ("broken", b"\x01a\xff\xc3 \xe6\xbc\xed\xa0\x80\xf4\x90 aaaa")]:
        write("fuzz_tokenizer_encode", name, text)


def sentencepieces():
    def varint(value):
        out = b""
        while value >= 0x80:
            out += bytes([value & 0x7F | 0x80])
            value >>= 7
        return out + bytes([value])

    def field(number, value):
        return varint(number << 3 | 2) + varint(len(value)) + value

    def number(field_number, value):
        return varint(field_number << 3) + varint(value)

    def piece(text, score, kind):
        return field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + number(3, kind))

    for name, kind in [("unigram", 1), ("bpe", 2)]:
        pieces = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3)
        for i, token in enumerate(["▁", "▁a", "a", "he", "h", "e", "12", "1"]):
            pieces += piece(token, -i, 4 if token == "12" else 1)
        # A character map of one block of units, all of which lead back into it, and one string.
        character_map = struct.pack("<I", 1024) + bytes(1024) + b"a\x00"
        normalizer = field(1, b"x") + field(2, character_map) + number(3, 1) + number(4, 0) + number(5, 1)
        write("fuzz_tokenizer_sentencepiece", name, pieces + field(2, number(3, kind)) + field(3, normalizer))


if __name__ == "__main__":
    jsons()
    texts()
    sentencepieces()
