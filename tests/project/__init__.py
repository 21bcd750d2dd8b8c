"""The project's own rules: floors, imports, template, documents."""
