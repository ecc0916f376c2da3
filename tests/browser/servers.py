"""JupyterLab, Notebook 7 and Voila for the tests: on the loopback interface, with a home of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO

_START_SECONDS = 90
# the tests reach the server on the loopback interface only, and it lives as long as they do: no token
_OPEN = ["--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"]


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One running front end; `url` is where it answers.

    Args:
        kind: "lab", "notebook" or "voila".
        root: folder with the notebooks.
        home: folder for everything that Jupyter and IPython write.
    """

    def __init__(self, kind: str, root: Path, home: Path) -> None:
        self.kind, self.root, self.home = kind, root, home
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def start(self) -> Server:
        """Start it and wait until it answers."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.home.mkdir(parents=True, exist_ok=True)
        self._log = (self.home / "server.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", *self._command(port)],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=self._environment(),
            start_new_session=True,
        )
        deadline = time.monotonic() + _START_SECONDS
        probe = f"{self.url}/api/status" if self.kind != "voila" else self.url
        while not _answers(probe):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.kind} did not start:\n{self.log()}")
            time.sleep(0.1)
        return self

    def stop(self) -> None:
        """End the server and its kernels."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            self._process.kill()
            if hasattr(os, "killpg"):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        if self._log is not None:
            self._log.close()

    def end_kernels(self) -> None:
        """End the kernels that pages have left: each holds a network, and a machine has no room for all."""
        if self.kind == "voila":
            return  # it ends them itself, once their pages have gone
        with urllib.request.urlopen(f"{self.url}/api/kernels", timeout=10) as answer:
            kernels = json.load(answer)
        for kernel in kernels:
            request = urllib.request.Request(f"{self.url}/api/kernels/{kernel['id']}", method="DELETE")
            # one that has ended meanwhile, or is slow to end, is no matter of the test's
            with contextlib.suppress(urllib.error.URLError, TimeoutError):
                urllib.request.urlopen(request, timeout=20).close()

    def log(self) -> str:
        """What the server has written so far."""
        return (self.home / "server.log").read_text(errors="replace")

    def _command(self, port: int) -> list[str]:
        if self.kind == "voila":
            return ["voila", str(self.root), "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1"]
        module, app = {"lab": ("jupyterlab", "LabApp"), "notebook": ("notebook", "JupyterNotebookApp")}[self.kind]
        command = [module, "--no-browser", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
        command += ["--ServerApp.port_retries=0", "--ServerApp.allow_root=True", *_OPEN]
        command += [f"--ServerApp.root_dir={self.root}", f"--{app}.expose_app_in_browser=True"]
        return command

    def _environment(self) -> dict[str, str]:
        """The test run's own, with every folder that Jupyter or IPython may use below `home`."""
        kernel = self.home / "data" / "kernels" / "python3"
        kernel.mkdir(parents=True, exist_ok=True)
        # the kernel is this Python, whatever other kernels the machine has
        arguments = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": arguments, "display_name": "Python 3 (ipykernel)", "language": "python"}
        (kernel / "kernel.json").write_text(json.dumps(spec))
        # no question about news over the notebook
        settings = self.home / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True, exist_ok=True)
        (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "PYTEST"))}
        own = {
            "HOME": self.home,
            "USERPROFILE": self.home,
            "XDG_CONFIG_HOME": self.home / "xdg",
            "JUPYTER_CONFIG_DIR": self.home / "config",
            "JUPYTER_DATA_DIR": self.home / "data",
            "JUPYTER_RUNTIME_DIR": self.home / "runtime",
            "IPYTHONDIR": self.home / "ipython",
        }
        return {
            **environment,
            **{name: str(path) for name, path in own.items()},
            "JUPYTER_PREFER_ENV_PATH": "0",  # data/kernels comes before the environment's
        }


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
