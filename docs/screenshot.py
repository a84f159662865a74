"""Take the README's picture of the report: the first screen of ``data/08_reporting/demo/report.html``.

For maintainers, after the report's looks changed. It needs Chromium or Chrome (Debian: ``apt-get install chromium``)::

    make demo
    python docs/screenshot.py

Every problem ends the script with an error; it never keeps an old picture in silence.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "data/08_reporting/demo/report.html"
PICTURE = ROOT / "docs/_static/report.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH, HEIGHT = 1200, 1110
#: GitHub and git carry the picture for ever, so it has to stay small.
MAX_BYTES = 300_000


def take(browser: str, folder: Path) -> Path:
    """Let a headless browser draw the report, and return the picture."""
    picture = folder / "report.png"
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={WIDTH},{HEIGHT}",
        "--virtual-time-budget=10000",  # the figures are drawn by a script, after the page is there
        f"--screenshot={picture}",
        REPORT.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not picture.is_file():
        sys.exit(f"{browser} took no picture (exit status {done.returncode}):\n{done.stderr}")
    return picture


def main() -> None:
    """Take the picture and put it in its place."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"no browser found (looked for {', '.join(BROWSERS)}); on Debian: apt-get install chromium")
    if not REPORT.is_file():
        sys.exit(f"{REPORT} is not there; run make demo first")
    with tempfile.TemporaryDirectory() as folder:
        picture = take(browser, Path(folder))
        size = picture.stat().st_size
        if size > MAX_BYTES:
            sys.exit(f"the picture has {size:,} bytes, more than {MAX_BYTES:,}; lower WIDTH or HEIGHT in {__file__}")
        shutil.copyfile(picture, PICTURE)
    sys.stdout.write(f"{PICTURE}: {size:,} bytes\n")


if __name__ == "__main__":
    main()
