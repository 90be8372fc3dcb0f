"""Nothing of Triton's: loops may do as they like."""


def first(values):
    for value in values:
        if value:
            return value
    return None
