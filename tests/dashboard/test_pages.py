"""The pages in a real browser."""

import contextlib
import re
import signal
import time
import urllib.error
import urllib.request
import warnings

import browsers
import functions
import psutil
import pytest
import servers
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from waiting import wait_for
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from optomatic import MongoSearch, MongoSearchCV, attach, running, searches
from optomatic.dashboard.feed import CHANGES, Feed
from optomatic.store.connection import open_store


def click(browser, selector, text):
    """Click what has a text, icons apart, and can be seen."""
    script = (
        "const own = [...document.querySelectorAll(arguments[0])].find(one => one.offsetParent"
        " && one.innerText.replace('arrow_upward', '').trim() === arguments[1]);"
        " own?.click(); return !!own"
    )
    wait_for(lambda: browser.execute_script(script, selector, text), seconds=20)


def open_tab(browser, name):
    click(browser, ".q-tab", name)


def pictures(browser):
    """Return the kinds of the pictures that the page shows."""
    return browser.execute_script(
        "return [...document.querySelectorAll('picture img')]"
        ".filter(one => one.complete && one.naturalWidth > 100).map(one => one.alt)"
    )


def test_the_list_leads_to_a_search_with_its_score_and_pictures(browser, address):
    browser.get(address)
    browsers.wait_for_text(browser, r"six\s+completed\s+6\s+6")
    browser.execute_script(
        "[...document.querySelectorAll('td')].find(one => one.innerText === 'six').click()"
    )
    browsers.wait_for_text(browser, "6 of 6 units have ended")
    browsers.wait_for_text(browser, r"best 0\.0000 with x=3")
    wait_for(lambda: {"history", "slice"} <= set(pictures(browser)), seconds=60)
    open_tab(browser, "candidates")
    browsers.wait_for_text(browser, r"5\s+completed\s+-4\.0000")
    open_tab(browser, "details")
    browsers.wait_for_text(browser, r"what\s+functions:parabola")
    assert browsers.console(browser) == []
    assert {host.partition(":")[0] for host in browsers.hosts(browser)} == {"127.0.0.1"}


