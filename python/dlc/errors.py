"""What can go wrong, one class each."""

import dataclasses


@dataclasses.dataclass
class Diagnostic:
    """One thing the compiler says about a model. Fields it does not know are empty."""

    message: str
    severity: str = "error"
    file: str = ""
    node: str = ""
    op: str = ""
    opset: str = ""
    dtypes: list = dataclasses.field(default_factory=list)
    shapes: list = dataclasses.field(default_factory=list)
    reason: str = ""
    kind: str = ""


class Error(Exception):
    """Base of all errors of this package."""


class CompileError(Error):
    """The model was rejected; `diagnostics` says where and why."""

    def __init__(self, text, diagnostics=()):
        super().__init__(text)
        self.diagnostics = list(diagnostics)


class UnsupportedOpError(CompileError):
    """The model is valid but has nodes that dlc does not compile; `nodes` lists all of them."""

    @property
    def nodes(self):
        return [d for d in self.diagnostics if d.node or d.op]


class TargetError(Error):
    """The target, or a tool it needs, is not available."""


class VerifyError(Error):
    """Compiled code and the reference interpreter disagree, or a proof failed."""


class RunError(Error):
    """A run was refused or failed: wrong shapes, wrong types, bad data."""


class InternalError(Error):
    """A fault of dlc; the text names the file that reproduces it."""
