"""Pages for people: the list of repositories, cards, files and history, rendered on the server without any script."""
