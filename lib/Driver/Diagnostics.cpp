// Errors as text and as JSON.
#include "dlc/Driver/Diagnostics.h"

#include "dlc/Frontend/ONNX/ImportError.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

using namespace dlc;
using llvm::StringRef;

char CompileError::ID = 0;

StringRef dlc::toString(ExitCode code) {
  switch (code) {
  case ExitCode::Ok:
    return "ok";
  case ExitCode::Rejected:
    return "rejected";
  case ExitCode::Usage:
    return "usage";
  case ExitCode::Io:
    return "io";
  case ExitCode::Verify:
    return "verify";
  case ExitCode::Unavailable:
    return "unavailable";
  case ExitCode::Internal:
    return "internal";
  }
  llvm_unreachable("unknown exit code");
}

std::string Diagnostic::text() const {
  std::string text;
  llvm::raw_string_ostream os(text);
  if (!file.empty())
    os << file << ": ";
  if (!node.empty())
    os << node;
  if (!op.empty()) {
    os << (node.empty() ? "" : " ") << "(" << op;
    if (opset)
      os << ", opset " << opset;
    os << ")";
  }
  if (!node.empty() || !op.empty())
    os << ": ";
  os << reason;
  if (!dtypes.empty()) {
    os << "; operands ";
    for (size_t i = 0; i < dtypes.size(); ++i)
      os << (i ? ", " : "") << dtypes[i] << "[" << shapes[i] << "]";
  }
  return text;
}

void CompileError::log(llvm::raw_ostream &os) const {
  for (size_t i = 0; i < diagnostics.size(); ++i)
    os << (i ? "\n" : "") << diagnostics[i].text();
}

std::error_code CompileError::convertToErrorCode() const {
  return llvm::inconvertibleErrorCode();
}

llvm::Error dlc::makeError(ExitCode code, const llvm::Twine &reason,
                           StringRef file) {
  Diagnostic diagnostic;
  diagnostic.file = file.str();
  diagnostic.reason = reason.str();
  return llvm::make_error<CompileError>(code,
                                        std::vector<Diagnostic>{diagnostic});
}

// "f32[1,3,8,8], i64[?]" to dtypes and shapes.
static void splitTypes(StringRef types, Diagnostic &diagnostic) {
  while (!types.empty()) {
    size_t open = types.find('['), close = types.find(']');
    if (open == StringRef::npos || close == StringRef::npos || close < open)
      break;
    diagnostic.dtypes.push_back(types.take_front(open).trim(", ").str());
    diagnostic.shapes.push_back(types.slice(open + 1, close).str());
    types = types.drop_front(close + 1);
  }
}

CompileError dlc::toCompileError(llvm::Error error, ExitCode fallback) {
  ExitCode code = fallback;
  std::vector<Diagnostic> diagnostics;
  llvm::handleAllErrors(
      std::move(error),
      [&](const CompileError &e) {
        code = e.getCode();
        llvm::append_range(diagnostics, e.getDiagnostics());
      },
      [&](const ImportError &e) {
        code = e.getKind() == ImportError::Kind::File ? ExitCode::Io
                                                      : ExitCode::Rejected;
        for (const ModelProblem &problem : e.getProblems()) {
          Diagnostic diagnostic;
          diagnostic.file = e.getFile().str();
          diagnostic.node = problem.where;
          diagnostic.op = problem.op;
          diagnostic.opset = problem.opset;
          diagnostic.reason = problem.reason;
          diagnostic.kind =
              e.getKind() == ImportError::Kind::Unsupported ? "unsupported"
              : e.getKind() == ImportError::Kind::Malformed ? "malformed"
                                                            : "";
          splitTypes(problem.types, diagnostic);
          diagnostics.push_back(std::move(diagnostic));
        }
      },
      [&](const llvm::ErrorInfoBase &e) {
        Diagnostic diagnostic;
        diagnostic.reason = e.message();
        diagnostics.push_back(std::move(diagnostic));
      });
  return CompileError(code, std::move(diagnostics));
}

int dlc::printError(llvm::raw_ostream &os, const CompileError &error, bool json,
                    StringRef tool) {
  int exitCode = static_cast<int>(error.getCode());
  if (!json) {
    for (const Diagnostic &diagnostic : error.getDiagnostics())
      os << tool << ": "
         << (error.getCode() == ExitCode::Internal ? "internal error" : "error")
         << ": " << diagnostic.text() << "\n";
    return exitCode;
  }
  llvm::json::OStream writer(os);
  writer.object([&] {
    writer.attribute("error", toString(error.getCode()));
    writer.attribute("exit", exitCode);
    writer.attributeArray("diagnostics", [&] {
      for (const Diagnostic &d : error.getDiagnostics())
        writer.object([&] {
          writer.attribute("message", llvm::json::fixUTF8(d.text()));
          writer.attribute("kind", d.kind);
          writer.attribute("file", d.file);
          StringRef name =
              d.node; // "node 'conv1'": programs want the name alone
          if (name.consume_front("node '"))
            name.consume_back("'");
          else
            name = "";
          writer.attribute("where", llvm::json::fixUTF8(d.node));
          writer.attribute("node", llvm::json::fixUTF8(name));
          writer.attribute("op", d.op);
          writer.attribute("opset", d.opset);
          writer.attributeArray("dtypes", [&] {
            llvm::for_each(d.dtypes,
                           [&](const std::string &s) { writer.value(s); });
          });
          writer.attributeArray("shapes", [&] {
            llvm::for_each(d.shapes,
                           [&](const std::string &s) { writer.value(s); });
          });
          writer.attribute("reason", llvm::json::fixUTF8(d.reason));
        });
    });
  });
  os << "\n";
  return exitCode;
}
