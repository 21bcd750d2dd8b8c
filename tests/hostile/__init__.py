"""Whatever a stranger sends, the answer is a verdict."""
