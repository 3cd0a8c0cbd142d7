"""The handlers: one function for each operation of `openapi.yaml`, one file for each contract."""
