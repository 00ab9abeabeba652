# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Every key of an experiment, once, with its unit and its reason. The other configs are short differences from it.

Command:  lmx config show --config=configs/base.py
Durations ("warmup", "every", ...) are text: a number and one of steps, tokens, examples, epochs, percent (of the run):
"2000 steps", "300M tokens", "1.5 epochs", "5%". An optional key without a value prints as None and takes one by flag.
"""

from ml_collections import config_dict

placeholder = config_dict.placeholder


def get_config() -> config_dict.ConfigDict:
  config = config_dict.ConfigDict()
  config.name = "base"  # Shown in logs and plots; the default run directory is runs/<name>.
  config.seed = 0  # One seed: initialisation, data order, dropout and samples are derived from it.

  # ---------------------------------------------------------------- model
  model = config.model = config_dict.ConfigDict()
  model.family = "transformer"  # A row of lmx.models.MODELS.
  model.layers = 12  # Blocks.
  model.width = 768  # D, the residual stream.
  model.heads = 12  # H, query heads.
  model.kv_heads = placeholder(int)  # G, key-value heads; None: as many as heads; 1: multi-query. Divides heads.
  model.head_width = placeholder(int)  # K; None: width / heads.
  model.mlp_width = placeholder(int)  # F; None: 4 * width (8/3 * width, up to a multiple of 128, for gated MLPs).
  model.context = 1024  # Longest sequence; the size of a learned position table.
  model.vocab_multiple = 128  # The vocabulary is padded up to a multiple, for the matrix unit and for sharding.
  model.position = "learned"  # learned | rotary | none
  model.rope_theta = 10_000.0  # Rotary base (https://arxiv.org/abs/2104.09864).
  model.rope_scaling = "none"  # none | linear | ntk | llama3: how rotary frequencies change past the trained context.
  model.rope_factor = 1.0  # The context grows by this factor under rope_scaling.
  model.rope_original_context = placeholder(int)  # llama3 scaling: the context before the growth, in tokens.
  model.norm = "layernorm"  # layernorm | rmsnorm
  model.norm_position = "pre"  # pre (before each sub-layer, and once at the end) | post (after each residual sum)
  model.norm_eps = 1e-5
  model.norm_bias = True  # LayerNorm's additive term; RMSNorm has none.
  model.activation = "gelu_tanh"  # gelu (exact) | gelu_tanh | relu | swiglu | geglu (the last two are gated)
  model.attention_bias = True  # Biases on query, key, value and output projections.
  model.mlp_bias = True  # Biases in the MLP.
  model.qk_norm = False  # Normalise queries and keys per head (https://arxiv.org/abs/2302.05442).
  model.window = placeholder(int)  # Sliding window: tokens a query sees, itself included; None: all before it.
  model.attention_softcap = placeholder(float)  # cap * tanh(x / cap) on attention scores; None: off.
  model.logits_softcap = placeholder(float)  # The same on the output logits; None: off.
  model.tied = True  # Output projection is the embedding table.
  model.dropout = 0.0  # On embeddings, attention probabilities and sub-layer outputs.
  model.init = "gpt2"  # gpt2 (normal, residual outputs scaled by 1/sqrt(2N)) | normal | xavier | lecun
  model.init_std = 0.02  # Standard deviation for gpt2 and normal.

  # ---------------------------------------------------------------- precision and speed
  compute = config.compute = config_dict.ConfigDict()
  compute.dtype = "bfloat16"  # bfloat16 | float32. Parameters, softmax, norms and loss stay in float32.
  compute.attention = "auto"  # auto | reference | einsum | xla | cpu | cudnn. auto: the fastest that passes its check.
  compute.layers = "auto"  # auto | scanned | unrolled. Unrolled is faster for few layers, scanned compiles faster.
  compute.remat = "none"  # none | full: recompute each block in the backward pass to save memory.
  compute.compilation_cache = "~/.cache/lmx/xla"  # Compiled programs are kept here between runs; "" turns it off.

  # ---------------------------------------------------------------- tokenizer
  tokenizer = config.tokenizer = config_dict.ConfigDict()
  tokenizer.kind = "sentencepiece"  # bytes | sentencepiece | huggingface
  tokenizer.path = placeholder(str)  # A .model or tokenizer.json; None: train a SentencePiece on the training sources.
  tokenizer.vocab_size = 4096  # Pieces to train, special ones included. Unused when path is given.
  tokenizer.model_type = "bpe"  # bpe | unigram | char, for training.
  tokenizer.train_bytes = 5_000_000  # Text shown to the trainer, in bytes, spread evenly over the documents.

  # ---------------------------------------------------------------- data
  data = config.data = config_dict.ConfigDict()
  # Each source is "stdlib" (text every Python carries), a path or glob (.txt .md .py .gz ..., .jsonl, .tsv, .csv, a
  # folder), or "tfds:name/config:version". "text:", "jsonl:", "tsv:" and "csv:" before a path force the reading.
  data.sources = ("stdlib",)
  data.weights = ()  # Rows drawn from each source, in proportion; (): by size in tokens.
  data.columns = config_dict.ConfigDict({"text": "text"})  # Our name -> the column of a JSONL, TSV, CSV or TFDS row.
  data.tfds_split = "train"  # Split of tfds: sources.
  data.tfds_dir = placeholder(str)  # Where prepared TFDS data lies; None: TFDS's own default.
  data.separator = placeholder(str)  # Splits a text file into documents ("\n": lines); None: a file is one.
  data.heldout_sources = ()  # Text for evaluation; (): a part of the training sources is held out.
  data.heldout_fraction = 0.05  # Share held out when heldout_sources is ().
  data.heldout_split = "document"  # document (by a hash of each document) | tail (the last part of the text)
  data.length = 1024  # L, tokens in a row. At most model.context.
  data.packing = "packed"  # packed (no token sees another document) | concatenated (documents run on) | padded
  data.bad_documents = "error"  # error | skip (counted and reported): not UTF-8, broken JSON, truncated gzip, too long
  data.max_document_bytes = 50_000_000  # A longer line or document is a bad document.
  data.cache_dir = "~/.cache/lmx/tokens"  # Tokenized text, one folder per (source, tokenizer, options).
  data.prefetch_batches = 4  # Batches made ahead of the step by threads.
  data.threads = 2  # Threads making them.

  # ---------------------------------------------------------------- objective
  objective = config.objective = config_dict.ConfigDict()
  objective.name = "causal"  # A row of lmx.objectives.OBJECTIVES.
  objective.z_loss = 0.0  # Weight of log(Z)^2, which keeps logits small (PaLM uses 1e-4).

  # ---------------------------------------------------------------- training
  train = config.train = config_dict.ConfigDict()
  train.duration = "10000 steps"  # The whole run; percent is not allowed here.
  train.batch_size = 32  # Rows in one optimizer step, over all devices and micro-batches.
  train.micro_batches = 1  # Gradient accumulation: the batch is run in this many parts. The result is the same.
  train.nonfinite = "stop"  # stop | skip (leave the state as it was, count it) when loss or gradient is not finite
  train.max_skipped = 100  # Steps skipped in a row after which the run stops anyway.
  train.spike_factor = placeholder(float)  # Skip a step whose gradient norm is over this many running means.

  # ---------------------------------------------------------------- optimizer
  optimizer = config.optimizer = config_dict.ConfigDict()
  optimizer.name = "adamw"  # A row of lmx.optim.OPTIMIZERS.
  optimizer.peak_lr = 6e-4
  optimizer.schedule = "cosine"  # constant | cosine | linear | inverse_sqrt | wsd (warmup-stable-decay)
  optimizer.warmup = "2%"  # Linear warm-up from zero.
  optimizer.decay = "20%"  # wsd: length of the final decay.
  optimizer.final_lr_ratio = 0.1  # Learning rate at the end over peak_lr.
  optimizer.b1 = 0.9  # First-moment decay (momentum for sgd).
  optimizer.b2 = 0.95  # Second-moment decay.
  optimizer.eps = 1e-8
  optimizer.weight_decay = 0.1  # Decoupled; times the learning rate.
  # (regex over parameter names, multiplier of weight_decay); first match wins; every parameter must be matched.
  optimizer.decay_rules = (("(.*\\.)?(bias|scale)", 0.0), (".*", 1.0))
  optimizer.clip_norm = 1.0  # Global gradient norm; 0 turns clipping off.
  optimizer.ema = placeholder(float)  # Decay of an average of the parameters, used for evaluation; None: off.

  # ---------------------------------------------------------------- mesh
  mesh = config.mesh = config_dict.ConfigDict()
  mesh.data = -1  # Copies of the model; -1: whatever devices are left.
  mesh.fsdp = 1  # Parameters and optimizer split over these devices, gathered when used; the batch is split too.
  mesh.tensor = 1  # Heads, MLP and vocabulary split over these devices.

  # ---------------------------------------------------------------- evaluation
  evaluation = config.evaluation = config_dict.ConfigDict()
  evaluation.every = "10%"  # And always at the end.
  evaluation.max_rows = placeholder(int)  # Rows of the held-out text, spread evenly over it; None: all.
  evaluation.batch_size = placeholder(int)  # Rows at once; None: train.batch_size.
  evaluation.prompts = ("",)  # Continued at the end of the run, for a person to read; "" is the start of a document.
  evaluation.sample_tokens = 160  # Tokens of each sample.
  evaluation.temperature = 0.8

  # ---------------------------------------------------------------- checkpoints
  checkpoint = config.checkpoint = config_dict.ConfigDict()
  checkpoint.every = "10%"  # And always at the end and when the run is stopped by a signal.
  checkpoint.keep_last = 2
  checkpoint.keep_every = placeholder(str)  # Keep one at each such duration for good ("10000 steps"); None: none.
  checkpoint.keep_best = True  # Keep the checkpoint with the lowest held-out loss.
  checkpoint.start_from = placeholder(str)  # A run to take the first parameters from, when this run has no checkpoint.

  # ---------------------------------------------------------------- logs
  log = config.log = config_dict.ConfigDict()
  log.every = "10 steps"  # One line of metrics.jsonl.
  log.tensorboard = False  # Also write TensorBoard files into the run directory.
  log.wandb_project = placeholder(str)  # Also log to this Weights & Biases project.
  return config
