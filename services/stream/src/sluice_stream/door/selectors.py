"""Selectors: what a subscription wants of its destination, by the headers of a message.

Headers are texts. Beside a number in the selector, a header counts as the number that it spells, and as unknown where
it spells none; unknown is neither true nor false, as in SQL.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import LarkError, VisitError

__all__ = ["LONGEST", "BadSelector", "Selector"]

LONGEST = 1000
DEEPEST = 50

Headers = Mapping[str, str]
Truth = bool | None
Test = Callable[[Headers], Truth]


class BadSelector(Exception):
    """That is no selector; the text says why."""


class _Node(NamedTuple):
    """A part of a selector: its test, how deep it is, and which names it compares with which texts."""

    test: Test
    depth: int = 1
    equals: tuple[tuple[str, frozenset[str]], ...] = ()


class _Value(NamedTuple):
    """What stands beside an operator."""

    kind: str
    of: Any


class Selector:
    """A selector.

    Parameters
    ----------
    text
        As the client sent it.

    Raises
    ------
    BadSelector
        It is none.

    Attributes
    ----------
    text
        As it was given.
    """

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST:
            raise BadSelector(f"a selector has at most {LONGEST} characters")
        try:
            # The transformer in the parser works bottom up, so no nesting is too deep for it.
            self._node = _parser().parse(text)
        except BadSelector:
            raise
        except VisitError as exc:
            if isinstance(exc.orig_exc, BadSelector):
                raise exc.orig_exc from None
            raise
        except LarkError as exc:
            raise BadSelector(f"no selector: {str(exc).splitlines()[0]}") from None
        self.text = text

    def __call__(self, headers: Headers) -> bool:
        """Whether a message with these headers is wanted."""
        return self._node.test(headers) is True

    def wanted(self, name: str) -> frozenset[str]:
        """Return the texts that the selector compares a header with by ``=`` or ``IN``."""
        return frozenset[str]().union(*(texts for found, texts in self._node.equals if found == name))


def _number(value: _Value, headers: Headers) -> float | None:
    if value.kind == "number":
        return float(value.of)
    try:
        return float(headers[value.of]) if value.kind == "name" else None
    except (KeyError, ValueError):
        return None


def _text(value: _Value, headers: Headers) -> str | None:
    return headers.get(value.of) if value.kind == "name" else str(value.of)


_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": lambda one, other: one == other,
    "<>": lambda one, other: one != other,
    "<": lambda one, other: one < other,
    ">": lambda one, other: one > other,
    "<=": lambda one, other: one <= other,
    ">=": lambda one, other: one >= other,
}


def _deeper(*nodes: _Node) -> int:
    depth = 1 + max(node.depth for node in nodes)
    if depth > DEEPEST:
        raise BadSelector(f"a selector nests at most {DEEPEST} deep")
    return depth


def _opposite(truth: Truth) -> Truth:
    return None if truth is None else not truth


def _all_of(one: Truth, other: Truth) -> Truth:
    if one is False or other is False:
        return False
    return None if one is None or other is None else True


def _pattern(text: str, escape: str | None) -> Callable[[str], bool]:
    """Compile what stands behind LIKE into pieces between ``%`` that are found one after the other, without backing.

    One expression with several ``.*`` would let a client keep us busy for hours.
    """
    if escape is not None and len(escape) != 1:
        raise BadSelector("ESCAPE takes one character")
    pieces, piece = [], ""
    letters = iter(text)
    for letter in letters:
        if letter == escape:
            piece += re.escape(next(letters, ""))
        elif letter == "%":
            pieces.append(piece)
            piece = ""
        else:
            piece += "." if letter == "_" else re.escape(letter)
    pieces.append(piece)
    first, *rest = [re.compile(each, re.DOTALL) for each in pieces]
    if not rest:
        return lambda value: first.fullmatch(value) is not None
    last = re.compile(rest[-1].pattern + r"\Z", re.DOTALL)

    def matches(value: str) -> bool:
        found = first.match(value)
        for each in (*rest[:-1], last):
            if found is None:
                return False
            found = each.search(value, found.end())
        return found is not None

    return matches


@v_args(inline=True)
class _Compile(Transformer[Token, _Node]):
    def name(self, token: Token) -> _Value:
        return _Value("name", str(token))

    def text(self, token: Token) -> _Value:
        return _Value("text", token[1:-1].replace("''", "'"))

    def number(self, token: Token) -> _Value:
        return _Value("number", token)

    def truth(self, token: Token) -> _Node:
        always = token.upper() == "TRUE"
        return _Node(lambda _: always)

    def either(self, one: _Node, other: _Node) -> _Node:
        return _Node(
            lambda headers: _opposite(_all_of(_opposite(one.test(headers)), _opposite(other.test(headers)))),
            _deeper(one, other),
            one.equals + other.equals,
        )

    def both(self, one: _Node, other: _Node) -> _Node:
        return _Node(
            lambda headers: _all_of(one.test(headers), other.test(headers)),
            _deeper(one, other),
            one.equals + other.equals,
        )

    def opposite(self, one: _Node) -> _Node:
        return _Node(lambda headers: _opposite(one.test(headers)), _deeper(one))

    def compare(self, one: _Value, operator: Token, other: _Value) -> _Node:
        compare = _COMPARE[operator]
        numbers = "number" in (one.kind, other.kind)
        if not numbers and operator not in ("=", "<>"):
            raise BadSelector(f"{operator} compares numbers")
        read: Callable[[_Value, Headers], Any] = _number if numbers else _text

        def test(headers: Headers) -> Truth:
            left, right = read(one, headers), read(other, headers)
            return None if left is None or right is None else compare(left, right)

        names = {each.kind: each.of for each in (one, other)}
        known = operator == "=" and names.keys() == {"name", "text"}
        return _Node(test, equals=((names["name"], frozenset({names["text"]})),) if known else ())

    def one_of(self, name: _Value, *texts: _Value) -> _Node:
        among = frozenset(each.of for each in texts)

        def test(headers: Headers) -> Truth:
            value = headers.get(name.of)
            return None if value is None else value in among

        return _Node(test, equals=((name.of, among),))

    def none_of(self, name: _Value, *texts: _Value) -> _Node:
        return self._not(self.one_of(name, *texts))

    def like(self, name: _Value, text: _Value, escape: _Value | None) -> _Node:
        matches = _pattern(text.of, escape.of if escape else None)

        def test(headers: Headers) -> Truth:
            value = headers.get(name.of)
            return None if value is None else matches(value)

        return _Node(test)

    def unlike(self, name: _Value, text: _Value, escape: _Value | None) -> _Node:
        return self._not(self.like(name, text, escape))

    def absent(self, name: _Value) -> _Node:
        return _Node(lambda headers: name.of not in headers)

    def present(self, name: _Value) -> _Node:
        return _Node(lambda headers: name.of in headers)

    @staticmethod
    def _not(node: _Node) -> _Node:
        return _Node(lambda headers: _opposite(node.test(headers)))


@lru_cache(1)
def _parser() -> Any:
    grammar = files(__package__).joinpath("selectors.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", transformer=_Compile(), maybe_placeholders=True)
