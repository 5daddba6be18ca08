"""The errors that the code has, read from its source: their texts, and the classes of their exceptions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from tests.server import ROOT

#: A part of a text that is known only when the error happens.
PLACEHOLDER = "…"

#: The rooms of the code, without migrations.
ROOMS = ("instances", "realtime", "evoapi")

#: Callables whose first argument is the text of an error that a person sees.
FIRST = frozenset(
    {
        *("ApiError", "NotFound", "ListedError", "Overloaded", "PermissionDenied", "InvalidOption", "UnreadableSecret"),
        *("EngineError", "HandshakeError", "ConnectionRefusedError", "GraphError", "NotSent", "OutcomeUnknown"),
        *("BlockedAddress", "RedirectError", "BrokerUnavailable", "CommandError", "ImproperlyConfigured", "NotStarted"),
        *("BacklogFull", "Failure", "Http404", "_failed"),
    }
)
#: Callables of which any argument may be such a text.
ANY = frozenset(
    {
        "_plain_text",
        "_unauthorized",
        "error_response",
        "ProtocolError",
        "respond_later",
        "Reply",
        "_failed",
        "_refuse",
        "refuse",
        "__init__",
    }
)
#: Rooms in which a ValueError's text is shown to whoever sets a webhook or a broker's endpoint.
SHOWN_VALUE_ERRORS = ("instances/outbound/", "realtime/delivery/transports/")
#: Functions that return sentences for people about what failed.
DESCRIBING = ("_describe", "_describe_redirect", "_describe_unknown", "_reason", "_refusal")


class Scope(NamedTuple):
    """The file and the function around an expression."""

    file: ast.Module
    function: ast.AST


class Message(NamedTuple):
    """The text of an error, with a placeholder for what is known only at run time."""

    text: str
    place: str


@cache
def trees() -> dict[str, ast.Module]:
    """Return the code by its files."""
    files = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) if "migrations" not in path.parts]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in files}


@cache
def constants(file: ast.Module | None = None) -> dict[str, list[ast.expr]]:
    """Return the values of the constants of a module, or of all, with the texts of their classes, by name."""
    found: dict[str, list[ast.expr]] = {}
    for tree in [file] if file else trees().values():
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef)):
                for name, value in _assignments(node.body):
                    if isinstance(node, ast.Module) or isinstance(value, ast.Constant):
                        found.setdefault(name, []).append(value)
    return found


def _assignments(statements: Iterable[ast.AST]) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names that are assigned, with their values."""
    for node in statements:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None) if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        for target in targets:
            if isinstance(target, ast.Name) and value is not None:
                yield target.id, value


def texts(node: ast.expr | None, scope: Scope | None = None) -> Iterator[str]:
    """Yield the texts that an expression may have; nothing for one that is not in the source.

    A name is looked up in the function around it, and then among constants in capitals.
    """
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join(part.value if isinstance(part, ast.Constant) else PLACEHOLDER for part in parts)
        case ast.BinOp(op=ast.Add()):
            sides = [next(texts(side, scope), PLACEHOLDER) for side in (node.left, node.right)]
            yield "".join(sides)
        case ast.IfExp(body=one, orelse=other):
            yield from texts(one, scope)
            yield from texts(other, scope)
        case ast.BoolOp(values=values):
            for value in values:
                yield from texts(value, scope)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            for item in items:
                yield from texts(item, scope)
        case ast.Name(id=name) if name.strip("_").isupper():
            of_file = constants(scope.file).get(name) if scope else None
            for value in of_file or constants().get(name, []):
                yield from texts(value)
        case ast.Name(id=name) if scope:
            for assigned, value in _assignments(ast.walk(scope.function)):
                if assigned == name:
                    yield from texts(value)
        case ast.Call(func=ast.Attribute(attr="format" | "removesuffix", value=value)):
            for text in texts(value, scope):
                yield re.sub(r"\{\w*\}", PLACEHOLDER, text)
        case ast.Attribute(attr=name):
            for value in constants().get(name, []):
                yield from texts(value)


def _expressions(tree: ast.Module) -> Iterator[tuple[Scope, ast.Call | ast.Return]]:
    """Yield the calls and returns of a file, each with its scope."""

    def visit(node: ast.AST, function: ast.AST) -> Iterator[tuple[Scope, ast.Call | ast.Return]]:
        for child in ast.iter_child_nodes(node):
            inner = child if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) else function
            if isinstance(child, (ast.Call, ast.Return)):
                yield Scope(tree, function), child
            yield from visit(child, inner)

    return visit(tree, tree)


@cache
def messages() -> list[Message]:
    """Return the texts of all errors, each once, with the place of the first."""
    found: dict[str, Message] = {}
    for file, tree in trees().items():
        for scope, node in _expressions(tree):
            for text in _texts_of(file, scope, node):
                if any(character.isalpha() for character in text.replace(PLACEHOLDER, "")):
                    found.setdefault(text, Message(text, f"{file}:{node.lineno}"))
    return list(found.values())


def _texts_of(file: str, scope: Scope, node: ast.Call | ast.Return) -> Iterator[str]:
    if isinstance(node, ast.Return):
        is_description = getattr(scope.function, "name", "") in DESCRIBING
        if is_description:
            yield from texts(node.value, scope)
        return
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in FIRST or (name == "ValueError" and file.startswith(SHOWN_VALUE_ERRORS)):
        yield from texts(node.args[0] if node.args else None, scope)
    elif name in ANY and not file.endswith(("settings.py", "variables.py", "forms.py")):
        for argument in node.args:
            yield from texts(argument, scope)
    elif name == "append" and isinstance(node.func, ast.Attribute) and _is_list_of_errors(node.func.value):
        yield from texts(node.args[0], scope)
    elif name == "Outcome":
        yield from (text for keyword in node.keywords if keyword.arg == "error" for text in texts(keyword.value, scope))


def _is_list_of_errors(node: ast.expr) -> bool:
    return ast.unparse(node).endswith(("VARIABLES.errors", "self.errors", "ERRORS", "messages"))


def exceptions() -> set[str]:
    """Return the names of our exception classes."""
    classes = [node for tree in trees().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found = {"Exception", "ValueError", "OSError", "APIException"}
    while True:
        more = {each.name for each in classes if {ast.unparse(base) for base in each.bases} & found}
        if more <= found:
            return found - {"Exception", "ValueError", "OSError", "APIException"}
        found |= more
