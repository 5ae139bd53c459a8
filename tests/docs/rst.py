"""A document taken apart: its code blocks in order, its tables by name, its text by section."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from pathlib import Path

from docutils import nodes
from docutils.core import publish_doctree

Table = list[list[str]]

_REPEATED = re.compile(r"^\S*CHANGELOG\.rst:\d+: \(INFO/1\) Duplicate implicit target name")


@dataclass(frozen=True)
class Block:
    """A code block; `name` is None where the document gives it none, `place` says where it is."""

    language: str
    text: str
    name: str | None
    place: str


@dataclass(frozen=True)
class Example:
    """Something to execute, and the output that is shown right below it, where there is one."""

    code: Block
    shown: Block | None


# One file, or several that are read as one: what one of them names may be in another.
Document = Path | tuple[Path, ...]


@lru_cache
def document(path: Document) -> nodes.document:
    """The document at `path`. Raises AssertionError with whatever docutils says of it."""
    paths = path if isinstance(path, tuple) else (path,)
    complaints = StringIO()
    settings = {
        "warning_stream": complaints,
        "report_level": 1,
        "halt_level": 5,
        # As the sites do it that show such files: nothing is read from beside the document.
        "file_insertion_enabled": False,
        "raw_enabled": False,
        "syntax_highlight": "none",
    }
    found = publish_doctree(
        "\n\n".join(each.read_text() for each in paths),
        source_path=str(paths[0]),
        settings_overrides=settings,
    )
    # A changelog has the same headings for each version.
    said = [line for line in complaints.getvalue().splitlines() if line and not _REPEATED.search(line)]
    assert not said, complaints.getvalue()
    return found


def blocks(path: Document) -> list[Block]:
    """Every code block of the document at `path`."""
    return [_block(node) for node in document(path).findall(nodes.literal_block)]


def examples(path: Document) -> list[Example]:
    """The unnamed blocks of the document, each with the output below it; outputs alone are left out."""
    found = []
    for node in document(path).findall(nodes.literal_block):
        block = _block(node)
        if block.name is None and block.language in ("bash", "python"):
            found.append(Example(block, _output_below(node)))
    return found


def table(path: Document, name: str) -> Table:
    """The rows of the table called `name`, its header left out; cells are plain text."""
    for node in document(path).findall(nodes.table):
        if name in node["names"]:
            body = next(iter(node.findall(nodes.tbody)))
            return [[_plain(entry) for entry in row.children] for row in body.children]
    raise LookupError(f"{path} has no table called {name}")


def section(path: Document, title: str) -> str:
    """The text of a section, with what is below it."""
    for node in document(path).findall(nodes.section):
        if _title(node) == title:
            return node.astext()
    raise LookupError(f"{path} has no section called {title}")


def literals(path: Document) -> list[str]:
    """Everything that stands between double backquotes."""
    return [node.astext() for node in document(path).findall(nodes.literal)]


def _block(node: nodes.literal_block) -> Block:
    languages = [name for name in node["classes"] if name != "code"]
    assert len(languages) == 1, f"a block without a language: {node.astext()[:80]!r}"
    name = node["names"][0] if node["names"] else None
    return Block(languages[0], node.astext(), name, _place(node))


def _output_below(node: nodes.literal_block) -> Block | None:
    below = node.next_node(descend=False, siblings=True, ascend=False)
    if not isinstance(below, nodes.literal_block):
        return None
    block = _block(below)
    return block if block.name is None and block.language in ("json", "text") else None


def _place(node: nodes.literal_block) -> str:
    # The section, and which of its blocks it is: what a test is called by.
    parent = node.parent
    assert isinstance(parent, nodes.section), f"a block outside of any section: {node.astext()[:80]!r}"
    siblings = [child for child in parent.children if isinstance(child, nodes.literal_block)]
    title = re.sub(r"[^a-z0-9]+", "-", _title(parent).lower()).strip("-")
    return f"{title}-{siblings.index(node) + 1}"


def _title(node: nodes.section) -> str:
    return next(iter(node.findall(nodes.title))).astext()


def _plain(entry: nodes.Node) -> str:
    return " ".join(entry.astext().split())
