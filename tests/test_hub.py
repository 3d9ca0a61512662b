"""The hub: the local cache is found as huggingface_hub keeps it, and `pull` meets a real server."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

from refvit.hub import PREFIX, cached

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CHUNK = 10 * 1024 * 1024  # huggingface_hub writes a download in pieces of this size


def make_snapshot(cache, repo="org/name"):
    """Write a model as huggingface_hub caches it: main and refs/pr/1 are at COMMIT."""
    model = cache / f"models--{repo.replace('/', '--')}"
    for ref in (model / "refs/main", model / "refs/refs/pr/1"):
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(COMMIT)
    snapshot = model / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(b"weights")
    return snapshot


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("revision", ["", "@main", "@refs/pr/1", f"@{COMMIT}"])
@pytest.mark.parametrize("repo", ["org/name", "name", "o_r.g-1/n.a-m_e"])
def test_a_branch_and_its_commit_name_the_same_snapshot(cache, repo, revision):
    snapshot = make_snapshot(cache, repo)
    assert cached(f"{PREFIX}{repo}{revision}") == snapshot


@pytest.mark.parametrize(
    "name",
    [
        "",
        "org/name",
        "hf:",
        "hf:/name",
        "hf:org/",
        "hf:a/b/c",
        "hf://org/name",
        "hf:../name",
        "hf:org/..",
        "hf:org/.hidden",
        "hf:org/a..b",
        "hf:a--b",
        "hf:org\\name",
        "hf:org/na me",
        "hf:org/name\n",
        "hf:org/näme",
        "hf:org/name@",
        "hf:org/name@..",
        "hf:org/name@../../x",
        "hf:org/name@/etc",
        "hf:org/name@a//b",
        "hf:org/name@a\\b",
        "hf:org/name@a b",
        "hf:org/name@a\0",
    ],
)
def test_a_malformed_name_is_refused_in_one_line(cache, name):
    make_snapshot(cache)
    with pytest.raises(ValueError, match="hf:org/name or hf:org/name@revision") as error:
        cached(name)
    assert repr(name) in one_line(error)


@pytest.mark.parametrize(
    ("variable", "beside"),
    [
        ("HF_HUB_CACHE", ""),
        ("HUGGINGFACE_HUB_CACHE", ""),
        ("HF_HOME", "hub"),
        ("XDG_CACHE_HOME", "huggingface/hub"),
        ("HOME", ".cache/huggingface/hub"),
    ],
)
def test_the_first_variable_that_is_set_places_the_cache(tmp_path, monkeypatch, variable, beside):
    order = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"]
    rank = order.index(variable)
    for earlier in order[:rank]:
        monkeypatch.setenv(earlier, "")  # empty is unset
    for later in order[rank + 1 :]:
        monkeypatch.setenv(later, str(tmp_path / "elsewhere"))
    monkeypatch.setenv(variable, str(tmp_path / "here"))
    monkeypatch.setenv("USERPROFILE", os.environ["HOME"])  # Windows' name of HOME
    snapshot = make_snapshot(tmp_path / "here" / beside)
    assert cached("hf:org/name") == snapshot


def test_a_tilde_and_a_variable_in_the_place_are_expanded(tmp_path, monkeypatch):
    snapshot = make_snapshot(tmp_path / "models" / "hub")
    for home in ("HOME", "USERPROFILE", "SOME_DISK"):
        monkeypatch.setenv(home, str(tmp_path))
    for place in ("~/models/hub", "$SOME_DISK/models/hub"):
        monkeypatch.setenv("HF_HUB_CACHE", place)
        assert cached("hf:org/name") == snapshot


@pytest.mark.parametrize("asked", ["hf:org/name", "hf:org/name@v1.0", f"hf:org/name@{'f' * 40}"])
@pytest.mark.parametrize("known", [False, True], ids=["no-model", "no-revision"])
def test_what_is_not_cached_names_the_cache_and_the_command(cache, asked, known):
    if known:
        make_snapshot(cache)
        (cache / "models--org--name/refs/main").unlink()
    with pytest.raises(FileNotFoundError) as error:
        cached(asked)
    text = one_line(error)
    assert str(cache) in text
    assert text.endswith(f"refvit pull {asked}")


@pytest.mark.parametrize("lost", ["config.json", "model.safetensors"])
def test_a_snapshot_that_lost_a_file_says_which(cache, lost):
    file = make_snapshot(cache) / lost
    file.unlink()
    file.symlink_to("../../blobs/gone")  # as an entry whose blob was deleted
    with pytest.raises(FileNotFoundError, match="refvit pull hf:org/name") as error:
        cached("hf:org/name")
    assert lost.removeprefix("model") in one_line(error)


@pytest.mark.parametrize("commit", ["", "../../../elsewhere", "."])
def test_a_damaged_ref_leads_nowhere(cache, commit):
    make_snapshot(cache)
    (cache / "models--org--name/refs/main").write_text(commit)
    with pytest.raises(FileNotFoundError):
        cached("hf:org/name")


def test_looking_writes_nothing(cache):
    def listing():
        return {path: path.lstat().st_mtime_ns for path in cache.parent.rglob("*")}

    snapshot, before = make_snapshot(cache), listing()
    assert cached("hf:org/name") == snapshot
    with pytest.raises(FileNotFoundError):
        cached("hf:org/other")
    assert listing() == before


def test_looking_needs_no_huggingface_hub(cache):
    make_snapshot(cache)
    code = "import sys; from refvit.hub import cached; cached('hf:org/name'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "refvit.hub" in done.stdout.split()
    assert not {"huggingface_hub", "http.client", "ssl"} & set(done.stdout.split())


# What a script around `pull` sees; in a process of its own, for huggingface_hub reads the
# environment when it is imported.
PULL = """
import argparse, json, sys
from refvit.hub import add_pull, run_pull
parser = argparse.ArgumentParser()
add_pull(parser)
try:
    text, data = run_pull(parser.parse_args())
