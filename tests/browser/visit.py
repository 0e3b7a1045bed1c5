"""One person's use of the console in a browser, and what must hold of it."""

from __future__ import annotations

from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, Response

from serving.console.session import COOKIE
from tests.browser.desk import LiveDesk

_VIOLATIONS = """document.addEventListener("securitypolicyviolation", (event) => console.error(
  `policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));"""


class Visit:
    """A page of the console.

    Parameters
    ----------
    desk:
        The endpoint.
    context:
        Of the browser; its cookies and storage are the visitor's own.
    key:
        Name of the key that has signed in already; None: nobody has.

    Attributes
    ----------
    page:
        The page.
    expected:
        Statuses of answers that the test causes on purpose, 400 and above.
    """

    def __init__(self, desk: LiveDesk, context: BrowserContext, key: str | None) -> None:
        self.desk = desk
        self.expected: set[int] = set()
        self._said: list[str] = []
        self._failed: list[str] = []
        self._asked: list[str] = []
        if key is not None:
            context.add_cookies([{"name": COOKIE, "value": desk.keys[key], "url": desk.url}])
        context.add_init_script(_VIOLATIONS)
        self.page: Page = context.new_page()
        self.page.on("console", self._note_message)
        self.page.on("pageerror", lambda error: self._said.append(f"error: {error}"))
        self.page.on("request", lambda request: self._asked.append(request.url))
        self.page.on("requestfailed", self._note_failure)
        self.page.on("response", self._note_response)

    def go(self, path: str) -> Page:
        """Open a path and wait until everything on it is drawn."""
        self.page.goto(self.desk.url + path)
        self.settle()
        return self.page

    def settle(self) -> None:
        """Wait until nothing is loaded and the charts are drawn."""
        self.page.wait_for_load_state("networkidle")
        if self.page.locator("figure.chart").count():
            self.page.wait_for_selector("figure.chart .main-svg", state="attached")
            self.page.wait_for_function('document.documentElement.dataset.charts === "drawn"')

    def close(self) -> None:
        """Leave; requests that the test holds back are let go first: this would wait for them."""
        self.page.unroute_all(behavior="ignoreErrors")
        self.page.context.close()

    def check(self) -> None:
        """Nothing was said on the console, nothing failed, and nothing left this machine."""
        told = [said for said in self._said if not self._is_expected(said)]
        assert not told, told
        assert not self._failed, self._failed
        hosts = {urlsplit(url).netloc for url in self._asked if not url.startswith("data:")}
        assert hosts <= {urlsplit(self.desk.url).netloc}, hosts
        assert self._asked, "the visit asked for nothing"

    def _is_expected(self, said: str) -> bool:
        """The browser reports each answer from 400 on as an error of its own."""
        return any(f"responded with a status of {code} " in said for code in self.expected)

    def _note_message(self, message: ConsoleMessage) -> None:
        # The browser shows neither of these: they are advice to developers.
        if message.type not in ("debug", "verbose"):
            self._said.append(f"{message.type}: {message.text}")

    def _note_failure(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # by a page that is left
            self._failed.append(f"{request.url}: {request.failure}")

    def _note_response(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.expected:
            self._failed.append(f"{response.url}: {response.status}")
