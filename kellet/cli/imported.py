"""What ``kellet import-logs`` reads, checks, writes and says."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from kellet.errors import DataError, InputError

if TYPE_CHECKING:
    from kellet.config.run import Config
    from kellet.data.account import Entry
    from kellet.diagnosis.diagnose import Diagnosis
    from kellet.diagnosis.import_logs import Imported
    from kellet.evaluation.samples import Samples


@dataclass
class Foreign:
    """A log and two files of answers, read and checked, each optional, and the diagnosis that they allow."""

    imported: "Imported | None"
    answers: "Samples | None"
    diagnosis: "Diagnosis"
    notes: list[str]
    written: list[str] = field(default_factory=list)
    """What was written, in words, and where."""
    files: list[Path] = field(default_factory=list)

    @classmethod
    def read(
        cls,
        config: "Config",
        logs: Sequence[Path],
        trainer: str | None,
        estimator: Any,
        mapped: Sequence[str],
        run_name: str | None,
        candidate: Path | None,
        reference: Path | None,
    ) -> Self:
        """Read and check everything, and diagnose it; nothing is written. Raises InputError and DataError."""
        from kellet.diagnosis import diagnose as stage
        from kellet.diagnosis.evidence import Evidence
        from kellet.diagnosis.import_logs import import_history
        from kellet.diagnosis.log_files import open_logs
        from kellet.evaluation.samples import join_samples

        of_log, of_answers = _pairs(mapped, answers=candidate is not None, log=bool(logs))
        notes: list[str] = []
        imported = answers = None
        if logs:
            found = open_logs(logs, run_name)
            try:
                imported = import_history(found.rows, trainer, estimator, of_log)
            except DataError as error:
                raise DataError(f"{', '.join(map(str, logs))}: {error}") from error
            imported = replace(imported, notes=(*imported.notes, *found.notes))
            notes += imported.notes
        if candidate is not None and reference is not None:
            answers = join_samples(candidate, reference, of_answers)
            notes += answers.notes
        table = None if answers is None else answers.table
        evidence = Evidence(table, imported.rows if imported else [], config=config)
        return cls(imported, answers, stage.diagnose(evidence), notes)

    def write(self, folder: Path) -> list[str]:
        """Write history.jsonl and evaluation.parquet, both or none; says which of them were replaced."""
        from kellet.files import atomic_file

        notes = []
        with ExitStack() as files:
            for name, there in (("history.jsonl", self.imported), ("evaluation.parquet", self.answers)):
                path = folder / name
                if there is None:
                    continue
                if path.exists():
                    notes.append(f"{path} was there already and is replaced")
                temporary = files.enter_context(atomic_file(path))
                self.files.append(path)
                self._write(temporary, path)
        return notes

    def _write(self, temporary: Path, path: Path) -> None:
        from kellet.files import write_json_lines

        if path.suffix == ".parquet" and self.answers is not None:
            self.answers.table.to_parquet(temporary, index=False)
            self.written.append(f"{len(self.answers.table):,} answers in {path}")
        elif self.imported is not None:
            write_json_lines(temporary, self.imported.rows)
            self.written.append(f"{self.imported.trainer.title}: {len(self.imported.rows)} iterations in {path}")

    def text(self) -> list[str]:
        """The hypotheses, and the account of the log."""
        from kellet.data.account_table import account_text
        from kellet.diagnosis.log_account import shortened

        lines = []
        for item in self.diagnosis.hypotheses:
            verdict = item.verdict if not item.needs else f"cannot be told; needs {item.needs}"
            lines.append(f"{item.id}  {item.statement} {verdict}")
        if self.imported:
            lines += ["", *account_text(shortened(self.imported.account))]
        return lines + (["", *account_text(self.answers.account)] if self.answers else [])

    @property
    def account(self) -> tuple["Entry", ...]:
        """What became of each metric of the log and each column of the answers."""
        of_log = self.imported.account if self.imported else ()
        return (*of_log, *(self.answers.account if self.answers else ()))

    def to_dict(self) -> dict[str, Any]:
        """For programs."""
        imported = self.imported
        return {
            "trainer": imported and imported.trainer.title,
            "iterations": len(imported.rows) if imported else 0,
            "answers": 0 if self.answers is None else len(self.answers.table),
            "account": [entry.to_dict() for entry in self.account],
            "notes": self.notes,
            "hypotheses": [item.to_dict() for item in self.diagnosis.hypotheses],
            "files": [str(path) for path in self.files],
        }


def _pairs(mapped: Sequence[str], log: bool, answers: bool) -> tuple[dict[str, str], dict[str, str]]:
    """--map as ours -> theirs, for the log and for the answers. Raises InputError for what fits neither."""
    from kellet.diagnosis.log_names import OURS

    of_log: dict[str, str] = {}
    of_answers: dict[str, str] = {}
    for text in mapped:
        ours, equals, theirs = text.partition("=")
        if not equals or not theirs or not (ours in OURS if log and not answers else ours):
            raise InputError(f"--map got {text!r}; it takes OURS=THEIRS, OURS being one of {', '.join(OURS)}")
        pairs = of_log if log and ours in OURS else of_answers
        if ours in pairs:
            raise InputError(f"--map gives {ours} twice: {pairs[ours]!r} and {theirs!r}; give one")
        pairs[ours] = theirs
    return of_log, of_answers
