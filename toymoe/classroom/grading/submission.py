"""What a student handed in, and the part of it that one function needs.

Marking a function does not run the whole notebook: only the statements that define it, and what it
refers to. So a cell that trains, stops or never ends costs nothing unless the function needs it.
"""

import ast
import dis
import re
import types
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import ToymoeError
from ..notebook import NotebookError, read_ipynb

LARGEST = 20 * 2**20  # bytes of a file


class SubmissionError(ToymoeError, ValueError):
    """A file that nothing can be found in, in one line for the teacher."""


@dataclass
class Submission:
    """The statements of a file that could be read, in order."""

    statements: list[ast.stmt] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # cells that are no Python

    def functions(self) -> set[str]:
        """The names of the functions it defines."""
        return {name for one in self.statements if _is_function(one) for name in _bound(one)}


def read(path: Path) -> Submission:
    """Read a notebook (.ipynb) or a Python file.

    Raises:
      SubmissionError: no such file, too large, not text, not a notebook, or no Python at all.
    """
    try:
        if path.is_file() and path.stat().st_size > LARGEST:
            raise SubmissionError(f"the file is larger than {LARGEST // 2**20} MB.")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SubmissionError(f"cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise SubmissionError("is not a text file.") from error
    if path.suffix == ".ipynb":
        try:
            sources = [cell.source for cell in read_ipynb(text) if cell.kind == "code"]
        except NotebookError as error:
            raise SubmissionError(str(error)) from error
    else:
        sources = [text]
    found = Submission()
    for number, source in enumerate(sources, 1):
        try:
            found.statements += _parse(source).body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = getattr(error, "lineno", None)
            where = f"code cell {number}" if path.suffix == ".ipynb" else "the file"
            at = f", line {line}" if line else ""
            found.remarks.append(f"{where} is not valid Python{at}: {getattr(error, 'msg', error)}")
    if not found.statements:
        raise SubmissionError(found.remarks[0] if found.remarks else "holds no Python code.")
    return found


def _parse(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError:
        # Lines such as %matplotlib inline or !pip install are Jupyter's, not Python's.
        plain = re.sub(r"^(\s*)[%!?].*$", r"\1pass", source, flags=re.MULTILINE)
        return ast.parse(plain)


def needed(found: Submission, name: str, known: set[str]) -> str | None:
    """The program that defines ``name``: its last function of that name, and every statement that
    binds a name this refers to, directly or not. None if there is no such function.

    A later `name = check("name", name)` is not part of it, nor is anything that reuses the name.

    Args:
      known: names that need no definition: the other exercises, whose references stand in for
        them as they do in the notebook.
    """
    last = next(
        (
            i
            for i in reversed(range(len(found.statements)))
            if name in _bound(found.statements[i]) and _is_function(found.statements[i])
        ),
        None,
    )
    if last is None:
        return None
    closed = {name, *known}
    wanted, open_names = {last}, _used(found.statements[last]) - closed
    for i, one in enumerate(found.statements):  # from m import *: any name may come from there
        if isinstance(one, ast.ImportFrom) and one.names[0].name == "*":
            wanted.add(i)
    while open_names:
        this = open_names.pop()
        closed.add(this)
        for i, one in enumerate(found.statements):
            if this in _bound(one) and i not in wanted and not _is_check(one):
                wanted.add(i)
                open_names |= _used(one) - closed
    body = [found.statements[i] for i in sorted(wanted)]
    return ast.unparse(ast.Module(body, []))


def _is_function(statement) -> bool:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return True
    return isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Lambda)


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
        elif isinstance(node, ast.Lambda):
            continue
        else:
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


def _used(statement) -> set[str]:
    """The global names a statement, or a function in it, looks up."""
    names, codes = set(), [compile(ast.Module([statement], []), "<submission>", "exec")]
    while codes:
        code = codes.pop()
        codes += [const for const in code.co_consts if isinstance(const, types.CodeType)]
        for step in dis.get_instructions(code):
            if step.opname.startswith(("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS")):
                names.add(step.argval)
    return names
