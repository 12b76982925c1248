from tests.tasks import tiny_widths  # noqa: F401 (a fixture)
