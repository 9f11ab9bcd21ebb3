"""The part of a submission that one function needs, or why there is no such function.

Marking a function does not run the whole notebook: only the statements that define it, and what it
refers to. So a cell that trains, stops or never ends costs nothing unless the function needs it.
"""

import ast
import difflib
import dis
import re
import types
from functools import cached_property
from typing import NamedTuple

from .submission import Submission

SURE, PERHAPS, NOT = "sure", "perhaps", "not"
TRIES = 3  # definitions of a name, where it takes running them to know which is the function
NESTED = ast.If | ast.Try | ast.With | ast.For | ast.While | ast.Match
MAY_BE = ast.Name | ast.Attribute | ast.Call | ast.Subscript | ast.IfExp | ast.Tuple


class Program(NamedTuple):
    """What defines a function, and the other exercises' names in it."""

    text: str
    uses: list[str]


class Parts:
    """The statements of a submission, and which names each binds."""

    def __init__(self, found: Submission):
        self.found, self.statements = found, found.statements
        self.bound = [_bound(one) for one in found.statements]

    @cached_property
    def binders(self) -> dict[str, list[int]]:
        """For each name the statements that bind it, or fill it in, but for the lines of checks."""
        binders: dict[str, list[int]] = {}
        for i, names in enumerate(self.bound):
            for name in names if not _is_check(self.statements[i]) else ():
                binders.setdefault(name, []).append(i)
        return binders

    def functions(self, *kinds: str) -> set[str]:
        """The names that are bound to functions: SURE, PERHAPS or both."""
        return {
            name
            for name, where in self.binders.items()
            if any(_defines(self.statements[i], name) in kinds for i in where)
        }

    def programs(self, name: str, known: set[str]) -> list[Program]:
        """What may define ``name``: a definition, and every statement that binds a name it refers
        to, directly or not. Where it takes running them to know which is a function (f = g), there
        are several, the last first.

        A later `name = check("name", name)` is in none of them, nor what reuses the name.

        Args:
          known: names that need no definition: the other exercises, whose references stand in for
            them as they do in the notebook.

        Raises:
          SyntaxError, ValueError, RecursionError: it cannot be compiled.
        """
        heads: list[set[int]] = []
        for i in self.binders.get(name, []):
            kind = _defines(self.statements[i], name)
            if kind == SURE:
                heads = [{i}]
            elif kind == PERHAPS:  # name = jit(name) takes along what it was before
                before = name in _used(self.statements[i], deep=False) and heads
                heads.append({i} | (heads[-1] if before else set()))
        heads = heads[:1] + heads[1:][1 - TRIES :]
        return [self._with_needs(head, name, known) for head in reversed(heads)]

    def _with_needs(self, head: set[int], name: str, known: set[str]) -> Program:
        closed, wanted = {name, *known}, set(head)
        seen = set().union(*(_used(self.statements[i]) for i in head))
        open_names = seen - closed
        for i, one in enumerate(self.statements):
            if isinstance(one, ast.ImportFrom) and (
                one.names[0].name == "*" or one.module == "__future__"
            ):  # any name may come from there
                wanted.add(i)
        while open_names:
            this = open_names.pop()
            closed.add(this)
            for i in self.binders.get(this, []):
                if i not in wanted:
                    wanted.add(i)
                    used = _used(self.statements[i])
                    seen |= used
                    open_names |= used - closed
        body = [self.statements[i] for i in sorted(wanted)]
        body.sort(key=lambda one: getattr(one, "module", "") != "__future__")
        return Program(ast.unparse(ast.Module(body, [])), sorted(seen & known - {name}))

    def reason(self, name: str) -> str:
        """The likely reason why there is no such function, to follow "there is no function f"."""
        called = re.compile(rf"(?m)^[ \t]*(?:async )?def[ \t]+{re.escape(name)}\b")
        for why, source in self.found.broken:
            if called.search(source):
                return f": {why}"
        for one in self.statements:
            if isinstance(one, ast.ImportFrom | ast.Import) and name in _bound(one):
                return f": it is imported from {getattr(one, 'module', None)}, another file"
            for inner in ast.walk(one):
                if isinstance(inner, ast.FunctionDef | ast.ClassDef) and inner is not one:
                    if inner.name == name:
                        return f": it is defined inside {getattr(one, 'name', 'another')}"
        if name in self.binders:
            return f": {name} is a value"
        if called.search(self.found.prose):
            return ": it stands in a cell that is text, not code"
        low = {other.lower().replace("_", ""): other for other in self.functions(SURE, PERHAPS)}
        near = difflib.get_close_matches(name.lower().replace("_", ""), low, 1, 0.8)
        if near:
            return f": is it {low[near[0]]}, under another name?"
        if self.found.broken:
            return f" ({self.found.broken[0][0]})"
        return "" if low else ": the file defines no function at all"


def _defines(statement, name: str) -> str:
    """Whether a statement binds a name to a function: SURE, PERHAPS or NOT."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return SURE if statement.name == name else NOT
    if isinstance(statement, NESTED):
        inner = (one for one in ast.walk(statement) if isinstance(one, ast.stmt))
        kinds = [_defines(one, name) for one in inner if one is not statement]
        return PERHAPS if any(kind != NOT for kind in kinds) else NOT
    if not isinstance(statement, ast.Assign | ast.AnnAssign) or _is_check(statement):
        return NOT
    targets = getattr(statement, "targets", None) or [statement.target]
    names = {one.id for target in targets for one in ast.walk(target) if _stores(one)}
    if name not in names or statement.value is None:
        return NOT
    if isinstance(statement.value, ast.Lambda):
        return SURE
    called = isinstance(statement.value, ast.Call) and getattr(statement.value.func, "id", "")
    return PERHAPS if isinstance(statement.value, MAY_BE) and called != name else NOT


def _stores(node) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def _is_check(statement) -> bool:
    """name = check("name", name)"""
    value = getattr(statement, "value", None)
    return isinstance(value, ast.Call) and "check" in (
        getattr(value.func, "id", ""),
        getattr(value.func, "attr", ""),
    )


def _bound(statement) -> set[str]:
    """The names a statement binds, or fills in, at the top level."""
    names, stack = set(), [statement]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(one.asname or one.name).split(".")[0] for one in node.names}
        elif isinstance(node, ast.comprehension):  # whose variable is its own
            stack += [node.iter, *node.ifs]
        elif not isinstance(node, ast.Lambda):
            if isinstance(getattr(node, "ctx", None), ast.Store):
                names |= {part.id for part in _bases(node) if isinstance(part, ast.Name)}
            stack += ast.iter_child_nodes(node)
    return names


def _bases(target):
    """A target, and what it is a part of: table[i].x, table[i], table."""
    while True:
        yield target
        if not isinstance(target, ast.Subscript | ast.Attribute):
            return
        target = target.value


def _used(statement, deep: bool = True) -> set[str]:
    """The global names a statement, or (``deep``) a function in it, looks up."""
    names, codes = set(), [compile(ast.Module([statement], []), "<submission>", "exec")]
    while codes:
        code = codes.pop()
        if deep:
            codes += [const for const in code.co_consts if isinstance(const, types.CodeType)]
        for step in dis.get_instructions(code):
            if step.opname.startswith(("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS")):
                names.add(step.argval)
    return names
