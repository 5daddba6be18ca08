#!/usr/bin/env python
import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "evoapi.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db import OperationalError, ProgrammingError

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"manage.py cannot run. {error}")
    except (OperationalError, ProgrammingError) as error:  # SQLite's and PostgreSQL's class for a missing table
        text = str(error).partition("\n")[0]
        if "no such table" not in text and "does not exist" not in text:
            raise
        sys.exit(f"manage.py cannot run. The database answers: {text}. Set it up first, with `manage.py migrate`.")


if __name__ == "__main__":
    main()
