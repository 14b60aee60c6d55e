"""Latency of the studio: to its first picture, and from a slider's move to the repaint, measured in the page itself.

    python tests/benchmarks/studio_latency.py RUN [RUN ...] --data DIR

Needs playwright and a Chromium on the path.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np
from playwright.sync_api import sync_playwright

MOVES = 60
# Moves one slider, waiting for the repaint after each move.
MOVE = """async (range, moves) => {
  for (let step = 0; step < moves; step++) {
    const before = performance.getEntriesByName("repaint").length;
    range.value = 3 * Math.sin(step / 4);
    range.dispatchEvent(new Event("input", { bubbles: true }));
    while (performance.getEntriesByName("repaint").length === before) await new Promise(requestAnimationFrame);
  }
  return performance.getEntriesByName("repaint").slice(-moves).map((entry) => entry.duration);
}"""


def find_chromium() -> str | None:
    """Where a Chromium is; None if there is none on the path."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def main() -> None:
    """Prints one line for the start and one for each run."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "eval.studio", *sys.argv[1:], "--port", "0", "--open_browser", "false"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+/", line)))
    try:
        with sync_playwright() as driver:
            waiting = time.perf_counter()
            browser = driver.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
            page = browser.new_page()
            page.set_default_timeout(600_000)
            # Starting the browser does not count.
            begun += time.perf_counter() - waiting
            page.goto(address)
            page.wait_for_selector("#generate-face[src]")
            print(f"first picture {time.perf_counter() - begun:.1f} s after the start")
            for name in page.eval_on_selector_all("#run option", "(options) => options.map((option) => option.value)"):
                page.goto(f"{address}#generate?run={name}&seed=1")
                page.wait_for_selector("#generate-axes[aria-busy=false] .slider")
                page.wait_for_load_state("networkidle")
                times = page.eval_on_selector("#generate-axes input[type=range]", MOVE, MOVES)
                median, high = np.percentile(times, (50, 95))
                load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
                print(f"{name}: {MOVES} moves, repaint after {median:.0f} ms, 95 % within {high:.0f} ms; {load}")
            browser.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
