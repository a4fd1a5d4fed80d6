"""What lwflow raises. All of it is a `lwflow.Error`, and also the built-in exception that fits."""


class Error(Exception):
    """Everything that lwflow raises, but for TypeError and KeyboardInterrupt."""


class InputError(Error, ValueError):
    """An argument, an array or a file that is not legal; the text names it."""


class LikelihoodError(Error, ValueError):
    """The log likelihood raised an exception, which is the cause of this one, or returned what is not legal."""


class FitError(Error, RuntimeError):
    """Too few effective points, or a training that does not stay finite."""


class DeviceError(Error, RuntimeError):
    """No device fits, or one failed in its self-test or in use."""


class InterruptedWarning(UserWarning):
    """A fit was stopped before its end, and returned what there was."""
