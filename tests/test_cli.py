"""The command starts JupyterLab for this machine only, opens the right notebook, and ends on one Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import gradcam_widget
from gradcam_widget import cli, lessons

COMMAND = [sys.executable, "-c", "import sys; from gradcam_widget.cli import main; sys.exit(main())"]
PATIENCE = 150  # seconds, for a busy machine; nothing takes as long unless it hangs
ADDRESS = re.compile(r"(http://127\.0\.0\.1:(\d+))/lab/tree/01_quickstart\.ipynb\?token=(\S+)")


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE, **options
    )


@pytest.fixture
def taken_port():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


@pytest.fixture
def serving(tmp_path):
    """A started demo: the process, its address parts, and all that it has printed so far."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTER")}
    process = subprocess.Popen(
        [*COMMAND, "demo", "--no-browser", "--folder", str(tmp_path / "work")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment, "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)},
    )
    watchdog = threading.Timer(2 * PATIENCE, process.kill)
    watchdog.start()
    printed = []
    match = None
    for line in process.stdout:
        printed.append(line)
        match = ADDRESS.search(line)
        if match:
            break
    assert match, "".join(printed)
    yield process, match.groups(), printed
    watchdog.cancel()
    process.kill()
    process.wait()
    process.stdout.close()


def answer(url: str, token: str | None = None):
    headers = {"Authorization": f"token {token}"} if token else {}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE) as response:
        return response.read().decode()


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGINT for one process alone")
def test_the_demo_serves_its_notebook_and_ends_cleanly(serving, tmp_path):
    process, (base, _, token), printed = serving
    assert "jupyter-config-data" in answer(f"{base}/lab/tree/01_quickstart.ipynb?token={token}")
    assert json.loads(answer(f"{base}/api/contents/01_quickstart.ipynb", token))["type"] == "notebook"
    assert "python3" in json.loads(answer(f"{base}/api/kernelspecs", token))["kernelspecs"]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        answer(f"{base}/api/contents/01_quickstart.ipynb")
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(PATIENCE) == 0
    assert rest.splitlines()[-1] == "Ended."
    assert "Traceback" not in rest
    assert token not in "".join(printed[:-1]) + rest
    assert "Shut down this Jupyter server" not in rest
    # nothing is left behind but the notebook, and nothing was written into the user's home
    assert [path.name for path in (tmp_path / "work").iterdir() if path.name != ".ipynb_checkpoints"] == [
        "01_quickstart.ipynb"
    ]
    assert not list(tmp_path.glob("gradcam-widget-*"))
    assert not list((tmp_path / "home").glob(".jupyter*"))


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGTERM and SIGHUP")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP"])
def test_the_demo_ends_with_its_terminal(serving, number, tmp_path):
    process, _, _ = serving
    process.send_signal(getattr(signal, number))
    process.stdout.read()
    assert process.wait(PATIENCE) == 0
    assert not list(tmp_path.glob("gradcam-widget-*"))


def test_the_server_listens_on_the_loopback_interface_only(serving):
    _, (_, port, _), _ = serving
    if sys.platform != "linux":
        pytest.skip("read from /proc")
    wanted = f"{int(port):04X}"
    listening = [
        line.split()[1]
        for table in ("tcp", "tcp6")
        if Path("/proc/net", table).exists()
        for line in Path("/proc/net", table).read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{wanted}") and line.split()[3] == "0A"
    ]
    assert listening == [f"0100007F:{wanted}"]


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(taken_port):
    done = run("demo", "--no-browser", "--port", str(taken_port))
    assert done.returncode == 1
    assert f"port {taken_port} is taken" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_first_free_port_is_taken_otherwise(monkeypatch, taken_port):
    monkeypatch.setattr(cli, "_FIRST_PORT", taken_port)
    assert taken_port < cli._free_port(None) < taken_port + cli._PORTS_TRIED


def test_no_free_port_at_all_is_said(monkeypatch, capsys, taken_port, tmp_path):
    monkeypatch.setattr(cli, "_FIRST_PORT", taken_port)
    monkeypatch.setattr(cli, "_PORTS_TRIED", 1)
    assert cli.main(["demo", "--folder", str(tmp_path)]) == 1
    assert "no free port" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["0", "65536", "-1", "eight"])
def test_an_impossible_port_is_refused(port, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["demo", f"--port={port}"])
    assert "expected a number from 1 to 65535" in capsys.readouterr().err


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"gradcam-widget {gradcam_widget.__version__}\n"


def test_without_a_command_the_usage_is_shown(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main([])
    assert "usage: gradcam-widget" in capsys.readouterr().err


def test_what_is_missing_is_named_with_the_cure(monkeypatch, capsys, tmp_path):
    there = cli.importlib.util.find_spec
    monkeypatch.setattr(
        cli.importlib.util, "find_spec", lambda name: None if name == "jupyterlab" else there(name)
    )
    assert cli.main(["demo", "--folder", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "JupyterLab" in error
    assert 'pip install "gradcam-widget[demo]"' in error


@pytest.mark.parametrize(
    ("environment", "platform", "shown"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({"DISPLAY": ":10.0", "SSH_CONNECTION": "1 2 3 4"}, "linux", False),
        ({"DISPLAY": ":0", "CI": "true"}, "linux", False),
        ({}, "darwin", True),
        ({"SSH_CONNECTION": "1 2 3 4"}, "darwin", False),
        ({}, "win32", True),
    ],
)
def test_a_browser_is_opened_only_where_it_would_be_seen(monkeypatch, environment, platform, shown):
    monkeypatch.setattr(sys, "platform", platform)
    assert cli._has_display(environment) is shown


def test_a_checkout_opens_its_own_notebook():
    checkout = Path(gradcam_widget.__file__).parents[1]
    assert cli._notebook(None) == checkout / "notebooks" / "01_quickstart.ipynb"


def test_an_installed_package_copies_its_quickstart_and_keeps_the_users(monkeypatch, tmp_path, capsys):
    package = tmp_path / "site-packages" / "gradcam_widget"
    shutil.copytree(Path(gradcam_widget.__file__).parents[1] / "notebooks", package / "notebooks")
    monkeypatch.setattr(cli, "__file__", str(package / "cli.py"))
    monkeypatch.setattr(lessons, "__file__", str(package / "lessons.py"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    assert cli._notebook(None) == work / "01_quickstart.ipynb"
    assert [path.name for path in work.iterdir()] == ["01_quickstart.ipynb"]
    assert "solution" not in (work / "01_quickstart.ipynb").read_text(encoding="utf-8")
    assert capsys.readouterr().out == f"Copied 01_quickstart.ipynb to {work}\n"
    (work / "01_quickstart.ipynb").write_text("the user's")
    assert cli._notebook(None) == work / "01_quickstart.ipynb"
    assert (work / "01_quickstart.ipynb").read_text() == "the user's"


def test_a_folder_that_cannot_be_written_is_said(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert cli.main(["demo", "--folder", str(tmp_path / "file" / "below")]) == 1
    assert "choose another folder with --folder" in capsys.readouterr().err
