"""Writes the demo base and adapters as GGUF, laid out as llama.cpp reads them."""

import json
from pathlib import Path

import gguf
import numpy as np

# Hugging Face module -> GGUF weight, within one layer.
_MODULES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}


def interleave(w: np.ndarray, heads: int) -> np.ndarray:
    """Reorders the rows of q and k: transformers rotates halves of a head, llama.cpp's llama rotates neighbours."""
    rows = w.shape[0] // heads // 2
    return w.reshape(heads, 2, rows, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def _weights(named: dict[str, np.ndarray], heads: int, kv_heads: int):
    for name, w in named.items():
        name = name.removeprefix("model.")
        if name == "embed_tokens.weight":
            yield "token_embd.weight", w
        elif name == "norm.weight":
            yield "output_norm.weight", w
        elif name == "lm_head.weight":
            yield "output.weight", w
        else:
            _, layer, module = name.removesuffix(".weight").split(".", 2)
            if module == "self_attn.q_proj":
                w = interleave(w, heads)
            elif module == "self_attn.k_proj":
                w = interleave(w, kv_heads)
            yield f"blk.{layer}.{_MODULES[module]}.weight", w


def base(model, tokenizer, path: Path, name: str, matrices: type) -> None:
    c = model.config
    w = gguf.GGUFWriter(str(path), "llama")
    w.add_name(name)
    w.add_license("MIT")
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_block_count(c.num_hidden_layers)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_rope_dimension_count(c.hidden_size // c.num_attention_heads)
    w.add_rope_freq_base(c.rope_parameters["rope_theta"])
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    w.add_vocab_size(c.vocab_size)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if matrices is np.float16 else gguf.LlamaFileType.ALL_F32)

    tokens = [t for t, _ in sorted(tokenizer.get_vocab().items(), key=lambda e: e[1])]
    special = set(tokenizer.all_special_tokens)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in tokens])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]])
    w.add_bos_token_id(tokenizer.bos_token_id)
    w.add_eos_token_id(tokenizer.eos_token_id)
    w.add_pad_token_id(tokenizer.pad_token_id)
    w.add_add_bos_token(True)
    w.add_add_eos_token(False)
    if tokenizer.chat_template:
        w.add_chat_template(tokenizer.chat_template)

    named = {n: p.detach().numpy() for n, p in model.named_parameters()}
    for n, a in _weights(named, c.num_attention_heads, c.num_key_value_heads):
        w.add_tensor(n, np.ascontiguousarray(a.astype(matrices if a.ndim > 1 else np.float32)))
    _close(w)


def adapter(peft_model, path: Path, name: str, dtype: type) -> None:
    c = peft_model.config
    config = peft_model.peft_config["default"]
    w = gguf.GGUFWriter(str(path), "llama")
    w.add_type("adapter")
    w.add_name(name)
    w.add_string("adapter.type", "lora")
    w.add_float32("adapter.lora.alpha", float(config.lora_alpha))
    for n, p in peft_model.named_parameters():
        if ".lora_" not in n:
            continue
        module, which = n.removeprefix("base_model.model.model.").removesuffix(".default.weight").rsplit(".lora_", 1)
        _, layer, module = module.split(".", 2)
        a = p.detach().numpy()
        if which == "B" and module == "self_attn.q_proj":
            a = interleave(a, c.num_attention_heads)
        elif which == "B" and module == "self_attn.k_proj":
            a = interleave(a, c.num_key_value_heads)
        w.add_tensor(f"blk.{layer}.{_MODULES[module]}.weight.lora_{which.lower()}", np.ascontiguousarray(a.astype(dtype)))
    _close(w)


def _close(w: gguf.GGUFWriter) -> None:
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
