"""Loading: a pretrained encoder and its tokenizer, from a folder or fetched from a hub, without running their code.

The driver fetches; workers read a folder and never ask a hub. ``splitting`` cuts what is loaded into blocks.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mtl_search.errors import ConfigError, Problem, few_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

PLACE: Final = "backbone.transformers"
_FETCHED: Final = ("*.json", "*.safetensors", "*.txt", "*.model")
"""What is fetched from a hub: no pickled weights, no Python files."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_PICKLES: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True, eq=False)
class LoadedEncoder:
    """A pretrained model as the library makes it, in evaluation, in float32, on the CPU.

    Attributes:
        model: The model.
        missing: Names of parameters that the files lack, which are drawn at random: those of a pooler, or of parts
            that no pretraining used. ``check_complete`` refuses others.
    """

    model: PreTrainedModel
    missing: tuple[str, ...]


def require_transformers(at: str = PLACE) -> None:
    """Check that the optional packages are there.

    Args:
        at: Key path of the encoder in the study file.

    Raises:
        ConfigError: One is not installed.
    """
    missing = [package for package in ("transformers", "tokenizers") if find_spec(package) is None]
    if missing:
        install = f"pip install 'mtl_search[text]' ({', '.join(missing)} missing)"
        raise ConfigError([Problem(at, f"needs the packages of the extra `text`: {install}")])


def is_offline() -> bool:
    """Whether the environment forbids to ask a hub."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"} for name in names)


def find_encoder(name: str, revision: str | None = None, at: str = PLACE) -> Path:
    """The folder of an encoder; of one on a hub, the folder that it is kept in once it is fetched.

    Args:
        name: A folder, or a name on the hub such as ``google-bert/bert-base-uncased``.
        revision: The commit on the hub, 40 hexadecimal digits; none for a folder.
        at: Key path of the encoder in the study file.

    Raises:
        ConfigError: There is no such folder or model, it has no commit, or it cannot be fetched.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ConfigError([Problem(f"{at}.revision", "must not be given for a folder", revision)])
        return folder
    if folder.exists():
        raise ConfigError([Problem(f"{at}.name", "must be a folder, not a file", name)])
    if not _HUB_NAME.fullmatch(name):
        raise ConfigError([Problem(f"{at}.name", "must be a folder that exists, or a model's name on the hub", name)])
    if revision is None:
        rule = "must be a folder that exists, or a model on the hub with its commit as `revision`"
        raise ConfigError([Problem(f"{at}.name", rule, name)])
    if not _COMMIT.fullmatch(revision):
        rule = "must be a commit of 40 hexadecimal digits: a branch or tag may name other weights tomorrow"
        raise ConfigError([Problem(f"{at}.revision", rule, revision)])
    require_transformers(at)
    return _fetch(name, revision, at)


def load_config(folder: Path, at: str = PLACE) -> PretrainedConfig:
    """The configuration in a folder.

    Args:
        folder: Of the encoder.
        at: Key path of the encoder in the study file.

    Raises:
        ConfigError: There is none, or it is of no architecture that transformers knows.
    """
    require_transformers(at)
    path = folder / "config.json"
    if not path.is_file():
        rule = "must name a folder with config.json and model.safetensors, as `save_pretrained` writes it"
        raise ConfigError([Problem(f"{at}.name", rule, str(folder))])
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        rule = f"must name a folder whose config.json is JSON ({error})"
        raise ConfigError([Problem(f"{at}.name", rule, str(folder))]) from error
    from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoConfig

    kind = read.get("model_type") if isinstance(read, dict) else None
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING or CONFIG_MAPPING[kind] not in MODEL_MAPPING:
        own = " (its own code, which it brings along, is never run)" if "auto_map" in str(read) else ""
        rule = f"must be of an architecture that the installed transformers has{own}"
        raise ConfigError([Problem(f"{at}.name", rule, kind if kind is not None else "no model_type in config.json")])
    try:
        with _quiet():
            config: PretrainedConfig = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # the library's own checks of values raise errors of many kinds
        rule = f"must name a folder with a valid config.json ({_short(error)})"
        raise ConfigError([Problem(f"{at}.name", rule, str(folder))]) from error
    return config


