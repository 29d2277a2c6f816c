"""Published results to where the shop reads them: into databases and files, and by a read-only service."""
