"""Pages that this machine serves: the guards, the errors and the server that they share. Needs the extra ``studio``."""
