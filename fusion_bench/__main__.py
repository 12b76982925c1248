"""`python -m fusion_bench` is `fusion-bench`."""

from fusion_bench.cli import main

main()
