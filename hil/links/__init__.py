"""The network between boards: links that are built, shaped, cut, scheduled and measured."""
