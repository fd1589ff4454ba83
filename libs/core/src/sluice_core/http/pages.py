"""The plain HTML pages for what no resource answers (contract sections 2.1 and 18)."""

from starlette.responses import Response

__all__ = ["HTML", "error_page", "page"]

HTML = "text/html; charset=utf-8"

_TITLES = {
    404: ("Not Found", "The requested resource was not found on this server."),
    500: ("Server Error", "The server could not answer this request. It was logged under the id in X-Request-ID."),
}


def page(status: int) -> bytes:
    """Return the HTML body for 404 or 500; it carries nothing of the request."""
    title, text = _TITLES[status]
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n  <title>{title}</title>\n</head>\n'
        f"<body>\n  <h1>{title}</h1><p>{text}</p>\n</body>\n</html>\n"
    ).encode()


def error_page(status: int) -> Response:
    """Return the HTML answer for 404 or 500."""
    return Response(page(status), status, {"Content-Type": HTML})
