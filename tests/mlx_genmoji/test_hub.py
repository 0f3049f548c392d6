"""Hub: fetching a model from a server that speaks the hub's API, here on this machine."""

import errno
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from mlx_genmoji import hub, hub_fetch
from mlx_genmoji.errors import UserError
from mlx_genmoji.hub import locate_adapter, resolve
from mlx_genmoji.hub_repository import needed_files

COMMIT, OLDER = "1" * 40, "0" * 40
TOKEN = "hf_secret"
BIG = bytes(range(256)) * 16384

INDEX = {
    "_class_name": "StableDiffusionXLPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": [None, None],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "force_zeros_for_empty_prompt": True,
}
NEEDED = {
    "model_index.json": json.dumps(INDEX).encode(),
    "unet/config.json": b'{"a": 1}',
    "unet/diffusion_pytorch_model.safetensors": BIG,
    "vae/config.json": b'{"e": 5}',
    "vae/diffusion_pytorch_model.safetensors": b"vae" * 1000,
    "text_encoder/config.json": b'{"b": 2}',
    "text_encoder/model.safetensors": b"text" * 1000,
    "tokenizer/vocab.json": b'{"a</w>": 0}',
    "tokenizer/merges.txt": b"#version: 0.2",
    "tokenizer/tokenizer_config.json": b'{"c": 3}',
    "scheduler/scheduler_config.json": b'{"d": 4}',
}
HALVES = {
    "unet/diffusion_pytorch_model.fp16.safetensors": b"half" * 1000,
    "text_encoder/model.fp16.safetensors": b"half a text" * 10,
}
OTHERS = {
    "README.md": b"# A model",
    "whole.safetensors": b"all in one",
    "whole.ckpt": b"pickle",
    "feature_extractor/preprocessor_config.json": b"{}",
    "safety_checker/config.json": b"{}",
    "safety_checker/model.safetensors": b"safe",
    "text_encoder/pytorch_model.bin": b"pickle",
    "text_encoder/flax_model.msgpack": b"flax",
    "text_encoder_2/model.safetensors": b"not listed",
    "unet/diffusion_pytorch_model.bin": b"pickle",
    "unet/diffusion_pytorch_model.non_ema.safetensors": b"not averaged",
    "vae_decoder/model.onnx": b"onnx",
}


