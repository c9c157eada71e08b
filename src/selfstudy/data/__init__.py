"""What goes in: readers of files, data sets by name, splits."""
