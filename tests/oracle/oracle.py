"""Computes the reference log-probabilities and embeddings with transformers + peft.

    python oracle.py --demo ../../demo --checkpoints ../../build/demo --out testdata

For the demo base and its adapters (the base's transformers checkpoint is what train.py
left under --checkpoints; without it, its figures stay as they are), and for tiny
random-weight models of other shapes and architectures, which it makes and writes beside
the figures. Each has a folder of its own under --out and a seed of its own; --only makes
one. Embeddings are of the tiny models only, of each base and the first of its adapters.
"""

import argparse
import json
import shutil
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast

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
INVOCATION = [70, 71, 72]  # activates an aLoRA
FUSED = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
SHARED = dict(hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
              rms_norm_eps=1e-5)
# Name: (model type, what its config adds to SHARED, adapters). Every adapter has random weights in B too. All bases are
# in F32: random weights amplify the rounding of activations that comes with F16; the demo stands for F16. The bases of
# KEPT are written as GGUF, laid out by export.py; the others as Hugging Face writes them, for Lorikeet to convert.
KEPT = ["gqa-untied", "deep-mha", "mqa"]
TINY = {
    "gqa-untied": ("llama", dict(tie_word_embeddings=False), {
        "rank12": (LoraConfig(r=12, lora_alpha=24, target_modules=ALL), torch.float32),
        "rslora": (LoraConfig(r=16, lora_alpha=8, use_rslora=True, target_modules=ALL), torch.bfloat16),
        "patterns": (LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], rank_pattern={"q_proj": 10},
                                alpha_pattern={"layers.1.mlp.down_proj": 20}, layers_to_transform=None), torch.float16),
        "layer1": (LoraConfig(r=8, lora_alpha=8, target_modules=["k_proj", "up_proj"], layers_to_transform=[1]), torch.float32),
        "regex": (LoraConfig(r=6, lora_alpha=6, target_modules=r".*\.0\.self_attn\.[qo]_proj"), torch.float32),
        "lm-head": (LoraConfig(r=8, lora_alpha=16, target_modules=["v_proj", "lm_head"]), torch.float32),
        "activated": (LoraConfig(r=8, lora_alpha=16, target_modules=ALL, alora_invocation_tokens=INVOCATION), torch.float32),
    }),
    # The nodes of adapters overflow what llama.cpp plans for a graph of so many layers, and it aborts.
    "deep-mha": ("llama", dict(hidden_size=32, intermediate_size=64, num_hidden_layers=28, num_attention_heads=2, num_key_value_heads=2,
                               tie_word_embeddings=True), {
        "all": (LoraConfig(r=8, lora_alpha=16, target_modules=ALL), torch.float32),
    }),
    "mqa": ("llama", dict(hidden_size=96, intermediate_size=128, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=1,
                          tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 500000.0}), {
        "attention": (LoraConfig(r=16, lora_alpha=32, target_modules=ATTENTION), torch.float32),
    }),
    "llama3-rope": ("llama", dict(tie_word_embeddings=True, rope_parameters={
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}), {
        "all": (LoraConfig(r=8, lora_alpha=16, target_modules=ALL), torch.float32),
    }),
    "mistral": ("mistral", dict(tie_word_embeddings=False, head_dim=32, sliding_window=None), {
        "all": (LoraConfig(r=8, lora_alpha=16, target_modules=ALL), torch.bfloat16),
        "lm-head": (LoraConfig(r=4, lora_alpha=8, target_modules=["o_proj", "lm_head"]), torch.float32),
    }),
    "qwen2": ("qwen2", dict(tie_word_embeddings=True), {
        "all": (LoraConfig(r=8, lora_alpha=16, target_modules=ALL), torch.float16),
        "rslora": (LoraConfig(r=16, lora_alpha=8, use_rslora=True, target_modules=ATTENTION), torch.float32),
        "excluded": (LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", exclude_modules=["k_proj"]), torch.float32),
    }),
    "qwen3": ("qwen3", dict(tie_word_embeddings=False, head_dim=32), {
        "all": (LoraConfig(r=8, lora_alpha=16, target_modules=ALL), torch.float32),
        "patterns": (LoraConfig(r=4, lora_alpha=8, target_modules=ALL, rank_pattern={r"self_attn\.[qk]_proj": 7}, alpha_pattern={"^model.layers.0.mlp.up_proj": 3}), torch.bfloat16),
        "lm-head": (LoraConfig(r=4, lora_alpha=8, target_modules=["lm_head", "gate_proj"]), torch.float32),
    }),
    "gemma": ("gemma", dict(num_key_value_heads=1, head_dim=32), {
        "all": (LoraConfig(r=8, lora_alpha=16, target_modules=ALL), torch.float32),
        "layer0": (LoraConfig(r=8, lora_alpha=32, target_modules=ATTENTION, layers_to_transform=[0]), torch.float16),
    }),
    "gemma2": ("gemma2", dict(hidden_size=48, intermediate_size=96, head_dim=32, sliding_window=24, query_pre_attn_scalar=32, final_logit_softcapping=10.0, attn_logit_softcapping=15.0,
                              num_hidden_layers=4), {
        "all": (LoraConfig(r=8, lora_alpha=16, target_modules=ALL), torch.float32),
        "regex": (LoraConfig(r=6, lora_alpha=12, target_modules=r".*\.(q|gate)_proj"), torch.bfloat16),
    }),
    "gemma3": ("gemma3_text", dict(hidden_size=32, intermediate_size=64, num_attention_heads=2, num_key_value_heads=1, head_dim=32, sliding_window=24, query_pre_attn_scalar=32, num_hidden_layers=7), {
        "all": (LoraConfig(r=8, lora_alpha=16, target_modules=ALL), torch.float32),
        "rslora": (LoraConfig(r=4, lora_alpha=4, use_rslora=True, target_modules=["v_proj", "down_proj"]), torch.float32),
    }),
    "phi3": ("phi3", dict(tie_word_embeddings=False, sliding_window=None, original_max_position_embeddings=256), {
        "all": (LoraConfig(r=8, lora_alpha=16, target_modules=FUSED), torch.float32),
        "fused": (LoraConfig(r=6, lora_alpha=12, target_modules=["qkv_proj", "gate_up_proj"]), torch.float16),
    }),
}
# Where the tokens that activate an aLoRA stand in a model's prompts: the last place counts.
INVOKED = {"gqa-untied": {1: [0, 9], 2: [10, 40]}}
# Adapters that are saved in several files, of so many bytes each at most.
SHARDED = {("qwen2", "all"): 12_000}
# Adapters asked for together: scales by adapter.
TOGETHER = {"gqa-untied": {"rank12": 0.5, "layer1": 1.5}, "gemma2": {"all": 1.0, "regex": -0.5}}


