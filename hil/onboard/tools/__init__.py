"""Board tools of the reference OS (standard library only): copied into the image, never imported by the harness."""
