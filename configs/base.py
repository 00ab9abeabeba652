# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Every key of an experiment, once: default, allowed values, who reads it, and its meaning as a comment.

Command:  lmx config show --config=configs/base.py

The other configs are short differences from this one. key(default, allowed) has a default, optional(type, allowed) is
None until it is set. `read_by` says which choice reads a key: "position = rotary" (that value of a key of the same
section), "window" (a key that is set), or a key such as "mixer" or "name", whose value is a row of a table: the row
names the keys that it reads. A key that a config's choices don't read must keep its default; changing it is an error.
lmx/config/key.py has the notation, and checks, help texts, errors and the documentation are made from this table.

Durations are text: a number and one of steps, tokens, examples, epochs, percent (of the run): "2000 steps",
"300M tokens", "1.5 epochs", "5%".
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.key import Section, key, optional


def get_config() -> ConfigDict:
  return keys().config()


def keys() -> Section:
  config = Section()
  config.name = key("base", "folder name")  # Shown in logs and plots; the default run directory is runs/<name>.
  # One seed: initialization, data order, dropout and samples are derived from it.
  config.seed = key(0, "0 <= x <= 2147483647")

  # ---------------------------------------------------------------- model
  model = config.model = Section(read_by="family")
  # transformer (decoder-only), encoder, encoder_decoder or lstm.
  model.family = key("transformer", "rows of lmx.models.MODELS")
  model.layers = key(12, "layers")  # Blocks.
  model.width = key(768, ">= 1")  # D, the residual stream.
  model.heads = key(12, ">= 1")  # H, query heads.
  model.kv_heads = optional(int, ">= 1")  # G, key-value heads; None: one per query head; 1: multi-query. Divides heads.
  model.head_width = optional(int, ">= 1")  # K; None: width / heads.
  model.mlp_width = optional(int, ">= 0")  # F; None: 4 * width (8/3 * width, up to a multiple of 128, for gated MLPs).
  model.context = key(1024, ">= 1")  # Longest sequence; the size of a learned position table.
  model.vocab_size = optional(int, ">= 1")  # Ids of the model, where it has more than the tokenizer; None: as it has.
  # The vocabulary is padded up to a multiple, for the matrix unit and for sharding.
  model.vocab_multiple = key(128, ">= 1")
  # relative: T5's buckets of distances, a bias on attention scores.
  model.position = key("learned", "learned | rotary | sinusoidal | relative | none")
  # Rotary base (https://arxiv.org/abs/2104.09864).
  model.rope_theta = key(10_000.0, "> 0", read_by="position = rotary")
  # How rotary frequencies change past the trained context.
  model.rope_scaling = key("none", "none | linear | ntk | llama3", read_by="position = rotary")
  model.rope_factor = key(1.0, "> 0", read_by="rope_scaling")  # The context grows by this factor.
  # The context before the growth, in tokens.
  model.rope_original_context = optional(int, ">= 1", read_by="rope_scaling = llama3")
  # Base for the layers with a window; None: rope_theta, scaling and all.
  model.rope_local_theta = optional(float, "> 0", read_by="position = rotary and window")
  # Buckets of distances (https://arxiv.org/abs/1910.10683, section 2.1).
  model.relative_buckets = key(32, ">= 1", read_by="position = relative")
  # Distances from here on share a bucket, in tokens.
  model.relative_distance = key(128, ">= 1", read_by="position = relative")
  # zero_centered_rmsnorm: the scale is stored less one, as in Gemma.
  model.norm = key("layernorm", "layernorm | rmsnorm | zero_centered_rmsnorm")
  # pre: before each sub-layer, and once at the end; post: after each residual sum; output: on each sub-layer's output,
  # and once at the end (OLMo 2); sandwich: before and after each sub-layer, and once at the end (Gemma 2).
  model.norm_position = key("pre", "pre | post | output | sandwich")
  # False: no norm before the first layer's attention, since embedding_norm is just before it (ModernBERT). With
  # norm_position=pre or sandwich.
  model.first_attention_norm = key(True)
  model.norm_eps = key(1e-5, "> 0")  # Added to the variance under the root.
  model.norm_bias = key(True)  # LayerNorm's additive term; RMSNorm has none.
  # gelu and geglu_exact are exact, gelu_tanh and geglu use the tanh approximation; swiglu, geglu and geglu_exact are
  # gated.
  model.activation = key("gelu_tanh", "gelu | gelu_tanh | relu | silu | swiglu | geglu | geglu_exact")
  model.attention_bias = key(True)  # Biases on query, key, value and output projections.
  model.attention_out_bias = optional(bool)  # On the output projection; None: as attention_bias.
  model.mlp_bias = key(True)  # Biases in the MLP.
  # Norm of queries and keys, per head (https://arxiv.org/abs/2302.05442) or over all heads together (width: OLMo 2).
  model.qk_norm = key("none", "none | head | width")
  model.attention_scale = optional(float, "> 0")  # Scores are multiplied by it; None: 1 / sqrt(head_width). T5: 1.
  model.window = optional(int, ">= 1")  # Sliding window: tokens a query sees, itself included; None: all before it.
  # One layer in this many has no window (Gemma 2: 2); None: every layer has it.
  model.global_every = optional(int, ">= 1", read_by="window")
  # The layer without it is the last of each global_every layers (False), or the first (True, ModernBERT).
  model.global_first = key(False, read_by="global_every")
  model.attention_softcap = optional(float, "> 0")  # cap * tanh(x / cap) on attention scores; None: off.
  model.logits_softcap = optional(float, "> 0")  # The same on the output logits; None: off.
  model.tied = key(True)  # Output projection is the embedding table.
  # Token embeddings are multiplied by it (Vaswani et al. and Gemma: sqrt(width)).
  model.embedding_scale = key(1.0, "> 0")
  model.embedding_norm = key(False)  # Normalize the sum of the embeddings (BERT).
  # Rows of a table added by token_types, which tell text_a from text_b (BERT: 2); 0: none.
  model.token_types = key(0, ">= 0")
  model.logits_scale = key(1.0, "> 0")  # Output logits are multiplied by it (tied T5: width ** -0.5).
  model.dropout = key(0.0, "0 <= x < 1")  # On embeddings, attention probabilities and sub-layer outputs.
  # gpt2: normal, residual outputs scaled by 1/sqrt(2N); uniform: from -init_std to init_std.
  model.init = key("gpt2", "gpt2 | normal | xavier | lecun | uniform")
  model.init_std = key(0.02, "> 0")  # Standard deviation for gpt2 and normal, and of embeddings.
  # muP (https://arxiv.org/abs/2203.03466): learning rates, initial values, attention and logits scale with the width
  # from this one on, so that the best learning rate found at it holds at any width. None: off.
  model.mup_base_width = optional(int, ">= 1")
  model.encoder_layers = optional(int, "layers")  # Blocks of an encoder_decoder's encoder; None: layers.
  # What a head for rows reads: the first token (cls), the mean, or the last token. None: cls for encoders, mean for
  # encoder-decoders, last for causal models.
  model.pooling = optional(str, "cls | mean | last")
  # Heads for rows: a dense layer with tanh before the scores, as BERT and RoBERTa have. None: in encoders only.
  model.pooler = optional(bool)
  # Heads for rows, tokens and spans: norm(f(W x + b)) before the scores, f the activation, as masked models have before
  # the output table (ModernBERT). Without a pooler.
  model.head_transform = key(False)
  model.transform_bias = key(True)  # The bias b of head_transform, in masked models too.
  model.output_bias = key(False)  # A bias on the logits over the vocabulary (Marian).
  model.head_bias = optional(bool)  # Heads for rows: a bias on the scores. None: in encoders only.
  # E, experts of a mixture; each token goes through experts_per_token of them, none is dropped. None: one dense MLP.
  model.experts = optional(int, ">= 1")
  model.experts_per_token = key(2, ">= 1", read_by="experts")  # Experts that each token goes through.
  model.expert_width = optional(int, ">= 1", read_by="experts")  # Of one expert; None: mlp_width.
  # An expert that every token goes through, behind a gate (Qwen2-MoE).
  model.shared_expert_width = optional(int, ">= 1", read_by="experts")
  model.normalize_experts = key(True, read_by="experts")  # The weights of a token's experts add up to 1 (Mixtral).
  # Weight of the loss that spreads tokens over experts (https://arxiv.org/abs/2101.03961).
  model.load_balance = key(0.01, ">= 0", read_by="experts")
  # Weight of log(Z)^2 of the router (https://arxiv.org/abs/2202.08906).
  model.router_z = key(0.001, ">= 0", read_by="experts")
  # What mixes tokens along the length: attention, or mamba2 (https://arxiv.org/abs/2405.21060).
  model.mixer = key("attention", "rows of lmx.nn.mixers.MIXERS")
  model.mamba_state = key(128, ">= 1", read_by="mixer")  # Size of the state of each channel of a Mamba-2 head.
  model.mamba_head_width = key(64, ">= 1", read_by="mixer")  # Channels of a head.
  model.mamba_expand = key(2, ">= 1", read_by="mixer")  # Inner width over width.
  model.mamba_groups = key(1, ">= 1", read_by="mixer")  # Groups of heads that share B and C.
  model.mamba_conv = key(4, ">= 1", read_by="mixer")  # Width of the causal convolution, in tokens.
  # Tokens computed in parallel at once; the result does not depend on it.
  model.mamba_chunk = key(128, ">= 1", read_by="mixer")
  # The state at the end of a row starts the same row of the next batch (truncated BPTT), with data.packing=streams.
  model.carry_state = key(False)

  # ---------------------------------------------------------------- precision and speed
  compute = config.compute = Section()
  # Of activations and products; parameters, softmax, norms and loss stay in float32.
  compute.dtype = key("bfloat16", "bfloat16 | float32")
  # The operands of the products of attention's projections and of MLPs are rounded to 8 bits, forward and backward;
  # weights stay float32, checkpoints are the same. fp8: e4m3, gradients e5m2; fp8_b11: e4m3b11fnuz. What a chip
  # multiplies faster than bf16 is allowed: int8 and fp8_b11 on TPU v5e, v5p and v6e, fp8 on TPU7x, int8 and fp8 on
  # H100, H200 and B200. Needs lmx[quantized].
  compute.quantization = key("none", "none | int8 | fp8 | fp8_b11")
  # The attention kernel; auto: the first of its platform that applies.
  compute.attention = key("auto", "auto | reference | einsum | xla | cpu | cudnn | mosaic | splash")
  # Unrolled is faster for few layers, scanned compiles faster.
  compute.layers = key("auto", "auto | scanned | unrolled")
  # Memory against time: none keeps a block's activations; full keeps only its input and computes the block again in
  # the backward pass; dots keeps its matmul outputs as well; offload keeps these in the host's memory.
  compute.remat = key("none", "none | full | dots | offload")
  # Activations that are kept under full: the outputs of these projections, of the attention kernel, of each residual
  # branch.
  compute.remat_keep = key(
    (), "queries | keys | values | attention | up | gate | branch", read_by="remat = full", items="str"
  )
  # Runs of layers on each pipeline stage; more: less idle time, more communication.
  compute.stage_rounds = key(1, ">= 1", read_by="mesh.stage")
  # Parts of a batch in a pipeline; None: mesh.stage.
  compute.stage_micro_batches = optional(int, ">= 1", read_by="mesh.stage")
  compute.zero1 = key(False)  # Optimizer state and gradients are split over mesh.data (ZeRO-1); fsdp is ZeRO-3.
  # The optimizer's moments are in the host's memory between updates: less device memory, more time.
  compute.offload_optimizer = key(False)
  # TPU: MiB of vector memory that one operation may use; more is often faster, and slower to compile. None: what
  # lmx/parallel/compiler_options.py has for the chip.
  compute.scoped_vmem = optional(int, ">= 1")
  # Parts that the loss over the vocabulary is computed in: one part's logits exist at a time.
  compute.loss_chunks = key(1, ">= 1")
  compute.compilation_cache = key("~/.cache/lmx/xla")  # Folder of compiled programs (may be gs://); "" turns it off.

  # ---------------------------------------------------------------- tokenizer
  tokenizer = config.tokenizer = Section()
  # marian: source.spm, target.spm and vocab.json.
  tokenizer.kind = key("sentencepiece", "bytes | sentencepiece | huggingface | marian")
  # A .model or tokenizer.json; None: train a SentencePiece on the training sources.
  tokenizer.path = optional(str, "path")
  tokenizer.vocab_size = key(4096, ">= 1")  # Tokens to train, special ones included. Unused when path is given.
  tokenizer.model_type = key("bpe", "bpe | unigram | char")  # Of the tokenizer that is trained.
  # Ids added at the vocabulary's end: the mask of masked models, the sentinels of T5.
  tokenizer.extra_ids = key(0, ">= 0")
  # Special tokens around a text. own: those of the tokenizer's post-processor, as transformers adds them; document: the
  # start before it, the end after it, a separator between two; auto: document where the objective reads documents, own
  # for the others. An imported model has own.
  tokenizer.framing = key("auto", "auto | own | document")
  # Text shown to the trainer, in bytes, spread evenly over the documents.
  tokenizer.train_bytes = key(5_000_000, ">= 1")

  # ---------------------------------------------------------------- data
  data = config.data = Section()
  # Each source is "stdlib" (text every Python carries), "tfds:name/config:version", or a path, glob or folder: text
  # (.txt .md .py ...), .jsonl .json .tsv .csv .conll .parquet .arrow .feather, token shards (.bin .npy); text also as
  # .gz .zst .bz2 .xz. A word before a path forces how it is read: text: jsonl: tsv: csv: conll: parquet: arrow: tokens:
  # (docs/data.md has the table).
  data.sources = key(("stdlib",), "list", items="str")
  # Rows drawn from each source, exactly in this proportion; (): by size in tokens.
  data.weights = key((), "weights", items="float")
  # The table's column for each of lmx's: its name, with dots into objects ("answers.text"), or in a table without a
  # header and in CoNLL its number ("1" is the first); "none": there is none. Which of them are read is the objective's
  # matter; a column that has no key here has the table's name.
  columns = data.columns = Section()
  columns.text = key("text", "text")  # A text.
  columns.text_b = key("text_b", "text")  # The second text of a pair.
  columns.label = key("label", "text")  # A class, several with commas between, or a number.
  columns.source = key("source", "text")  # What is translated or summarized.
  columns.target = key("target", "text")  # Its translation or summary.
  columns.messages = key("messages", "text")  # A list of {"role": ..., "content": ...}; "weight": 0 is not learned.
  columns.prompt = key("prompt", "text")  # What a completion, or two of them, answer.
  columns.completion = key("completion", "text")  # The answer to a prompt.
  # Messages as ShareGPT has them: a list of {"from": ..., "value": ...}.
  columns.conversations = key("conversations", "text")
  columns.instruction = key("instruction", "text")  # Alpaca's question.
  columns.input = key("input", "text")  # Alpaca: what the question is about.
  columns.output = key("output", "text")  # Alpaca: the answer.
  columns.system = key("system", "text")  # The system turn of ShareGPT's and Alpaca's rows.
  columns.tools = key("tools", "text")  # JSON schemas of functions that the assistant may call.
  columns.functions = key("functions", "text")  # The same in OpenAI's older form.
  columns.chosen = key("chosen", "text")  # The better answer.
  columns.rejected = key("rejected", "text")  # The worse answer.
  columns.question = key("question", "text")  # What is asked about the context.
  columns.context = key("context", "text")  # The text with the answer.
  columns.answer = key("answer", "text")  # The answer's text; "" where the context has none.
  columns.answer_start = key("answer_start", "text")  # Characters of the context before it.
  # All correct answers, as SQuAD has them: {"text": [...], "answer_start": [...]}.
  columns.answers = key("answers", "text")
  columns.tokens = key("tokens", "text")  # A list of words, or words with spaces between.
  columns.tags = key("tags", "text")  # One for each word.
  data.tfds_split = key("train", "text")  # Split of tfds: sources.
  data.tfds_dir = optional(str, "text")  # Folder of prepared TFDS data; None: TFDS's own default.
  # Splits a text file into documents; None: a file is one. --config.data.separator="\n" makes a document of each line,
  # of files with CRLF too. As typed in a shell: \n newline, \t tab, \r, \\ a backslash, \x0A, \u000A, \U0000000A.
  data.separator = optional(str, "text", escapes=True)
  # Validation text; (): a part of the training sources is the validation set.
  data.heldout_sources = key((), "list or nothing", items="str")
  data.heldout_fraction = key(0.05, "0 < x < 1")  # Share of the validation set when heldout_sources is ().
  # document: by a hash of each document; tail: the last part of the text.
  data.heldout_split = key("document", "document | tail")
  data.length = key(1024, ">= 1")  # L, tokens in a row. At most model.context.
  data.encoder_length = optional(int, ">= 1")  # M, tokens that an encoder reads; None: length.
  # packed: no token sees another document; concatenated: concatenate and chunk; padded: one document a row; streams:
  # stateful batching, each row continues the same row of the batch before (truncated BPTT).
  data.packing = key("packed", "packed | concatenated | padded | streams")
  # Batches end with their longest row, rounded up to a multiple of this: texts that are much shorter than the length
  # then take less time. Each length is compiled once. None: batches are as long as the length.
  data.pad_multiple = optional(int, ">= 1")
  # Not UTF-8, broken JSON, cut short, too long; skip: they are counted and reported.
  data.bad_documents = key("error", "error | skip")
  data.max_document_bytes = key(50_000_000, ">= 1")  # A longer line or document is a bad document.
  data.cache_dir = key("~/.cache/lmx/tokens", "text")  # Tokenized text, one folder per (source, tokenizer, options).
  data.prefetch_batches = key(4, ">= 1")  # Batches made ahead of the step by threads.
  data.threads = key(1, ">= 1")  # Threads making them. They share one interpreter, so a second one makes no more.

  # ---------------------------------------------------------------- objective
  objective = config.objective = Section(read_by="name")
  # Pretraining: causal, masked, span_corruption, denoising (a mixture, UL2), prefix, fill_in_middle. Fine-tuning:
  # seq2seq, classification, regression, span, tagging, chat, dpo, contrastive, distillation.
  objective.name = key("causal", "rows of lmx.objectives.OBJECTIVES")
  objective.z_loss = key(0.0, ">= 0")  # Weight of log(Z)^2, which keeps logits small (PaLM uses 1e-4).
  # seq2seq: this share of the target's probability is spread over the vocabulary.
  objective.label_smoothing = key(0.0, "0 <= x < 1")
  # masked: share of tokens to predict (https://arxiv.org/abs/1810.04805, section 3.1).
  objective.mask_rate = key(0.15, "0 < x < 1")
  objective.whole_words = key(False)  # masked: the tokens of a word are masked together.
  objective.corrupted = key(0.15, "0 < x <= 1")  # span_corruption: share of tokens that are taken out.
  objective.span_length = key(3.0, ">= 1")  # span_corruption: mean length of what is taken out, in tokens.
  # denoising: (weight, share taken out, mean length) of each denoiser; a length of 0 takes out the end of the text.
  objective.denoisers = key(
    ((2.0, 0.15, 3.0), (2.0, 0.15, 8.0), (2.0, 0.5, 3.0), (2.0, 0.5, 8.0), (1.0, 0.25, 0.0)),
    "denoisers",
    items="triple",
  )
  # fill_in_middle: share of documents that are rearranged; the others are read as they are.
  objective.fim_rate = key(0.5, "0 <= x <= 1")
  objective.fim_spm = key(0.5, "0 <= x <= 1")  # fill_in_middle: share of those in the order suffix, prefix, middle.
  # classification, tagging: the labels; (): those of the training data, in order.
  objective.labels = key((), items="str")
  objective.multi_label = key(False)  # classification: a row has any number of labels, separated by commas.
  objective.chat_template = optional(str, "path")  # A file with a Jinja template; None: the tokenizer's own, or ChatML.
  # chat: together makes a chat one example, apart one for each answer, as the template renders the chat up to there;
  # auto: together, but apart where the template rewrites earlier turns when more follows (Qwen3 drops their reasoning).
  objective.chat_answers = key("auto", "auto | together | apart")
  objective.chat_date = key("2024-07-26", "day")  # chat, dpo: today's date for templates that write it (strftime_now).
  # dpo: how far the policy may go from the reference (https://arxiv.org/abs/2305.18290).
  objective.dpo_beta = key(0.1, "> 0")
  objective.temperature = key(0.05, "> 0")  # contrastive: similarities are divided by it.
  objective.teacher = optional(str, "path")  # distillation: the run whose logits are matched.
  objective.teacher_temperature = key(2.0, ">= 1")  # distillation: the logits of both are divided by it.
  objective.distilled = key(0.5, "0 <= x <= 1")  # distillation: share of the teacher's loss; the rest is the text's.

  # ---------------------------------------------------------------- training
  train = config.train = Section()
  train.duration = key("10000 steps", "duration without percent")  # The whole run; percent is not allowed here.
  train.batch_size = key(32, ">= 1")  # Rows in one optimizer step, over all devices and micro-batches.
  # Gradient accumulation: the batch is run in this many parts. The result is the same.
  train.micro_batches = key(1, ">= 1")
  # When loss or gradient is not finite; skip: leave the state as it was, and count it.
  train.nonfinite = key("stop", "stop | skip")
  train.max_skipped = key(100, ">= 1")  # Steps skipped in a row after which the run stops anyway.
  train.spike_factor = optional(float, "> 1")  # Skip a step whose gradient norm is over this many running means.

  # ---------------------------------------------------------------- optimizer
  optimizer = config.optimizer = Section()
  optimizer.name = key("adamw", "rows of lmx.optim.optimizers.OPTIMIZERS")  # adamw, muon, lion, adafactor, sgd, ...
  optimizer.peak_lr = key(6e-4, "> 0")  # Learning rate after the warm-up.
  # wsd: warmup-stable-decay; plateau: falls when the validation loss stalls.
  optimizer.schedule = key("cosine", "constant | cosine | linear | inverse_sqrt | wsd | plateau")
  optimizer.warmup = key("2%", "duration from 0")  # Linear warm-up from zero.
  optimizer.decay = key("20%", "duration from 0", read_by="schedule = wsd")  # Length of the final decay.
  # After an evaluation without progress, the rate is multiplied by it.
  optimizer.plateau_factor = key(0.25, "0 < x < 1", read_by="schedule = plateau")
  # Learning rate at the end over peak_lr.
  optimizer.final_lr_ratio = key(0.1, "0 <= x <= 1", read_by="schedule = cosine | linear | inverse_sqrt | wsd")
  optimizer.b1 = key(0.9, "0 <= x < 1", read_by="name")  # First-moment decay (momentum for sgd).
  optimizer.b2 = key(0.95, "0 <= x < 1", read_by="name")  # Second-moment decay.
  optimizer.eps = key(1e-8, "> 0", read_by="name")  # Keeps denominators from zero.
  # Of stored first moments; everything is computed in float32.
  optimizer.momentum_dtype = key("float32", "float32 | bfloat16")
  optimizer.weight_decay = key(0.1, ">= 0")  # Decoupled; times the learning rate. adam has none: 0.
  # (regex over parameter names, multiplier of weight_decay); first match wins; every parameter must be matched.
  optimizer.decay_rules = key((("(.*\\.)?(bias|scale)", 0.0), (".*", 1.0)), "regex rules", items="rule")
  # (regex over parameter names, multiplier of the learning rate); first match wins; 0 freezes: no gradient, no state.
  optimizer.lr_rules = key(((".*", 1.0),), "regex rules", items="rule")
  optimizer.clip_norm = key(1.0, ">= 0")  # Global gradient norm; 0 turns clipping off.
  optimizer.ema = optional(float, "0 < x < 1")  # Decay of an average of the parameters, used for evaluation; None: off.

  # ---------------------------------------------------------------- low-rank adapters
  lora = config.lora = Section()
  # r of LoRA (https://arxiv.org/abs/2106.09685); 0: off. Everything else is frozen when it is on.
  lora.rank = key(0, ">= 0")
  lora.alpha = key(16.0, "> 0", read_by="rank")  # Adapters are multiplied by alpha / rank.
  # Regex over the names of linear layers.
  lora.targets = key("(.*\\.)?layers.*(query|key|value|out|up|gate|down)", "regex", read_by="rank")
  # Regex over names of parameters that are trained as well as the adapters; "": none.
  lora.train_also = key("head.*", "regex", read_by="rank")

  # ---------------------------------------------------------------- mesh
  mesh = config.mesh = Section()
  # Copies of the model on TPU slices that the data-centre network joins; must be their number.
  mesh.slice = key(1, "-1 or >= 1")
  # Layers split over these devices, in a pipeline; what is outside of it splits the batch.
  mesh.stage = key(1, "-1 or >= 1")
  mesh.data = key(-1, "-1 or >= 1")  # Copies of the model; -1: whatever devices are left.
  # Parameters and optimizer split over these devices, gathered when used; the batch is split too.
  mesh.fsdp = key(1, "-1 or >= 1")
  # Experts split over these devices, tokens travel to them; all else is split as by fsdp.
  mesh.expert = key(1, "-1 or >= 1")
  # Rows split over these devices, between which attention exchanges tokens for heads (Ulysses): long contexts.
  mesh.sequence = key(1, "-1 or >= 1")
  mesh.tensor = key(1, "-1 or >= 1")  # Heads, MLP and vocabulary split over these devices.

  # ---------------------------------------------------------------- evaluation
  evaluation = config.evaluation = Section()
  evaluation.every = key("10%", "duration")  # And always at the end.
  evaluation.max_rows = optional(int, ">= 1")  # Rows of the validation set, spread evenly over it; None: all.
  evaluation.batch_size = optional(int, ">= 1")  # Rows at once; None: train.batch_size.
  # Continued at the end of the run, for a person to read; "" is the start of a document. Typed in a shell, \n is a
  # newline and \\ a backslash, as for data.separator.
  evaluation.prompts = key(("",), items="text", escapes=True)
  evaluation.sample_tokens = key(160, ">= 1")  # Tokens of each sample.
  evaluation.temperature = key(0.8, ">= 0")  # Of the samples; 0: the most likely token.

  # ---------------------------------------------------------------- checkpoints
  checkpoint = config.checkpoint = Section()
  checkpoint.every = key("10%", "duration")  # And always at the end and when the run is stopped by a signal.
  checkpoint.keep_last = key(2, ">= 1")  # Newest checkpoints that are kept.
  # Keep one at each multiple of this duration for good ("10000 steps"); None: none.
  checkpoint.keep_every = optional(str, "duration")
  checkpoint.keep_best = key(True)  # Keep the checkpoint with the lowest validation loss.
  # A run to take the first parameters from, when this run has no checkpoint; a new head starts fresh.
  checkpoint.start_from = optional(str, "path")

  # ---------------------------------------------------------------- several processes
  processes = config.processes = Section()
  # A process that is not there this long after another has started is missing: exit code 75.
  processes.start_seconds = key(60, ">= 1")
  # A process without a heartbeat for this long (killed, stopped, its network gone) is lost, and the others end with
  # exit code 75. Heartbeats don't stop for a compilation or a save.
  processes.lost_seconds = key(60, ">= 1")

  # ---------------------------------------------------------------- logs
  log = config.log = Section()
  log.every = key("10 steps", "duration")  # One line of metrics.jsonl each.
  log.tensorboard = key(False)  # Also write TensorBoard files into the run directory.
  log.wandb_project = optional(str, "text")  # Also log to this Weights & Biases project.
  return config
