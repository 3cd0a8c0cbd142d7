"""Event logs: where the events of running and recently finished turns are kept for their readers."""
