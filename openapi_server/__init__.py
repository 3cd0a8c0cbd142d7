"""The chat server of a zoo. `openapi.yaml` is its contract; ARCHITECTURE.md says where everything lives."""

import warnings

__version__ = "0.2.0"

# Importing Connexion 3.3 warns three times of what only its authors can mend. Excused here by name, before any module
# of ours imports it; every other warning still counts.
warnings.filterwarnings("ignore", "Using `httpx` with `starlette.testclient` is deprecated", UserWarning)
warnings.filterwarnings("ignore", r"jsonschema\.RefResolver is deprecated", DeprecationWarning)
warnings.filterwarnings("ignore", r"jsonschema\.exceptions\.RefResolutionError is deprecated", DeprecationWarning)
