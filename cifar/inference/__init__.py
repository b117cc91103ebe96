"""Running model files, ours or not, in their own runtimes."""
