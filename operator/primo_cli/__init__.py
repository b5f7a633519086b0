"""`primo`, also `kubectl primo`: one verb a file. Imports late, so that it starts fast."""
