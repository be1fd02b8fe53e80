# /// script
# requires-python = ">=3.11"
# dependencies = ["gguf==0.19.0", "numpy==2.4.6", "regex==2026.11.19", "sentencepiece==0.2.3"]
# ///
"""Writes the fixtures of basislab-import in crates/basislab-import/tests:

types.gguf   a GGUF file by the package gguf, with a tensor of each type and a value of each kind
types.json   its tensors as the package gguf dequantizes them with NumPy, as the bits of each f32 in hexadecimal
words.json   texts cut into words by the patterns of several models, with the package regex; and the tokens of SmolLM2, by
             a plain loop over its merges, where its file is given
scores.json  the vocabulary of a small BPE model that the package sentencepiece trains, and the texts in its tokens

    python scripts/gguf_fixture.py [SmolLM2-135M-Instruct.Q4_1.gguf]
"""
import importlib.metadata
import io
import json
import pathlib
import sys

try:
    import gguf
    import numpy as np
    import regex
    import sentencepiece
except ModuleNotFoundError as error:
    sys.exit(f"needs {error.name}: pip install gguf==0.19.0 numpy regex sentencepiece")

FOLDER = pathlib.Path(__file__).parent.parent / "crates/basislab-import/tests"
VERSIONS = {name: importlib.metadata.version(name) for name in ("gguf", "numpy", "regex", "sentencepiece")}
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K"]
# Where a block has numbers of 16 bits.
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS = {"gpt-2": [GPT2], "smollm": [r"\p{N}", GPT2], "llama-bpe": [LLAMA3], "qwen2": [LLAMA3.replace("{1,3}", "")]}
TEXTS = [
    "The capital of France is Paris.",
    "Once upon a time, there was a little girl named Lily. She didn't WE'LL they've I'M.",
    "In 2026 there were 1234567 of them, 3.14159 and 1,000 and \u00bd x\u00b2 \u0663\u0664.",
    "two  spaces,   three;\ttab\t\ttabs\n\nparagraph\r\nline \n trailing   ",
    "  leading and    many     spaces\n\n\n   \n x",
    "\u00dcml\u00e4ute stra\u00dfe d\u00e9j\u00e0 vu e\u0301 na\u00efve "
    "\u65e5\u672c\u8a9e \u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u0939\u093f\u0928\u094d\u0926\u0940",
    "emoji \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f!!! ?! ... --- _under_score $x_1$ #tag",
    "def f(x):\n    return {'a': [1, 22, 333, 4444]}  # comment\n",
    "\u00a0no\u00a0break\u3000wide\u2003em <|im_start|>user<|endoftext|>",
    "a" * 70 + " " * 70 + "1" * 70 + "\n" * 70 + "!" * 70,
    "",
    " ",
    "\n",
]


def types():
    rng = np.random.default_rng(20261127)
    writer = gguf.GGUFWriter(FOLDER / "types.gguf", "none")
    for kind, value in [
        ("uint8", 200), ("int8", -100), ("uint16", 60000), ("int16", -30000), ("uint32", 4 * 10**9),
        ("int32", -2 * 10**9), ("uint64", 10**19), ("int64", -9 * 10**18), ("float32", 0.1), ("float64", 0.1),
        ("bool", True), ("string", "d\u00e9j\u00e0"),
    ]:
        getattr(writer, f"add_{kind}")(f"test.{kind}", value)
    writer.add_array("test.strings", ["a", "", "\u2581b"])
    writer.add_array("test.int32s", [1, -2, 3])
    writer.add_array("test.float32s", [1.5, -2.5])
    writer.add_array("test.bools", [True, False, True])
    expected = {}
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        numbers, size = gguf.GGML_QUANT_SIZES[kind]
        rows, blocks = 3, 64 // min(64, numbers)
        if name == "F32":
            stored = rng.normal(size=(rows, 64)).astype(np.float32)
        elif name == "F16":
            stored = rng.normal(size=(rows, 64)).astype(np.float16)
            stored[0, 0] = 6e-8  # subnormal
        elif name == "BF16":
            stored = gguf.quantize(rng.normal(size=(rows, 64)).astype(np.float32), kind)
        else:
            stored = rng.integers(0, 256, size=(rows, blocks, size), dtype=np.uint8)
            for at in HALVES[name]:
                half = rng.normal(size=(rows, blocks)).astype(np.float16)
                stored[:, :, at : at + 2] = half.view(np.uint8).reshape(rows, blocks, 2)
            stored = stored.reshape(rows, -1)
        if name in ("F32", "F16"):
            writer.add_tensor(name, stored)
            values = stored.astype(np.float32)
        else:
            writer.add_tensor(name, stored, raw_dtype=kind)
            values = gguf.dequantize(stored, kind)
        expected[name] = {
            "shape": list(values.shape[::-1]),
            "bits": [f"{bits:08x}" for bits in np.ascontiguousarray(values).view(np.uint32).ravel()],
        }
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    write("types.json", {"tensors": expected})


def split(text, patterns):
    """Each pattern cuts the pieces that those before it have left; what it does not match is a piece of its own."""
    pieces = [text]
    for pattern in patterns:
        cut = []
        for piece in pieces:
            start = 0
            for match in regex.finditer(pattern, piece):
                cut += [piece[start : match.start()], match.group()]
                start = match.end()
            cut.append(piece[start:])
        pieces = [piece for piece in cut if piece]
    return pieces


def letters():
    visible = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(0x100 + k) for k, byte in enumerate(others)}


def smollm(path):
    fields = gguf.GGUFReader(path).fields
    texts = lambda key: [bytes(fields[key].parts[k]).decode() for k in fields[key].data]
    tokens = {text: k for k, text in enumerate(texts("tokenizer.ggml.tokens"))}
    ranks = {tuple(text.split(" ")): k for k, text in enumerate(texts("tokenizer.ggml.merges"))}
    letter = letters()

    def encode(word):
        parts = [letter[byte] for byte in word.encode()]
        while len(parts) > 1:
            best = min(range(len(parts) - 1), key=lambda k: ranks.get((parts[k], parts[k + 1]), len(ranks)))
            if (parts[best], parts[best + 1]) not in ranks:
                break
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        return [tokens[part] for part in parts]

    return [[token for word in split(text, PATTERNS["smollm"]) for token in encode(word)] for text in TEXTS]


def scores():
    """A model as Llama 2 has it: byte fallback, a blank before each text, no normalisation."""
    lines = [*pathlib.Path(gguf.constants.__file__).read_text().splitlines()[:500], *TEXTS[:5]] * 3
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=700, byte_fallback=True,
        character_coverage=0.999, normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    kind = lambda k: 6 if processor.is_byte(k) else 3 if processor.is_control(k) or processor.is_unknown(k) else 1
    pieces = [[processor.id_to_piece(k), processor.get_score(k), kind(k)] for k in range(processor.get_piece_size())]
    write("scores.json", {"texts": TEXTS, "pieces": pieces, "tokens": [processor.encode(text) for text in TEXTS]})


def write(name, content):
    content = {"made by": "scripts/gguf_fixture.py", "versions": VERSIONS} | content
    (FOLDER / name).write_text(json.dumps(content) + "\n")


FOLDER.mkdir(exist_ok=True)
types()
scores()
words = {"texts": TEXTS, "words": {name: [split(text, patterns) for text in TEXTS] for name, patterns in PATTERNS.items()}}
if len(sys.argv) > 1:
    words["SmolLM2-135M-Instruct.Q4_1.gguf"] = smollm(sys.argv[1])
write("words.json", words)
