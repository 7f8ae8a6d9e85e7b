"""One verb a file: each tells its story in order and leaves one folder."""