@pytest.fixture(scope="module")
def crossed(searched):
    """A search with three params, five of whose splits are scored by two metrics."""
    X, y = make_classification(60, random_state=0)
    grid = {"C": [0.01, 0.1, 1.0], "penalty": ["l1", "l2"], "fit_intercept": [True, False]}
    estimator = LogisticRegression(solver="liblinear")
    scoring = {"accuracy": "accuracy", "loss": "neg_log_loss"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MongoSearchCV(
            estimator, grid, scoring=scoring, refit="accuracy", cv=5, db=searched, name="crossed"
        ).fit(X, y)
    return searched


KINDS = {"history", "parallel", "slice", "heatmap", "importance", "timeline", "splits"}


def test_a_search_has_all_pictures_its_grid_and_its_facts(browser, crossed, address):
    browser.get(f"{address}search/crossed")
    browsers.wait_for_text(browser, "60 of 60 units have ended")
    for kind in sorted(KINDS):
        look_at_picture(browser, kind)
    assert "60 scored" in browsers.text(browser)
    open_tab(browser, "units")
    browsers.wait_for_text(browser, "1-25 of 60")
    open_tab(browser, "workers")
    browsers.wait_for_text(browser, "Units of this search at work")
    open_tab(browser, "errors")
    browsers.wait_for_text(browser, "Nothing went wrong")
    open_tab(browser, "details")
    browsers.wait_for_text(browser, r"scikit-learn \d")
    assert browsers.console(browser) == []
    assert {host.partition(":")[0] for host in browsers.hosts(browser)} == {"127.0.0.1"}


def look_at_picture(browser, kind):
    """Scroll to a picture, as a browser loads only what is seen, and wait for it."""
    script = "document.querySelector(`img[alt=${arguments[0]}]`)?.scrollIntoView()"

    def is_there():
        browser.execute_script(script, kind)
        return kind in pictures(browser)

    wait_for(is_there, seconds=60)


def test_pictures_and_candidates_follow_the_metric(browser, crossed, address):
    browser.get(f"{address}search/crossed")
    browsers.wait_for_text(browser, r"best 0\.\d+ with")
    look_at_picture(browser, "history")
    before = source_of(browser, "history")
    open_tab(browser, "candidates")
    wait_for(lambda: columns_of(browser)[2:5] == ["accuracy", "std", "loss"], seconds=20)
    choose(browser, "metric", "loss")
    browsers.wait_for_text(browser, r"best -0\.\d+ with")
    wait_for(lambda: columns_of(browser)[2:5] == ["loss", "std", "accuracy"], seconds=20)
    open_tab(browser, "overview")
    wait_for(lambda: "metric=loss" in source_of(browser, "history"), seconds=20)
    look_at_picture(browser, "history")
    assert "metric=loss" not in before


def columns_of(browser):
    """Return the titles of the tables that are seen."""
    return browser.execute_script(
        "return [...document.querySelectorAll('th')].filter(one => one.offsetParent)"
        ".map(one => one.innerText.replace('arrow_upward', '').trim())"
    )


def source_of(browser, kind):
    script = "return document.querySelector(`img[alt=${arguments[0]}]`)?.src ?? ''"
    return browser.execute_script(script, kind)


def choose(browser, label, value):
    """Choose a value of the select with a label."""
    find = (
        "[...document.querySelectorAll('.q-select')]"
        ".find(one => one.innerText.includes(arguments[0]))"
    )
    browser.execute_script(f"{find}.querySelector('.q-field__control').click()", label)
    click(browser, ".q-menu .q-item", value)


def rows_of(browser):
    """Return the texts of the first column of the table that is seen."""
    return browser.execute_script(
        "return [...document.querySelectorAll('tbody tr')]"
        ".filter(one => one.offsetParent && one.children.length > 2)"
        ".map(one => one.children[0].innerText)"
    )


def test_tables_are_sorted_filtered_and_paged(browser, crossed, address):
    browser.get(f"{address}search/crossed")
    browsers.wait_for_text(browser, "60 of 60 units have ended")
    open_tab(browser, "units")
    wait_for(lambda: rows_of(browser) == [str(n) for n in range(25)], seconds=20)
    click(browser, "th", "unit")
    wait_for(lambda: browser.find_elements("css selector", "th.sorted"), seconds=20)
    click(browser, "th", "unit")
    wait_for(lambda: rows_of(browser) == [str(n) for n in range(59, 34, -1)], seconds=20)
    click(browser, "button", "chevron_right")
    wait_for(lambda: rows_of(browser) == [str(n) for n in range(34, 9, -1)], seconds=20)
    for box in browser.find_elements("css selector", "input[aria-label=search]"):
        if box.is_displayed():
            box.send_keys("FIT_INTERCEPT=F")
    browsers.wait_for_text(browser, "1-25 of 30")
    assert len(rows_of(browser)) == 25


def test_failures_are_grouped(browser, address):
    browser.get(f"{address}search/ill")
    open_tab(browser, "errors")
    browsers.wait_for_text(browser, "1 x score: KeyError: 'two is too much'")


def test_a_search_that_is_not_there_is_reported(browser, address):
    browser.get(f"{address}search/nets")
    browsers.wait_for_text(browser, "There is no search 'nets'")


def test_the_end_of_a_unit_is_shown_soon(browser, start, uri, start_worker, tmp_path):
    gate = tmp_path / "gate"
    MongoSearch(
        functions.gated, {"x": [1, 2, 4], "gate": [str(gate)]}, db=uri, name="gated"
    ).submit()
    start_worker(uri)
    _, address = start(uri)
    browser.get(f"{address}search/gated")
    browsers.wait_for_text(browser, "2 of 3 units have ended", seconds=60)
    gate.touch()
    with open_store(uri) as store:
        wait_for(lambda: not store.jobs.waits(attach("gated", db=uri).search_id), seconds=60)
    ended = time.monotonic()
    browsers.wait_for_text(browser, "3 of 3 units have ended")
    print(f"shown after {time.monotonic() - ended:.2f} s")


def test_units_at_work_are_those_of_the_search(browser, start, uri, start_worker, tmp_path):
    gate = str(tmp_path / "gate")
    for x in (5, 6):
        MongoSearch(functions.gated, {"x": [x], "gate": [gate]}, db=uri, name="twin").submit()
        start_worker(uri)
    wait_for(lambda: len(running(uri)) == 2, seconds=60)
    _, address = start(uri)
    last, first = searches(uri).index
    for search, own, other in ((first, 5, 6), (last, 6, 5)):
        browser.get(f"{address}search/{search}")
        open_tab(browser, "workers")
        browsers.wait_for_text(browser, rf"/gate, x={own}")
        browsers.wait_for_text(browser, r"standalone\s.*\snow\s")  # its heartbeat
        assert f"/gate, x={other}" not in browsers.text(browser)
    (tmp_path / "gate").touch()


def test_a_page_survives_a_restart_of_the_server(browser, start, searched):
    process, address = start(searched)
    browser.get(f"{address}search/six")
    browsers.wait_for_text(browser, "6 of 6 units")
    process.send_signal(signal.SIGINT)
    process.wait(30)
    browser.execute_script("document.title = 'before'")
    start(searched, port=int(re.search(r":(\d+)/", address)[1]))
    wait_for(lambda: browser.title == "six - optomatic", seconds=60)
    browsers.wait_for_text(browser, "6 of 6 units")
    browser.get_log("browser")  # that the connection was lost is an error there


def test_a_page_reports_that_the_store_is_away_and_goes_on(browser, start, mongod):
    server = servers.replica_set(1)
    node = server.primary()
    try:
        uri = server.uri("outage")
        MongoSearch(functions.parabola, {"x": range(3)}, db=uri, name="three").run()
        _, address = start(uri)
        browser.get(f"{address}search/three")
        browsers.wait_for_text(browser, "3 of 3 units")
        node.signal(signal.SIGSTOP)
        browsers.wait_for_text(browser, "The store has not answered", seconds=40)
        assert "3 of 3 units" in browsers.text(browser)
        node.signal(signal.SIGCONT)
        wait_for(lambda: "has not answered" not in browsers.text(browser), seconds=60)
    finally:
        server.remove()


def test_a_search_is_cancelled_and_removed_where_changes_are_allowed(browser, start, uri):
    MongoSearch(functions.parabola, {"x": range(3)}, db=uri, name="waits").submit()
    search = attach("waits", db=uri)
    _, address = start(uri, "--allow-changes")
    browser.get(address.replace("?", "search/waits?"))
    browsers.wait_for_text(browser, "0 of 3 units")
    assert "token" not in browser.current_url
    assert "token" not in str(browser.execute_script("return document.cookie"))
    press(browser, "cancel")
    browsers.wait_for_text(browser, "Cancel this search")
    press(browser, "no", last=False)
    wait_for(lambda: "Cancel this search" not in browsers.text(browser), seconds=20)
    assert search.counts() == {"queued": 3}
    for verb, then in (("cancel", r"waits\s+cancelled"), ("remove", "There is no search")):
        press(browser, verb)
        browsers.wait_for_text(browser, "Cancel this search|Remove this search")
        press(browser, verb, last=True)
        browsers.wait_for_text(browser, then, seconds=40)
        if verb == "cancel":
            assert search.state == "cancelled"
            assert search.counts() == {"cancelled": 3}
    with pytest.raises(ValueError, match="There is no search"):
        attach("waits", db=uri)


def test_failed_units_are_queued_again_where_changes_are_allowed(browser, start, uri):
    with contextlib.suppress(Exception):
        MongoSearch(functions.fails_at_two, {"x": [1, 2, 3]}, db=uri, name="ill").run()
    search = attach("ill", db=uri)
    assert search.counts() == {"completed": 2, "failed": 1}
    _, address = start(uri, "--allow-changes")
    browser.get(address.replace("?", "search/ill?"))
    browsers.wait_for_text(browser, "3 of 3 units")
    press(browser, "retry")
    browsers.wait_for_text(browser, "Queue failed and given-up units again")
    press(browser, "retry", last=True)
    browsers.wait_for_text(browser, "1 units are queued again")
    browsers.wait_for_text(browser, "2 of 3 units")
    assert search.counts() == {"completed": 2, "queued": 1}


def press(browser, verb, *, last=False):
    script = (
        "const own = [...document.querySelectorAll('button')]"
        ".filter(one => one.innerText.trim() === arguments[0]); own.at(arguments[1]).click()"
    )
    browser.execute_script(script, verb, -1 if last else 0)


def test_nothing_can_be_changed_otherwise(browser, address):
    browser.get(f"{address}search/six")
    browsers.wait_for_text(browser, "6 of 6 units")
    texts = browser.execute_script(
        "return [...document.querySelectorAll('button')].map(one => one.innerText.trim())"
    )
    assert not set(CHANGES) & set(texts)


@pytest.mark.parametrize("verb", CHANGES)
def test_the_server_refuses_changes_that_are_not_allowed(searched, verb):
    search = attach("ill", db=searched)
    before = search.counts(), search.state
    feed = Feed(searched, None, allow_changes=False)
    wait_for(lambda: feed.progress("ill").value)
    with pytest.raises(PermissionError, match="Nothing was changed"):
        feed.change("ill", verb)
    assert (search.counts(), search.state) == before


# -- how it looks ------------------------------------------------------------------------------


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_pages_and_pictures_are_dark_where_the_browser_is(crossed, address, dark):
    with browsers.chromium(dark=dark) as browser:
        browser.get(f"{address}search/crossed")
        look_at_picture(browser, "history")
        names = browser.execute_script("return document.body.className").split()
        shown = browser.execute_script(
            "return document.querySelector('img[alt=history]').currentSrc"
        )
    assert ("body--dark" in names) == dark
    assert f"theme={'dark' if dark else 'light'}" in shown


@pytest.mark.parametrize("page", ["", "search/crossed"])
def test_a_phone_shows_all_of_a_page(crossed, address, page):
    with browsers.chromium((390, 844)) as browser:
        browser.get(address + page)
        browsers.wait_for_text(browser, "60 of 60 units have ended" if page else "crossed")
        for tab in ("candidates", "units", "workers", "details", "overview") if page else ():
            open_tab(browser, tab)
            wide = "return document.documentElement.scrollWidth"
            assert browser.execute_script(wide) <= 390, tab
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390


def test_its_processes_end_with_it(start, searched):
    process, address = start(searched)
    assert answer(address)[0] == 200
    own = psutil.Process(process.pid)
    wait_for(lambda: len(own.children(recursive=True)) >= 2, seconds=60)
    children = own.children(recursive=True)
    process.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive


# -- who gets in -------------------------------------------------------------------------------


def answer(address, **headers):
    """Return status and text of the answer to a request."""
    request = urllib.request.Request(
        address, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    try:
        with urllib.request.urlopen(request) as found:
            return found.status, found.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_other_names_and_other_pages_are_refused(address):
    host = address.split("/")[2]
    assert answer(address)[0] == 200
    assert answer(address, Origin=f"http://{host}")[0] == 200
    assert answer(address, Host="evil.example")[0] == 403
    assert answer(address, Origin="http://evil.example")[0] == 403
    socket_io = f"{address}_nicegui_ws/socket.io/?EIO=4&transport=polling"
    assert answer(socket_io, Origin="http://evil.example")[0] == 403


@pytest.mark.parametrize("origin", ["http://evil.example", None])
def test_a_websocket_of_another_page_is_refused(address, origin):
    url = address.replace("http", "ws") + "_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    with pytest.raises(InvalidStatus) as refused:
        connect(url, origin=origin, proxy=None)
    assert refused.value.response.status_code == 403
    with connect(url, origin=address.rstrip("/"), proxy=None):
        pass


@pytest.mark.parametrize("options", [["--allow-changes"], ["--host", "0.0.0.0"]])
def test_a_token_is_needed_where_others_or_changes_are_let_in(start, searched, options):
    _, address = start(searched, *options)
    page, token = address.split("?token=")
    assert len(token) > 20
    assert answer(page)[0] == 403
    assert answer(f"{page}_nicegui/auto/x")[0] == 403
    assert answer(f"{page}?token=wrong")[0] == 403
    request = urllib.request.urlopen(address)
    cookie = request.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert answer(page, Cookie=cookie.split(";")[0])[0] == 200
    assert answer(page, Cookie=cookie.split("=")[0] + "=wrong")[0] == 403
    assert answer(page, Cookie=cookie.split(";")[0], Origin="http://evil.example")[0] == 403
