"""A headless Chromium, and a dashboard in a process of its own."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys

import workers
from waiting import wait_for

OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-default-apps", "--force-color-profile=srgb"),
)
BROWSER, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))


@contextlib.contextmanager
def chromium(size=(1280, 900), *, dark=False):
    """Yield a browser, as selenium drives it."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for option in (*OPTIONS, *(["--force-dark-mode"] if dark else [])):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(DRIVER))
    # A window has a least width; a phone is narrower.
    sizes = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    try:
        yield browser
    finally:
        browser.quit()


def start(uri, *options, port=0, **env):
    """Start a dashboard; return its process, and the address that it prints."""
    db = () if uri is None else ("--db", uri)
    command = [sys.executable, "-m", "optomatic", "dashboard", "--no-browser", "--port", port]
    process = workers.start(*command, *db, *options, stdout=subprocess.PIPE, **env)
    line = process.stdout.readline()
    found = re.search(r"http://\S+", line)
    assert found, line
    return process, found[0]


@contextlib.contextmanager
def served(uri=None, *options):
    """Serve a dashboard for some time; yield its address."""
    process, address = start(uri, *options)
    try:
        yield address
    finally:
        process.terminate()
        process.communicate()


_MOMENTS = """
const done = arguments[0], began = performance.now();
const found = {};
const look = () => {
  const paint = performance.getEntriesByName('first-contentful-paint')[0];
  if (paint) found['first paint'] = paint.startTime / 1000;
  const now = performance.now() / 1000, text = document.body?.innerText ?? '';
  if (!found.content && /units have ended|Searches[^]*(running|completed)/.test(text))
    found.content = now;
  const pictures = [...document.querySelectorAll('picture img')];
  if (!found.picture && pictures.some(one => one.complete && one.naturalWidth)) found.picture = now;
  const whole = found['first paint'] && found.content
    && (found.picture || location.pathname === '/');
  if (whole || now > 100) done(found); else setTimeout(look, 20);
};
look();
"""


def moments(browser):
    """Return when the page that is being loaded shows something, in seconds after its start."""
    browser.set_script_timeout(120)
    return browser.execute_async_script(_MOMENTS)


def text(browser):
    return browser.execute_script("return document.body?.innerText ?? ''")


def wait_for_text(browser, pattern, seconds=20):
    """Wait until the page shows what `pattern` matches; return the match."""
    wait_for(lambda: re.search(pattern, text(browser)), seconds=seconds)
    return re.search(pattern, text(browser))


def console(browser):
    """Return errors and warnings that the page has caused."""
    return [e["message"] for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]


def hosts(browser):
    """Return the hosts of all requests of the pages, with ports."""
    found = set()
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        url = message["params"].get("request", {}).get("url") or message["params"].get("url", "")
        if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
            found |= set(re.findall(r"^(?:https?|wss?)://([^/]+)", url))
    return found
