"""What can go wrong, one class for each exit code of the program `dlc`.

| class | exit | when |
|---|---|---|
| RejectedError | 1 | the model is malformed or asks for what dlc has not; `.diagnostics` says where and why |
| UnsupportedOpError | 1 | the same, for a valid model; `.nodes` lists every node at fault |
| UsageError | 2 | an option that does not exist or has a bad value (also a ValueError) |
| IoError | 3 | a file that cannot be read or written (also an OSError) |
| VerifyError | 4 | compiled code and the interpreter differ, or a proof failed |
| ToolError | 5 | a target, tool or device that is not there |
| InternalError | 70 | a fault of dlc |
| RunError | - | a loaded model was given inputs that do not fit, or its data are invalid |
"""

import dataclasses


@dataclasses.dataclass
class Diagnostic:
    """One thing the compiler says about a model. Fields it does not know are empty.

    message: the whole line. file, node, op, opset: where. dtypes, shapes: of the node's operands, as text ("f32",
    "1,3,s0"). reason: what is wrong. kind: "malformed", "unsupported" or "".
    """

    message: str
    severity: str = "error"
    file: str = ""
    where: str = ""
    node: str = ""
    op: str = ""
    opset: int = 0
    dtypes: list = dataclasses.field(default_factory=list)
    shapes: list = dataclasses.field(default_factory=list)
    reason: str = ""
    kind: str = ""

    @property
    def dtype(self):
        """The first operand's element type, or ""."""
        return self.dtypes[0] if self.dtypes else ""

    @property
    def shape(self):
        """The first operand's shape, or ""."""
        return self.shapes[0] if self.shapes else ""


class Error(Exception):
    """Base of all errors of this package. `diagnostics`: a list of Diagnostic, perhaps empty."""

    exit_code = None

    def __init__(self, text="", diagnostics=()):
        super().__init__(text)
        self.diagnostics = list(diagnostics)


class RejectedError(Error):
    """The model was rejected; `diagnostics` says where and why."""

    exit_code = 1


class UnsupportedOpError(RejectedError):
    """The model is valid but asks for something dlc does not compile."""

    @property
    def nodes(self):
        """The diagnostics that name a node or an operator: all of the model's, not only the first."""
        return [d for d in self.diagnostics if d.node or d.op]


class UsageError(Error, ValueError):
    """An option that does not exist or has a bad value."""

    exit_code = 2


class IoError(Error, OSError):
    """A file that cannot be read or written."""

    exit_code = 3

    def __str__(self):
        return Exception.__str__(self)


class VerifyError(Error):
    """Compiled code and the reference interpreter disagree, or a proof failed."""

    exit_code = 4


class ToolError(Error):
    """The target, or a tool or device it needs, is not available."""

    exit_code = 5


class InternalError(Error):
    """A fault of dlc; the text names the command that reproduces it."""

    exit_code = 70


class RunError(Error):
    """A run was refused or failed: wrong shapes, wrong types, bad data."""


# The names of earlier releases.
CompileError = RejectedError
TargetError = ToolError

BY_EXIT_CODE = {c.exit_code: c for c in (RejectedError, UsageError, IoError, VerifyError, ToolError, InternalError)}
