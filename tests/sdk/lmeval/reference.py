"""Makes the task of the lm-evaluation-harness check, and computes with transformers what
its result must be: reference.py DEMO OUT

DEMO is the folder of the demo. Written are questions.jsonl, a line for each question with
four answers, and reference.json, each answer's log-likelihood and the accuracy, for the
base and for an adapter."""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

demo, out = map(Path, sys.argv[1:])
ADAPTER = "pirate"
QUESTIONS, CHOICES = 40, 4


def questions() -> list[dict]:
    """Every so many held-out questions, the right answer among those to other questions."""
    lines = [json.loads(line) for line in (demo / "heldout.jsonl").open()]
    answers = list(dict.fromkeys(line["answers"]["base"] for line in lines))
    made = []
    for i, line in enumerate(lines[:: len(lines) // QUESTIONS][:QUESTIONS]):
        right = line["answers"]["base"]
        at = answers.index(right)
        choices = [answers[(at + 7 * k) % len(answers)] for k in range(CHOICES)]
        turn = i % CHOICES  # the right one stands at each place as often
        choices = choices[-turn:] + choices[:-turn] if turn else choices
        assert len(set(choices)) == CHOICES
        made.append({"prompt": line["prompt"], "choices": choices, "answer": choices.index(right)})
    return made


@torch.no_grad()
def likelihood(model, tokenizer, context: str, continuation: str) -> float:
    tokens = tokenizer(context + continuation, add_special_tokens=False, return_tensors="pt").input_ids
    begin = len(tokenizer(context, add_special_tokens=False).input_ids)
    rows = model(tokens).logits[0, begin - 1 : -1].double().log_softmax(-1)
    return rows.gather(1, tokens[0, begin:, None]).sum().item()


def measure(model, tokenizer, made: list[dict]) -> dict:
    table = [[round(likelihood(model, tokenizer, tokenizer.bos_token + q["prompt"], c), 5) for c in q["choices"]] for q in made]
    right = [row.index(max(row)) == q["answer"] for row, q in zip(table, made)]
    return {"accuracy": sum(right) / len(right), "loglikelihoods": table}


made = questions()
(out / "questions.jsonl").write_text("".join(json.dumps(q) + "\n" for q in made))
tokenizer = AutoTokenizer.from_pretrained(demo, gguf_file="parrot.gguf")
base = AutoModelForCausalLM.from_pretrained(demo, gguf_file="parrot.gguf", dtype=torch.float32).eval()
reference = {"parrot": measure(base, tokenizer, made)}
adapted = PeftModel.from_pretrained(base, demo / "adapters" / ADAPTER).eval()
reference["parrot:" + ADAPTER] = measure(adapted, tokenizer, made)
(out / "reference.json").write_text(json.dumps(reference) + "\n")
print({k: v["accuracy"] for k, v in reference.items()})
