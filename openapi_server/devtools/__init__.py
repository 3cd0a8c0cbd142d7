"""Tools for people who build clients or servers of the chat APIs: `zoochat check`, `client` and `mock`."""
