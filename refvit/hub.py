"""Models of the Hugging Face Hub: found in its local cache without a network, or pulled into it.

`cached` follows the cache's layout (huggingface_hub's guide "Understand caching") and only reads:
`models--org--name/refs/<revision>` holds a commit, `snapshots/<commit>/` holds its files. `pull`
alone uses the network, through huggingface_hub, which comes with the `hub` extra.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

PREFIX = "hf:"
REPO = re.compile(r"(?:\w[\w.-]*/)?\w[\w.-]*", re.ASCII)
# What git allows in the name of a branch or tag, slashes too: pull requests are `refs/pr/1`.
REVISION = re.compile(r"[^\s\0-\x1f\\~^:?*\[]+")
WEIGHTS = tuple(".bin .ckpt .gguf .h5 .msgpack .npz .onnx .pkl .pt .pth .safetensors".split())

# How to say an error of huggingface_hub: by the name of its class, for the classes are not there
# until the library is imported; the first that fits, for a gated model is also one not found.
ANSWERS: dict[str, tuple[type[OSError | ValueError], str]] = {
    "HFValidationError": (ValueError, "{found}"),
    "GatedRepoError": (
        PermissionError,
        "the model is gated; accept its terms at {hub}/{repo}, then set HF_TOKEN",
    ),
    "RepositoryNotFoundError": (
        FileNotFoundError,
        "{hub} has no such model, or it is private; mend the name, or set HF_TOKEN",
    ),
    "RevisionNotFoundError": (
        FileNotFoundError,
        "{repo} at {hub} has no revision {revision!r}; without one, it is main",
    ),
    "OfflineModeIsEnabled": (
        ConnectionError,
        "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids downloads; unset it to pull",
    ),
    "Exception": (
        ConnectionError,
        "cannot pull from {hub} ({found}); see that HF_ENDPOINT, HF_TOKEN and the connection are "
        "right, then pull again",
    ),
}


class Name(NamedTuple):
    """A model of the hub at a revision: a branch, a tag or a commit."""

    repo: str
    revision: str

    def __str__(self) -> str:
        at = "" if self.revision == "main" else f"@{self.revision}"
        return f"{PREFIX}{self.repo}{at}"


def parse(name: str) -> Name:
    """Return the parts of hf:org/name or hf:org/name@revision; ValueError for anything else."""
    repo, at, revision = name.removeprefix(PREFIX).partition("@")
    parts = [*repo.split("/"), *revision.split("/")]
    if (
        not name.startswith(PREFIX)
        or not REPO.fullmatch(repo)
        or "--" in repo  # the cache's own separator: hf:a--b would find a/b
        or (at and not (REVISION.fullmatch(revision) and all(revision.split("/"))))
        or any(".." in part or part.startswith(".") for part in parts)
    ):
        raise ValueError(f"{name!r} is no name of a model: hf:org/name or hf:org/name@revision")
    return Name(repo, revision or "main")


def cache_folder() -> Path:
    """Return the folder of the Hugging Face cache, which four environment variables can move."""
    env = {key: value for key, value in os.environ.items() if value}
    home = env.get("HF_HOME") or f"{env.get('XDG_CACHE_HOME', '~/.cache')}/huggingface"
    folder = env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(os.path.expanduser(folder)))


def cached(name: str) -> Path:
    """Return the snapshot of `name` in the local cache; nothing is downloaded or written.

    name: hf:org/name, or hf:org/name@revision for a branch, a tag or a whole commit.
    Raises ValueError for a name of another form, FileNotFoundError if the cache has no such
    revision or its snapshot lacks config.json or weights in safetensors.
    """
    asked = parse(name)
    folder = cache_folder()
    model = folder / f"models--{asked.repo.replace('/', '--')}"
    ref = model / "refs" / asked.revision  # of a branch or tag; a commit needs none
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else asked.revision
    snapshot = model / "snapshots" / commit
    if not commit.isalnum() or not snapshot.is_dir():
        missing = f"revision {asked.revision!r}" if model.is_dir() else "such model"
        found = f"the cache {str(folder)!r} has no {missing}"
    elif not (snapshot / "config.json").is_file():
        found = f"{str(snapshot)!r} has no config.json"
    elif not any(path.is_file() for path in snapshot.glob("*.safetensors")):
        found = f"{str(snapshot)!r} has no .safetensors file"
    else:
        return snapshot
    raise FileNotFoundError(f"{asked}: {found}; to download it: refvit pull {asked}")


def pull(name: str) -> Path:
    """Download the configuration and weights of `name` into the cache; return the snapshot.

    Only *.json and *.safetensors of the top folder come, never a pickle; what is there already
    is kept. HF_ENDPOINT, HF_TOKEN and the variables of `cache_folder` hold.
    Raises ValueError for a name of another form, a missing huggingface_hub, or a model without
    configuration or safetensors; OSError for a model not found, refused or not reached.
    """
    asked = parse(name)
    try:
        from huggingface_hub import HfApi, constants, snapshot_download
    except ImportError as error:
        found = f"{name}: pull needs huggingface_hub ({error})"
        raise ValueError(f"{found}; pip install 'refvit[hub]'") from None
    # Asked first, for snapshot_download hides most errors behind what the cache has, and waits
    # for ever for a hub that is silent.
    patience = constants.HF_HUB_ETAG_TIMEOUT  # seconds
    with _errors_in_one_line(asked):
        about = HfApi().model_info(asked.repo, revision=asked.revision, timeout=patience)
    _check_files(asked, [sibling.rfilename for sibling in about.siblings or ()])
    with _errors_in_one_line(asked):
        cache_folder().mkdir(parents=True, exist_ok=True)
        snapshot_download(
            asked.repo,
            revision=asked.revision,
            cache_dir=cache_folder(),
            allow_patterns=["*.json", "*.safetensors"],
            ignore_patterns=["*/*"],  # a star matches slashes too
        )
    return cached(name)


def _check_files(asked: Name, files: Sequence[str]) -> None:
    top = [file for file in files if "/" not in file]
    if not any(file.endswith(".safetensors") for file in top):
        weights = [file for file in files if file.endswith(WEIGHTS)]
        more = f" and {len(weights) - 5} more" if len(weights) > 5 else ""
        found = f"its weight files are {', '.join(weights[:5]) or 'none'}{more}"
        raise ValueError(
            f"{asked}: no .safetensors file in the top folder; {found}; refvit reads only "
            "safetensors, never pickle"
        )
    if "config.json" not in top:
        raise ValueError(f"{asked}: no config.json among its {len(files)} files; refvit needs it")


@contextmanager
def _errors_in_one_line(asked: Name) -> Iterator[None]:
    """Turn the errors of huggingface_hub and its transport into ones that say what to do."""
    try:
        yield
    except Exception as error:  # requests, httpx and httpx2 in turn: nothing narrower is shared
        raise _answer(error, asked) from None


def _answer(error: Exception, asked: Name) -> OSError | ValueError:
    from huggingface_hub import constants

    found = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError):
        return OSError(f"{asked}: cannot write to the cache {str(cache_folder())!r} ({found})")
    kinds = {kind.__name__ for kind in type(error).__mro__}
    raises, text = next(ANSWERS[kind] for kind in ANSWERS if kind in kinds)
    text = text.format(hub=constants.ENDPOINT, found=found, **asked._asdict())
    return raises(f"{asked}: {text}")


def add_pull(parser: argparse.ArgumentParser) -> None:
    """Add the name of the model."""
    parser.add_argument("name", metavar="NAME", help="hf:org/name or hf:org/name@revision")


def run_pull(args: argparse.Namespace) -> tuple[str, Any]:
    """Pull a model; return its files and where they are, as text and as data."""
    path = pull(args.name)
    files = {file.name: file.stat().st_size for file in sorted(path.iterdir()) if file.is_file()}
    lines = [f"{size:>15,}  {file}" for file, size in files.items()]
    data = {"name": args.name, "path": str(path), "files": files}
    return "\n".join([*lines, f"{sum(files.values()):>15,}  bytes in {path}"]), data
