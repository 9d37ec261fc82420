"""Fakes and kits that users may import in their own tests."""
