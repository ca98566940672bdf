"""The Learn page: lessons with their controls, exercises and links, and the glossary."""
