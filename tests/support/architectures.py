"""Small random models of many decoder-only architectures, and the roles of their matrices, written down by hand."""

from typing import Any

import torch
import transformers

SPECIAL = {"vocab_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
PLAIN = {
    **SPECIAL,
    **{"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2},
    "max_position_embeddings": 64,
}
HEADS = {**PLAIN, "num_key_value_heads": 1, "head_dim": 8}
GROUPS = {**PLAIN, "num_key_value_heads": 2}
OLD = {**SPECIAL, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_inner": 24, "n_positions": 64}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
ROUTED = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12}
SHARED = {**ROUTED, "shared_expert_intermediate_size": 20}
LATENT = {
    **{"kv_lora_rank": 4, "q_lora_rank": None, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8},
    **{"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 12},
    **{"first_k_dense_replace": 1, "n_group": 1, "topk_group": 1},
}
MAMBA = {
    **{"mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_d_conv": 4},
    **{"mamba_expand": 2, "mamba_chunk_size": 8},
}
NEMOTRON = {
    **{"layers_block_type": ["mamba", "attention", "mlp", "moe"], "mamba_num_heads": 4, "mamba_head_dim": 8},
    **{"n_groups": 1, "ssm_state_size": 8, "chunk_size": 8, "n_routed_experts": 4, "num_experts_per_tok": 2},
    **{"moe_intermediate_size": 12, "moe_shared_expert_intermediate_size": 12, "use_mamba_kernels": False},
    "head_dim": 8,
}
JAMBA = {
    **{"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2},
    **{"expert_layer_offset": 1, "num_experts": 4, "mamba_d_state": 4, "mamba_dt_rank": 4, "use_mamba_kernels": False},
}
ZAMBA = {
    **{"num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"], "mamba_d_state": 8},
    **{"n_mamba_heads": 4, "mamba_ngroups": 1, "num_mem_blocks": 1, "mamba_expand": 2, "use_mamba_kernels": False},
    **{"attention_head_dim": 16, "adapter_rank": 4, "chunk_size": 8},
}

ATTN, GATED, FLAT = "q k v o", "gate up down", "up down"
SHARING = "shared_gate shared_up shared_down"
ARCHITECTURES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "OPT": (
        {**SPECIAL, "hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        | {"word_embed_proj_dim": 8, "max_position_embeddings": 64},
        [f"{ATTN} {FLAT}"] * 2,
    ),
    "GPT2": (OLD, [f"{ATTN} {FLAT}"] * 2),
    "GPTJ": ({**OLD, "rotary_dim": 4}, [f"{ATTN} {FLAT}"] * 2),
    "CodeGen": ({**OLD, "n_head": 4, "rotary_dim": 4, "n_ctx": 64}, [f"{ATTN} {FLAT}"] * 2),
    "GPTBigCode": (OLD, [f"{ATTN} {FLAT}"] * 2),
    "GPTNeo": (
        {**SPECIAL, "hidden_size": 16, "num_layers": 2, "num_heads": 2, "max_position_embeddings": 64}
        | {"attention_types": [[["global", "local"], 1]]},
        [f"{ATTN} {FLAT}"] * 2,
    ),
    "GPTNeoX": (PLAIN, [f"{ATTN} {FLAT}"] * 2),
    "Bloom": ({**SPECIAL, "hidden_size": 16, "n_layer": 2, "n_head": 2}, [f"{ATTN} {FLAT}"] * 2),
    "Falcon": (PLAIN, [f"{ATTN} {FLAT}"] * 2),
    "Phi": (PLAIN, [f"{ATTN} {FLAT}"] * 2),
    "Phi3": (GROUPS, [f"{ATTN} {GATED}"] * 2),
    "Glm": (HEADS, [f"{ATTN} {GATED}"] * 2),
    "Glm4": (HEADS, [f"{ATTN} {GATED}"] * 2),
    "Jamba": ({**GROUPS, **JAMBA}, [GATED, f"{ATTN} {GATED}"] * 2),
    "FalconH1": ({**GROUPS, **MAMBA, "mamba_d_ssm": 32}, [f"{ATTN} {GATED}"] * 2),
    "Bamba": ({**GROUPS, **MAMBA, "attn_layer_indices": [1]}, [GATED, f"{ATTN} {GATED}"]),
    "Lfm2": (
        {**GROUPS, "layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
        [GATED, f"{ATTN} {GATED}"],
    ),
    "Llama4Text": (
        {**HEADS, "intermediate_size_mlp": 24, "num_local_experts": 4, "interleave_moe_layer_step": 2}
        | {"num_experts_per_tok": 1},
        [f"{ATTN} {GATED}", f"{ATTN} {GATED} {SHARING}"],
    ),
    "Mpt": (
        {"d_model": 16, "n_heads": 2, "n_layers": 2, "expansion_ratio": 2, "vocab_size": 32, "max_seq_len": 64},
        [f"{ATTN} {FLAT}"] * 2,
    ),
    "GptOss": ({**HEADS, **EXPERTS}, [f"{ATTN} {GATED}"] * 2),
    "GraniteMoe": ({**GROUPS, **EXPERTS}, [f"{ATTN} {GATED}"] * 2),
    "GraniteMoeHybrid": (
        {**GROUPS, **MAMBA, **EXPERTS, "shared_intermediate_size": 20, "layer_types": ["mamba", "attention"]},
        [f"{GATED} {SHARING}", f"{ATTN} {GATED} {SHARING}"],
    ),
    "NemotronH": ({**GROUPS, **NEMOTRON}, ["", ATTN, FLAT, f"{FLAT} shared_up shared_down"]),
    "NanoChat": (GROUPS, [f"{ATTN} {FLAT}"] * 2),
    "XGLM": (
        {**SPECIAL, "d_model": 16, "ffn_dim": 24, "num_layers": 2, "attention_heads": 2, "max_position_embeddings": 64},
        [f"{ATTN} {FLAT}"] * 2,
    ),
    "BioGpt": (PLAIN, [f"{ATTN} {FLAT}"] * 2),
    "CTRL": (
        {**SPECIAL, "n_embd": 16, "n_layer": 2, "n_head": 2, "dff": 24, "n_positions": 64},
        [f"{ATTN} {FLAT}"] * 2,
    ),
    "JetMoe": (
        {**SPECIAL, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_key_value_heads": 2}
        | {"kv_channels": 8, **EXPERTS},
        [f"{ATTN} {GATED}"] * 2,
    ),
    "Zamba2": ({**GROUPS, **ZAMBA}, ["", f"{ATTN} {GATED}"] * 2),
    "RecurrentGemma": (
        {**HEADS, "num_hidden_layers": 3, "lru_width": 16, "attention_window_size": 8},
        [GATED, GATED, f"{ATTN} {GATED}"],
    ),
    "OpenAIGPT": ({**SPECIAL, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}, [f"{ATTN} {FLAT}"] * 2),
    "Gemma3Text": (HEADS, [f"{ATTN} {GATED}"] * 2),
    "Qwen2Moe": ({**GROUPS, **SHARED, "decoder_sparse_step": 1}, [f"{ATTN} {GATED} {SHARING}"] * 2),
    "Qwen3Next": (
        {**HEADS, **SHARED, "linear_num_value_heads": 2, "linear_num_key_heads": 2, "linear_key_head_dim": 8}
        | {"linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"]},
        [f"{GATED} {SHARING}", f"{ATTN} {GATED} {SHARING}"],
    ),
    "DeepseekV2": ({**PLAIN, **LATENT}, [f"q o {GATED}", f"q o {GATED} {SHARING}"]),
    "Mixtral": ({**HEADS, "num_local_experts": 4}, [f"{ATTN} {GATED}"] * 2),
    "Mamba": ({**SPECIAL, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}, ["", ""]),
    "Rwkv": (
        {**SPECIAL, "hidden_size": 16, "num_hidden_layers": 2, "attention_hidden_size": 16, "intermediate_size": 24}
        | {"context_length": 64},
        ["", ""],
    ),
}
"""Of each architecture a configuration, and the roles that there are in each of its layers."""


def tiny(name: str, spread: float = 1.0) -> Any:
    """The model of an architecture, the weights of its blocks multiplied by ``spread`` so that nothing is nearly linear."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**ARCHITECTURES[name][0])
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    if spread != 1:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(spread)
    return model
