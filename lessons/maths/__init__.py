"""The mathematics that only lessons use, each module with its source."""
