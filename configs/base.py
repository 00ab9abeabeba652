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
  # A key that the chosen family or objective doesn't read must be left as it is here; anything else is an error.
  model.family = "transformer"  # transformer (decoder-only) | encoder | encoder_decoder | lstm
  model.layers = 12  # Blocks.
  model.width = 768  # D, the residual stream.
  model.heads = 12  # H, query heads.
  model.kv_heads = placeholder(int)  # G, key-value heads; None: as many as heads; 1: multi-query. Divides heads.
  model.head_width = placeholder(int)  # K; None: width / heads.
  model.mlp_width = placeholder(int)  # F; None: 4 * width (8/3 * width, up to a multiple of 128, for gated MLPs).
  model.context = 1024  # Longest sequence; the size of a learned position table.
  model.vocab_size = placeholder(int)  # Ids of the model, where it has more than the tokenizer; None: as many.
  model.vocab_multiple = 128  # The vocabulary is padded up to a multiple, for the matrix unit and for sharding.
  model.position = "learned"  # learned | rotary | sinusoidal | relative (T5's buckets) | none
  model.rope_theta = 10_000.0  # Rotary base (https://arxiv.org/abs/2104.09864).
  model.rope_scaling = "none"  # none | linear | ntk | llama3: how rotary frequencies change past the trained context.
  model.rope_factor = 1.0  # The context grows by this factor under rope_scaling.
  model.rope_original_context = placeholder(int)  # llama3 scaling: the context before the growth, in tokens.
  model.rope_local_theta = placeholder(float)  # Base for the layers with a window; None: rope_theta, scaling and all.
  model.relative_buckets = 32  # T5: buckets of distances (https://arxiv.org/abs/1910.10683, section 2.1).
  model.relative_distance = 128  # T5: distances from here on share a bucket, in tokens.
  model.norm = "layernorm"  # layernorm | rmsnorm | zero_centered_rmsnorm (the scale is stored less one, as in Gemma)
  # pre (before each sub-layer, and once at the end) | post (after each residual sum) | output (on each sub-layer's
  # output, and once at the end: OLMo 2) | sandwich (before and after each sub-layer, and once at the end: Gemma 2)
  model.norm_position = "pre"
  # False: the first layer's attention reads what enters it as it is, since a norm (embedding_norm) was just there
  # (ModernBERT). With norm_position=pre or sandwich.
  model.first_attention_norm = True
  model.norm_eps = 1e-5
  model.norm_bias = True  # LayerNorm's additive term; RMSNorm has none.
  # gelu (exact) | gelu_tanh | relu | silu | and gated: swiglu | geglu (with the tanh approximation) | geglu_exact
  model.activation = "gelu_tanh"
  model.attention_bias = True  # Biases on query, key, value and output projections.
  model.attention_out_bias = placeholder(bool)  # On the output projection alone; None: as attention_bias.
  model.mlp_bias = True  # Biases in the MLP.
  model.qk_norm = "none"  # none | head (queries and keys per head, https://arxiv.org/abs/2302.05442) | width (OLMo 2)
  model.attention_scale = placeholder(float)  # Scores are multiplied by it; None: 1 / sqrt(head_width). T5: 1.
  model.window = placeholder(int)  # Sliding window: tokens a query sees, itself included; None: all before it.
  model.global_every = placeholder(int)  # Every so many layers, one without the window (Gemma 2: 2); None: no layer.
  # Which of every global_every layers that is: the last (False), or the first (True, ModernBERT).
  model.global_first = False
  model.attention_softcap = placeholder(float)  # cap * tanh(x / cap) on attention scores; None: off.
  model.logits_softcap = placeholder(float)  # The same on the output logits; None: off.
  model.tied = True  # Output projection is the embedding table.
  model.embedding_scale = 1.0  # Token embeddings are multiplied by it (Vaswani et al. and Gemma: sqrt(width)).
  model.embedding_norm = False  # Normalise the sum of the embeddings (BERT).
  model.token_types = 0  # Rows of a table added by token_types, which tell text_a from text_b (BERT: 2); 0: none.
  model.logits_scale = 1.0  # Output logits are multiplied by it (tied T5: width ** -0.5).
  model.dropout = 0.0  # On embeddings, attention probabilities and sub-layer outputs.
  # gpt2 (normal, residual outputs scaled by 1/sqrt(2N)) | normal | xavier | lecun | uniform (-init_std to init_std)
  model.init = "gpt2"
  model.init_std = 0.02  # Standard deviation for gpt2 and normal, and of embeddings.
  # muP (https://arxiv.org/abs/2203.03466): learning rates, initial values, attention and logits scale with the width
  # from this one on, so that the best learning rate found at it holds at any width. None: off.
  model.mup_base_width = placeholder(int)
  model.encoder_layers = placeholder(int)  # encoder_decoder: blocks of the encoder; None: as many as layers.
  # cls (the first token) | mean | last: the token that a head for whole rows reads. None: cls for encoders, mean for
  # encoders with a decoder, last for models whose first token sees no other.
  model.pooling = placeholder(str)
  # Heads for whole rows: a dense layer with tanh before the scores, as BERT and RoBERTa have. None: encoders alone.
  model.pooler = placeholder(bool)
  # Heads for rows, tokens and spans: norm(f(W x + b)) before the scores, f the activation, as masked models have before
  # the output table (ModernBERT). Without a pooler.
  model.head_transform = False
  model.transform_bias = True  # The b of that, in masked models too.
  model.output_bias = False  # A bias on the logits of a model that ends in a vocabulary (Marian).
  model.head_bias = placeholder(bool)  # Heads for whole rows: a bias on the scores. None: encoders alone, as there.
  # Mixture of experts: each token goes through experts_per_token of the experts, none is dropped.
  model.experts = placeholder(int)  # E; None: one dense MLP.
  model.experts_per_token = 2
  model.expert_width = placeholder(int)  # Of one expert; None: mlp_width.
  model.shared_expert_width = placeholder(int)  # An expert that every token goes through, behind a gate (Qwen2-MoE).
  model.normalize_experts = True  # The weights of a token's experts add up to 1 (Mixtral).
  model.load_balance = 0.01  # Weight of the loss that spreads tokens over experts (https://arxiv.org/abs/2101.03961).
  model.router_z = 0.001  # Weight of log(Z)^2 of the router (https://arxiv.org/abs/2202.08906).
  # What mixes tokens along the length: attention | mamba2 (https://arxiv.org/abs/2405.21060).
  model.mixer = "attention"
  model.mamba_state = 128  # Numbers that each channel of a Mamba-2 head remembers.
  model.mamba_head_width = 64  # Channels of a head.
  model.mamba_expand = 2  # Inner width over width.
  model.mamba_groups = 1  # Heads share B and C in so many groups.
  model.mamba_conv = 4  # Width of the causal convolution, in tokens.
  model.mamba_chunk = 128  # Tokens computed in parallel at once; the result does not depend on it.
  model.carry_state = False  # lstm: a row goes on from where the same row of the batch before it ended.

  # ---------------------------------------------------------------- precision and speed
  compute = config.compute = config_dict.ConfigDict()
  compute.dtype = "bfloat16"  # bfloat16 | float32. Parameters, softmax, norms and loss stay in float32.
  # none | int8 | fp8 (e4m3, gradients e5m2) | fp8_b11 (e4m3b11fnuz). The operands of the products of attention's
  # projections and of MLPs are rounded to 8 bits, forward and backward; weights stay float32, checkpoints are the same.
  # What a chip multiplies faster than bf16 is allowed: int8 and fp8_b11 on TPU v5e, v5p and v6e, fp8 on TPU7x, int8 and
  # fp8 on H100, H200 and B200. Needs lmx[quantized].
  compute.quantization = "none"
  # auto (the first of its platform that applies) | reference | einsum | xla | cpu | cudnn | mosaic | splash
  compute.attention = "auto"
  compute.layers = "auto"  # auto | scanned | unrolled. Unrolled is faster for few layers, scanned compiles faster.
  # Memory against time: none (a block's activations are kept) | full (only its input is, the block is computed again
  # in the backward pass) | dots (what its matmuls give is kept too) | offload (that, in the host's memory)
  compute.remat = "none"
  # With remat=full: kept all the same, each for the time of computing it again: queries | keys | values | attention
  # | up | gate | branch (the outputs of those projections, of the attention kernel, of each residual branch).
  compute.remat_keep = ()
  compute.stage_rounds = 1  # With mesh.stage: runs of layers on each stage; more: less idle time, more is sent.
  compute.stage_micro_batches = config_dict.placeholder(int)  # Parts of a batch in a pipeline; None: mesh.stage.
  compute.zero1 = False  # Optimizer state and gradients are split over mesh.data (ZeRO-1); fsdp is ZeRO-3.
  compute.offload_optimizer = False  # Its moments are in the host's memory between updates: less memory, more time.
  # TPU: MiB of vector memory that one operation may use; more is often faster, and slower to compile. None: what
  # lmx/parallel/compiler_options.py has for the chip.
  compute.scoped_vmem = placeholder(int)
  compute.loss_chunks = 1  # Parts that the loss over the vocabulary is computed in: one part's logits exist at a time.
  compute.compilation_cache = "~/.cache/lmx/xla"  # Compiled programs are kept here between runs; "" turns it off.

  # ---------------------------------------------------------------- tokenizer
  tokenizer = config.tokenizer = config_dict.ConfigDict()
  tokenizer.kind = "sentencepiece"  # bytes | sentencepiece | huggingface | marian (source.spm, target.spm, vocab.json)
  tokenizer.path = placeholder(str)  # A .model or tokenizer.json; None: train a SentencePiece on the training sources.
  tokenizer.vocab_size = 4096  # Pieces to train, special ones included. Unused when path is given.
  tokenizer.model_type = "bpe"  # bpe | unigram | char, for training.
  tokenizer.extra_ids = 0  # Ids added at the vocabulary's end: the mask of masked models, the sentinels of T5.
  # Special tokens around a text: own (those of the tokenizer's post-processor, as transformers adds them) | document
  # (the start before it and the end after it, a separator between two) | auto (document where the objective reads whole
  # documents, which are always packed so; own for all others). An imported model has own.
  tokenizer.framing = "auto"
  tokenizer.train_bytes = 5_000_000  # Text shown to the trainer, in bytes, spread evenly over the documents.

  # ---------------------------------------------------------------- data
  data = config.data = config_dict.ConfigDict()
  # Each source is "stdlib" (text every Python carries), "tfds:name/config:version", or a path, glob or folder: text
  # (.txt .md .py ...), .jsonl .json .tsv .csv .conll .parquet .arrow .feather, token shards (.bin .npy); text also as
  # .gz .zst .bz2 .xz. A word before a path forces how it is read: text: jsonl: tsv: csv: conll: parquet: arrow: tokens:
  # (docs/data.md has the table).
  data.sources = ("stdlib",)
  data.weights = ()  # Rows drawn from each source, exactly in this proportion; (): by size in tokens.
  # What we call it -> the column of a row: its name, with dots into objects ("answers.text"), or in a table without a
  # header and in CoNLL its number ("1" is the first). Which of them are read is the objective's matter.
  data.columns = config_dict.ConfigDict(
    {
      "text": "text",
      "text_b": "text_b",  # The second text of a pair: "none" where there is none.
      "label": "label",
      "source": "source",
      "target": "target",
      "messages": "messages",  # A list of {"role": ..., "content": ...}; "weight": 0 is not learned.
      "prompt": "prompt",
      "completion": "completion",
      "conversations": "conversations",  # Messages as ShareGPT has them: a list of {"from": ..., "value": ...}.
      "instruction": "instruction",  # Alpaca's question; "input" is what it is about, "output" its answer.
      "input": "input",
      "output": "output",
      "system": "system",  # The system turn of ShareGPT's and Alpaca's rows.
      "tools": "tools",  # JSON schemas of functions that the assistant may call; "functions": OpenAI's older form.
      "functions": "functions",
      "chosen": "chosen",
      "rejected": "rejected",
      "question": "question",
      "context": "context",
      "answer": "answer",  # The answer's text; "" where the context has none.
      "answer_start": "answer_start",  # Characters of the context before it.
      "answers": "answers",  # All right answers, as SQuAD has them: {"text": [...], "answer_start": [...]}.
      "tokens": "tokens",  # A list of words, or words with spaces between.
      "tags": "tags",  # One for each of them.
    }
  )
  data.tfds_split = "train"  # Split of tfds: sources.
  data.tfds_dir = placeholder(str)  # Where prepared TFDS data lies; None: TFDS's own default.
  # Splits a text file into documents; None: a file is one. --config.data.separator="\n" makes a document of each line,
  # of files with CRLF too. As typed in a shell: \n newline, \t tab, \r, \\ a backslash, \x0A, \u000A, \U0000000A.
  data.separator = placeholder(str)
  data.heldout_sources = ()  # Text for evaluation; (): a part of the training sources is held out.
  data.heldout_fraction = 0.05  # Share held out when heldout_sources is ().
  data.heldout_split = "document"  # document (by a hash of each document) | tail (the last part of the text)
  data.length = 1024  # L, tokens in a row. At most model.context.
  data.encoder_length = placeholder(int)  # M, tokens that an encoder reads; None: length.
  # packed (no token sees another document) | concatenated (documents run on) | padded (one document a row) | streams
  # (in order: each row of a batch goes on where the same row of the batch before it ended)
  data.packing = "packed"
  # Batches end with their longest row, rounded up to a multiple of this: texts that are much shorter than the length
  # then take less time. Each length is compiled once. None: batches are as long as the length.
  data.pad_multiple = placeholder(int)
  data.bad_documents = "error"  # error | skip (counted and reported): not UTF-8, broken JSON, cut short, too long
  data.max_document_bytes = 50_000_000  # A longer line or document is a bad document.
  data.cache_dir = "~/.cache/lmx/tokens"  # Tokenized text, one folder per (source, tokenizer, options).
  data.prefetch_batches = 4  # Batches made ahead of the step by threads.
  data.threads = 1  # Threads making them. They share one interpreter, so a second one makes no more.

  # ---------------------------------------------------------------- objective
  objective = config.objective = config_dict.ConfigDict()
  # Pretraining: causal | masked | span_corruption | denoising (a mixture, UL2) | prefix | fill_in_middle
  # Fine-tuning: seq2seq | classification | regression | span | tagging | chat | dpo | contrastive | distillation
  objective.name = "causal"
  objective.z_loss = 0.0  # Weight of log(Z)^2, which keeps logits small (PaLM uses 1e-4).
  objective.label_smoothing = 0.0  # seq2seq: this share of the target's probability is spread over the vocabulary.
  objective.mask_rate = 0.15  # masked: share of tokens to predict (https://arxiv.org/abs/1810.04805, section 3.1).
  objective.whole_words = False  # masked: the pieces of a word are masked together.
  objective.corrupted = 0.15  # span_corruption: share of tokens that are taken out.
  objective.span_length = 3.0  # span_corruption: mean length of what is taken out, in tokens.
  # denoising: (weight, share taken out, mean length) of each denoiser; a length of 0 takes out the end of the text.
  objective.denoisers = ((2.0, 0.15, 3.0), (2.0, 0.15, 8.0), (2.0, 0.5, 3.0), (2.0, 0.5, 8.0), (1.0, 0.25, 0.0))
  objective.fim_rate = 0.5  # fill_in_middle: share of documents that are rearranged; the others are read as they are.
  objective.fim_spm = 0.5  # fill_in_middle: share of those in the order suffix, prefix, middle.
  objective.labels = ()  # classification, tagging: the labels; (): those of the training data, in order.
  objective.multi_label = False  # classification: a row has any number of labels, separated by commas.
  objective.chat_template = placeholder(str)  # A file with a Jinja template; None: the tokenizer's own, or ChatML.
  # chat: together (a chat is one example) | apart (one for each answer, as the template renders the chat up to there) |
  # auto (together, but apart where the template rewrites earlier turns when more follows: Qwen3 drops their reasoning)
  objective.chat_answers = "auto"
  objective.chat_date = "2024-07-26"  # chat, dpo: today's date for templates that write it (strftime_now).
  objective.dpo_beta = 0.1  # dpo: how far the policy may go from the reference (https://arxiv.org/abs/2305.18290).
  objective.temperature = 0.05  # contrastive: similarities are divided by it.
  objective.teacher = placeholder(str)  # distillation: the run whose logits are matched.
  objective.teacher_temperature = 2.0  # distillation: the logits of both are divided by it; 1 or more.
  objective.distilled = 0.5  # distillation: share of the teacher's loss; the rest is the text's.

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
  # constant | cosine | linear | inverse_sqrt | wsd (warmup-stable-decay) | plateau (falls as the held-out loss stalls)
  optimizer.schedule = "cosine"
  optimizer.warmup = "2%"  # Linear warm-up from zero.
  optimizer.decay = "20%"  # wsd: length of the final decay.
  optimizer.plateau_factor = 0.25  # plateau: after an evaluation without progress, the rate is multiplied by it.
  optimizer.final_lr_ratio = 0.1  # Learning rate at the end over peak_lr.
  optimizer.b1 = 0.9  # First-moment decay (momentum for sgd).
  optimizer.b2 = 0.95  # Second-moment decay.
  optimizer.eps = 1e-8
  # float32 | bfloat16. What first moments are kept in; everything is computed in float32.
  optimizer.momentum_dtype = "float32"
  optimizer.weight_decay = 0.1  # Decoupled; times the learning rate.
  # (regex over parameter names, multiplier of weight_decay); first match wins; every parameter must be matched.
  optimizer.decay_rules = (("(.*\\.)?(bias|scale)", 0.0), (".*", 1.0))
  # (regex over parameter names, multiplier of the learning rate); first match wins; 0 freezes: no gradient, no state.
  optimizer.lr_rules = ((".*", 1.0),)
  optimizer.clip_norm = 1.0  # Global gradient norm; 0 turns clipping off.
  optimizer.ema = placeholder(float)  # Decay of an average of the parameters, used for evaluation; None: off.

  # ---------------------------------------------------------------- low-rank adapters
  lora = config.lora = config_dict.ConfigDict()
  lora.rank = 0  # r of LoRA (https://arxiv.org/abs/2106.09685); 0: off. Everything else is frozen when it is on.
  lora.alpha = 16.0  # Adapters are multiplied by alpha / rank.
  lora.targets = "(.*\\.)?layers.*(query|key|value|out|up|gate|down)"  # Regex over the names of linear layers.
  lora.train_also = "head.*"  # Regex over names of parameters that are trained beside the adapters; "": none.

  # ---------------------------------------------------------------- mesh
  mesh = config.mesh = config_dict.ConfigDict()
  mesh.slice = 1  # Copies of the model on TPU slices that the data-centre network joins; must be their number.
  mesh.stage = 1  # Layers split over these devices, in a pipeline; what is outside of it splits the batch.
  mesh.data = -1  # Copies of the model; -1: whatever devices are left.
  mesh.fsdp = 1  # Parameters and optimizer split over these devices, gathered when used; the batch is split too.
  mesh.expert = 1  # Experts split over these devices, tokens travel to them; all else is split as by fsdp.
  mesh.sequence = 1  # Rows split over these devices, between which attention trades tokens for heads: long contexts.
  mesh.tensor = 1  # Heads, MLP and vocabulary split over these devices.

  # ---------------------------------------------------------------- evaluation
  evaluation = config.evaluation = config_dict.ConfigDict()
  evaluation.every = "10%"  # And always at the end.
  evaluation.max_rows = placeholder(int)  # Rows of the held-out text, spread evenly over it; None: all.
  evaluation.batch_size = placeholder(int)  # Rows at once; None: train.batch_size.
  # Continued at the end of the run, for a person to read; "" is the start of a document. Typed in a shell, \n is a
  # newline and \\ a backslash, as for data.separator.
  evaluation.prompts = ("",)
  evaluation.sample_tokens = 160  # Tokens of each sample.
  evaluation.temperature = 0.8

  # ---------------------------------------------------------------- checkpoints
  checkpoint = config.checkpoint = config_dict.ConfigDict()
  checkpoint.every = "10%"  # And always at the end and when the run is stopped by a signal.
  checkpoint.keep_last = 2
  checkpoint.keep_every = placeholder(str)  # Keep one at each such duration for good ("10000 steps"); None: none.
  checkpoint.keep_best = True  # Keep the checkpoint with the lowest held-out loss.
  # A run to take the first parameters from, when this run has no checkpoint; a new head starts fresh.
  checkpoint.start_from = placeholder(str)

  # ---------------------------------------------------------------- several processes
  processes = config.processes = config_dict.ConfigDict()
  processes.start_seconds = (
    60  # A process that is not there so long after another has started is missing: exit code 75.
  )
  # A process without a heartbeat for so long (killed, stopped, its network gone) is lost, and the others end with exit
  # code 75. Heartbeats don't stop for a compilation or a save.
  processes.lost_seconds = 60

  # ---------------------------------------------------------------- logs
  log = config.log = config_dict.ConfigDict()
  log.every = "10 steps"  # One line of metrics.jsonl.
  log.tensorboard = False  # Also write TensorBoard files into the run directory.
  log.wandb_project = placeholder(str)  # Also log to this Weights & Biases project.
  return config
