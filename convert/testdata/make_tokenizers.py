"""Makes small tokenizers of the kinds that bases come with, and what they make of texts.

    python make_tokenizers.py

Each gets a folder with the files that transformers or sentencepiece save, and
expected.json: texts, and their tokens with what goes around them.
"""

import json
import shutil
from pathlib import Path

import sentencepiece as spm  # 0.2.3
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = Path(__file__).resolve().parent
CORPUS = (
    "The parrot sat on the mast and said that it was seven o'clock. They're sure it isn't, we've looked at 1234 clocks in 2026.\n"
    "What colour is the sky? The sky is blue, isn't it? WHAT DOES THE COW SAY? I'll say it'd be 3.14159 or 271828.\n"
    "def f(x):\n    return x + 1\n\nGrüße, naïve Straße; où êtes-vous? Привет, мир. 你好，世界。\n"
) * 3
TEXTS = [
    "The sky is blue.", " leading space", "two  spaces   three", "They're 12345 parrots, isn't it? I'LL SEE", "Grüße, 🦜! naïve Привет 世界",
    "def f(x):\n    return x\n\n\nend\r\n", "tabs\tand\n newlines \n", "1 22 333 4444", "", "<turn>The sky<end>", "a<tag>b <tag> c", "x/y//z\n//",
]
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + REST
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + REST
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
FIRST, SLASHES = r"[^\r\n\p{L}\p{N}]?", r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = f"{FIRST}{UPPER}*{LOWER}+|{FIRST}{UPPER}+{LOWER}*|" + r"\p{N}|" + SLASHES
GPT4O = f"{FIRST}{UPPER}*{LOWER}+{CONTRACTIONS}?|{FIRST}{UPPER}+{LOWER}*{CONTRACTIONS}?|" + r"\p{N}{1,3}|" + SLASHES
SPECIAL = ["<bos>", "<eos>", "<turn>", "<end>"]
KEEP = ["<s>", "<unk>", "<|endoftext|>"]  # white space behind, of Phi-3's


def save(name: str, settings: dict, encode, files: dict[str, str | bytes], texts: list[str] = TEXTS) -> None:
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file, content in files.items():
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    lines = [json.dumps({"text": t, "tokens": encode(t)}, ensure_ascii=False) for t in texts]
    (folder / "expected.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


def of_bytes(name: str, split, ignore_merges: bool, bos: bool, *texts: str, strip: bool = False) -> None:
    """texts are learned too: those that tell the kind from others. strip: of white space behind added tokens, as Phi-3's have it."""
    special = [AddedToken(s, rstrip=strip and s not in KEEP, special=True) for s in [*SPECIAL, *(["</s>", *KEEP] if strip else [])]]
    t = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    t.pre_tokenizer = split
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator([CORPUS, *(9 * text for text in texts)], trainers.BpeTrainer(vocab_size=380, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    t.add_tokens([AddedToken("<tag>", rstrip=strip, normalized=False)])
    if bos:
        t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing("<bos> $A", "<bos> $A $B", [("<bos>", t.token_to_id("<bos>"))])])
    save(name, {"bos_token": "<bos>", "eos_token": {"content": "<eos>", "lstrip": False}}, lambda text: t.encode(text).ids, {"tokenizer.json": t.to_str()}, [*TEXTS, *texts])


def split(pattern: str):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def of_sentencepiece(name: str, prefix: bool, also_json: bool) -> None:
    """A model of sentencepiece, as it is or as transformers writes its merges into tokenizer.json."""
    corpus, model = HERE / "corpus.txt", HERE / "model"
    corpus.write_text(CORPUS)
    spm.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(model), model_type="bpe", vocab_size=420, byte_fallback=True, add_dummy_prefix=prefix, remove_extra_whitespaces=False,
        normalization_rule_name="identity", split_digits=True, allow_whitespace_only_pieces=True, control_symbols=["<turn>", "<end>"],
        user_defined_symbols=["<tag>"], minloglevel=2)
    content = model.with_suffix(".model").read_bytes()
    for file in (corpus, model.with_suffix(".model"), model.with_suffix(".vocab")):
        file.unlink()
    p = spm.SentencePieceProcessor(model_proto=content)
    settings = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    if not also_json:
        # Not those where llama.cpp does as transformers does: control tokens are found in texts,
        # and a space comes after any other such token too.
        texts = [t for t in TEXTS if "<turn>" not in t and not (prefix and "<tag>" in t)]

        def encode(text: str) -> list[int]:
            return [p.bos_id()] + p.encode(text)

        added = {str(p.piece_to_id(s)): {"content": s, "special": True} for s in ["<unk>", "<s>", "</s>", "<turn>", "<end>"]}
        save(name, settings | {"added_tokens_decoder": added}, encode, {"tokenizer.model": content}, texts)
        return
    pieces = [p.id_to_piece(i) for i in range(p.get_piece_size())]
    ids = {piece: i for i, piece in enumerate(pieces)}
    learned = [(i, s) for i, s in enumerate(pieces) if not (p.is_control(i) or p.is_unknown(i) or p.is_byte(i) or s == "<tag>")]
    merges = []
    for _, s in sorted(learned, key=lambda e: -p.get_score(e[0])):
        splits = [(s[:k], s[k:]) for k in range(1, len(s)) if s[:k] in ids and s[k:] in ids]
        merges += sorted(splits, key=lambda e: (ids[e[0]], ids[e[1]]))
    t = Tokenizer(models.BPE(vocab=ids, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence(([normalizers.Prepend("▁")] if prefix else []) + [normalizers.Replace(" ", "▁")])
    t.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in ["<unk>", "<s>", "</s>", "<turn>", "<end>"]])
    t.add_tokens([AddedToken("<tag>", normalized=False)])
    t.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", ids["<s>"])])
    save(name, settings, lambda text: t.encode(text).ids, {"tokenizer.json": t.to_str()})


if __name__ == "__main__":
    of_bytes("gpt2", pre_tokenizers.ByteLevel(add_prefix_space=False), False, False)
    of_bytes("digits", pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]), False, False)
    of_bytes("qwen2", split(QWEN2), False, False)
    of_bytes("llama3", split(LLAMA3), True, True)
    of_bytes("tekken", split(TEKKEN), True, True, "'sure;\n// 'sure;\n//")
    of_bytes("gpt-4o", split(GPT4O), False, False)
    of_bytes("strip", pre_tokenizers.ByteLevel(add_prefix_space=False), False, False, "<turn>\n The sky<end>  <tag> is <s> <turn>\n", strip=True)
    of_sentencepiece("sentencepiece", True, False)
    of_sentencepiece("sentencepiece-no-prefix", False, False)
    of_sentencepiece("pieces", True, True)
    of_sentencepiece("pieces-no-prefix", False, True)
