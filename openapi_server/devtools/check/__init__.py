"""`zoochat check`: whether a server keeps the five contracts, with the evidence."""
