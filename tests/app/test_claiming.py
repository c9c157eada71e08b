"""What the command prints of a claim."""

from __future__ import annotations

from rich.console import Console

from selfstudy.app.claiming import print_result


def test_tokens_are_counts_beside_shares() -> None:
    """Oracle: by hand; figures of contestants are percent, tokens are not."""
    values = {"A": [0.5, 0.25], "A tokens": [1200.0, 1300.0]}
    result = {"name": "R1", "statement": "A works.", "values": values, "share": True, "relations": []}
    console = Console(record=True, width=100)
    print_result({**result, "seeds": [0, 1], "minutes": 1.0, "verdict": "holds"}, console)
    lines = [line.split() for line in console.export_text().splitlines()]
    assert ["A", "37.5", "%"] in lines
    assert ["A", "tokens", "1,250"] in lines