class Hub:
    """What the server holds and how it misbehaves."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, bytes] = NEEDED | OTHERS
        self.commit = COMMIT
        self.requests: list[tuple[str, str, str | None]] = []
        """Method, path and Range of each request."""
        self.tokens: dict[str, str | None] = {}
        """What each host received."""
        self.answer: Callable[[Any, str], bool] = lambda handler, path: False
        """Answers a request in another way than the hub; false where it leaves it to the hub."""
        self.breaks_after: int | None = None
        """The bytes of a file after which the connection is cut."""
        self.stalls = False
        self.ranges = True

    def gets(self, end: str = "") -> list[str | None]:
        return [wanted for method, path, wanted in self.requests if method == "GET" and path.endswith(end)]

    @property
    def fetched(self) -> set[str]:
        return {path.split(f"/{COMMIT}/")[1] for method, path, _ in self.requests if method == "GET" and COMMIT in path}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        self.hub.tokens[self.headers["Host"].partition(":")[0]] = self.headers.get("Authorization")
        if self.hub.answer(self, path):
            return
        if path.startswith("/api/models/someone/pig/revision/"):
            if path.endswith(("/main", "/v1", self.hub.commit)):
                siblings = [{"rfilename": name} for name in self.hub.files]
                self.reply(
                    200, json.dumps({"id": "someone/pig", "sha": self.hub.commit, "siblings": siblings}).encode()
                )
            else:
                self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif path.startswith(f"/someone/pig/resolve/{self.hub.commit}/"):
            self.file(path.split(f"/{self.hub.commit}/")[1])
        elif path.startswith("/store/"):
            self.content(self.hub.files[path.split(f"/{self.hub.commit}/")[1]])
        else:
            self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def file(self, name: str) -> None:
        """As the hub: a small file itself, a large one by way of its store, which is another host."""
        if name not in self.hub.files:
            self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        content = self.hub.files[name]
        headers = {"X-Repo-Commit": self.hub.commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        if name.endswith(".safetensors"):
            port = self.hub.url.rpartition(":")[2]
            headers |= {
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Linked-Size": str(len(content)),
                "Location": f"http://localhost:{port}/store/{self.hub.commit}/{name}",
            }
            self.reply(302, b"", headers)
        else:
            self.content(content, headers)

    def content(self, content: bytes, headers: dict[str, str] | None = None) -> None:
        byte_range, start = self.headers.get("Range"), 0
        if byte_range and self.hub.ranges:
            start = int(byte_range.removeprefix("bytes=").rstrip("-"))
            headers = (headers or {}) | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        self.reply(206 if start else 200, content[start:], headers)

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.hub.breaks_after
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None and len(body) > cut:
            self.wfile.flush()
            while self.hub.stalls:
                time.sleep(0.01)
            self.close_connection = True


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    class Bound(Handler):
        pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    listening.daemon_threads = True
    Bound.hub = Hub(f"http://127.0.0.1:{listening.server_address[1]}")
    monkeypatch.setenv("HF_ENDPOINT", Bound.hub.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hub_fetch, "PAUSE", 0.0)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Bound.hub
    Bound.hub.stalls = False
    listening.shutdown()
    listening.server_close()
    thread.join()


def refusal(model: str = "someone/pig", **arguments: Any) -> str:
    with pytest.raises(UserError) as error:
        resolve(model, **arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def held(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_used_in_place(tmp_path: Path, server: Hub) -> None:
    assert resolve(tmp_path) == tmp_path
    assert resolve(str(tmp_path)) == tmp_path
    assert server.requests == []


def test_a_folder_comes_before_the_hub(tmp_path: Path, server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone" / "pig").mkdir(parents=True)
    assert resolve("someone/pig") == Path("someone/pig")
    assert server.requests == []


@pytest.mark.parametrize("model", ["pig", "./pig", "/no/where", "a/b/c", "../pig", "owner/na me", "", "someone/pig@"])
def test_what_is_neither_a_folder_nor_an_id_is_refused_without_asking(model: str, server: Hub) -> None:
    if model:
        assert f"There is no model folder {model}" in refusal(model)
    else:
        assert resolve(model) == Path()
    assert server.requests == []


@pytest.mark.parametrize("revision", ["../../x", "a..b", "-x", "a b"])
def test_what_cannot_be_a_revision_is_refused_without_asking(revision: str, server: Hub) -> None:
    assert "is not a branch, tag or commit" in refusal(revision=revision)
    assert server.requests == []


def test_only_what_is_needed_comes_over_and_whole(server: Hub) -> None:
    server.files |= HALVES | {"genmoji.json": b"{}"}
    folder = resolve("someone/pig", half=False)
    assert folder.name == COMMIT
    assert held(folder) == NEEDED | {"genmoji.json": b"{}"}
    assert server.fetched == set(NEEDED) | {"genmoji.json"}
    # A large one is asked for at the hub and sent by its store.
    assert len(server.gets("unet/diffusion_pytorch_model.safetensors")) == 2


def test_half_precision_is_taken_where_it_is_wanted_and_there(server: Hub) -> None:
    server.files |= HALVES
    folder = resolve("someone/pig", half=True)
    full = {"unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"}
    assert held(folder).keys() == (NEEDED.keys() | HALVES.keys()) - full


def test_the_precision_is_the_devices_unless_given(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files |= HALVES
    monkeypatch.setattr(hub, "_prefers_half", lambda: True)
    assert HALVES.keys() < held(resolve("someone/pig")).keys()
    monkeypatch.setattr(hub, "_prefers_half", lambda: False)
    monkeypatch.setenv("HF_HOME", os.environ["HF_HOME"] + "2")
    assert not HALVES.keys() & held(resolve("someone/pig")).keys()


@pytest.mark.parametrize(
    ("half", "chosen"),
    [
        (
            False,
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"],
        ),
        (True, ["model.fp16-00001-of-00001.safetensors", "model.safetensors.index.fp16.json"]),
    ],
)
def test_weights_in_several_files_come_with_their_index(half: bool, chosen: list[str]) -> None:
    names = [
        "unet/config.json",
        *(f"unet/{name}" for name in chosen),
        "unet/model.fp16-00001-of-00001.safetensors",
        "unet/model-00001-of-00002.safetensors",
        "unet/model-00002-of-00002.safetensors",
        "unet/model.safetensors.index.json",
        "unet/model.safetensors.index.fp16.json",
        "unet/pytorch_model.bin.index.json",
        "unet/openvino_model.safetensors",
        "unet/deeper/model.safetensors",
    ]
    needed = needed_files("someone/pig", names, {"unet": ["diffusers", "UNet2DConditionModel"]}, half)
    assert sorted(needed) == sorted(["unet/config.json", *(f"unet/{name}" for name in chosen)])


def test_one_file_is_preferred_to_several() -> None:
    names = [
        "vae/config.json",
        "vae/model-00001-of-00001.safetensors",
        "vae/model.safetensors",
        "vae/model.safetensors.index.json",
    ]
    needed = needed_files("someone/pig", names, {"vae": ["diffusers", "AutoencoderKL"]}, half=False)
    assert needed == ["vae/config.json", "vae/model.safetensors"]


PICKLED = {
    "unet/diffusion_pytorch_model.safetensors": "unet/diffusion_pytorch_model.bin",
    "vae/diffusion_pytorch_model.safetensors": "vae/diffusion_pytorch_model.bin",
    "text_encoder/model.safetensors": "text_encoder/pytorch_model.bin",
}


def test_a_repository_of_pickles_is_fetched_where_they_are_allowed(
    server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files = {PICKLED.get(name, name): content for name, content in (NEEDED | OTHERS).items()}
    assert "--allow-pickle" in refusal()
    folder = resolve("someone/pig", allow_pickle=True)
    assert set(held(folder)) == {PICKLED.get(name, name) for name in NEEDED}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert resolve("someone/pig", allow_pickle=True) == folder


def test_safetensors_are_fetched_where_pickles_are_allowed_too(server: Hub) -> None:
    server.files |= dict.fromkeys(PICKLED.values(), b"pickle")
    assert set(held(resolve("someone/pig", allow_pickle=True))) == set(NEEDED)


def test_an_autoencoder_is_fetched_from_its_own_repository_or_out_of_a_model(
    server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_genmoji.hub import resolve_component

    weights = "diffusion_pytorch_model.safetensors"
    assert set(held(resolve_component("someone/pig"))) == {"model_index.json", "vae/config.json", f"vae/{weights}"}
    shutil.rmtree(os.environ["HF_HOME"])
    server.files = {"config.json": b"{}", weights: b"vae", "README.md": b"", "diffusion_pytorch_model.bin": b"pickle"}
    folder = resolve_component("someone/pig")
    assert set(held(folder)) == {"config.json", weights}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert resolve_component("someone/pig") == folder


def test_a_name_cannot_leave_its_folder() -> None:
    names = [
        "unet/config.json",
        "unet/model.safetensors",
        "unet/../../../model.safetensors",
        "../unet/model.safetensors",
    ]
    needed = needed_files("someone/pig", names, {"unet": ["diffusers", "UNet2DConditionModel"]}, half=False)
    assert needed == ["unet/config.json", "unet/model.safetensors"]


def test_the_second_time_needs_no_network(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = resolve("someone/pig")
    before = len(server.requests)
    assert resolve("someone/pig") == folder
    assert len(server.requests) == before
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert resolve("someone/pig") == resolve(f"someone/pig@{COMMIT}") == folder
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert resolve("someone/pig") == folder


def test_a_name_stays_the_model_that_was_fetched(server: Hub) -> None:
    folder = resolve("someone/pig")
    server.commit, server.files = OLDER, NEEDED | {"unet/config.json": b'{"a": 2}'}
    assert resolve("someone/pig") == folder
    other = resolve("someone/pig", revision="v1")
    assert other.name == OLDER
    assert (other / "unet" / "config.json").read_bytes() == b'{"a": 2}'
    assert resolve(f"someone/pig@{COMMIT}") == folder
    assert resolve("someone/pig@v1") == other


def test_what_another_program_left_half_done_is_completed(server: Hub) -> None:
    folder = resolve("someone/pig")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    shutil.rmtree(folder / "tokenizer")
    assert held(resolve("someone/pig")) == NEEDED


@pytest.mark.parametrize("offline", [False, True])
def test_without_network_and_files_one_line_names_the_command(
    offline: bool, server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    if offline:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    else:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    message = refusal("someone/pig@v1")
    assert "run" in message
    assert message.endswith('genmoji generate "flying pig" --model someone/pig@v1')
    assert ("HF_HUB_OFFLINE" in message) == offline
    assert server.requests == []


def test_a_snapshot_that_lacks_a_piece_is_not_whole(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = {f"unet/diffusion_pytorch_model-0000{i}-of-00002.safetensors": b"piece" * i for i in (1, 2)}
    weight_map = {str(i): name.rpartition("/")[2] for i, name in enumerate(pieces)}
    server.files = NEEDED | pieces
    del server.files["unet/diffusion_pytorch_model.safetensors"]
    server.files["unet/diffusion_pytorch_model.safetensors.index.json"] = json.dumps(
        {"weight_map": weight_map}
    ).encode()
    folder = resolve("someone/pig")
    assert held(folder) == server.files
    (folder / next(iter(pieces))).unlink()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "cannot be reached" in refusal()


@pytest.mark.parametrize("terminal", [False, True])
def test_a_bar_shows_how_far_a_large_download_is_to_whoever_watches(
    terminal: bool, server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    monkeypatch.setattr(hub_fetch, "CHUNK", 2**16)
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    resolve("someone/pig")
    assert ("someone/pig: 100%" in screen.getvalue()) == terminal
    assert terminal or not screen.getvalue()


def test_the_token_goes_to_the_hub_and_to_nobody_else(server: Hub) -> None:
    resolve("someone/pig")
    assert server.tokens == {"127.0.0.1": f"Bearer {TOKEN}", "localhost": None}


def test_a_connection_that_breaks_is_taken_up_where_it_broke(server: Hub) -> None:
    server.breaks_after = 1_500_000
    assert held(resolve("someone/pig")) == NEEDED
    starts = server.gets("/store/" + COMMIT + "/unet/diffusion_pytorch_model.safetensors")
    assert starts[0] is None
    assert len(starts) >= 3
    offsets = [int(str(start).removeprefix("bytes=").rstrip("-")) for start in starts[1:]]
    assert offsets == sorted(set(offsets))
    assert 0 < offsets[0] <= 1_500_000


def test_a_server_without_ranges_sends_the_file_anew(server: Hub) -> None:
    server.breaks_after, server.ranges = 3_000_000, False
    assert "cannot be reached" in refusal()
    server.breaks_after = None
    assert held(resolve("someone/pig")) == NEEDED


def test_a_server_that_dies_leaves_what_came_and_the_next_run_goes_on(server: Hub) -> None:
    once = iter([True])

    def die(handler: Handler, path: str) -> bool:
        if not path.endswith("unet/diffusion_pytorch_model.safetensors") or not path.startswith("/store"):
            return False
        server.breaks_after = 2**21 if next(once, False) else 0
        return False

    server.answer = die
    message = refusal()
    assert "is incomplete on this machine" in message
    assert message.endswith("--model someone/pig")
    server.answer, server.breaks_after = lambda handler, path: False, None
    before = len(server.requests)
    assert held(resolve("someone/pig")) == NEEDED
    again = [entry for entry in server.requests[before:] if entry[0] == "GET" and entry[1].startswith("/store")]
    unet = [wanted for _, path, wanted in again if path.endswith("unet/diffusion_pytorch_model.safetensors")]
    assert unet == [f"bytes={2**21}-"]


def test_a_killed_download_goes_on_where_it_stopped(server: Hub, tmp_path: Path) -> None:
    server.breaks_after, server.stalls = 2**21 + 5, True
    code = "import sys; from mlx_genmoji.hub import resolve; resolve('someone/pig')"
    root = Path(hub.__file__).parents[1]
    child = subprocess.Popen([sys.executable, "-c", code], cwd=root, start_new_session=True)
    blobs = tmp_path / "home" / "hub" / "models--someone--pig" / "blobs"
    deadline = time.monotonic() + 120
    # A part that is whole is renamed meanwhile.
    while not any(hub_fetch._size(part) >= 2**21 for part in blobs.glob("*.part")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (blobs.parent / "refs" / "main").exists()
    server.stalls, server.breaks_after = False, None
    before = len(server.requests)
    assert held(resolve("someone/pig")) == NEEDED
    again = [entry for entry in server.requests[before:] if entry[0] == "GET" and entry[1].startswith("/store")]
    assert [wanted for _, path, wanted in again if "unet" in path] == [f"bytes={2**21}-"]
    assert not list(blobs.glob("*.part"))


def test_a_large_file_with_another_content_is_not_kept(server: Hub) -> None:
    def corrupt(handler: Handler, path: str) -> bool:
        if not path.startswith("/store") or "unet" not in path:
            return False
        handler.reply(200, b"?" * len(BIG))
        return True

    server.answer = corrupt
    assert "arrived damaged; run the same command again" in refusal()
    server.answer = lambda handler, path: False
    assert held(resolve("someone/pig")) == NEEDED


def test_a_page_in_place_of_a_file_is_not_kept(server: Hub) -> None:
    def page(handler: Handler, path: str) -> bool:
        if handler.command != "GET" or not path.endswith("tokenizer/vocab.json"):
            return False
        handler.reply(200, b"<html>Log in to the network</html>")
        return True

    server.answer = page
    assert "arrived damaged" in refusal()
    server.answer = lambda handler, path: False
    assert held(resolve("someone/pig")) == NEEDED


def answering(status: int, body: bytes = b"", **headers: str) -> Callable[[Handler, str], bool]:
    def answer(handler: Handler, path: str) -> bool:
        handler.reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return True

    return answer


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            answering(404, X_Error_Code="RepoNotFound"),
            r"neither a folder nor a model .* called someone/pig;.*hf auth login",
        ),
        (
            answering(401, X_Error_Code="RepoNotFound"),
            r"neither a folder nor a model .* called someone/pig;.*hf auth login",
        ),
        (answering(401, X_Error_Code="GatedRepo"), r"gated: ask for access at http.*/someone/pig, .*: hf auth login"),
        (answering(403, X_Error_Code="GatedRepo"), r"gated: ask for access at http.*/someone/pig, .*: hf auth login"),
        (answering(403, X_Error_Message="no"), r"refuses access to someone/pig \(403\); log in with: hf auth login"),
        (answering(404, X_Error_Code="RevisionNotFound"), r"someone/pig has no revision main; see .*/tree/main"),
        (answering(500), r"answered with error 500 for someone/pig; try again later"),
        (answering(200, b"<html>Log in to the network</html>"), r"does not answer as the Hugging Face hub does"),
        (answering(200, b"[1, 2]"), r"does not answer as the Hugging Face hub does"),
        (answering(200, b'{"id": "someone/pig"}'), r"does not answer as the Hugging Face hub does \(no commit\)"),
    ],
)
def test_what_the_server_refuses_is_one_line(server: Hub, answer: Callable[[Any, str], bool], expected: str) -> None:
    server.answer = answer
    with pytest.raises(UserError, match=expected):
        resolve("someone/pig")
    assert "\n" not in refusal()


def test_a_gated_file_behind_an_open_description_says_how_to_log_in(server: Hub) -> None:
    """As the hub does it: anybody may list a gated model."""
    gated = answering(403, X_Error_Code="GatedRepo")
    server.answer = lambda handler, path: "/resolve/" in path and gated(handler, path)
    assert "gated: ask for access" in refusal()


def test_a_page_in_place_of_a_description_of_a_file_is_reported(server: Hub) -> None:
    page = answering(200, b"<html></html>")
    server.answer = lambda handler, path: "/resolve/" in path and page(handler, path)
    assert "does not answer as the Hugging Face hub does (no commit or no ETag)" in refusal()


def test_an_etag_that_is_a_path_is_refused(server: Hub, tmp_path: Path) -> None:
    outside = answering(200, b"{}", X_Repo_Commit=COMMIT, ETag='"../../outside"')
    server.answer = lambda handler, path: "/resolve/" in path and outside(handler, path)
    assert "does not answer as the Hugging Face hub does" in refusal()
    assert not list(tmp_path.rglob("outside*"))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {
                name: content
                for name, content in (NEEDED | OTHERS).items()
                if name != "unet/diffusion_pytorch_model.safetensors"
            },
            "someone/pig has only diffusion_pytorch_model.bin, a pickle, which can run any code in unet",
        ),
        (
            {name: content for name, content in NEEDED.items() if not name.startswith("vae/d")},
            "someone/pig has no weights in vae",
        ),
        ({name: content for name, content in NEEDED.items() if name != "vae/config.json"}, "it has no vae/config.json"),
        (OTHERS, "is not a diffusers model: it has no model_index.json. whole.safetensors is a damaged file"),
        ({"README.md": b""}, "is not a diffusers model: it has no model_index.json"),
    ],
)
def test_what_cannot_be_drawn_with_is_reported_before_anything_large_comes(
    server: Hub, files: dict[str, bytes], expected: str
) -> None:
    server.files = files
    assert expected in refusal()
    # Of a weight file at the top only the first bytes are read, which say what it is; nothing of it is kept.
    assert server.fetched - {"whole.safetensors"} <= {"model_index.json"}
    kept = [path.name for path in Path(os.environ["HF_HOME"]).rglob("*") if path.is_file() and "blobs" in path.parts]
    assert len(kept) <= 1


def test_a_full_disk_is_reported_before_the_download(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1_000_000))
    message = refusal()
    assert "is full: 0.00 GB needed" in message or "GB needed, 0.00 GB free; make room or set HF_HOME" in message
    assert server.fetched <= {"model_index.json"}


def test_a_disk_that_fills_up_meanwhile_is_reported(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hub_fetch, "_receive", full)
    assert "is full" in refusal()


def test_a_cache_that_cannot_be_written_is_reported(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    assert "cannot be kept in" in refusal()


def test_two_at_once_fetch_each_file_once(server: Hub) -> None:
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(resolve("someone/pig"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(folders)) == 1
    assert len(folders) == 3
    assert held(folders[0]) == NEEDED
    assert len([path for _, path, _ in server.requests if path.startswith("/store")]) == 3


LORA = {
    "README.md": b"---\ninstance_prompt: an <s0><s1> emoji\n---\n",
    "lora.safetensors": b"lora" * 1000,
    "embeddings.pti": b"tokens" * 10,
    "special_params.json": b'{"TOK": "<s0><s1>"}',
    "checkpoint-500/pytorch_lora_weights.safetensors": b"an earlier one",
    "sample.png": b"picture",
}


def test_an_adapter_is_fetched_with_what_draws_with_it_and_nothing_else(server: Hub) -> None:
    server.files = LORA
    place = locate_adapter("someone/pig")
    assert (place.name, place.file, place.hub) == ("someone/pig", None, True)
    assert held(place.path).keys() == {"README.md", "lora.safetensors", "embeddings.pti", "special_params.json"}
    asked = len(server.requests)
    assert locate_adapter("someone/pig") == place and len(server.requests) == asked


def test_of_several_adapters_one_is_named_or_the_list_is_printed(server: Hub) -> None:
    server.files = {f"{name}.safetensors": name.encode() for name in ("flat", "round")} | {"old/x.safetensors": b"x"}
    with pytest.raises(UserError, match=r"several adapters, flat\.safetensors, round\.safetensors: choose one.*/flat"):
        locate_adapter("someone/pig")
    assert server.fetched == set()
    for named, revision in (("round.safetensors", ""), ("old/x.safetensors", "@v1")):
        place = locate_adapter(f"someone/pig{revision}/{named}")
        assert (place.name, place.file) == (f"someone/pig/{named}", named)
        assert (place.path / named).read_bytes() == server.files[named]
    with pytest.raises(UserError, match=r"has no square\.safetensors, but flat\.safetensors, round\.safetensors"):
        locate_adapter("someone/pig/square.safetensors")


def test_a_whole_model_and_a_pickle_are_no_adapters(server: Hub) -> None:
    with pytest.raises(UserError, match="someone/pig is a whole model, no adapter: draw with --model someone/pig"):
        locate_adapter("someone/pig")
    server.files = {"pytorch_lora_weights.bin": b"pickle"}
    with pytest.raises(UserError, match=r"only pytorch_lora_weights\.bin, a pickle.*--allow-pickle"):
        locate_adapter("someone/pig")
    assert held(locate_adapter("someone/pig", allow_pickle=True).path) == server.files
    server.files = {"../../evil.safetensors": b"x"}
    with pytest.raises(UserError, match="not an adapter's folder"):
        locate_adapter("someone/pig@v1")


def test_an_adapter_that_is_not_here_needs_a_network_and_says_so(
    server: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE=0 genmoji generate .* --adapter someone/pig/flat.safetensors"):
        locate_adapter("someone/pig/flat.safetensors")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "styles").mkdir()
    with pytest.raises(UserError, match="styles is a folder here"):
        locate_adapter("styles/flat")
    for path in ("styles/flat.safetensors", "./a/b", "/no/where", "pig"):
        assert locate_adapter(path).path == Path(path)
    assert server.requests == []
