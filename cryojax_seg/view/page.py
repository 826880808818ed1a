"""Serves a session as a web page to the browser of the same machine, and to nobody else.

The page listens on the loopback address. Who opens it must have the link with a one-time token,
which becomes a cookie that other pages can neither read nor send; requests that name another host,
or come from the page of another origin, are refused. The server answers three fixed paths and
reads no path from a request.
"""

import asyncio
import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from cryojax_seg.view.frames import LARGEST, packed, unpacked
from cryojax_seg.view.session import Message, Session

LOOPBACK = "127.0.0.1"
_FOLDER = Path(__file__).parent
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self' ws://{host}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_READING = 8  # slices of the tomogram that are read at a time for a page
_QUEUE = 512  # messages that wait for a slow page before it is cut off


class Page:
    """Is the web application of one session.

    Args:
        session: what it shows.
        port: of the address at which it listens.
        told: called with a new link whenever the one before was used.

    Attributes:
        app: the ASGI application.
        port: of the address.

    >>> from cryojax_seg.core import Tomogram
    >>> import numpy as np
    >>> session = Session(Tomogram(np.zeros((2, 3, 4), np.float32)))
    >>> Page(session, 8000).link()[:29]
    'http://127.0.0.1:8000/?token='
    """

    def __init__(
        self, session: Session, port: int, told: Callable[[str], None] = lambda link: None
    ):
        self._session, self.port, self._told = session, port, told
        self._token, self._secret = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self._cookie = f"cryojax_seg_{port}"  # cookies do not tell ports apart
        self.app = Starlette(
            routes=[
                Route("/", self._page),
                Route("/front.js", self._script),
                WebSocketRoute("/messages", self._messages),
            ]
        )

    def link(self) -> str:
        """Return the link that opens the page once."""
        return f"http://{LOOPBACK}:{self.port}/?token={self._token}"

    def _refused(self, request: HTTPConnection) -> str | None:
        """Return why a request is refused, whatever it asks for; None if it is not."""
        hosts = {f"{LOOPBACK}:{self.port}", f"localhost:{self.port}"}
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if host not in hosts:
            return "this page answers only under its own address"
        if origin is not None and origin not in {f"http://{name}" for name in hosts}:
            return "this page does not answer other pages"
        return None

    def _known(self, request: HTTPConnection) -> bool:
        given = request.cookies.get(self._cookie, "")
        return secrets.compare_digest(given.encode(), self._secret.encode())

    async def _page(self, request: Request) -> Response:
        problem = self._refused(request)
        if problem:
            return PlainTextResponse(problem, 403)
        token, known = request.query_params.get("token"), self._known(request)
        fresh = token is not None and secrets.compare_digest(token.encode(), self._token.encode())
        if not fresh and not known:
            return PlainTextResponse(
                "This link was used already, or belongs to a program that has ended. Open the "
                "link that the program printed last.",
                403,
            )
        content = (_FOLDER / "page.html").read_text()
        answer = HTMLResponse(content, headers=self._headers())
        if fresh:
            self._token = secrets.token_urlsafe(24)
            # The page takes the token out of its address, so that no history keeps it.
            answer.set_cookie(self._cookie, self._secret, httponly=True, samesite="strict")
            self._told(self.link())
        return answer

    async def _script(self, request: Request) -> Response:
        problem = self._refused(request)
        if problem or not self._known(request):
            return PlainTextResponse(problem or "open the page by its link", 403)
        content = (_FOLDER / "front.js").read_text()
        return Response(content, headers=self._headers(), media_type="text/javascript")

    def _headers(self) -> dict[str, str]:
        return {
            "Content-Security-Policy": _POLICY.format(host=f"{LOOPBACK}:{self.port}"),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }

    async def _messages(self, channel: WebSocket) -> None:
        # A browser always tells the origin of a WebSocket, so without one it is no page of ours.
        if self._refused(channel) or not self._known(channel) or "origin" not in channel.headers:
            await channel.close(1008)
            return
        await channel.accept()
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[tuple[Message, Any] | None]()

        def put(item: tuple[Message, Any] | None) -> None:
            if queue.qsize() >= _QUEUE:  # it does not read; it may connect again
                queue.put_nowait(None)
            else:
                queue.put_nowait(item)

        def send(message: Message, data: bytes | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(put, (message, data))

        receive = self._session.connect(send)
        sender = asyncio.create_task(_deliver(channel, queue))
        reading: set[asyncio.Task[None]] = set()
        try:
            while True:
                text = await channel.receive_text()
                try:
                    message = unpacked(text)
                except ValueError as error:
                    send({"type": "error", "text": f"the message {error}"}, None)
                    continue
                answer = run_in_threadpool(receive, message)
                if not _is_image(message):
                    await answer
                    continue
                reading.add(asyncio.create_task(answer))
                if len(reading) >= _READING:
                    await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
                reading = {task for task in reading if not task.done()}
        except (WebSocketDisconnect, KeyError, RuntimeError):  # also: bytes instead of text
            pass
        finally:
            self._session.disconnect(send)
            sender.cancel()
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await channel.close()


def _is_image(message: Any) -> bool:
    """Return whether a message asks for a slice of the tomogram.

    Such a slice never changes and may take seconds, where it lies across the rows of a large file.
    So nothing waits for it; all other messages are answered one after the other.
    """
    return (
        isinstance(message, dict)
        and message.get("type") == "plane"
        and message.get("layer") == "image"
    )


async def _deliver(channel: WebSocket, queue: asyncio.Queue) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        while (item := await queue.get()) is not None:
            frame = packed(*item)
            await (
                channel.send_text(frame) if isinstance(frame, str) else channel.send_bytes(frame)
            )
        await channel.close(1013)


@contextlib.contextmanager
def serving(
    session: Session, port: int = 0, told: Callable[[str], None] = lambda link: None
) -> Iterator[str]:
    """Serve a session as a page on the loopback address, in a thread, while a block runs.

    Args:
        session: what it shows; it is closed by the caller.
        port: to listen at; 0 for one that is free.
        told: called with a new link whenever one was used, as each opens the page in one browser.

    Yields:
        the link that opens the page.

    Raises:
        OSError: if the port is taken.

    >>> import numpy as np
    >>> from cryojax_seg.core import Tomogram
    >>> with serving(Session(Tomogram(np.zeros((2, 3, 4), np.float32)))) as link:
    ...     link.startswith("http://127.0.0.1:")
    True
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((LOOPBACK, port))
        page = Page(session, listening.getsockname()[1], told)
        config = uvicorn.Config(
            page.app,
            loop="asyncio",
            log_level="critical",
            access_log=False,
            server_header=False,
            ws="websockets-sansio",
            ws_max_size=LARGEST,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=1,
            lifespan="off",
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(
            target=server.run, args=([listening],), name="cryojax-seg page", daemon=True
        )
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        if not server.started:
            raise OSError(f"the page cannot be served at {LOOPBACK}:{page.port}")
        try:
            yield page.link()
        finally:
            server.should_exit = True
            thread.join(10)
