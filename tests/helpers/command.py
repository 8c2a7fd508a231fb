"""The command line, called as a function."""

from click.testing import CliRunner, Result

from kellet.cli.main import main


def kellet(*arguments: str, input: str | None = None) -> Result:  # click's own word  # noqa: A002  # click's own word
    """Run a verb; an exception that is not an exit fails the test."""
    result = CliRunner().invoke(main, arguments, input=input)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
