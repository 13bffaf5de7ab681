"""The screenshots of docs/gallery.md: the dashboard's page of a search, on a desk and on a phone.

Run ``python examples/gallery.py`` before, with the same database, and then
``python benchmarks/screenshots.py``.  It needs chromium and chromedriver.
"""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
import browsers
from waiting import wait_for

PICTURES = ROOT / "docs" / "pictures"
SIZES = {"dashboard": (1280, 960), "dashboard-phone": (390, 844)}
#: Whether the pictures that are in sight have come.
_WHOLE = """
const seen = [...document.querySelectorAll('picture img')]
  .filter(one => one.getBoundingClientRect().top < innerHeight);
return seen.length > 0 && seen.every(one => one.complete && one.naturalWidth);
"""


def main() -> None:
    """Serve a dashboard, and write what a browser shows of it."""
    with browsers.served() as address:
        for name, size in SIZES.items():
            with browsers.chromium(size) as browser:
                browser.get(f"{address}search/boosting")
                shot = Image.open(io.BytesIO(still(browser))).convert("RGB")
                # 256 colours look the same, and make the file a third as large.
                few = shot.quantize(method=Image.Quantize.MAXCOVERAGE)
                few.save(PICTURES / f"{name}.png", optimize=True)


def still(browser: Any) -> bytes:
    """Return a screenshot once all is there, and nothing moves any more."""
    wait_for(lambda: browser.execute_script(_WHOLE), seconds=60)
    before, now = b"", browser.get_screenshot_as_png()
    while before != now:
        time.sleep(1)
        before, now = now, browser.get_screenshot_as_png()
    return bytes(now)


if __name__ == "__main__":
    main()
