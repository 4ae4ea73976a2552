"""``python -m clockwork``: the same as the command ``clockwork``."""

from clockwork.cli.main import main

main()
