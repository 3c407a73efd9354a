"""Launch files read back: settings with their lines, and the pinned scenario they describe. Nothing is executed."""
