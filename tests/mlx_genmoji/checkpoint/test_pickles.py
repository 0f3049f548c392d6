"""PyTorch's files are read as PyTorch reads them; a hostile or damaged one is one sentence, and none of it runs."""

import codecs
import collections
import io
import os
import pickle
import random
import struct
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch

from mlx_genmoji.checkpoint.pickles import is_pickle, read_pickle, read_state_dict
from mlx_genmoji.errors import UserError

DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.uint16),
)


def as_float(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_of_every_type_are_those_that_torch_reads(dtype, tmp_path):
    values = torch.randint(0, 2 if dtype == torch.bool else 100, (3, 4, 5)).to(torch.float32).to(dtype)
    torch.save({"a": values, "b": torch.nn.Parameter(values, requires_grad=False)}, tmp_path / "a.pt")
    ours = read_pickle(tmp_path / "a.pt")
    for name in "ab":
        assert ours[name].shape == (3, 4, 5)
        np.testing.assert_array_equal(as_float(ours[name]), values.to(torch.float32).numpy())


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_all_256_numbers_of_float8_are_exact(dtype, tmp_path):
    values = torch.arange(256, dtype=torch.uint8).view(dtype)
    torch.save({"a": values}, tmp_path / "a.pt")
    np.testing.assert_array_equal(as_float(read_pickle(tmp_path / "a.pt")["a"]), values.to(torch.float32).numpy())


def test_views_and_strides_are_those_that_torch_reads(tmp_path):
    base = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)
    views = {
        "transposed": base.permute(2, 0, 1),
        "column": base[:, 1, ::2],
        "scalar": base[2, 3, 4],
        "empty": base[:0],
        "expanded": base[:1].expand(4, 4, 5),
        "channels": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }
    torch.save(views, tmp_path / "a.pt")
    ours = read_pickle(tmp_path / "a.pt")
    for name, view in views.items():
        np.testing.assert_array_equal(np.array(ours[name]), view.numpy())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_is_read(protocol, tmp_path):
    torch.save({"a": torch.ones(2), "text": "ä", "n": 2**70}, tmp_path / "a.pt", pickle_protocol=protocol)
    ours = read_pickle(tmp_path / "a.pt")
    assert (ours["text"], ours["n"], ours["a"].tolist()) == ("ä", 2**70, [1, 1])


