"""The pages in a real browser."""

import re
import signal
import time
import urllib.error
import urllib.request

import browsers
import functions
import pytest
import servers
from waiting import wait_for
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from optomatic import MongoSearch, attach
from optomatic.store.connection import open_store


def open_tab(browser, name):
    script = (
        "const own = [...document.querySelectorAll('.q-tab')]"
        ".find(one => one.innerText.trim() === arguments[0]); own?.click(); return !!own"
    )
    wait_for(lambda: browser.execute_script(script, name), seconds=20)


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
    _, address = start(uri, "--allow-changes")
    browser.get(address.replace("?", "search/waits?"))
    browsers.wait_for_text(browser, "0 of 3 units")
    assert "token" not in browser.current_url
    assert "token" not in str(browser.execute_script("return document.cookie"))
    for verb, then in (("cancel", r"waits\s+cancelled"), ("remove", "There is no search")):
        press(browser, verb)
        browsers.wait_for_text(browser, "Cancel this search|Remove this search")
        press(browser, verb, last=True)
        browsers.wait_for_text(browser, then, seconds=40)
    with pytest.raises(ValueError, match="There is no search"):
        attach("waits", db=uri)


def press(browser, verb, *, last=False):
    script = (
        "const own = [...document.querySelectorAll('button')]"
        ".filter(one => one.innerText.trim() === arguments[0]); own.at(arguments[1]).click()"
    )
    browser.execute_script(script, verb, -1 if last else 0)


def test_nothing_can_be_changed_otherwise(browser, address):
    browser.get(f"{address}search/six")
    browsers.wait_for_text(browser, "6 of 6 units")
    assert browser.execute_script("return document.querySelectorAll('button').length") == 0


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


def test_a_token_is_needed_where_others_or_changes_are_let_in(start, searched):
    _, address = start(searched, "--allow-changes")
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
