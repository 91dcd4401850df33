"""A text as it is: for what is meant to go into a file or to be read as prose."""


def output(data, **kwargs):
    """Return the texts of one or more hosts."""
    return "\n".join(str(returned) for returned in data.values())
