# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""ModernBERT: folders as published before transformers 5, refused settings, and exports of lmx's own configs."""

import json

import numpy as np
import pytest
from golden_models import GOLDEN
from hf_folders import change_weights, copy

import lmx
from lmx.config import loading as configs
from lmx.errors import LmxError
from lmx.experiment.build import export_as
from lmx.hf.exporting import export_hf
from lmx.hf.importing import import_hf

MASKED, CLASSES = GOLDEN / "modernbert-masked-27", GOLDEN / "modernbert-classification-27"
NEWER = ("layer_types", "rope_parameters")
# As ModernBERT-base's config.json has them, without the sizes.
PUBLISHED = {
  "global_rope_theta": 50.0, "local_rope_theta": 10.0, "global_attn_every_n_layers": 2, "layer_norm_eps": 1e-5,
  "position_embedding_type": "absolute", "reference_compile": None, "repad_logits_with_grad": False,
  "sparse_pred_ignore_index": -100, "sparse_prediction": False, "deterministic_flash_attn": False,
  "initializer_cutoff_factor": 2.0, "gradient_checkpointing": False, "decoder_bias": True,
}  # fmt: skip


def published(folder, source=MASKED, **changes):
  """A golden model under the keys of transformers 4.48."""
  copy(source, folder)
  values = json.loads((folder / "config.json").read_text())
  values = {key: value for key, value in values.items() if key not in NEWER} | PUBLISHED | changes
  (folder / "config.json").write_text(json.dumps(values))
  return folder


def test_a_folder_as_published_is_the_same_model_and_every_key_of_it_is_known(tmp_path):
  golden, found = import_hf(MASKED), import_hf(published(tmp_path / "model"))
  assert found.spec == golden.spec
  assert found.description.unused == ()
  assert (found.spec.window, found.spec.global_every, found.spec.rope_local_theta) == (3, 2, 10.0)
  for name, array in golden.parameters.items():
    np.testing.assert_array_equal(np.asarray(found.parameters[name]), np.asarray(array))


def test_an_export_has_the_keys_of_older_and_newer_readers_and_no_token_id_beyond_its_vocabulary(tmp_path):
  found = import_hf(MASKED, dtype="float32")
  export_hf(found.parameters, found.spec, found.description.model, tmp_path / "out")
  written = json.loads((tmp_path / "out" / "config.json").read_text())
  assert written["layer_types"] == json.loads((MASKED / "config.json").read_text())["layer_types"]
  assert (written["global_attn_every_n_layers"], written["local_attention"]) == (2, 4)
  assert (written["global_rope_theta"], written["local_rope_theta"]) == (50.0, 10.0)
  assert written["rope_parameters"]["full_attention"] == {"rope_type": "default", "rope_theta": 50.0}
  assert [written[f"{role}_token_id"] for role in ("pad", "bos", "eos", "cls", "sep")] == [None] * 5
  assert import_hf(tmp_path / "out").spec == found.spec


def test_the_files_pooling_is_that_of_every_head_for_rows(tmp_path):
  assert import_hf(CLASSES).spec.pooling == "mean"
  assert import_hf(MASKED, head="embedding").spec.pooling == "mean"
  assert import_hf(published(tmp_path / "model", classifier_pooling="cls"), head="regression").spec.pooling == "cls"


def test_another_head_starts_from_the_transform_of_the_masked_model():
  found = import_hf(MASKED, head="tagging", labels=("a", "b"))
  assert set(found.fresh) == {"head.out.kernel", "head.out.bias"}
  transform = import_hf(MASKED).parameters["head.transform.kernel"]
  np.testing.assert_array_equal(np.asarray(found.parameters["head.transform.kernel"]), np.asarray(transform))


@pytest.mark.parametrize(
  ("changes", "pattern"),
  [
    ({"classifier_activation": "silu"}, r"classifier_activation.*'gelu', the hidden_activation"),
    ({"classifier_activation": ["gelu"]}, "classifier_activation"),
    ({"classifier_pooling": "max"}, r"classifier_pooling.*'mean'"),
    ({"layer_norm_eps": 1e-6}, r"layer_norm_eps.*norm_eps"),
    ({"decoder_bias": False}, "decoder_bias"),
    ({"global_attn_every_n_layers": 0}, r"global_attn_every_n_layers.*positive"),
    ({"layer_types": ["full_attention"] * 4}, r"layer_types.*in layer 0 and every 2 layers after it"),
    (
      {"layer_types": ["sliding_attention"] * 4, "global_attn_every_n_layers": None},
      r"layer_types.*in layer 0 and every",
    ),
    ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, r"rope_scaling.*rope_parameters"),
    ({"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 7.0}}}, r"global_rope_theta.*7\.0"),
    ({"local_attention": -2}, "local_attention"),
    ({"sliding_window": 9}, "sliding_window"),
  ],
)
def test_unsupported_values_and_contradicting_keys_are_refused_by_name(tmp_path, changes, pattern):
  with pytest.raises(LmxError, match=pattern):
    import_hf(published(tmp_path / "model", **changes))


HEADS = {
  "masked": "ForMaskedLM",
  "classification": "ForSequenceClassification",
  "regression": "ForSequenceClassification",
  "span": "ForQuestionAnswering",
  "tagging": "ForTokenClassification",
  "contrastive": "Model",
}


@pytest.mark.parametrize("objective", HEADS)
@pytest.mark.parametrize("size", ["modern", "small"])
def test_runs_of_the_modern_configs_are_exported_as_modernbert(size, objective):
  config = configs.load(f"configs/bert.py:{size}", [f"objective.name={objective}"])
  assert export_as(config) == f"as modernbert, ModernBert{HEADS[objective]}"


def test_an_exported_run_read_again_gives_the_same_scores(tmp_path):
  folder = copy(CLASSES, tmp_path / "model", framed="<s> $A </s>")
  change_weights(folder, lambda arrays: {name: array.astype(np.float32) for name, array in arrays.items()})
  run = lmx.from_hf(folder)
  lmx.to_hf(run, tmp_path / "out")
  again = lmx.from_hf(tmp_path / "out")
  texts = ["w1 w2 w3", "w4"]
  for one, other in zip(run.classify(texts), again.classify(texts), strict=True):
    assert one == pytest.approx(other, abs=1e-6)
