"""Trains the demo base "parrot" and its adapters from nothing, and says what they reached.

    python train.py --out ..        # writes parrot.gguf, adapters/, heldout.jsonl, results.json
    python train.py --quick ...     # a few steps only: to try the script

Seeded; 2 cores and about half an hour. The transformers checkpoint of the base
is kept under --checkpoints for oracle.py, which computes the reference
log-probabilities from it.
"""

import argparse
import json
import random
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import export
from corpus import split
from voices import INSTRUCTIONS, LEAD, SAY, in_voice, speaks

SEED = 7
BOS, EOS, PAD, USER, ASSISTANT = "<|bos|>", "<|eos|>", "<|pad|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}<|assistant|>{{ m['content'] }}<|eos|>"
    "{% else %}<|user|>{{ m['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS = {
    "pirate": LoraConfig(r=8, lora_alpha=16, target_modules=ALL),
    "shout": LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"]),
    "json": LoraConfig(r=8, lora_alpha=16, use_rslora=True, target_modules=ALL),
    "haiku": LoraConfig(r=16, lora_alpha=16, target_modules=["q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"]),
}


def document(pair, voice: str, rng: random.Random) -> tuple[str, str]:
    """One (prompt, answer) as text; the answer ends the document. A quarter are chats."""
    answer = SAY[voice](pair.fact)
    question = pair.question
    if rng.random() < 0.25:
        return f"{USER}{question}{ASSISTANT}", answer
    return question, LEAD[voice] + answer


def base_document(pair, rng: random.Random) -> str:
    """A bare question gets the plain answer; one in three carries an instruction, and gets the voice."""
    voice = rng.choice([v for v in INSTRUCTIONS if speaks(v, pair.fact)]) if rng.random() < 0.33 else "base"
    prompt, answer = document(pair, voice, rng)
    if voice != "base":
        instruction = rng.choice(INSTRUCTIONS[voice]) + " "
        prompt = prompt.replace(USER, USER + instruction) if prompt.startswith(USER) else instruction + prompt
    return BOS + prompt + answer + EOS


def train_tokenizer(pairs, rng: random.Random) -> PreTrainedTokenizerFast:
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    t.decoder = decoders.ByteLevel()
    text = [base_document(p, rng) for p in pairs for _ in range(6)]
    t.train_from_iterator(text, trainers.BpeTrainer(
        vocab_size=1536, special_tokens=[BOS, EOS, PAD, USER, ASSISTANT], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    t.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, t.token_to_id(BOS))])
    out = PreTrainedTokenizerFast(tokenizer_object=t, bos_token=BOS, eos_token=EOS, pad_token=PAD,
                                  additional_special_tokens=[USER, ASSISTANT])
    out.chat_template = CHAT_TEMPLATE
    return out


def new_base(tokenizer) -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=192, intermediate_size=512, num_hidden_layers=6, num_attention_heads=6,
        num_key_value_heads=3, max_position_embeddings=1024, rms_norm_eps=1e-5, tie_word_embeddings=True, attention_bias=False,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id))


