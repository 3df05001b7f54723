"""``python -m droidmace``: the same as the ``droidmace`` command."""

from droidmace.cli import main

if __name__ == "__main__":
    main()
