"""What `deploy/` holds: image, compose file, manifests, proxies and unit."""
