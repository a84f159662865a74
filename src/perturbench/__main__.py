"""``python -m perturbench``."""

from perturbench.cli.main import main

if __name__ == "__main__":
    main()
