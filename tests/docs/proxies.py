"""nginx and Caddy with the configurations of docs/proxies.md, in front of servers of the tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import ClassVar

from tests.docs.snippets import snippet
from tests.server import Server

#: What a main file of nginx's has around conf.d, here without root's directories.
NGINX = """
user root;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/main.log;
events {{}}
http {{
    client_body_temp_path {directory}/bodies;
    proxy_temp_path {directory}/responses;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/evoapi.conf;
}}
"""


class Proxy(Server):
    """A proxy with the document's configuration, which passes requests on to two servers; it has their routes."""

    program: ClassVar[str]
    #: The language of the document's snippet.
    language: ClassVar[str]

    def __init__(self, servers: list[Server], directory: Path) -> None:
        super().__init__({"DATA_DIR": str(directory), "HOME": str(directory)})
        self.directory = directory
        self.configuration = snippet("docs/proxies.md", self.language, "evo.example.com")
        for port, server in zip(("8081", "8082"), servers, strict=True):
            self.configuration = self.configuration.replace(f"127.0.0.1:{port}", f"127.0.0.1:{server.port}")

    @classmethod
    def is_installed(cls) -> bool:
        return shutil.which(cls.program) is not None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command(), env=self.environment, stdout=log, stderr=log)
        self._wait_for_port()

    def _command(self) -> list[str]:
        """Write the configuration's files; returns the command that runs the proxy."""
        raise NotImplementedError

    @property
    def access_log(self) -> str:
        return (self.directory / "evoapi.log").read_text()

    @property
    def all_logs(self) -> str:
        return "".join(path.read_text() for path in self.directory.glob("*.log"))


class Nginx(Proxy):
    program = language = "nginx"

    def _command(self) -> list[str]:
        listen = self.configuration.replace("listen 80;", f"listen 127.0.0.1:{self.port};")
        (self.directory / "evoapi.conf").write_text(listen.replace("/var/log/nginx/", f"{self.directory}/"))
        main = self.directory / "nginx.conf"
        main.write_text(NGINX.format(directory=self.directory))
        return ["nginx", "-c", str(main)]


class Caddy(Proxy):
    program = language = "caddy"

    def _command(self) -> list[str]:
        here = self.configuration.replace("evo.example.com", f"http://:{self.port}")
        here = here.replace("{\n", "{\n\tadmin off\n", 1)  # the port of its admin is the same for all on a machine
        file = self.directory / "Caddyfile"
        file.write_text(here.replace("/var/log/caddy/", f"{self.directory}/"))
        return ["caddy", "run", "--config", str(file), "--adapter", "caddyfile"]
