"""Malformed files, made from sound ones: every format must refuse them in one line, or go on with what they say."""
