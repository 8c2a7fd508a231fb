"""``python -m kellet``: the same as the ``kellet`` command."""

from kellet.cli.main import main

if __name__ == "__main__":
    main()
