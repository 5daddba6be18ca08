from __future__ import annotations

from argparse import ArgumentParser

from realtime.management.commands import serve


class Command(serve.Command):
    """An alias of serve: Django's own runserver would serve no websockets."""

    help = "The same as serve."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        for ignored in ("--noreload", "--nothreading", "--insecure", "--nostatic", "--ipv6", "-6"):
            parser.add_argument(ignored, action="store_true", help="accepted and ignored")