def load_encoder(folder: Path, attention: str | None = None, at: str = PLACE) -> LoadedEncoder:
    """The model in a folder, without any head.

    Args:
        folder: Of the encoder.
        attention: ``sdpa`` or ``eager``; what the library takes if not given.
        at: Key path of the encoder in the study file.

    Raises:
        ConfigError: Configuration or weights are missing, damaged, not safetensors, or do not fit each other.
    """
    config = load_config(folder, at)
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        rule = "must name a folder with model.safetensors"
        if pickles:
            rule += f"; {', '.join(pickles[:3])} can run code when it is read, so it never is"
            rule += ": load it where you trust it and `save_pretrained` it again"
        raise ConfigError([Problem(f"{at}.name", rule, str(folder))])
    from transformers import AutoModel

    chosen: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    try:
        with _quiet():
            model, info = AutoModel.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype="float32",
                output_loading_info=True,
                **chosen,
            )
    except Exception as error:  # damaged files and unfit attention raise errors of many kinds
        rule = f"must be an encoder that transformers can load ({_short(error)})"
        raise ConfigError([Problem(f"{at}.name", rule, str(folder))]) from error
    model.eval()
    return LoadedEncoder(model, tuple(sorted(info["missing_keys"])))


def check_complete(missing: tuple[str, ...], wanted: list[str], at: str = PLACE) -> None:
    """Check that the files hold all parameters that matter.

    Args:
        missing: What they lack, see ``LoadedEncoder``.
        wanted: Names of the parameters that are used, such as those of the blocks.
        at: Key path of the encoder in the study file.

    Raises:
        ConfigError: A parameter that is used is missing.
    """
    lost = sorted(set(missing) & set(wanted))
    if lost:
        rule = f"must name a folder whose safetensors hold all weights; they lack {', '.join(few_of(lost))}"
        raise ConfigError([Problem(f"{at}.name", rule)])


def load_tokenizer(folder: Path, at: str = PLACE) -> str:
    """The tokenizer in a folder, as the JSON text of the package ``tokenizers``.

    Args:
        folder: Of the encoder.
        at: Key path of the encoder in the study file.

    Raises:
        ConfigError: There is none, or none that ``tokenizers`` can hold.
    """
    require_transformers(at)
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            Tokenizer.from_str(text)
            return text
    except Exception as error:  # the package raises bare `Exception` on what it cannot read
        rule = f"must name a folder whose tokenizer.json can be read ({_short(error)})"
        raise ConfigError([Problem(f"{at}.name", rule, str(folder))]) from error
    if not any((folder / name).is_file() for name in ("vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")):
        rule = "must name a folder with tokenizer.json, or the tokens must name a tokenizer of their own"
        raise ConfigError([Problem(f"{at}.name", rule, str(folder))])
    from transformers import AutoTokenizer

    try:
        with _quiet():
            made = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        text = made.backend_tokenizer.to_str()
    except Exception as error:  # older forms of a tokenizer raise errors of many kinds
        rule = f"must name a folder with tokenizer.json; one cannot be made of what is there ({_short(error)})"
        raise ConfigError([Problem(f"{at}.name", rule, str(folder))]) from error
    return str(text)


def _fetch(name: str, revision: str, at: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    offline = is_offline()
    try:
        with _quiet():
            found = snapshot_download(name, revision=revision, allow_patterns=[*_FETCHED], local_files_only=offline)
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        rule = f"must be a model on the hub that you may read, at commit {revision[:8]} ({_short(error)})"
        raise ConfigError([Problem(f"{at}.name", rule, name)]) from error
    except Exception as error:  # the hub's client raises what its own libraries raise of a network
        ways = f"fetch it where there is a network (`hf download {name} --revision {revision}`), or name a folder"
        why = "HF_HUB_OFFLINE is set" if offline else f"the hub cannot be asked: {_short(error)}"
        rule = f"must be a folder, or a model that was fetched to this machine before ({why}): {ways}"
        raise ConfigError([Problem(f"{at}.name", rule, name)]) from error
    return Path(found)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's progress bars and notes, which belong to no study."""
    from transformers.utils import logging

    library: Any = logging  # its functions have no types
    bars, level = library.is_progress_bar_enabled(), library.get_verbosity()
    library.disable_progress_bar()
    library.set_verbosity_error()
    try:
        yield
    finally:
        library.set_verbosity(level)
        if bars:
            library.enable_progress_bar()


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
