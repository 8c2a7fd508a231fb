"""A disk that is full, by the limit of a file's size, ends in one line, and the old file stays."""

import subprocess
import sys

CODE = """
import resource, signal, sys
from pathlib import Path
from kellet.files import atomic_file, atomic_folder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
path = Path(sys.argv[2])
try:
    with (atomic_file if sys.argv[1] == "file" else atomic_folder)(path) as temporary:
        (temporary if sys.argv[1] == "file" else temporary / "x").write_bytes(b"a" * 5000)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_the_old_result_stays_and_the_error_names_it(tmp_path):
    (tmp_path / "file").write_text("old", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").write_text("old", encoding="utf-8")
    for kind in ("file", "folder"):
        command = [sys.executable, "-c", CODE, kind, str(tmp_path / kind)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.startswith(f"KelletError cannot write {tmp_path / kind}: File too large;")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text(encoding="utf-8") == "old"
    assert (tmp_path / "folder" / "x").read_text(encoding="utf-8") == "old"
