"""The formats that collections come in, one small module each; all stream, and their errors name file and line."""
