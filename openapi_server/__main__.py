"""`python -m openapi_server` serves."""

from openapi_server.cli import main

main(prog_name="zoochat")
