"""python -m seedcli is the seed command."""

from seedcli.cli import main

if __name__ == "__main__":
    main()
