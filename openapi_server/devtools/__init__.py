"""Programs beside the server, for people who build clients or servers of its contracts."""