@torch.no_grad()
def figures(model, prompts: list[list[int]]) -> list[list[float]]:
    """For each prompt, the log-probability of each token but the first given those before it."""
    out = []
    for ids in prompts:
        t = torch.tensor([ids])
        lp = torch.log_softmax(model(t).logits[0].double(), dim=-1)
        out.append([round(lp[i, ids[i + 1]].item(), 6) for i in range(len(ids) - 1)])
    return out


@torch.no_grad()
def embeddings(model, prompts: list[list[int]]) -> list[dict[str, list[float]]]:
    """For each prompt, the final hidden state of its last token, and the mean of all tokens'."""
    out = []
    for ids in prompts:
        hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0].double()
        out.append({"last": [round(v, 5) for v in hidden[-1].tolist()], "mean": [round(v, 5) for v in hidden.mean(dim=0).tolist()]})
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
            p.data = 0.2 * torch.randn(p.shape, generator=generator)
            if not model.config.model_type.startswith("gemma"):  # whose norms add 1 themselves
                p.data += 1


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


def save_adapter(model, path: Path, shard: int | None) -> None:
    model.save_pretrained(path, save_embedding_layers=False)
    (path / "README.md").unlink(missing_ok=True)
    if shard is None:
        return
    tensors = load_file(path / "adapter_model.safetensors")
    split = split_torch_state_dict_into_shards(tensors, filename_pattern="adapter_model{suffix}.safetensors", max_shard_size=shard)
    (path / "adapter_model.safetensors").unlink()
    for file, names in split.filename_to_tensors.items():
        save_file({n: tensors[n] for n in names}, path / file)
    index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
    (path / "adapter_model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def tiny(name: str, out: Path) -> dict:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    kind, shape, adapters = TINY[name]
    tokenizer = byte_tokenizer()
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
                                  pad_token_id=tokenizer.pad_token_id, **(SHARED | shape))
    config._attn_implementation = "eager"  # the only one with soft caps
    base = AutoModelForCausalLM.from_config(config).eval()
    randomize(base, generator)
    if name in KEPT:
        export.base(base, tokenizer, out / "base.gguf", name, np.float32)
    else:
        base.save_pretrained(out / "base")
        tokenizer.save_pretrained(out / "base")
        (out / "base" / "generation_config.json").unlink(missing_ok=True)
    state = {k: v.clone() for k, v in base.state_dict().items()}
    prompts = [torch.randint(3, len(tokenizer), (n,), generator=generator).tolist() for n in (2, 17, 100)]
    for prompt, places in INVOKED.get(name, {}).items():
        for at in places:
            prompts[prompt][at : at + len(INVOCATION)] = INVOCATION
    result = {"model": name, "texts": None, "prompts": prompts, "logprobs": {"": figures(base, prompts)}, "embeddings": {"": embeddings(base, prompts)}}
    deltas = {}
    for adapter, (lora, dtype) in adapters.items():
        lora.task_type = "CAUSAL_LM"
        fresh = AutoModelForCausalLM.from_config(base.config)
        fresh.load_state_dict(state)
        model = get_peft_model(fresh, lora).eval()
        for n, p in model.named_parameters():
            if ".lora_" in n:
                p.data = (torch.randn(p.shape, generator=generator) * (0.5 / p.shape[1] ** 0.5)).to(dtype)
        model.peft_config["default"].base_model_name_or_path = name
        save_adapter(model, out / "adapters" / adapter, SHARDED.get((name, adapter)))
        for p in model.parameters():
            p.data = p.data.float()
        result["logprobs"][adapter] = figures(model, prompts)
        if len(result["embeddings"]) == 1:
            result["embeddings"][adapter] = embeddings(model, prompts)
        if adapter in TOGETHER.get(name, {}):
            deltas[adapter] = {n: m.get_delta_weight("default") for n, m in model.base_model.model.named_modules() if hasattr(m, "lora_A")}
    if name in TOGETHER:
        fresh = AutoModelForCausalLM.from_config(base.config)
        fresh.load_state_dict(state)
        for adapter, scale in TOGETHER[name].items():
            for module, delta in deltas[adapter].items():
                fresh.get_submodule(module).weight.data += scale * delta
        result["together"] = {"scales": TOGETHER[name], "logprobs": figures(fresh.eval(), prompts)}
    return result


def write(out: Path, result: dict) -> None:
    (out / "figures.json").write_text(json.dumps(result) + "\n")
    print(f"{result['model']}: {sum(len(p) - 1 for p in result['prompts'])} tokens x {len(result['logprobs'])} variants")


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--demo", type=Path, required=True)
    ap.add_argument("--checkpoints", type=Path)
    ap.add_argument("--out", type=Path, required=True)
    ap.add_argument("--only", choices=["parrot", *TINY])
    args = ap.parse_args()
    if args.checkpoints and args.only in (None, "parrot"):
        (args.out / "parrot").mkdir(parents=True, exist_ok=True)
        write(args.out / "parrot", demo(args))
    for name in TINY:
        if args.only in (None, name):
            shutil.rmtree(args.out / name, ignore_errors=True)
            (args.out / name).mkdir(parents=True)
            write(args.out / name, tiny(name, args.out / name))
    for path in args.out.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


if __name__ == "__main__":
    main()
