"""Which representation an answer has, from ``Accept``, ``?format=`` and the suffix (contract 2.1, 2.2, 18.2)."""

from functools import lru_cache
from typing import Literal, TypeVar

from sluice_core.rest.errors import ApiError, not_found

__all__ = ["Format", "Offers", "choose", "negotiate"]

Format = Literal["json", "html"]

T = TypeVar("T")
Offers = tuple[tuple[T, str, str, str], ...]

OFFERS: Offers[Format] = (
    ("json", "application", "json", "json"),
    ("html", "text", "html", "api"),
)


@lru_cache(1024)
def negotiate(accept: str, wanted: str | None) -> Format:
    """Choose the representation of a resource or endpoint; see `choose`."""
    return choose(accept, wanted, OFFERS)


def choose(accept: str, wanted: str | None, offers: Offers[T]) -> T:
    """Choose one of the representations that are offered.

    Parameters
    ----------
    accept
        The ``Accept`` header; empty for any.
    wanted
        Format asked for by name, or None.
    offers
        Each with its media type in two parts and the name that ``?format=`` and the suffix use. Of equally good ones
        the first wins.

    Raises
    ------
    ApiError
        404 when no format has that name, 406 when the header allows none of the offers.
    """
    left = [offer for offer in offers if wanted is None or offer[3] == wanted]
    if not left:
        raise not_found()
    ranges = [_media_range(each) for each in (accept or "*/*").split(",")]
    for precision in (3, 2, 1, 0):
        for found, main, sub, _ in left:
            for found_precision, found_main, found_sub in ranges:
                if found_precision == precision and found_main in (main, "*") and found_sub in (sub, "*"):
                    return found
    raise ApiError(406, {"detail": "Could not satisfy the request Accept header."})


def _media_range(text: str) -> tuple[int, str, str]:
    media, *parameters = (part.strip() for part in text.split(";"))
    main, _, sub = media.lower().partition("/")
    if main == "*":
        return 0, main, sub or "*"
    if sub == "*":
        return 1, main, sub
    narrowed = any(each and not each.lower().startswith("q=") for each in parameters)
    return 3 if narrowed else 2, main, sub
