"""The part of the report on links: commanded and measured figures, side by side."""
