"""The page at `/`: static files that send requests to this server and to no other."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

FOLDER = Path(__file__).resolve().parent
FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.svg": ("page.svg", "image/svg+xml"),
}
OWN = ("connect-src", "img-src", "script-src", "style-src")
NONE = ("default-src", "base-uri", "form-action", "frame-ancestors")
HEADERS = {
    "Content-Security-Policy": "; ".join(
        [*(f"{what} 'none'" for what in NONE), *(f"{what} 'self'" for what in OWN)]
    ),
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page_routes() -> list[Route]:
    """Return one route per file; the files contain no data, so they need no token."""

    def route(path: str, name: str, media_type: str) -> Route:
        async def endpoint(request: Request) -> Response:
            return FileResponse(FOLDER / name, media_type=media_type, headers=HEADERS)

        return Route(path, endpoint)

    return [route(path, *file) for path, file in FILES.items()]