def test_what_a_training_run_leaves_beside_the_weights_is_passed_over(tmp_path):
    linear = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(linear.parameters())
    linear(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    extra = {
        "epoch": 3,
        "version": "1.5.0",
        "lr": 1e-4,
        "none": None,
        "counts": collections.defaultdict(int, {"a": 1}),
        "score": np.float64(0.5),
        "array": np.arange(3),
        "folder": Path("a"),
        "names": {"a", "b"},
        "optimizer_states": [optimizer.state_dict()],
    }
    torch.save({"state_dict": linear.state_dict(), **extra}, tmp_path / "a.ckpt")
    ours = read_pickle(tmp_path / "a.ckpt")
    assert (ours["epoch"], ours["version"], ours["lr"], ours["none"]) == (3, "1.5.0", 1e-4, None)
    assert "optimizer_states" not in ours
    state = read_state_dict(tmp_path / "a.ckpt")
    assert set(state) == {"weight", "bias"}
    np.testing.assert_array_equal(np.array(state["weight"]), linear.weight.detach().numpy())


def test_an_embedding_in_a_parameter_dict_is_read(tmp_path):
    vector = torch.randn(2, 8)
    parameters = torch.nn.ParameterDict({"*": torch.nn.Parameter(vector)})
    torch.save({"string_to_token": {"*": torch.tensor(265)}, "string_to_param": parameters}, tmp_path / "a.pt")
    ours = read_pickle(tmp_path / "a.pt")
    np.testing.assert_array_equal(np.array(ours["string_to_param"]["*"]), vector.numpy())
    assert ours["string_to_token"]["*"].item() == 265


@pytest.mark.parametrize("name", ["state_dict", "module"])
def test_weights_within_a_dict_are_found(name, tmp_path):
    torch.save({name: {"a": torch.ones(2)}, "step": 1}, tmp_path / "a.pt")
    assert set(read_state_dict(tmp_path / "a.pt")) == {"a"}


def test_tensors_that_share_numbers_are_both_read(tmp_path):
    weight = torch.randn(3)
    torch.save({"a": weight, "b": weight, "c": weight[1:]}, tmp_path / "a.pt")
    ours = read_pickle(tmp_path / "a.pt")
    np.testing.assert_array_equal(np.array(ours["b"]), weight.numpy())
    np.testing.assert_array_equal(np.array(ours["c"]), weight[1:].numpy())


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as raised:
        read_pickle(path)
    message = str(raised.value)
    assert len(message.splitlines()) == 1 and message.endswith(".") and len(message) <= 800
    return message


def test_formats_that_are_not_read_are_named_with_a_way_out(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert "before version 1.6" in refusal(tmp_path / "old.pt") and "torch.save" in refusal(tmp_path / "old.pt")
    (tmp_path / "page.pt").write_text("<!doctype html><p>Login")
    assert "web page" in refusal(tmp_path / "page.pt")
    (tmp_path / "pointer.pt").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "Git LFS pointer" in refusal(tmp_path / "pointer.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), tmp_path / "program.pt")
    assert "TorchScript" in refusal(tmp_path / "program.pt")
    (tmp_path / "text.pt").write_text("weights")
    assert "not a file of PyTorch" in refusal(tmp_path / "text.pt")
    assert "cannot be read" in refusal(tmp_path / "absent.pt")
    torch.save(torch.ones(2), tmp_path / "tensor.pt")
    assert "holds a tensor" in refusal(tmp_path / "tensor.pt")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "module.pt")
    assert "torch.nn.modules.linear.Linear" in refusal(tmp_path / "module.pt")


def test_a_pickle_is_known_by_its_bytes(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    torch.save({"a": torch.ones(2)}, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    (tmp_path / "b.pt").write_bytes(struct.pack("<Q", 2) + b"{}")
    (tmp_path / "c.pt").write_bytes(struct.pack("<Q", 0x280) + b"{" + bytes(0x27F))
    assert is_pickle(tmp_path / "a.safetensors") and is_pickle(tmp_path / "old.bin")
    # The length of a header may look like the beginning of a pickle.
    assert not is_pickle(tmp_path / "c.pt")
    assert not is_pickle(tmp_path / "b.pt") and not is_pickle(tmp_path / "absent.pt")


# ---- Hostile files


class Calls:
    """An object whose pickle calls a function with arguments."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def archive(path: Path, pickled: bytes, compress: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compress) as file:
        file.writestr("archive/data.pkl", pickled)
        for name, data in members.items():
            file.writestr(f"archive/data/{name.strip('_')}", data)
    return path


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def tensor(offset: int, shape: tuple[int, ...], strides: tuple[int, ...], key: str = "0", size: int = 4) -> bytes:
    """The opcodes of a float32 tensor of a storage."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + number(size) + b"tQ"
    tuples = [b"(" + b"".join(map(number, numbers)) + b"t" for numbers in (shape, strides)]
    hooks = b"ccollections\nOrderedDict\n)R"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + b"".join(tuples) + b"\x89" + hooks + b"tR"
    )


def one(value: bytes) -> bytes:
    """The pickle of a dict with one value."""
    return b"\x80\x02}" + text("a") + value + b"s."


FOUR = np.ones(4, np.float32).tobytes()
NESTED = b"]" * 5000 + b"a" * 4999
HOSTILE: dict[str, Callable[[Path], Any]] = {
    "calls os.system": lambda path: torch.save({"a": Calls(os.system, "touch CANARY")}, path),
    "calls eval": lambda path: torch.save({"a": Calls(eval, "open('CANARY', 'w')")}, path),
    "calls exec": lambda path: torch.save({"a": Calls(exec, "open('CANARY', 'w')")}, path),
    "calls open": lambda path: torch.save({"a": Calls(open, "CANARY", "w")}, path),
    "calls getattr": lambda path: torch.save({"a": Calls(getattr, "", "join")}, path),
    "calls __import__": lambda path: torch.save({"a": Calls(__import__, "antigravity")}, path),
    "names a module to import": lambda path: archive(path, one(b"cantigravity\nfly\n")),
    "names by two texts": lambda path: archive(path, one(text("posix") + text("system") + b"\x93")),
    "calls a method of an allowed name": lambda path: archive(path, one(b"ctorch\nFloatStorage.from_file\n)R")),
    "loads another pickle": lambda path: archive(path, one(b"cpickle\nloads\n(C\x01.tR")),
    "calls torch.load": lambda path: archive(path, one(b"ctorch.serialization\nload\n(" + text("b") + b"tR")),
    "makes an instance by INST": lambda path: archive(path, one(b"(" + text("touch CANARY") + b"ios\nsystem\n")),
    "uses an extension code": lambda path: archive(path, one(b"\x82\x01")),
    "calls a text": lambda path: archive(path, one(text("system") + b")R")),
    "nests lists": lambda path: archive(path, one(NESTED)),
    "nests tuples as a key": lambda path: archive(path, b"\x80\x02}" + b")" + b"\x85" * 100000 + b"Ns."),
    "doubles a tuple as a key": lambda path: archive(path, b"\x80\x02}" + b")" + b"q\x00h\x00\x86" * 200 + b"Ns."),
    "copies a list again and again": lambda path: archive(
        path,
        b"\x80\x02]("
        + (text("") + b"N\x86") * 1000
        + b"eq\x000"
        + b"}"
        + text("a")
        + (b"ccollections\nOrderedDict\nh\x00\x85R0") * 10000
        + b"Ns.",
    ),
    "inflates": lambda path: archive(path, one(tensor(0, (1,), (1,))), zipfile.ZIP_DEFLATED, _0=bytes(200_000_000)),
    "inflates its pickle": lambda path: archive(path, b"\x80\x02" + b"N" * 30_000_000 + b".", zipfile.ZIP_DEFLATED),
    "is all opcodes": lambda path: archive(path, b"\x80\x02" + b"]" * 10_000_000 + b"."),
    "has huge strides": lambda path: archive(path, one(tensor(0, (2, 2), (2**31 - 1, 2**31 - 1))), _0=FOUR),
    "has more than huge strides": lambda path: archive(path, one(tensor(0, (2, 2), (2**62, 2**62))), _0=FOUR),
    "repeats one number": lambda path: archive(path, one(tensor(0, (2**20, 2**20), (0, 0))), _0=FOUR),
    "has a negative stride": lambda path: archive(path, one(tensor(3, (4,), (-1,))), _0=FOUR),
    "has a negative offset": lambda path: archive(path, one(tensor(-2, (4,), (1,))), _0=FOUR),
    "has a negative size": lambda path: archive(path, one(tensor(0, (-4, -4), (1, 1))), _0=FOUR),
    "begins beyond its end": lambda path: archive(path, one(tensor(4, (1,), (1,))), _0=FOUR),
    "has a size that lies": lambda path: archive(path, one(tensor(0, (1000,), (1,), size=1000)), _0=FOUR),
    "has a thousand dimensions": lambda path: archive(path, one(tensor(0, (1,) * 1000, (1,) * 1000)), _0=FOUR),
    "reads a file beside": lambda path: archive(path, one(tensor(0, (1,), (1,), "../../secret")), _0=FOUR),
    "refers to itself": lambda path: archive(path, b"\x80\x02]q\x00h\x00a."),
    "lacks its numbers": lambda path: archive(path, one(tensor(0, (1,), (1,), "7")), _0=FOUR),
    "takes more than it makes": lambda path: archive(path, b"\x80\x02" + b"0" * 100),
    "ends in a text": lambda path: archive(path, b"\x80\x02X\xff\xff\xff\xff"),
}

DANGEROUS = ("import", "exec", "os.", "subprocess", "pickle.", "ctypes", "shutil", "socket", "builtins.input")
_events: list[str] = []
_listening = False


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if _listening and event.startswith(DANGEROUS):
        _events.append(f"{event} {arguments}")
    if _listening and event == "open" and not str(arguments[0]).endswith("a.pt"):
        _events.append(f"{event} {arguments}")


@pytest.fixture(scope="module", autouse=True)
def imported(tmp_path_factory) -> None:
    """What reading imports by itself is imported before the tests listen; the audit hook cannot be taken away."""
    path = tmp_path_factory.mktemp("warm") / "a.pt"
    torch.save({"a": torch.ones(2)}, path)
    read_pickle(path)
    # The encoding of names in a zip archive, which zipfile imports.
    codecs.lookup("cp437")
    sys.addaudithook(_listen)


@contextmanager
def listening() -> Iterator[list[str]]:
    """All that Python imports, runs or opens within the block, but for the file itself."""
    global _listening
    _events.clear()
    _listening = True
    try:
        yield _events
    finally:
        _listening = False


@pytest.fixture
def hostile_file(request, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    HOSTILE[request.param](tmp_path / "a.pt")
    return tmp_path / "a.pt"


@pytest.mark.parametrize("hostile_file", HOSTILE, indirect=True)
def test_a_hostile_file_is_one_sentence_and_nothing_in_it_runs(hostile_file):
    begin = time.process_time()
    with listening() as events:
        refusal(hostile_file)
    assert time.process_time() - begin < 10
    assert not events
    assert not Path("CANARY").exists()


def test_torch_itself_would_run_the_hostile_files(tmp_path, monkeypatch):
    """The files above are what they say."""
    monkeypatch.chdir(tmp_path)
    HOSTILE["calls os.system"](tmp_path / "a.pt")
    torch.load(tmp_path / "a.pt", weights_only=False)
    assert Path("CANARY").exists()


# ---- Mutated files


def mutated(data: bytes, choose: random.Random) -> bytes:
    """A file with changes in its pickle (repacked, so that its checksums are right), or in any of its bytes."""
    if choose.random() < 0.3:
        return changed(data, choose)
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(target, "w") as file:
        for info in source.infolist():
            content = source.read(info)
            if info.filename.endswith("data.pkl"):
                content = changed(content, choose)
            if choose.random() > 0.02:
                file.writestr(info.filename, content)
    return target.getvalue()


def changed(data: bytes, choose: random.Random) -> bytes:
    """`data` with a few bytes replaced, taken away, added, or a piece of it repeated."""
    result = bytearray(data)
    for _ in range(choose.randrange(1, 5)):
        i = choose.randrange(len(result))
        kind = choose.randrange(4)
        if kind == 0:
            result[i] = choose.choice([choose.randrange(256), 0, 255, *b".RQb(tu0)]}cNJMK\x93\x81\x85\x86\x8a"])
        elif kind == 1:
            del result[i : i + choose.choice([1, 1, 4, 50])]
        elif kind == 2:
            result[i:i] = choose.randbytes(choose.randrange(1, 5))
        else:
            j = choose.randrange(len(result))
            result[i:i] = result[j : j + choose.randrange(1, 60)]
        if not result:
            result += b"\0"
    return bytes(result)


def test_a_thousand_mutated_files_are_dicts_or_one_sentence(tmp_path):
    tensors = {f"layer.{i}": torch.randn(3, 4).to(dtype) for i, dtype in enumerate(DTYPES[:6])}
    torch.save({"state_dict": tensors, "epoch": 1, "lr": [0.5, None]}, tmp_path / "original.pt")
    original, path = (tmp_path / "original.pt").read_bytes(), tmp_path / "a.pt"
    events: list[str] = []
    refusals, seen = 0, set()
    for seed in range(1000):
        data = mutated(original, random.Random(seed))
        seen.add(data)
        path.write_bytes(data)
        before = time.process_time()
        try:
            with listening() as heard:
                mx.eval(read_pickle(path))
        except UserError as error:
            refusals += 1
            assert len(str(error).splitlines()) == 1 and str(error).endswith(".") and len(str(error)) <= 800
        assert time.process_time() - before < 5
        events += heard
    assert not events
    assert refusals >= 500 and len(seen) >= 900
