"""A model as an OlmoeForCausalLM of transformers: its configuration and tensors, by their names."""

import numpy as np

from .. import checkpoint, model, world
from ..config import Config
from ..model import transformer


def config(cfg: Config) -> dict:
    """What config.json says of a run's model, after the table of docs/parameters.md."""
    return {
        "model_type": "olmoe",
        "architectures": ["OlmoeForCausalLM"],
        "dtype": "float32",
        "vocab_size": len(world.vocabulary(cfg.world)),
        "hidden_size": cfg.model.width,
        "num_hidden_layers": cfg.model.layers,
        "num_attention_heads": cfg.model.heads,
        "num_key_value_heads": cfg.model.heads,
        "num_experts": cfg.model.experts,
        "intermediate_size": cfg.model.expert_width,
        "num_experts_per_tok": cfg.model.top_k,
        "norm_topk_prob": cfg.model.norm_topk_prob,
        "hidden_act": "silu",
        "rms_norm_eps": transformer.EPSILON,
        "rope_theta": transformer.THETA,
        "attention_bias": False,
        "clip_qkv": None,
        "attention_dropout": 0.0,
        "tie_word_embeddings": False,
        "bos_token_id": world.BOS,
        "eos_token_id": world.END,
        "pad_token_id": None,
        "max_position_embeddings": 4096,
        "experts_implementation": "eager",
    }


def tensors(params: model.Params) -> dict[str, np.ndarray]:
    """The tensors of OlmoeForCausalLM, one per expert and matrix, each out × in."""
    flat = checkpoint.flatten(params)
    made = {
        "model.embed_tokens.weight": flat["embed"],
        "model.norm.weight": flat["final_norm"],
        "lm_head.weight": flat["unembed"].T,
    }
    for layer in range(len(flat["layers/router"])):
        made |= {f"model.layers.{layer}.{name}": x for name, x in _layer(flat, layer).items()}
    return made


def _layer(flat, layer):
    w = {k.removeprefix("layers/"): x[layer] for k, x in flat.items() if k.startswith("layers/")}
    q_DD, k_DD, v_DD = np.split(w["qkv"], 3, -1)
    made = {
        "input_layernorm.weight": w["attention_norm"],
        "self_attn.q_proj.weight": q_DD.T,
        "self_attn.k_proj.weight": k_DD.T,
        "self_attn.v_proj.weight": v_DD.T,
        "self_attn.q_norm.weight": w["query_norm"],
        "self_attn.k_norm.weight": w["key_norm"],
        "self_attn.o_proj.weight": w["out"].T,
        "post_attention_layernorm.weight": w["moe_norm"],
        "mlp.gate.weight": w["router"].T,
    }
    both_E = zip(w["experts/gate_up"], w["experts/down"], strict=True)
    for e, (gate_up_DF, down_FD) in enumerate(both_E):
        gate_DF, up_DF = np.split(gate_up_DF, 2, -1)
        made[f"mlp.experts.{e}.gate_proj.weight"] = gate_DF.T
        made[f"mlp.experts.{e}.up_proj.weight"] = up_DF.T
        made[f"mlp.experts.{e}.down_proj.weight"] = down_FD.T
    return made
