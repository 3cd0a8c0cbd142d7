"""Personal data (PII): found and masked."""
