"""The command line: `falgate serve | migrate | demo | sandbox | keys | audit`."""
