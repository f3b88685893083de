"""The demo pair as Hugging Face checkpoints: the same weights and words, always the same bytes."""

import hashlib
import json
from pathlib import Path

import gguf
import numpy as np
import pytest

from profiles.demo import checkpoint


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> checkpoint.Pair:
    return checkpoint.make(tmp_path_factory.mktemp("checkpoint"))


def config(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def weights(folder: Path) -> dict[str, np.ndarray]:
    data = memoryview((folder / "model.safetensors").read_bytes())  # a slice of bytes would be a copy
    size = int.from_bytes(data[:8], "little")
    header = json.loads(bytes(data[8 : 8 + size]))
    return {
        name: np.frombuffer(data[8 + size :][slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def digest(folder: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(folder.iterdir()))).hexdigest()


def test_pair_belongs_together(pair):
    target, drafter = config(pair.target), config(pair.drafter)
    assert (target["model_type"], drafter["model_type"]) == ("gemma4", "gemma4_assistant")
    assert drafter["backbone_hidden_size"] == target["text_config"]["hidden_size"]
    assert drafter["text_config"]["vocab_size"] == target["text_config"]["vocab_size"]


@pytest.mark.parametrize("part", ["target", "drafter"])
def test_every_weight_of_the_gguf_is_there(pair, part):
    source = checkpoint.TARGET if part == "target" else checkpoint.DRAFTER
    stored = gguf.GGUFReader(source).tensors
    found = weights(getattr(pair, part))
    assert len(found) == len([each for each in stored if each.name != "rope_freqs.weight"])
    prefix = "model.language_model." if part == "target" else "model."
    for each in stored:
        if each.name != "rope_freqs.weight":
            values = gguf.quants.dequantize(each.data, each.tensor_type)
            assert np.array_equal(found[checkpoint.renamed(each.name.removesuffix(".weight"), prefix)], values), (
                each.name
            )


def test_layers_that_share_a_cache_have_no_keys(pair):
    text = config(pair.target)["text_config"]
    own = text["num_hidden_layers"] - text["num_kv_shared_layers"]
    names = weights(pair.target)
    keyed = [number for number in range(15) if f"model.language_model.layers.{number}.self_attn.k_proj.weight" in names]
    assert keyed == list(range(own))


def test_vocabulary_and_template_are_the_files(pair):
    fields = gguf.GGUFReader(checkpoint.TARGET).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    stored = json.loads((pair.target / "tokenizer.json").read_text(encoding="utf-8"))
    assert sorted(stored["model"]["vocab"], key=stored["model"]["vocab"].get) == tokens
    assert {each["content"] for each in stored["added_tokens"] if each["special"]} >= {"<bos>", "<|turn>", "<turn|>"}
    template = (pair.target / "chat_template.jinja").read_text(encoding="utf-8")
    assert template == fields["tokenizer.chat_template"].contents()


def test_same_bytes_again(pair, tmp_path):
    again = checkpoint.make(tmp_path)
    assert [digest(one) for one in again] == [digest(one) for one in pair]


def test_what_is_there_is_kept_and_an_interrupted_one_leaves_nothing(pair, tmp_path, monkeypatch):
    before = (pair.target / "model.safetensors").stat().st_mtime_ns
    assert checkpoint.make(pair.target.parent) == pair
    assert (pair.target / "model.safetensors").stat().st_mtime_ns == before

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.make(tmp_path)
    assert not list(tmp_path.iterdir())
