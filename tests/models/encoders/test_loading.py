"""Loading encoders: from folders and a hub's cache, no code of theirs run, every mistake said with what to do."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_encoders import CONFIGS, PADDING, VOCABULARY, WIDTH, batch_for, tiny
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from mtl_search.errors import ConfigError
from mtl_search.models.encoders import loading
from mtl_search.models.encoders.description import describe
from mtl_search.models.encoders.loading import (
    find_encoder,
    load_config,
    load_encoder,
    load_tokenizer,
    require_transformers,
)
from mtl_search.models.encoders.splitting import split_encoder, split_pretrained

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny BERT with its tokenizer."""
    tiny("bert").save_pretrained(tmp_path / "encoder")
    words = {f"w{number}": number for number in range(VOCABULARY)}
    Tokenizer(WordLevel(words, unk_token="w0")).save(str(tmp_path / "encoder" / "tokenizer.json"))
    return tmp_path / "encoder"


def message_of(call: object, *arguments: object) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*arguments)  # type: ignore[operator]
    return str(caught.value)


def test_a_folder_is_loaded_as_it_was_saved(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert find_encoder(str(folder)) == folder
    loaded = load_encoder(folder)
    assert loaded.missing == ()
    assert not loaded.model.training
    batch = batch_for("bert")
    with torch.no_grad():
        wanted = tiny("bert")(**batch).last_hidden_state
        assert torch.equal(split_encoder(loaded.model).run(batch).hidden, wanted)
    assert Tokenizer.from_str(load_tokenizer(folder)).encode("w5").ids == [5]
    assert capfd.readouterr() == ("", "")
    assert load_encoder(folder, "eager").model.config._attn_implementation == "eager"


def test_weights_are_float32_whatever_they_are_saved_in(folder: Path) -> None:
    tiny("bert").to(torch.bfloat16).save_pretrained(folder)
    assert {value.dtype for value in load_encoder(folder).model.parameters()} == {torch.float32}


def test_the_encoder_of_a_model_with_a_head_is_loaded(folder: Path) -> None:
    assert split_pretrained(folder).pools
    state = load_file(folder / "model.safetensors")

    def saved_without(prefix: str) -> None:
        named = {f"bert.{name}": value for name, value in state.items() if not name.startswith(prefix)}
        save_file({**named, "cls.bias": torch.zeros(3)}, folder / "model.safetensors", {"format": "pt"})

    saved_without("pooler")
    assert load_encoder(folder).missing == ("pooler.dense.bias", "pooler.dense.weight")
    split_up = split_pretrained(folder)
    assert not split_up.pools
    batch = batch_for("bert")
    with torch.no_grad():
        assert torch.equal(split_up.run(batch).hidden, tiny("bert")(**batch).last_hidden_state)
    saved_without("encoder.layer.1.output")
    assert message_of(split_pretrained, folder) == (
        "backbone.transformers.name: must name a folder whose safetensors hold all weights; they lack "
        "encoder.layer.1.output.LayerNorm.bias, encoder.layer.1.output.LayerNorm.weight,"
        " encoder.layer.1.output.dense.bias, encoder.layer.1.output.dense.weight"
    )


def test_a_name_is_a_folder_or_a_commit_on_the_hub(folder: Path, tmp_path: Path) -> None:
    assert message_of(find_encoder, str(folder), COMMIT) == (
        f"backbone.transformers.revision: must not be given for a folder, got '{COMMIT}'"
    )
    assert "must be a folder, not a file" in message_of(find_encoder, str(folder / "config.json"))
    assert "must be a folder that exists, or a model's name on the hub, got './no/such'" in message_of(
        find_encoder, "./no/such"
    )
    assert "must be a folder that exists, or a model on the hub with its commit as `revision`" in message_of(
        find_encoder, "google-bert/bert-base-uncased"
    )
    for branch in ("main", "v1.0", COMMIT[:12], COMMIT.upper()):
        assert "backbone.transformers.revision: must be a commit of 40 hexadecimal digits" in message_of(
            find_encoder, "google-bert/bert-base-uncased", branch
        )


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_a_hub_name_is_found_in_the_cache_or_said_how_to_fetch(
    folder: Path, tmp_path: Path, variable: str
) -> None:
    # Paths and switches of the hub's client are read when it is imported.
    code = (
        "from mtl_search.models.encoders.loading import find_encoder, load_encoder\n"
        "from mtl_search.errors import ConfigError\n"
        f"try: print(load_encoder(find_encoder('owner/tiny', '{COMMIT}')).model.config.hidden_size)\n"
        "except ConfigError as error: print(error)"
    )
    environment = {**os.environ, variable: "1", "HF_HOME": str(tmp_path / "cache")}

    def run() -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert run() == (
        "backbone.transformers.name: must be a folder, or a model that was fetched to this machine before "
        f"(HF_HUB_OFFLINE is set): fetch it where there is a network (`hf download owner/tiny --revision {COMMIT}`), "
        "or name a folder, got 'owner/tiny'"
    )
    kept = tmp_path / "cache" / "hub" / "models--owner--tiny" / "snapshots"
    kept.mkdir(parents=True)
    folder.rename(kept / COMMIT)
    assert run() == str(WIDTH)


def test_what_is_no_encoder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "must name a folder with config.json and model.safetensors" in message_of(load_config, tmp_path / "empty")
    config = json.loads((folder / "config.json").read_text())

    def with_config(text: str) -> str:
        (folder / "config.json").write_text(text)
        return message_of(load_encoder, folder)

    assert "must name a folder whose config.json is JSON" in with_config("{")
    assert "of an architecture that the installed transformers has, got 'no model_type in config.json'" in with_config(
        "[]"
    )
    assert "the installed transformers has, got 'bertie'" in with_config(json.dumps({**config, "model_type": "bertie"}))
    assert "must name a folder with a valid config.json" in with_config(json.dumps({**config, "hidden_size": "wide"}))
    assert "must be an encoder that transformers can load" in with_config(json.dumps({**config, "hidden_size": 32}))
    (folder / "config.json").write_text(json.dumps(config))
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert "must be an encoder that transformers can load (" in message_of(load_encoder, folder)
    assert "eage" in message_of(load_encoder, folder, "eage")


class Planted:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("planted",)


def test_no_code_of_a_folder_runs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    own = {"auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}}
    (folder / "own.py").write_text("import os\nos.mkdir('planted')\n")
    (folder / "config.json").write_text(json.dumps({**config, **own, "model_type": "own"}))
    assert "has (its own code, which it brings along, is never run), got 'own'" in message_of(load_encoder, folder)
    (folder / "config.json").write_text(json.dumps({**config, **own}))
    assert load_encoder(folder).model.config.model_type == "bert"  # by the library's own code
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Planted()))
    text = message_of(load_encoder, folder)
    assert "pytorch_model.bin can run code when it is read, so it never is" in text
    assert "`save_pretrained` it again" in text
    assert not (tmp_path / "planted").exists()


