"""What is dear and shared: the fit with each device left out, a few seconds once."""

import pytest

from profiles.measurements import fit
from profiles.measurements.fit import Judged
from profiles.measurements.rows import Row

Evaluated = tuple[list[Row], list[Row], list[Judged]]


@pytest.fixture(scope="session")
def evaluated() -> Evaluated:
    """Rows that count, rows that help, and every row that counts predicted without its device."""
    return fit.evaluated()
