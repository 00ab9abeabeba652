# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The names that other programs have for lmx's config keys."""

from collections.abc import Mapping
from typing import Any

# What the configs of transformers, nanoGPT, MaxText and Levanter call what lmx has under another name.
OTHER_NAMES: dict[str, str] = {
  name: key
  for key, names in {
    "model.layers": "n_layer n_layers num_layers num_hidden_layers num_decoder_layers base_num_decoder_layers depth",
    "model.width": "hidden_size d_model n_embd hidden_dim emb_dim base_emb_dim embed_dim embedding_size dim model_dim",
    "model.heads": "n_head n_heads num_heads num_attention_heads num_query_heads base_num_query_heads",
    "model.kv_heads": "n_kv_head n_kv_heads num_kv_heads num_key_value_heads base_num_kv_heads",
    "model.head_width": "head_dim head_size d_head d_kv",
    "model.mlp_width": "d_ff intermediate_size ffn_dim mlp_dim base_mlp_dim n_inner ffn_hidden_size intermediate_dim",
    "model.context": "n_ctx n_positions max_position_embeddings block_size context_length",
    "data.length": "max_seq_len max_seq_length seq_len seq_length sequence_length max_target_length max_length",
    "model.activation": "hidden_act activation_function hidden_activation",
    "model.norm_eps": "rms_norm_eps layer_norm_eps layer_norm_epsilon normalization_layer_epsilon",
    "model.tied": "tie_word_embeddings tie_embeddings weight_tying logits_via_embedding",
    "model.window": "sliding_window sliding_window_size",
    "model.dropout": "dropout_rate hidden_dropout_prob attention_dropout resid_pdrop embd_pdrop attn_pdrop",
    "model.experts": "num_experts num_local_experts n_routed_experts",
    "model.experts_per_token": "num_experts_per_tok top_k_experts moe_top_k",
    "model.init_std": "initializer_range init_scale",
    "model.rope_theta": "rotary_emb_base rope_max_timescale rope_base",
    "optimizer.peak_lr": "learning_rate lr max_lr peak_learning_rate base_learning_rate",
    "optimizer.final_lr_ratio": "min_lr_ratio min_lr cosine_learning_rate_final_fraction learning_rate_final_fraction",
    "optimizer.warmup": "warmup_steps warmup_iters warmup_ratio num_warmup_steps warmup_steps_fraction",
    "optimizer.schedule": "lr_scheduler_type lr_schedule scheduler",
    "optimizer.b1": "beta1 adam_beta1 adam_b1",
    "optimizer.b2": "beta2 adam_beta2 adam_b2",
    "optimizer.eps": "epsilon adam_epsilon adam_eps",
    "optimizer.clip_norm": "max_grad_norm grad_clip gradient_clipping_threshold gradient_clip clip_grad_norm",
    "optimizer.name": "optim opt_type",
    "train.duration": "max_steps num_train_steps max_iters steps num_train_epochs num_steps total_steps",
    "train.batch_size": "per_device_batch_size per_device_train_batch_size train_batch_size global_batch_size bs",
    "train.micro_batches": "gradient_accumulation_steps grad_accum_steps gradient_accumulation",
    "compute.dtype": "precision param_dtype torch_dtype compute_dtype mixed_precision",
    "compute.remat": "gradient_checkpointing remat_policy activation_checkpointing",
    "evaluation.every": "eval_interval eval_steps steps_per_eval",
    "checkpoint.every": "save_steps checkpoint_period save_interval checkpoint_interval",
    "log.every": "logging_steps log_interval log_period",
    "log.wandb_project": "wandb project",
    "data.sources": "dataset dataset_path dataset_name train_file train_files",
    "lora.rank": "lora_r lora_rank",
    "lora.alpha": "lora_alpha",
    "lora.targets": "target_modules",
    "mesh.fsdp": "ici_fsdp_parallelism fsdp_size",
    "mesh.tensor": "ici_tensor_parallelism tensor_parallel_size tp_size model_parallel",
  }.items()
  for name in names.split()
}


def other_name(key: str, known: Mapping[str, Any]) -> str | None:
  """lmx's key for a key that was typed: without its section, in another one, or as another program calls it.

  Args:
    key: as typed, "weight_decay" or "model.hidden_size".
    known: lmx's keys, dotted.
  """
  last = key.rpartition(".")[2].replace("-", "_").lower()
  same = [one for one in known if one.rpartition(".")[2] == last]
  if len(same) == 1:
    return same[0]
  return OTHER_NAMES.get(last)
