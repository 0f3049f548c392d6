"""The page on the network, behind a proxy and with a login."""

from __future__ import annotations

import socket

import httpx
import pytest
from demo_server import free_port

from app import cli
from app.demo.server import Place, running_server
from mlx_genmoji import UserError


def test_names_of_this_machine_and_of_a_proxy_are_answered_to() -> None:
    assert Place().names() == []
    lan = Place("0.0.0.0").names()
    assert socket.gethostname() in lan and f"{socket.gethostname()}.local" in lan and "0.0.0.0" not in lan
    assert Place(root_path="https://example.org/genmoji").names() == ["example.org"]
    assert Place(root_path="/genmoji").names() == []
    assert "192.168.1.7" in Place("192.168.1.7").names()


@pytest.mark.parametrize("auth", ["me", "me:", ":secret"])
def test_half_an_account_is_a_sentence(auth: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="--auth takes a user and a password"):
        Place(auth=auth).account()
    assert cli.main(["app", "--auth", auth]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_behind_a_proxy_with_a_login_and_on_the_network(cpu: None) -> None:
    place = Place("0.0.0.0", "https://example.org/genmoji", "me:secret")
    port = free_port()
    with running_server({"builtin": "builtin"}, {}, port=port, place=place):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as visitor:
            assert visitor.get("/config").status_code == 401
            assert visitor.post("/login", data={"username": "me", "password": "wrong"}).status_code == 400
            assert visitor.post("/login", data={"username": "me", "password": "secret"}).status_code == 200
            config = visitor.get("/config", headers={"Host": "example.org"})
            assert config.status_code == 200 and config.json()["root"] == "https://example.org/genmoji"
            assert visitor.get("/", headers={"Host": f"{socket.gethostname()}:{port}"}).status_code == 200
            # The protections that there are without it.
            assert visitor.get("/", headers={"Host": "evil.example"}).status_code == 403
            assert visitor.get("/gradio_api/upload").status_code == 404
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as other:
            assert other.get("/config").status_code == 401
