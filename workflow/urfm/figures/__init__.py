"""One module a figure; sizes, colours and fonts of all of them in `style`."""
