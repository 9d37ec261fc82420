"""Build what boards boot: root images, signed bundles, the hardware image, keys."""
