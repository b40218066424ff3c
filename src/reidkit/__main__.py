"""`python -m reidkit`."""

from reidkit.cli import main

if __name__ == "__main__":
    main()
