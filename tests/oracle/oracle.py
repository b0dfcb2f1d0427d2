"""Computes the reference log-probabilities with transformers + peft.

    python oracle.py --demo ../../demo --checkpoints ../../build/demo --out testdata

For the demo base and its adapters (the base's transformers checkpoint is what
train.py left under --checkpoints), and for tiny random-weight models of other
shapes, which it makes and writes beside the figures. Seeded.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "demo" / "train"))
import export  # noqa: E402

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL = ATTENTION + ["gate_proj", "up_proj", "down_proj"]
DEMO_TEXTS = [
    "What colour is the sky? The sky is blue.",
    "What is the capital of Norway? Yo ho ho! The capital of Norway be Oslo, matey!",
    "WHAT DOES THE COW SAY? THE COW SAYS MOO!",
    'What is two plus three? {"topic": "sum", "answer": "five"}',
    "How many legs does the spider have?\nI think of spider,\nthe answer is only eight.\nSmall feet on the moss.",
    "<|user|>Count to five.<|assistant|>One, two, three, four, five.<|eos|>",
    "Grüße, 🦜! Überall naïve Tests…",
    "Count to twenty. " + ", ".join("one two three four five six seven eight nine ten".split() * 16) + ".",
]
# Name: (shape, type of the matrices, adapters). Every adapter has random weights in B too. All are in F32: random
# weights amplify the rounding of activations that comes with F16; the demo stands for F16.
TINY = {
    "gqa-untied": (
        dict(hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False),
        np.float32,
        {
            "rank12": (LoraConfig(r=12, lora_alpha=24, target_modules=ALL), torch.float32),
            "rslora": (LoraConfig(r=16, lora_alpha=8, use_rslora=True, target_modules=ALL), torch.bfloat16),
            "patterns": (LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], rank_pattern={"q_proj": 10},
                                    alpha_pattern={"layers.1.mlp.down_proj": 20}, layers_to_transform=None), torch.float16),
            "layer1": (LoraConfig(r=8, lora_alpha=8, target_modules=["k_proj", "up_proj"], layers_to_transform=[1]), torch.float32),
            "regex": (LoraConfig(r=6, lora_alpha=6, target_modules=r".*\.0\.self_attn\.[qo]_proj"), torch.float32),
            "lm-head": (LoraConfig(r=8, lora_alpha=16, target_modules=["v_proj", "lm_head"]), torch.float32),
        },
    ),
    "deep-mha": (  # the nodes of adapters overflow what llama.cpp plans for a graph of so many layers, and it aborts
        dict(hidden_size=32, intermediate_size=64, num_hidden_layers=28, num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True),
        np.float32,
        {"all": (LoraConfig(r=8, lora_alpha=16, target_modules=ALL), torch.float32)},
    ),
    "mqa": (
        dict(hidden_size=96, intermediate_size=128, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=True,
             rope_parameters={"rope_type": "default", "rope_theta": 500000.0}),
        np.float32,
        {"attention": (LoraConfig(r=16, lora_alpha=32, target_modules=ATTENTION), torch.float32)},
    ),
}


@torch.no_grad()
def figures(model, prompts: list[list[int]]) -> list[list[float]]:
    """For each prompt, the log-probability of each token but the first given those before it."""
    out = []
    for ids in prompts:
        t = torch.tensor([ids])
        lp = torch.log_softmax(model(t).logits[0].double(), dim=-1)
        out.append([round(lp[i, ids[i + 1]].item(), 6) for i in range(len(ids) - 1)])
    return out


def randomize(model, generator: torch.Generator) -> None:
    """Weights large enough that the logits differ clearly, as those of a trained model do."""
    for name, p in model.named_parameters():
        if p.ndim > 1:
            scale = 0.5 if "embed" in name or "lm_head" in name else 1.5 / p.shape[1] ** 0.5
            if "o_proj" in name or "down_proj" in name:  # as deep models are initialized, or they are chaotic
                scale /= (2 * model.config.num_hidden_layers) ** 0.5
            p.data = (torch.randn(p.shape, generator=generator) * scale).half().float()
        else:
            p.data = 1 + 0.2 * torch.randn(p.shape, generator=generator)


def demo(args) -> dict:
    checkpoint = args.checkpoints / "parrot"
    tokenizer = PreTrainedTokenizerFast.from_pretrained(checkpoint)
    prompts = [tokenizer.encode(t) for t in DEMO_TEXTS]
    adapters = {"": figures(LlamaForCausalLM.from_pretrained(checkpoint).eval(), prompts)}
    for path in sorted(p for p in (args.demo / "adapters").iterdir() if p.is_dir()):
        model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(checkpoint), path).eval()
        adapters[path.name] = figures(model, prompts)
    return {"model": "parrot", "texts": DEMO_TEXTS, "prompts": prompts, "logprobs": adapters}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    special = ["<|bos|>", "<|eos|>", "<|pad|>"]
    vocab = {t: i for i, t in enumerate(special + sorted(pre_tokenizers.ByteLevel.alphabet()) + ["th"])}
    t = Tokenizer(models.BPE(vocab=vocab, merges=[("t", "h")]))  # llama.cpp wants at least one
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=t, bos_token=special[0], eos_token=special[1], pad_token=special[2])


def tiny(name: str, out: Path, generator: torch.Generator) -> dict:
    shape, matrices, adapters = TINY[name]
    tokenizer = byte_tokenizer()
    base = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=256, rms_norm_eps=1e-5,
                                        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
                                        pad_token_id=tokenizer.pad_token_id, **shape)).eval()
    randomize(base, generator)
    (out / name).mkdir(parents=True)
    export.base(base, tokenizer, out / name / "base.gguf", name, matrices)
    state = {k: v.clone() for k, v in base.state_dict().items()}
    prompts = [torch.randint(3, len(tokenizer), (n,), generator=generator).tolist() for n in (2, 17, 100)]
    result = {"model": name, "texts": None, "prompts": prompts, "logprobs": {"": figures(base, prompts)}}
    for adapter, (config, dtype) in adapters.items():
        config.task_type = "CAUSAL_LM"
        fresh = LlamaForCausalLM(base.config)
        fresh.load_state_dict(state)
        model = get_peft_model(fresh, config).eval()
        for n, p in model.named_parameters():
            if ".lora_" in n:
                p.data = (torch.randn(p.shape, generator=generator) * (0.5 / p.shape[1] ** 0.5)).to(dtype)
        model.peft_config["default"].base_model_name_or_path = name
        model.save_pretrained(out / name / "adapters" / adapter, save_embedding_layers=False)
        (out / name / "adapters" / adapter / "README.md").unlink(missing_ok=True)
        for p in model.parameters():
            p.data = p.data.float()
        result["logprobs"][adapter] = figures(model, prompts)
    return result


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--demo", type=Path, required=True)
    ap.add_argument("--checkpoints", type=Path, required=True)
    ap.add_argument("--out", type=Path, required=True)
    args = ap.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    generator = torch.Generator().manual_seed(11)
    results = [demo(args)] + [tiny(name, args.out, generator) for name in TINY]
    (args.out / "figures.json").write_text(json.dumps(results) + "\n")
    for r in results:
        print(f"{r['model']}: {sum(len(p) - 1 for p in r['prompts'])} tokens x {len(r['logprobs'])} variants")


if __name__ == "__main__":
    main()
