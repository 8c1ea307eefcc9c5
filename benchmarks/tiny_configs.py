"""A small configuration of any model type of transformers: the fields that say a size are set, by name."""

from __future__ import annotations

import dataclasses
from typing import Any

from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

LAYERS, TOWER_LAYERS = 4, 6
"""Layers of a text decoder; and of what is beside it, which are more, so that it would be taken for the longer list."""
_DEPTH = (
    *("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_blocks", "depth", "num_layers_per_stack"),
    *("decoder_layers", "encoder_layers", "num_decoder_layers", "num_encoder_layers", "conf_num_hidden_layers"),
)
_SAME: dict[int, str] = {
    64: "vocab_size unpadded_vocab_size audio_vocab_size codebook_size decoder_vocab_size max_position_embeddings "
    "n_positions n_ctx max_seq_len context_length vocab_size_per_layer_input max_source_positions max_target_positions "
    "position_bias_max_distance index_topk encoder_hash_byte_group_vocab model_max_length ngram_vocab_size_base "
    "pronunciation_vocab_size shape_vocab_size mamba_d_ssm",
    32: "hidden_size d_model n_embd dim_model embedding_size word_embed_proj_dim embed_dim hidden_size_global "
    "lru_width attention_hidden_size backbone_hidden_size out_hidden_size input_size linear_attn_dim "
    "dim_model_base output_channels ple_embed_dim projection_dim audio_embed_dim adapter_in_dim adapter_out_dim "
    "adapter_input_size",
    40: "intermediate_size ffn_dim n_inner d_ff d_inner dff dim_ff ffn_hidden_size decoder_ffn_dim encoder_ffn_dim "
    "dense_intermediate_size mlp_dim intermediate_size_mlp",
    24: "moe_intermediate_size expert_ffn_hidden_size shared_expert_intermediate_size shared_intermediate_size "
    "shared_experts_intermediate_size moe_shared_expert_intermediate_size",
    16: "sliding_window attention_window_size local_attention sliding_window_size window_size attention_chunk_size "
    "chunk_size mamba_chunk_size prompt_mid_dim rel_extent attention_head_dim block_size image_size num_centroids "
    "num_position_embeddings indexer_budget",
    8: "head_dim v_head_dim qk_nope_head_dim qk_rope_head_dim q_lora_rank kv_lora_rank o_lora_rank kv_channels d_kv "
    "dim_head index_head_dim swa_head_dim linear_head_dim linear_key_head_dim linear_value_head_dim mamba_d_head "
    "d_head mamba_head_dim attention_head_size laurel_rank hc_lowrank d_rel mamba_dt_rank mamba_d_state ssm_state_size "
    "state_size time_step_rank mamba_num_heads mamba_n_heads gated_norm_rank adapter_rank "
    "centroid_intermediate_top_k keep_window_size indexer_head_dim",
    4: "num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads attention_heads "
    "num_encoder_attention_heads num_decoder_attention_heads swa_num_attention_heads linear_num_value_heads "
    "conf_num_attention_heads num_experts n_routed_experts num_local_experts moe_num_experts rotary_dim patch_size "
    "index_n_heads indexer_n_heads indexer_compress_ratio linear_num_heads prompt_length zero_expert_num",
    2: "num_key_value_heads num_kv_heads kv_n_heads swa_num_key_value_heads linear_num_key_heads num_experts_per_tok "
    "num_experts_per_token moe_topk moe_top_k moe_k n_mamba_heads o_groups index_topk_blocks "
    "first_k_dense_replace",
    1: "n_group topk_group num_expert_group n_groups mamba_n_groups mamba_ngroups n_shared_experts num_shared_experts "
    "moe_num_shared_experts num_nextn_predict_layers num_mem_blocks indexer_kv_heads",
    0: "num_kv_shared_layers hidden_size_per_layer_input",
}
SIZES = {name: value for value, names in _SAME.items() for name in names.split()}
_FURTHER: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"layer_group_size": 2},
    "bamba": {"attn_layer_indices": [1, 3]},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 1e4}},
    "dots3_note_text": {"num_key_value_heads": 4, "head_dim": 16, "per_layer_config": {}},
    "dots3_note_vision_encoder": {"per_layer_config": {}},
    "gemma3n_text": {"hidden_size_per_layer_input": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "hrm_text": {"num_layers_per_stack": 4, "num_hidden_layers": 32},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "kimi_linear": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8},
    "reformer": {"axial_pos_embds": False, "attn_layers": ["local", "lsh"] * 2, "num_buckets": 4},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"layers_block_type": ["mamba", "hybrid"] * 2, "attention_hidden_size": 64, "use_mamba_kernels": False},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"] * 2, "use_mamba_kernels": False},
    "zaya": {"num_experts_per_tok": 1},
}
"""By model type, what else its configuration must say to be small, or to have layers of all of its kinds."""


def tiny(model_type: str) -> PreTrainedConfig:
    """The configuration of a model type, whose model has at most a few hundred thousand weights.

    Raises:
        Exception: whatever the configuration's class says of the sizes.
    """
    config = CONFIG_MAPPING[model_type]
    return config(**_sizes(config, LAYERS))


def _sizes(config: Any, layers: int) -> dict[str, Any]:
    """The arguments of a configuration's class, those of the configurations in it included."""
    names = {field.name for field in dataclasses.fields(config)} | {*config.attribute_map}
    found: dict[str, Any] = {name: size for name, size in SIZES.items() if name in names}
    found |= {name: layers for name in _DEPTH if name in names}
    found |= {f"{name}_token_id": n for n, name in enumerate(("pad", "bos", "eos")) if f"{name}_token_id" in names}
    found |= {"is_decoder": True} if "is_decoder" in names else {}
    found |= {"num_key_value_heads": 4} if {"kv_lora_rank", "num_key_value_heads"} <= names else {}
    further = _FURTHER.get(config.model_type, {})
    for name, part in config.sub_configs.items():
        if name in names and name not in further:
            inside = type(getattr(config(), name)) if part.__name__ == "AutoConfig" else part
            if inside is not type(None):
                text = name.startswith(("text", "decoder"))
                found[name] = _sizes(inside, LAYERS if text else TOWER_LAYERS)
    return found | further
