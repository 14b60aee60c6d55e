"""Makes the picture of the studio in the documentation: ``studio_screenshot.py RUN DATA OUT.png``."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1240, 560
ROW = 37
ATTRIBUTES = "Smiling:1.5"


def main() -> None:
    """Opens a held-out face on the Edit tab and adds a smile."""
    run, data, out = sys.argv[1:]
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("error: no Chromium is on the path; install one.")
    command = [sys.executable, "-m", "eval.studio", run, "--data", data, "--port", "0", "--open_browser", "false"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+/", line)))
    name = Path(run).resolve().name
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=1)
            page.set_default_timeout(600_000)
            page.goto(f"{address}#edit?run={name}&split=test&row={ROW}&attributes={ATTRIBUTES}")
            page.wait_for_selector("#edit-attributes[aria-busy=false] .slider")
            page.wait_for_selector("#edit-face[src]")
            page.wait_for_load_state("networkidle")
            # Again, now that the attributes are fitted.
            page.reload()
            page.wait_for_selector("#edit-attributes[aria-busy=false] .slider")
            page.wait_for_load_state("networkidle")
            page.screenshot(path=out)
            browser.close()
    finally:
        server.terminate()
        server.wait()
    # The page has few colors: a palette halves the file.
    Image.open(out).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    main()
