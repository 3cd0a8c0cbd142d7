"""Event logs that the processes of a server share, in Redis or Valkey (`EVENT_LOG=redis`)."""
