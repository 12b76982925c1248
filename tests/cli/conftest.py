"""Fixtures of the command line's tests."""

import dataclasses

import numpy as np
import pytest

from fusion_bench.cli import main
from fusion_bench.study import resources
from tests.studies import make_quick, run_arguments, write_source


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("cli") / "tiny.npz")


@pytest.fixture
def call(capsys, monkeypatch):
    """Returns a function that calls the command line: exit status, standard output, standard error."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments):
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return exit_.value.code or 0, printed.out, printed.err

    return call


@pytest.fixture
def refuse(call, tmp_path):
    """Returns a function that runs what cannot be run, and gives the one line that says why."""

    def refuse(*arguments, command="run"):
        out = ("--out", tmp_path / "out") if command == "run" and "--out" not in arguments else ()
        status, printed, line = call(command, *arguments, *out)
        assert status == 2
        assert printed == ""
        assert line.startswith("fusion-bench: ")
        assert line.count("\n") == 1
        assert not (tmp_path / "out").exists()
        return line

    return refuse


@pytest.fixture(scope="session")
def broken(source, tmp_path_factory):
    """A study whose image-only run with seed 0 diverges: its directory and exit status."""
    out = tmp_path_factory.mktemp("broken")
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)

        def compile_program(spec, *arguments, original=resources.compile_program):
            program = original(spec, *arguments)
            if spec.label != "image-only":
                return program

            def train(state, data, indices, seed, steps):
                state, loss = program.train(state, data, indices, seed, steps)
                return state, loss if seed else loss * np.nan

            return dataclasses.replace(program, train=train)

        patch.setattr(resources, "compile_program", compile_program)
        with pytest.raises(SystemExit) as exit_:
            main(run_arguments(source, out))
    return out, exit_.value.code