def test_a_tokenizer_is_read_made_or_asked_for(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    assert "whose tokenizer.json can be read" in message_of(load_tokenizer, folder)
    (folder / "tokenizer.json").unlink()
    assert message_of(load_tokenizer, folder).startswith(
        "backbone.transformers.name: must name a folder with tokenizer.json, or the tokens must name a tokenizer of"
    )
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fine", "words"]
    (folder / "vocab.txt").write_text("\n".join(tokens))
    made = Tokenizer.from_str(load_tokenizer(folder))
    assert made.encode("Fine words").tokens == ["[CLS]", "fine", "words", "[SEP]"]


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda package: None if package == "transformers" else object())
    assert message_of(require_transformers, "backbone.text") == (
        "backbone.text: needs the packages of the extra `text`: pip install 'mtl_search[text]' (transformers missing)"
    )


def test_a_configuration_is_described() -> None:
    bert = describe(CONFIGS["bert"]())
    assert (bert.kind, bert.hidden, bert.layers, bert.positions, bert.vocabulary) == ("bert", WIDTH, 2, 32, VOCABULARY)
    assert (bert.token_types, bert.padding, bert.pixels) == (2, PADDING, None)
    assert bert.inputs == ("input_ids", "attention_mask", "token_type_ids")
    gpt2 = describe(CONFIGS["gpt2"]())
    assert (gpt2.hidden, gpt2.layers, gpt2.positions) == (WIDTH, 2, 32)
    assert (gpt2.token_types, gpt2.inputs) == (0, ("input_ids", "attention_mask"))
    vit = describe(CONFIGS["vit"]())
    assert (vit.vocabulary, vit.positions, vit.inputs, vit.pixels) == (0, 0, ("pixel_values",), (3, 8, 8))


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_examples_hold_padding_and_no_padding_token_elsewhere(name: str) -> None:
    description = describe(CONFIGS[name]())
    example = description.example()
    assert set(example) == set(description.inputs)
    if description.pixels is None:
        mask, ids = example["attention_mask"], example["input_ids"]
        assert mask.sum(1).tolist() == [6, 3]
        assert torch.equal(ids == description.padding, mask == 0)
        assert int(ids.max()) < description.vocabulary


def test_importing_the_loader_imports_no_transformers() -> None:
    code = (
        "import sys\nimport mtl_search.models.encoders.loading, mtl_search.models.encoders.splitting\n"
        "assert not {'transformers', 'tokenizers', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)
