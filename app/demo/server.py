"""Starts and stops the demo: the worker, Gradio's server behind the firewall, and a folder for downloads."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


@contextmanager
def running_server(
    models: Mapping[str, str],
    adapters: Mapping[str, Path],
    *,
    rewrite: str | None = None,
    preview: str | None = None,
    port: int = 7860,
    share: bool = False,
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
                yield _launch(blocks, sessions, folder, port, share)
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


def _launch(blocks: Any, sessions: Any, folder: Path, port: int, share: bool) -> str:
    """Start Gradio's server in a thread, and return the address of the page."""
    from starlette.middleware import Middleware

    from .download_routes import DownloadRoutes
    from .firewall import LOCAL_HOSTS, Firewall
    from .theme import CSS, HEAD, theme

    hosts = None if share else LOCAL_HOSTS
    firewall = Middleware(Firewall, folder=folder, downloads=DownloadRoutes(sessions), hosts=hosts)

    # api_open would let clients start a drawing outside of the queue, whose result nobody receives.
    blocks.queue(default_concurrency_limit=None, max_size=256, api_open=False)
    try:
        _, local, public = blocks.launch(
            server_name="127.0.0.1",
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
    models: list[str], adapters: Path | None, rewrite: str | None, preview: str | None, port: int, share: bool
) -> None:
    """Serve the demo until Ctrl-C or SIGTERM; prints its address on stdout."""

    def stop(*_: object) -> None:
        # The default handler would leave the folder of downloads behind.
        sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    choices = model_choices(models), adapter_choices(adapters)
    with running_server(*choices, rewrite=rewrite, preview=preview, port=port, share=share) as address:
        print(f"The demo is at {address} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()
