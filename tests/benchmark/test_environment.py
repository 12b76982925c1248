import linecache
from pathlib import Path

import pytest

from fusion_bench.benchmark.environment import _operator_files, code_digest, operator_digest
from fusion_bench.errors import UserError
from fusion_bench.fusion.registry import strategies

MAKE = {name: registration.make for name, registration in strategies().items()}


@pytest.mark.parametrize(
    ("changed", "runs"),
    [
        ("fusion/tensor/tensor.py", {"tensor"}),
        ("fusion/late/posthoc.py", {"late-posthoc"}),
        ("training/loop.py", {"concat", "tensor", "image-only", "late-posthoc"}),
        ("report/table.py", set()),
        ("cli.py", set()),
    ],
)
def test_a_change_of_code_makes_new_runs_of_what_depends_on_it(changed, runs, monkeypatch):
    def digests():
        code_digest.cache_clear()
        operator_digest.cache_clear()
        names = ("concat", "tensor", "image-only", "late-posthoc")
        return {name: (code_digest(), operator_digest(MAKE[name])) for name in names}

    before, read = digests(), Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: read(path) + (b"#" if path.as_posix().endswith(changed) else b"")
    )
    after = digests()
    monkeypatch.undo()
    assert digests() == before
    assert {name for name in before if before[name] != after[name]} == runs


NOTEBOOK = """
class Mine:
    def join(self, features):
        return {result}
"""


def test_an_operator_of_a_notebook_is_known_by_its_lines():
    def define(result, number):
        text, file = NOTEBOOK.format(result=result), f"<cell {number}>"
        linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
        space = {"__name__": "a_notebook"}
        exec(compile(text, file, "exec"), space)
        return space["Mine"]

    first, again, other = (operator_digest(define(r, i)) for i, r in enumerate(("1", "1", "2")))
    assert first == again != other


def test_an_operator_whose_code_is_nowhere_is_refused():
    space = {"__name__": "nowhere"}
    exec(NOTEBOOK.format(result="1"), space)
    with pytest.raises(UserError, match="the code of Mine cannot be read; put it into a file"):
        operator_digest(space["Mine"])


def test_the_files_of_an_operator_are_its_own_and_those_it_takes_names_from():
    names = {path.name for path in _operator_files(MAKE["late-posthoc"].__module__)}
    assert names == {"posthoc.py"}
