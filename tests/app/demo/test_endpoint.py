"""`/generate` for programs, and what strangers may send to it and to the rest of the server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from demo_server import Demo, eventually
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from mlx_genmoji import Genmoji
from mlx_genmoji.sticker import read_recipe

API = "gradio_api"


@pytest.fixture(scope="module")
def client(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("downloads")
    client = Client(demo.url, verbose=False, download_files=folder, analytics_enabled=False)
    yield client
    client.close()


@pytest.fixture(scope="module")
def http(demo: Demo) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=demo.url, timeout=60) as http:
        yield http


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.txt"
    path.write_text("hunter2")
    return path


def ending(response: httpx.Response) -> str:
    """The last event of a call through plain HTTP."""
    return response.text.rstrip().rpartition("event: ")[2]


def call(http: httpx.Client, body: Any) -> tuple[int, str]:
    """Status and answer of a call of the endpoint by hand."""
    started = http.post(f"{API}/call/generate", json=body)
    if started.status_code != 200:
        return started.status_code, started.text
    name = started.json()["event_id"]
    return 200, ending(http.get(f"{API}/call/generate/{name}"))


def test_it_gives_what_the_library_gives_with_plan_and_seed(client: Client, genmoji: Genmoji) -> None:
    files, plan, seed = client.predict("red apple", count=2, seed=7, steps=2, api_name="/generate")
    direct = genmoji.generate("red apple", count=2, seed=7, steps=2)
    for file, sticker in zip(files, direct, strict=True):
        assert np.array_equal(np.asarray(Image.open(file)), np.asarray(sticker.image))
        assert (read_recipe(file) or {})["seed"] == sticker.recipe["seed"]
    assert (plan["final_prompt"], seed) == ("red apple, 3d", 7)


def test_a_plan_is_drawn_again(client: Client) -> None:
    _, plan, _ = client.predict("red apple", count=1, seed=7, steps=1, api_name="/generate")
    plan |= {"subject": "green apple", "final_prompt": ""}
    files, drawn, _ = client.predict("", plan=plan, count=1, steps=1, recipe=False, api_name="/generate")
    assert drawn["final_prompt"] == "green apple, 3d" and read_recipe(files[0]) is None


def test_it_is_documented(client: Client) -> None:
    described = client.view_api(return_format="dict")["named_endpoints"]
    assert list(described) == ["/generate"]
    names = [parameter["parameter_name"] for parameter in described["/generate"]["parameters"]]
    assert names[:3] == ["prompt", "count", "seed"] and "plan" in names


def test_a_client_that_cancels_or_goes_stops_its_drawing(http: httpx.Client, demo: Demo) -> None:
    client = Client(demo.url, verbose=False, analytics_enabled=False)
    job = client.submit("octopus", count=8, steps=50, api_name="/generate")
    assert eventually(lambda: not demo.worker.is_idle)
    # The client has to have heard of its own event before it can cancel it.
    assert eventually(lambda: job.cancel() and demo.worker.is_idle)
    body = {"data": ["octopus", 8, 1, None, None, "", 50, *[None] * 5, True, *[None] * 3]}
    name = http.post(f"{API}/call/generate", json=body).json()["event_id"]
    with http.stream("GET", f"{API}/call/generate/{name}"):
        assert eventually(lambda: not demo.worker.is_idle)
    assert eventually(lambda: demo.worker.is_idle)
    assert demo.most_late_steps <= 1
    client.close()


@pytest.mark.parametrize(
    ("values", "clue"),
    [
        ({"prompt": ""}, "empty"),
        ({"prompt": "\u200b\u202e\ufffe\x00"}, "empty"),
        ({"prompt": "x" * 501}, "501 characters; at most 500 are allowed"),
        ({"prompt": ["a", {"b": 1}]}, "not a text"),
        ({"prompt": "pig", "count": 9}, "from 1 to 8"),
        ({"prompt": "pig", "count": 10**300}, "from 1 to 8"),
        ({"prompt": "pig", "count": "8"}, "not a number"),
        ({"prompt": "pig", "count": True}, "not a number"),
        ({"prompt": "pig", "count": 1.5}, "not a whole number"),
        ({"prompt": "pig", "steps": 10**9}, "from 1 to 50"),
        ({"prompt": "pig", "guidance": -1}, "from 0 to 30"),
        ({"prompt": "pig", "seed": -1}, "from 0 to"),
        ({"prompt": "pig", "sampler": "../../etc/passwd"}, "There is no sampler"),
        ({"prompt": "pig", "model": "/etc/passwd"}, "There is no model"),
        ({"prompt": "pig", "adapter": "../adapter.safetensors"}, "There is no adapter"),
        ({"prompt": "pig", "skin_tone": "green"}, "There is no skin tone green"),
        ({"prompt": "pig", "person_type": {"a": 1}}, "There is no person type"),
        ({"prompt": "pig", "plan": "subject"}, "not an object"),
        ({"prompt": "pig", "plan": {"subject": "pig", "os": "system"}}, "A plan has a subject"),
        ({"prompt": "pig", "plan": {"subject": "pig", "final_prompt": "a nude woman"}}, "is not drawn"),
        ({"prompt": "pig", "plan": {"subject": "x" * 200}}, "at most 120 are allowed"),
        ({"prompt": "a nude woman"}, "is not drawn"),
    ],
)
def test_what_makes_no_sense_is_answered_with_a_sentence(
    values: dict[str, Any], clue: str, client: Client, demo: Demo
) -> None:
    with pytest.raises(AppError) as caught:
        client.predict(**values, api_name="/generate")
    assert clue in str(caught.value)
    assert demo.worker.is_idle


@pytest.mark.parametrize("name", ["prompt", "plan"])
def test_a_path_where_a_text_belongs_is_not_opened(name: str, http: httpx.Client, demo: Demo, secret: Path) -> None:
    file = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    values: list[Any] = ["pig", 1, 1, None, None, "", 1, *[None] * 5, True]
    values[0 if name == "prompt" else 11] = file
    status, answer = call(http, {"data": values})
    assert (status, answer[:5]) == (200, "error") and "hunter2" not in answer
    assert demo.worker.is_idle


@pytest.mark.parametrize("body", [{"data": []}, {"data": ["pig"] * 40}, {"data": {"prompt": "pig"}}, ["pig"], "pig"])
def test_a_malformed_call_is_refused(body: Any, http: httpx.Client, demo: Demo) -> None:
    status, answer = call(http, body)
    assert status in range(400, 500) or answer.startswith("error")
    assert demo.worker.is_idle


def test_a_prompt_of_a_megabyte_is_refused_unread(http: httpx.Client) -> None:
    for path in ("call/generate", "queue/join"):
        answer = http.post(f"{API}/{path}", json={"data": ["x" * 2**20]})
        assert answer.status_code == 413 and "at most 65,536 bytes" in answer.text


# How many values each of the page's own events takes.
EVENTS = {
    "on_draw": 15,
    "on_pack": 15,
    "on_redraw": 25,
    "on_remix": 0,
    "on_open": 0,
    "on_choose": 3,
    "on_load": 1,
    "on_cancel": 0,
    "on_unload": 0,
}
SILENT = ("on_cancel", "on_unload", "on_choose", "on_load")
"""Those that have nothing to say to the visitor."""


def test_all_of_the_pages_events_are_tried_below(http: httpx.Client) -> None:
    events = http.get("config").json()["dependencies"]
    known = {event["api_name"]: len(event["inputs"]) for event in events if event["api_visibility"] == "private"}
    assert known == EVENTS


@pytest.mark.parametrize("name", EVENTS)
def test_the_pages_events_answer_nonsense_with_a_sentence_or_nothing(name: str, http: httpx.Client, demo: Demo) -> None:
    index = next(event["id"] for event in http.get("config").json()["dependencies"] if event["api_name"] == name)
    tried: tuple[Any, ...] = ("x", None, -1e308, [[{}]], {"id": "x"}, "\ud800")
    for nonsense in tried:
        session = f"{name}-{EVENTS[name]}"
        body = {"data": [nonsense] * EVENTS[name], "event_data": nonsense, "fn_index": index, "session_hash": session}
        # ASCII, as half of a surrogate pair has no other form.
        sent: dict[str, Any] = {"content": json.dumps(body), "headers": {"Content-Type": "application/json"}}
        assert http.post(f"{API}/queue/join", **sent).status_code == 200
        answer = http.get(f"{API}/queue/data", params={"session_hash": session})
        messages = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line]
        done = next(message for message in messages if message["msg"] == "process_completed")
        assert done["success"], nonsense
        messages_shown = re.findall(r'"error":"(.*?)"[,}]', answer.text)
        assert all(sentence.endswith((".", 'flying pig\\".')) for sentence in messages_shown)
        assert bool(messages_shown) == (name not in SILENT)
        predict_status = http.post(f"{API}/run/predict", **sent).status_code
        assert predict_status == (200 if name in ("on_open", "on_cancel", "on_choose", "on_load") else 404)
    assert demo.worker.is_idle and len(demo.sessions) == 0


def test_what_gradio_itself_chokes_on_is_a_4xx(http: httpx.Client) -> None:
    bodies: list[Any] = [{"data": ["x"], "fn_index": 99, "session_hash": "x"}, {"fn_index": "x"}, [], "x", {}]
    for path in (
        "queue/join",
        "run/predict",
        "call/generate",
        "call/v2/generate",
        "call/generate/x",
        "cancel",
        "reset",
    ):
        for body in bodies:
            assert http.post(f"{API}/{path}", json=body).status_code < 500


@pytest.mark.parametrize("text", ["𝔭𝔦𝔤 \u0301\u0301\u0301", "🏿🏿🏿🧑🏽‍🚀", "a\u202eb pig", "豚 свинья חזיר"])
def test_odd_unicode_is_drawn_or_refused_with_a_sentence(text: str, client: Client) -> None:
    try:
        files, _, _ = client.predict(text, count=1, steps=1, api_name="/generate")
    except AppError as error:
        assert str(error).endswith((".", '"flying pig".'))
    else:
        assert Image.open(files[0]).size == (128, 128)


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/upload",
        "gradio_api/upload?upload_id=1",
        "gradio_api/component_server",
        "gradio_api/vibe-edit",
        "gradio_api/run-history/connect",
        "gradio_api/stream/1",
        "gradio_api/run/generate",
        "gradio_api/call/on_draw",
        "monitoring",
        "login",
        "docs",
    ],
)
def test_what_the_demo_does_not_need_is_not_there(path: str, http: httpx.Client, tmp_path: Path) -> None:
    for send in (lambda url: http.post(url, files={"files": ("a.txt", b"hello")}), http.get):
        assert send(path).status_code == 404


@pytest.mark.parametrize("form", ["{}", "/{}", "../..{}", "%2e%2e/..{}", "./{}", "file://{}", "http://127.0.0.1{}"])
def test_no_file_but_the_demos_own_can_be_had(form: str, http: httpx.Client, secret: Path) -> None:
    for path in (secret, Path(__file__), Path("/etc/passwd")):
        answer = http.get(f"{API}/file={form.format(path)}")
        assert answer.status_code == 404 and "hunter2" not in answer.text
    assert http.get("static/../../../../etc/passwd").status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", ""])
def test_a_name_that_another_site_made_to_lead_here_is_refused(host: str, http: httpx.Client) -> None:
    headers = {"Host": host, "Origin": f"http://{host}"}
    answer = http.post(f"{API}/call/generate", json={"data": ["pig"]}, headers=headers)
    assert answer.status_code == 403 and "localhost" in answer.text
    assert http.get("/", headers={"Host": "localhost:1"}).status_code == 200


def test_another_sites_page_cannot_ask(http: httpx.Client) -> None:
    headers = {"Origin": "https://evil.example", "Host": "127.0.0.1"}
    answer = http.post(f"{API}/call/generate", json={"data": ["pig"]}, headers=headers)
    assert "access-control-allow-origin" not in {name for name, value in answer.headers.items() if value != "null"}
