"""`python -m selfstudy` is the command `selfstudy`."""

from selfstudy.app.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