except (OSError, ValueError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
print(json.dumps({"text": text, **data}))
"""


def test_without_huggingface_hub_pull_says_what_to_install(cache):
    code = f"import sys; sys.modules['huggingface_hub'] = None\n{PULL}"
    command = [sys.executable, "-c", code, "hf:org/name"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'refvit[hub]'" in done.stderr


class Handler(BaseHTTPRequestHandler):
    """The part of the hub's protocol that huggingface_hub uses to download a model."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub = self.server.hub
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        hub.requests.append((self.command, "/".join(parts), self.headers["Range"]))
        if parts[:2] == ["api", "models"] and parts[2:4] == ["org", "name"]:
            self.describe(hub, parts[4:])
        elif parts[:3] == ["org", "name", "resolve"]:
            self.resolve(hub, "/".join(parts[4:]))
        else:
            self.refuse(404, "RepoNotFound")

    def describe(self, hub, rest):
        if rest[:1] == ["revision"] and rest[1] not in {"main", COMMIT}:
            self.refuse(404, "RevisionNotFound")
        elif rest[:1] == ["tree"]:
            tree = [
                {"type": "file", "path": name, "size": len(raw), "oid": etag(raw)}
                for name, raw in hub.files.items()
            ]
            self.answer(json.dumps(tree).encode())
        else:
            siblings = [{"rfilename": name} for name in hub.files]
            about = {"id": "org/name", "sha": COMMIT, "siblings": siblings}
            self.answer(json.dumps(about).encode())

    def resolve(self, hub, name):
        if hub.gated:
            self.refuse(403, "GatedRepo")
            return
        raw, begin = hub.files[name], 0
        if self.headers["Range"]:
            begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        keep = hub.cut.pop(name, None) if self.command == "GET" else None
        headers = {"ETag": f'"{etag(raw)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(raw) - 1}/{len(raw)}"
        self.answer(raw[begin:], 206 if begin else 200, headers, keep)

    def answer(self, body, status=200, headers=None, keep=None):
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": len(body)}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:keep])
        self.close_connection = keep is not None  # in the middle of the body

    def refuse(self, status, code):
        self.answer(b"{}", status, {"X-Error-Code": code})


def etag(raw):
    return hashlib.sha1(raw).hexdigest()


class Hub:
    """A hub on this machine with one model, org/name; `pull` runs in a process of its own."""

    def __init__(self, folder):
        self.folder, self.gated = folder, False
        self.requests, self.cut = [], {}  # cut: file -> bytes sent before its first GET breaks
        self.files = {
            "README.md": b"# name",
            "config.json": b'{"model_type": "vit"}',
            "model.safetensors": b"weights" * 1000,
            "onnx/config.json": b"{}",
            "onnx/model.safetensors": b"others",
            "pytorch_model.bin": b"pickle",
        }
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.hub = self
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def stop(self):
        if self.thread.is_alive():
            self.server.shutdown()
            self.thread.join()
            self.server.server_close()

    def pull(self, name="hf:org/name", **more):
        unset = ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HUGGING_FACE_HUB_TOKEN")
        env = {key: value for key, value in os.environ.items() if key not in unset}
        env |= {
            "HF_ENDPOINT": self.address,
            "HF_HUB_CACHE": str(self.folder / "cache"),
            "HF_HOME": str(self.folder / "home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
            **more,
        }
        command = [sys.executable, "-c", PULL, name]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)

    def complaint(self, *args, **more):
        """Return the one line with which a pull fails; only progress may stand before it."""
        done = self.pull(*args, **more)
        assert done.returncode == 1
        assert done.stdout == ""
        *before, line = done.stderr.splitlines()
        assert all(text == "" or text.startswith("Fetching ") for text in before), done.stderr
        return line


@pytest.fixture
def hub(tmp_path, cache):
    pytest.importorskip("huggingface_hub", reason="pull downloads through huggingface_hub")
    hub = Hub(tmp_path)
    yield hub
    hub.stop()


def test_pull_fetches_configuration_and_safetensors_and_no_pickle(hub, cache):
    done = hub.pull()
    assert done.returncode == 0, done.stderr
    hub.stop()
    snapshot = cached("hf:org/name")
    assert snapshot == cache / "models--org--name" / "snapshots" / COMMIT
    wanted = ("config.json", "model.safetensors")
    assert {p.name: p.read_bytes() for p in snapshot.iterdir()} == {k: hub.files[k] for k in wanted}
    assert not [path for _, path, _ in hub.requests if path.endswith((".bin", ".md"))]
    told = json.loads(done.stdout)
    assert told["files"] == {name: len(hub.files[name]) for name in wanted}
    assert told["path"] == str(snapshot)
    assert all(f"{len(hub.files[name]):,}  {name}" in told["text"] for name in wanted)


def test_a_commit_is_pulled_and_found_by_its_hash(hub):
    assert hub.pull(f"hf:org/name@{COMMIT}").returncode == 0
    assert cached(f"hf:org/name@{COMMIT}").name == COMMIT


def test_a_second_pull_fetches_no_file_again(hub):
    assert hub.pull().returncode == 0
    hub.requests.clear()
    assert hub.pull().returncode == 0
    assert not [path for verb, path, _ in hub.requests if verb == "GET" and "resolve" in path]


def test_a_download_cut_in_the_middle_goes_on_where_it_stopped(hub):
    weights = hub.files["model.safetensors"] = bytes(range(256)) * (CHUNK // 256 + 5000)
    hub.cut["model.safetensors"] = CHUNK + 1000
    if hub.pull().returncode != 0:  # some releases try again by themselves
        assert hub.pull().returncode == 0
    first, second = (
        asked for verb, path, asked in hub.requests if verb == "GET" and path.endswith("tensors")
    )
    assert first is None
    assert second in {f"bytes={CHUNK}-", f"bytes={CHUNK + 1000}-"}
    assert (cached("hf:org/name") / "model.safetensors").read_bytes() == weights


def test_a_model_that_is_not_there_ends_in_one_line(hub):
    line = hub.complaint("hf:org/nmae")
    assert line.startswith("FileNotFoundError: hf:org/nmae: ")
    assert hub.address in line


def test_a_revision_that_is_not_there_ends_in_one_line(hub):
    line = hub.complaint("hf:org/name@v9")
    assert line.startswith("FileNotFoundError: hf:org/name@v9: ")
    assert "no revision 'v9'" in line


def test_a_gated_model_says_where_to_accept_its_terms(hub):
    hub.gated = True
    line = hub.complaint()
    assert line.startswith("PermissionError: hf:org/name: ")
    assert f"{hub.address}/org/name" in line
    assert "HF_TOKEN" in line


@pytest.mark.parametrize("pulled_before", [False, True])
def test_a_hub_that_is_down_ends_in_one_line(hub, pulled_before):
    assert not pulled_before or hub.pull().returncode == 0
    hub.stop()
    line = hub.complaint()
    assert line.startswith("ConnectionError: hf:org/name: ")
    assert hub.address in line


def test_a_hub_that_says_nothing_is_waited_for_so_long_and_no_longer(hub):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        line = hub.complaint(HF_ENDPOINT=address, HF_HUB_ETAG_TIMEOUT="1")
    assert line.startswith(f"ConnectionError: hf:org/name: cannot pull from {address}")


def test_offline_mode_forbids_pulling_and_says_so(hub):
    assert "HF_HUB_OFFLINE" in hub.complaint(HF_HUB_OFFLINE="1")
    assert hub.requests == []


def test_an_address_that_is_no_hub_ends_in_one_line(hub):
    assert "HF_ENDPOINT" in hub.complaint(HF_ENDPOINT=f"{hub.address}/api/models/org/name/tree?x=")


def test_a_model_without_safetensors_says_which_weights_it_has(hub):
    del hub.files["model.safetensors"]
    line = hub.complaint()
    assert line.startswith("ValueError: hf:org/name: no .safetensors file in the top folder")
    assert "onnx/model.safetensors, pytorch_model.bin" in line
    assert "never pickle" in line
    assert not (hub.folder / "cache").exists()


def test_a_model_without_configuration_is_not_pulled(hub):
    del hub.files["config.json"]
    assert "no config.json" in hub.complaint()


def test_a_cache_that_cannot_be_written_is_named(hub, cache):
    cache.write_text("a file, not a folder")
    assert f"cannot write to the cache '{cache}'" in hub.complaint()


def test_a_malformed_name_is_refused_before_any_request(hub):
    assert hub.complaint("hf:a/b/c").startswith("ValueError: 'hf:a/b/c' is no name")
    assert hub.requests == []
