"""Finding: the facts that a question asks for, by its words and, where the extra is installed, by its meaning."""
