"""The API's errors.  A class is the error's code; the service model says which HTTP status goes with it."""


class ApiError(Exception):
    """An answer that is an error: its class name is the code on the wire, its text the message."""


class InvalidInputException(ApiError):
    """The request, or what it refers to, cannot be used as asked."""


class ResourceNotFoundException(ApiError):
    """No resource has that ARN."""


class ResourceAlreadyExistsException(ApiError):
    """The name is taken."""


class ResourceInUseException(ApiError):
    """The resource is changing, or another one needs it."""


class LimitExceededException(ApiError):
    """One more than the quota."""


class InvalidNextTokenException(ApiError):
    """The page token was not issued by this operation."""


class TooManyTagsException(ApiError):
    """More tags than a resource may carry."""


class TooManyTagKeysException(ApiError):
    """More tag keys than one request may name."""


class ThrottlingException(ApiError):
    """More requests than may be answered now."""
