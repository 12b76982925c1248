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
