"""Many runs: tracked, searched, folded and compared."""
