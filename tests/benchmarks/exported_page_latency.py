"""Latency of an exported page: to its first picture, and from a slider's move to the repaint, measured in the page.

    python tests/benchmarks/exported_page_latency.py sliders.html [SCREENSHOT.png]

Needs playwright and a Chromium on the path.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from studio_latency import MOVE, MOVES, find_chromium


def main() -> None:
    """Prints the times, and the number of requests that left the page."""
    path, *screenshots = map(Path, sys.argv[1:])
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1160, "height": 700})
        page.set_default_timeout(600_000)
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        begun = time.perf_counter()
        page.goto(path.resolve().as_uri())
        page.wait_for_selector("body[aria-busy=false]")
        print(f"first picture {time.perf_counter() - begun:.1f} s after opening {path.stat().st_size / 1e6:.1f} MB")
        times = page.eval_on_selector("#axes input[type=range]", MOVE, MOVES)
        median, high = np.percentile(times, (50, 95))
        load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        print(f"{MOVES} moves, repaint after {median:.0f} ms, 95 % within {high:.0f} ms; {load}")
        left = [url for url in requests[1:] if not url.startswith(("data:", "blob:"))]
        print(f"requests that left the page: {len(left)}")
        for screenshot in screenshots:
            page.click("#faces button:last-child")
            page.wait_for_timeout(500)
            page.eval_on_selector("#axes input[type=range]", MOVE, 5)
            page.evaluate("scrollTo(0, 0)")
            page.screenshot(path=screenshot)
            # The page has few colors: a palette halves the file.
            picture = Image.open(screenshot).convert("RGB").quantize(256, dither=Image.Dither.NONE)
            picture.save(screenshot, optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
