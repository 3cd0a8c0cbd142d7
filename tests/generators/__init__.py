"""What others make of `openapi.yaml`: generated clients that talk to a server, linters, and generated requests."""
