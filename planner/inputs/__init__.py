"""What is read from files: documents with line numbers, the catalogs, measured tables."""
