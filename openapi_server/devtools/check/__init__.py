"""`zoochat check`: conformance tests of the five chat APIs against a running server."""
