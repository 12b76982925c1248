"""All commands: their words, help, errors and imports."""

import subprocess
import sys
import textwrap

import pytest


@pytest.mark.parametrize(
    "arguments", [["run", "--seedz", "3"], ["run", "--seeds", "many"], ["run", "--repetitions", "3"], ["rum"], []]
)
def test_wrong_words(call, arguments):
    status, printed, error = call(*arguments)
    assert status == 2
    assert printed == ""
    assert "Traceback" not in error
    assert "fusion-bench" in error
    if "--seedz" in arguments:
        assert "--seeds" in error.replace("--seedz", "")


@pytest.mark.parametrize("command", [["run"], ["captions"], ["table"], ["report"], ["list"]])
def test_help_states_each_default_once(call, command):
    status, printed, _ = call(*command, "--help")
    assert status == 0
    assert "None" not in printed
    assert "True" not in printed


QUICK = """
    import sys
    sys.argv = ["fusion-bench", *sys.argv[1:]]
    from fusion_bench.cli import main
    try:
        main()
    finally:
        heavy = {"jax", "flax", "pandas", "tensorflow_datasets", "tokenizers", "orbax"} & set(sys.modules)
        print("heavy:", *sorted(heavy), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["list", "--help"], ["captions", "synergy", "-n", "1"]])
def test_quick_commands_import_nothing_heavy(arguments):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(QUICK), *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout
    assert done.stderr == "heavy:\n"


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "fusion_bench", "captions", "synergi"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "fusion-bench: unknown caption channel 'synergi'; did you mean synergy?\n"
