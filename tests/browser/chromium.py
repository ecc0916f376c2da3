"""Where Chromium is, and how to get it; as a script it installs Chromium where that is possible."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ADVICE = (
    "Chromium was not found, and the browser tests need it. Install chromium or Google Chrome with the system's "
    "package manager (Debian: apt-get install chromium), or run `python -m playwright install chromium`, or set "
    "CHROMIUM to the program's path."
)


def find() -> str | None:
    """The path of a Chromium that can run, or None."""
    named = os.environ.get("CHROMIUM")
    if named:
        return shutil.which(named)
    for name in (*NAMES, MAC):
        path = shutil.which(name)
        if path:
            return path
    return _playwrights_own()


def _playwrights_own() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install() -> None:
    """Install Chromium with apt, as root or with a sudo that asks for no password; else leave it be."""
    prefix = [] if hasattr(os, "geteuid") and os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which("apt-get") is None or (prefix and not _may_sudo()):
        return
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    packages = ["chromium", "fonts-dejavu-core"]
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        if subprocess.run([*prefix, *environment, "apt-get", "-qq", *command], check=False).returncode:
            return


def _may_sudo() -> bool:
    if shutil.which("sudo") is None:
        return False
    return subprocess.run(["sudo", "-n", "true"], check=False, capture_output=True).returncode == 0


if __name__ == "__main__":
    if find() is None:
        print("Chromium, for the browser tests, is not here; trying apt-get.")
        install()
        if find() is None:
            print(ADVICE)
