"""What the server tells those who operate it: metrics for Prometheus, and OpenTelemetry traces."""
