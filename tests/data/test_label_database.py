"""The file of labels, shared by processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from selfstudy.data.label_database import FILE, LabelDatabase


def test_another_process_does_not_take_the_log_away(tmp_path: Path) -> None:
    """Oracle: what another process wrote; two connections here, as the page has."""
    told = (
        "import sys; from pathlib import Path; from selfstudy.data.label_database import LabelDatabase\n"
        "with LabelDatabase(Path(sys.argv[1])) as store:\n"
        "    with store.change():\n"
        "        store.set('said', 'there')\n"
    )
    with LabelDatabase(tmp_path) as first:
        assert first.setting("said") == ""
        with LabelDatabase(tmp_path) as second:
            subprocess.run([sys.executable, "-c", told, str(tmp_path)], check=True)
            assert second.path.with_name(f"{FILE}-wal").exists()
            assert first.setting("said") == second.setting("said") == "there"
            with first.change():
                first.set("said", "here")
        with LabelDatabase(tmp_path) as again:
            assert again.setting("said") == "here"