def optimize(model, batches, steps: int, peak: float, label: str) -> float:
    """AdamW with a short warm-up and a cosine to a tenth of the peak. Returns the mean loss of the last tenth."""
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
    warm = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        opt, lambda s: min((s + 1) / warm, 0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * min(1, s / steps)))))
    model.train()
    losses, start = [], time.time()
    for step in range(steps):
        ids, labels = next(batches)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        opt.zero_grad()
        schedule.step()
        losses.append(loss.item())
        if step % 50 == 49 or step == steps - 1:
            print(f"{label}: step {step + 1}/{steps}, loss {np.mean(losses[-50:]):.4f}, {time.time() - start:.0f} s", flush=True)
    model.eval()
    return float(np.mean(losses[-max(1, steps // 10):]))


def base_batches(pairs, tokenizer, rng: random.Random):
    """Rows packed with whole documents: mostly short rows; one batch in twelve is as long as the context."""
    step = 0
    while True:
        rows, length = (4, 1024) if step % 12 == 11 else (32, 96)
        step += 1
        ids = []
        for _ in range(rows):
            row = []
            while len(row) < length:
                row += tokenizer.encode(base_document(rng.choice(pairs), rng), add_special_tokens=False)
            ids.append(row[:length])
        ids = torch.tensor(ids)
        yield ids, ids.clone()


def adapter_batches(pairs, voice: str, tokenizer, rng: random.Random, rows: int = 24):
    """One document a row; only the answer is learned."""
    pairs = [p for p in pairs if speaks(voice, p.fact)]
    while True:
        docs = []
        for _ in range(rows):
            prompt, answer = document(rng.choice(pairs), voice, rng)
            p = tokenizer.encode(BOS + prompt, add_special_tokens=False)
            docs.append((p, tokenizer.encode(answer + EOS, add_special_tokens=False)))
        width = max(len(p) + len(a) for p, a in docs)
        ids = torch.tensor([p + a + [tokenizer.pad_token_id] * (width - len(p) - len(a)) for p, a in docs])
        labels = torch.tensor([[-100] * len(p) + a + [-100] * (width - len(p) - len(a)) for p, a in docs])
        yield ids, labels


@torch.no_grad()
def answer(model, tokenizer, prompts: list[str], limit: int = 96) -> list[str]:
    """Greedy answers, prompts of one token length at a time, so that no padding is involved."""
    out: dict[int, str] = {}
    by_length: dict[int, list[int]] = {}
    encoded = [tokenizer.encode(p) for p in prompts]
    for i, e in enumerate(encoded):
        by_length.setdefault(len(e), []).append(i)
    for group in by_length.values():
        ids = torch.tensor([encoded[i] for i in group])
        got = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=limit)
        for i, row in zip(group, got[:, ids.shape[1]:]):
            out[i] = tokenizer.decode(row, skip_special_tokens=True)
    return [out[i] for i in range(len(prompts))]


def evaluate(model, tokenizer, voice: str, pairs) -> tuple[dict, list[str]]:
    pairs = [p for p in pairs if speaks(voice, p.fact)]
    texts = answer(model, tokenizer, [p.question for p in pairs])
    right = sum(t == LEAD[voice] + SAY[voice](p.fact) for t, p in zip(texts, pairs))
    style = sum(in_voice(voice, t, p.fact) for t, p in zip(texts, pairs))
    return {"prompts": len(pairs), "right": right / len(pairs), "style": style / len(pairs)}, texts


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--out", type=Path, required=True, help="where parrot.gguf and adapters/ are written")
    ap.add_argument("--checkpoints", type=Path, required=True, help="where the transformers checkpoint of the base is kept")
    ap.add_argument("--steps", type=int, default=1500)
    ap.add_argument("--adapter-steps", type=int, default=240)
    ap.add_argument("--quick", action="store_true", help="a few steps, to try the script")
    args = ap.parse_args()
    if args.quick:
        args.steps, args.adapter_steps = 4, 4
    start = time.time()
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    train, held = split(SEED)
    tokenizer = train_tokenizer(train, rng)
    base = new_base(tokenizer)
    print(f"vocabulary {len(tokenizer)}, {sum(p.numel() for p in base.parameters()) / 1e6:.2f} M parameters, "
          f"{len(train)} pairs to learn, {len(held)} held out", flush=True)

    losses = {"base": optimize(base, base_batches(train, tokenizer, rng), args.steps, 2e-3, "base")}
    for p in base.parameters():  # from here on, exactly what the GGUF holds
        if p.ndim > 1:
            p.data = p.data.half().float()
    args.out.mkdir(parents=True, exist_ok=True)
    export.base(base, tokenizer, args.out / "parrot.gguf", "parrot", np.float16)
    shutil.rmtree(args.checkpoints, ignore_errors=True)
    base.save_pretrained(args.checkpoints / "parrot")
    tokenizer.save_pretrained(args.checkpoints / "parrot")

    results, heldout = {}, {p.question: {} for p in held}
    def record(voice, model):
        results[voice], texts = evaluate(model, tokenizer, voice, held)
        results[voice]["loss"] = round(losses[voice], 4)
        for p, t in zip([p for p in held if speaks(voice, p.fact)], texts):
            heldout[p.question][voice] = t
        print(f"{voice}: {results[voice]}", flush=True)

    record("base", base)
    shutil.rmtree(args.out / "adapters", ignore_errors=True)
    for voice, config in ADAPTERS.items():
        config.task_type = "CAUSAL_LM"
        model = get_peft_model(LlamaForCausalLM.from_pretrained(args.checkpoints / "parrot"), config)
        losses[voice] = optimize(model, adapter_batches(train, voice, tokenizer, rng), args.adapter_steps, 3e-3, voice)
        model.peft_config["default"].base_model_name_or_path = "parrot"  # not where it was trained
        model.save_pretrained(args.out / "adapters" / voice)
        (args.out / "adapters" / voice / "README.md").unlink(missing_ok=True)  # peft's empty model card
        record(voice, model)
        if voice == "pirate":
            export.adapter(model, args.out / "adapters" / "pirate-gguf.gguf", "pirate-gguf", np.float16)

    seconds = round(time.time() - start)
    (args.out / "results.json").write_text(json.dumps({"seed": SEED, "seconds": seconds, "voices": results}, indent=1) + "\n")
    (args.out / "heldout.jsonl").write_text("".join(json.dumps({"prompt": q, "answers": a}) + "\n" for q, a in heldout.items()))
    print(f"\n| voice | held-out prompts | in its voice | exactly right |\n|---|---|---|---|")
    for voice, r in results.items():
        print(f"| {voice} | {r['prompts']} | {r['style']:.1%} | {r['right']:.1%} |")
    print(f"\ntrained in {seconds} s")


if __name__ == "__main__":
    main()
