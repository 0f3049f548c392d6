"""Starts and stops the demo: the worker, Gradio's server behind the firewall, and a folder for downloads."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlx_genmoji.errors import UserError
from mlx_genmoji.extras import install_command
from mlx_genmoji.hub import BUILTIN_NAME
from mlx_genmoji.lora.persona_index import is_index

from .worker import Worker

BY_PERSON = "by skin tone and person"
"""The name of an adapter folder whose index chooses the adapter."""


def model_choices(models: list[str]) -> dict[str, str]:
    """The models to choose from, by the names that visitors see, which are never paths; by default the built-in one."""
    choices: dict[str, str] = {}
    for model in models or [BUILTIN_NAME]:
        name = Path(model).name if Path(model).exists() else model
        if name in choices:
            raise UserError(f"Two models are called {name}; rename the folder of one.")
        choices[name] = model
    return choices


def adapter_choices(folder: Path | None) -> dict[str, Path]:
    """The adapters in a folder by name; the first is the folder itself, if it has an index."""
    if folder is None:
        return {}
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder} of adapters.")
    choices = {BY_PERSON: Path(folder)} if is_index(folder) else {}
    choices |= {path.stem: path for path in sorted(folder.glob("*.safetensors"))}
    if not choices:
        raise UserError(f"{folder} holds no adapters (.safetensors).")
    return choices


@dataclass(frozen=True)
class Place:
    """Where the demo can be reached from, besides this machine."""

    host: str = "127.0.0.1"
    """The address to listen at; 0.0.0.0 is all of this machine's, for other machines on the network."""
    root_path: str = ""
    """The path, or the whole address, that a proxy serves the demo at: /genmoji, https://example.org/genmoji."""
    auth: str = ""
    """USER:PASSWORD, which visitors have to give; "" lets everybody in."""

    def account(self) -> tuple[str, str] | None:
        """The user and the password. Raises UserError where one is missing."""
        user, colon, password = self.auth.partition(":")
        if self.auth and not (user and colon and password):
            raise UserError("--auth takes a user and a password with a colon between them: --auth me:secret")
        return (user, password) if self.auth else None

    def names(self) -> list[str]:
        """The host names that requests may have, besides those of this machine: the others mean DNS rebinding."""
        names = []
        if self.host not in ("127.0.0.1", "localhost"):
            own = socket.gethostname()
            names += [self.host, own, f"{own}.local", *self._addresses(own)]
        if host := urlsplit(self.root_path).hostname:
            names.append(host)
        return [name for name in dict.fromkeys(names) if name not in ("0.0.0.0", "::")]

    @staticmethod
    def _addresses(own: str) -> list[str]:
        """The addresses of this machine on the network."""
        found = []
        with suppress(OSError):
            found = [str(entry[4][0]) for entry in socket.getaddrinfo(own, None, socket.AF_INET)]
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # Sends nothing: it asks the system which of its addresses leads outside.
            probe.connect(("192.0.2.1", 9))
            found.append(str(probe.getsockname()[0]))
        return found


@contextmanager
def running_server(
    models: Mapping[str, str],
    adapters: Mapping[str, Path],
    *,
    rewrite: str | None = None,
    preview: str | None = None,
    port: int = 7860,
    share: bool = False,
    place: Place | None = None,
) -> Iterator[str]:
    """Run the demo during a `with` block; yields its address. Raises UserError if it cannot be started."""
    with tempfile.TemporaryDirectory(prefix="genmoji-") as name:
        folder = Path(name).resolve()
        worker = Worker(models, adapters, rewrite=rewrite, preview=preview)
        # The worker loads the model while Gradio is imported; each takes seconds.
        worker.start()
        try:
            _prepare_environment(folder)
            try:
                import gradio  # noqa: F401
            except ImportError:
                raise UserError(f"The demo needs Gradio; install it with: {install_command('app')}") from None
            worker.wait()
            from .endpoint_files import Downloads
            from .page import build
            from .session import Sessions

            sessions = Sessions()
            blocks = build(worker, sessions, Downloads(folder))
            try:
                yield _launch(blocks, sessions, folder, port, share, place or Place())
            finally:
                worker.close()
                blocks.close(verbose=False)
        finally:
            worker.close()


def _prepare_environment(folder: Path) -> None:
    """Turn off Gradio's reports, and have it write into `folder` only. Works only before Gradio is imported."""
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "GRADIO_TEMP_DIR": str(folder),
    }
    for name in ("GRADIO_ALLOWED_PATHS", "GRADIO_MCP_SERVER", "GRADIO_VIBE_MODE", "GRADIO_ROOT_PATH"):
        os.environ.pop(name, None)


def _launch(blocks: Any, sessions: Any, folder: Path, port: int, share: bool, place: Place) -> str:
    """Start Gradio's server in a thread, and return the address of the page."""
    from starlette.middleware import Middleware

    from .download_routes import DownloadRoutes
    from .firewall import LOCAL_HOSTS, Firewall
    from .theme import CSS, HEAD, theme

    hosts = None if share else (*LOCAL_HOSTS, *place.names())
    firewall = Middleware(
        Firewall, folder=folder, downloads=DownloadRoutes(sessions), hosts=hosts, login=bool(place.auth)
    )

    # api_open would let clients start a drawing outside of the queue, whose result nobody receives.
    blocks.queue(default_concurrency_limit=None, max_size=256, api_open=False)
    try:
        _, local, public = blocks.launch(
            server_name=place.host,
            root_path=place.root_path or None,
            auth=place.account(),
            server_port=port,
            share=share,
            prevent_thread_lock=True,
            quiet=True,
            show_error=False,
            max_threads=256,
            state_session_capacity=256,
            allowed_paths=[],
            max_file_size=1,
            run_history=False,
            enable_monitoring=False,
            strict_cors=True,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            footer_links=["api"],
            app_kwargs={"middleware": [firewall], "docs_url": None, "redoc_url": None},
            theme=theme(),
            css=CSS,
            head=HEAD,
        )
    except OSError as error:
        raise UserError(f"Port {port} cannot be opened ({error}); choose another with --port.") from None
    return str(public or local)


def serve(
    models: list[str],
    adapters: Path | None,
    rewrite: str | None,
    preview: str | None,
    port: int,
    share: bool,
    place: Place | None = None,
) -> None:
    """Serve the demo until Ctrl-C or SIGTERM; prints its address on stdout."""

    def stop(*_: object) -> None:
        # The default handler would leave the folder of downloads behind.
        sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    choices = model_choices(models), adapter_choices(adapters)
    with running_server(*choices, rewrite=rewrite, preview=preview, port=port, share=share, place=place) as address:
        print(f"The demo is at {address} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()
