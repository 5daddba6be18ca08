from evoapi.settings import *  # noqa: F403

ASGI_APPLICATION = "tests.channels_project.asgi.application"
